"""How far the engine's chains and blocks are from the golden steps, which the producers' own classes and formulas computed (`tests/golden`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import System
from driftcli.engine.block_chains import draft_blocks
from driftcli.engine.chains import draft_chains
from driftcli.engine.drafted import Drafted
from driftcli.engine.trajectories import Trajectory
from driftcli.families.block.correction import Selector
from driftcli.families.block.declaration import declare_block
from driftcli.families.block.drafter import Block
from driftcli.families.block.loading import read_block
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.edits import declared
from tests.families.block import cases as blocks
from tests.families.eagle import peagle
from tests.golden.steps.seeds import DEPTH, ROWS, seeded_ids, seeded_stream
from tests.layouts import layout, write_layout, write_layout_target
from tests.tiny import WIDTH, bare_trajectory

GOLDEN = Path(__file__).parents[1] / "golden" / "steps"
STEPS = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
PROMPT = 1  # tokens of the golden texts of EAGLE heads
FIRST, ANCHORS, CHAINS = 4, 6, 5  # first anchor of the other golden texts; anchors whose blocks, and whose chains of P-EAGLE, are golden
TOLERANCE = 1e-4  # of the RMS
TRAINED: System = "as_trained"
VLLM: System = "as_served:vllm"


class Listened:
    """A drafter that keeps the scores of every guess, depth by depth."""

    def __init__(self, drafter: Eagle3 | Eagle | Block) -> None:
        self._drafter = drafter
        self.heard: list[Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._drafter, name)

    def wired(self, wiring: Wiring) -> Listened:
        """Put together otherwise, and still heard."""
        self._drafter = self._drafter.wired(wiring)
        return self

    def logits(self, output: Tensor) -> Tensor:
        """The drafter's."""
        self.heard.append(self._drafter.logits(output))
        return self.heard[-1]


class ListenedBlock(Listened):
    """The same of a block drafter, whose scores are kept as it corrects them."""

    _drafter: Block

    @property
    def correction(self) -> ListenedBlock | None:
        """Itself, which hears the corrected scores in place of those it heard last."""
        return None if self._drafter.correction is None else self

    def begin(self, blocks: int) -> Tensor:
        """The correction's."""
        assert self._drafter.correction is not None
        return self._drafter.correction.begin(blocks)

    def step(self, output: Tensor, scores: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The correction's, and heard: of candidates their log-probabilities, and 0 for all others."""
        assert self._drafter.correction is not None
        scores, state = self._drafter.correction.step(output, scores, tokens, state)
        among = isinstance(self._drafter.correction, Selector)
        self.heard[-1] = scores.log_softmax(-1).masked_fill(scores.isinf(), 0) if among else scores
        return scores, state


def golden_target(folder: Path) -> LanguageModel:
    """The target of all golden steps, written into a folder."""
    return load_language_model(Source("target", write_layout_target(folder)), torch.device("cpu"), "float32")


def apart(found: Tensor, golden: Tensor) -> float:
    """The largest difference, relative to the RMS of each row; (..., width) each."""
    assert found.shape == golden.shape, (found.shape, golden.shape)
    return float(((found - golden).abs().amax(-1) / golden.square().mean(-1).sqrt()).max())


# ---- EAGLE heads: `NAME.as_READING` for the layout and its reading


def split(step: str) -> tuple[str, System]:
    """Layout and reading of a golden file."""
    name, reading = step.rsplit(".as_", 1)
    return name, f"as_{reading.replace('-', ':')}"  # type: ignore[return-value]


def trajectory(golden: Mapping[str, Tensor]) -> Trajectory:
    """The golden rows as a trajectory with every anchor from 1 to the last row's; later rows hold noise that no query of these may see."""
    ids = torch.cat([golden["ids"], golden["ids"][:1]])
    noise = torch.randn(DEPTH - 1, WIDTH, generator=torch.Generator().manual_seed(1)) * 100
    streams = {int(key.split(".")[1]): torch.cat([held.float(), noise]) for key, held in golden.items() if key.startswith("stream.")}
    return bare_trajectory("golden", ids, PROMPT, streams)


def draft_steps(step: str, golden: Mapping[str, Tensor], target: LanguageModel, folder: Path) -> tuple[Listened, Drafted]:
    """The head that was heard, and what it drafts on the golden rows."""
    name, reading = split(step)
    drafter, _ = read_eagle(declared(write_layout(folder / name, layout(name)), target), target, reading)
    assert set(drafter.boundaries) == trajectory(golden).streams.keys()
    listened = Listened(drafter)
    return listened, draft_chains(listened, trajectory(golden), DraftSettings(depth=DEPTH), DEPTH, free=False)  # type: ignore[arg-type]


ASKED = slice(0, ROWS - PROMPT + 1)  # the fresh rows whose guess lies in the reply, before the noise


def steps_apart(drafter: Listened, drafted: Drafted, golden: Mapping[str, Tensor]) -> float:
    """How far states and scores are from the golden ones, fresh and along the last row's chain."""
    assert drafted.fresh.state is not None
    pairs = [
        (drafted.fresh.state[ASKED], golden["fresh.state"][PROMPT - 1 :]),
        (drafter.heard[0][ASKED], golden["fresh.logits"][PROMPT - 1 :]),
    ]
    for depth, queries in enumerate(drafted.forced):
        assert queries.state is not None
        pairs.append((queries.state[-1], golden["chain.state"][depth]))
        pairs.append((drafter.heard[depth][ASKED.stop - 1], golden["chain.logits"][depth]))
    return max(apart(found, held) for found, held in pairs)


# ---- block drafters and P-EAGLE: a text of which every anchor's block or chain is golden


def text(boundaries: tuple[int, ...]) -> Trajectory:
    """The golden text: rows that no block or chain of the golden anchors may see hold noise."""
    noise = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1)) * 100
    return bare_trajectory("golden", seeded_ids(), FIRST, {one: torch.cat([seeded_stream(one), noise[:4]]) for one in boundaries})


def read_block_case(name: str, target: LanguageModel, folder: Path, system: System = TRAINED) -> Block:
    """The block drafter of a case in one system's reading."""
    checkpoint = open_checkpoint(Source(name, blocks.write(blocks.CASES[name], folder / name)))
    format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
    return read_block(declare_block(checkpoint, format, target.facts), target, system)[0]


def draft_block(drafter: Block, depth: int, *, free: bool = False) -> tuple[list[Tensor], Drafted]:
    """Scores by depth of the golden anchors' blocks, (anchor, vocabulary) each, and all that is drafted."""
    listened = ListenedBlock(drafter)
    drafted = draft_blocks(listened, [text(drafter.boundaries)], DraftSettings(depth), depth, free=free)  # type: ignore[arg-type]
    return [logits[:ANCHORS] for logits in listened.heard], drafted


def golden_block(name: str) -> dict[str, Tensor]:
    """What the producer's class computes for a case."""
    return load_file(GOLDEN / "block" / f"{name}.safetensors")


def off(found: Sequence[Tensor], golden: Tensor) -> float:
    """The largest difference by depth, relative to the RMS of each row; golden: (anchor, depth, vocabulary)."""
    return max(apart(one, golden[:, place]) for place, one in enumerate(found))


def declare_parallel(case: blocks.Case, target: LanguageModel, folder: Path) -> Declaration:
    """A P-EAGLE drafter as its files declare it."""
    checkpoint = open_checkpoint(Source(case.name, blocks.write(case, folder / case.name)))
    return declare(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)


def read_parallel(case: blocks.Case, target: LanguageModel, folder: Path, system: System | None = TRAINED) -> Eagle3:
    """A P-EAGLE drafter in one system's reading, None for the declared one."""
    drafter, _ = read_eagle(declare_parallel(case, target, folder), target, system)
    assert isinstance(drafter, Eagle3)
    return drafter


def draft_parallel(drafter: Eagle3, depth: int = peagle.DEPTHS, *, free: bool = False) -> tuple[list[Tensor], Drafted]:
    """Scores by depth of the golden anchors' chains, (anchor, vocabulary) each, and all that is drafted."""
    listened = Listened(drafter)
    drafted = draft_chains(listened, text(drafter.boundaries), DraftSettings(depth), depth, free=free)  # type: ignore[arg-type]
    return [logits[:CHAINS] for logits in listened.heard], drafted


def golden_parallel(name: str) -> Tensor:
    """What speculators' class computes for a case, (anchor, depth, vocabulary)."""
    return load_file(GOLDEN / "peagle" / f"{name}.safetensors")["logits"][:CHAINS]
