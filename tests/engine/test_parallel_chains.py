"""Chains of P-EAGLE as the engine drafts them equal what speculators' class gives in one pass (`make_peagle_steps.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import REGIONS, System
from driftcli.engine.chains import draft_chains
from driftcli.engine.drafted import Drafted
from driftcli.engine.serving import serve
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import FormatError
from driftcli.families.eagle.alternatives import alternatives
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.engine.regions import shares_of
from tests.engine.test_block_chains import off
from tests.families.block.cases import write
from tests.families.eagle.peagle import BOUNDARIES, CASES, DEPTHS
from tests.golden.steps.seeds import seeded_ids, seeded_stream
from tests.layouts import write_layout_target
from tests.tiny import WIDTH, bare_trajectory

GOLDEN = Path(__file__).parents[1] / "golden" / "steps" / "peagle"
FIRST, ANCHORS = 4, 5
TOLERANCE = 1e-4  # of the RMS
TRAINED: System = "as_trained"
VLLM: System = "as_served:vllm"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = write_layout_target(tmp_path_factory.mktemp("golden") / "target")
    return load_language_model(Source("target", folder), torch.device("cpu"), "float32")


def declared(name: str, target: LanguageModel, folder: Path) -> Declaration:
    """The drafter of a case as its files declare it."""
    checkpoint = open_checkpoint(Source(name, write(CASES[name], folder / name)))
    return declare(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)


def read(name: str, target: LanguageModel, folder: Path, system: System = TRAINED) -> Eagle3:
    """The drafter of a case in one system's reading."""
    drafter, _ = read_eagle(declared(name, target, folder), target, system)
    assert isinstance(drafter, Eagle3)
    return drafter


def trajectory(boundaries: tuple[int, ...] = BOUNDARIES) -> Trajectory:
    """The golden text: rows that no chain of the golden anchors may see hold noise."""
    noise = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1)) * 100
    return bare_trajectory("golden", seeded_ids(), FIRST, {one: torch.cat([seeded_stream(one), noise[:4]]) for one in boundaries})


class Listened:
    """A drafter that keeps the scores of every guess, depth by depth."""

    def __init__(self, drafter: Eagle3) -> None:
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


def draft(drafter: Eagle3, depth: int = DEPTHS, *, free: bool = False) -> tuple[list[Tensor], Drafted]:
    listened = Listened(drafter)
    drafted = draft_chains(listened, trajectory(drafter.boundaries), DraftSettings(depth), depth, free=free)  # type: ignore[arg-type]
    return [logits[:ANCHORS] for logits in listened.heard], drafted


def golden(name: str) -> Tensor:
    return load_file(GOLDEN / f"{name}.safetensors")["logits"][:ANCHORS]


@pytest.mark.parametrize("name", CASES)
def test_every_row_of_every_chain_equals_the_producers_one_pass(name: str, target: LanguageModel, tmp_path: Path) -> None:
    found, _ = draft(read(name, target, tmp_path))
    assert len(found) == DEPTHS and off(found, golden(name)) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in CASES if name != "stream-norms"])
def test_vllm_is_read_to_compute_the_same(name: str, target: LanguageModel, tmp_path: Path) -> None:
    found, _ = draft(read(name, target, tmp_path, VLLM))
    assert off(found, golden(name)) < TOLERANCE


def test_vllm_has_no_place_for_norms_of_single_streams(target: LanguageModel, tmp_path: Path) -> None:
    declaration = declared("stream-norms", target, tmp_path)
    assert declaration.system == TRAINED
    with pytest.raises(FormatError, match="carries no fc_norm"):
        declaration.reading(VLLM)


Other = Callable[[Eagle3], Eagle3]


def masked(drafter: Eagle3, token: int, streams: Tensor) -> Eagle3:
    return replace(drafter, masked=(token, streams))


@pytest.mark.parametrize(
    ("name", "wrong", "depth"),
    [
        ("plain", lambda d: d.wired(Wiring(mask=3)), 2),
        ("plain", lambda d: masked(d, d.masked[0], torch.zeros_like(d.masked[1])), 2),
        ("plain", lambda d: replace(d, masked=None), 2),
        ("normed", lambda d: d.wired(Wiring(residual="raw")), 1),
        ("normed", lambda d: replace(d, fusion=d.fusion.at_one()), 1),
        ("sliding", lambda d: replace(d, layers=(replace(d.layers[0], window=None), d.layers[1])), 1),
        ("sliding", lambda d: replace(d, layers=(replace(d.layers[0], from_anchor=True), d.layers[1])), 2),
        ("qwen3", lambda d: replace(d, layers=d.layers[:1]), 1),
    ],
)
def test_a_chain_put_together_otherwise_is_told_from_it(name: str, wrong: Other, depth: int, target: LanguageModel, tmp_path: Path) -> None:
    found, _ = draft(wrong(read(name, target, tmp_path)))
    assert off([found[depth - 1]], golden(name)[:, depth - 1 : depth]) > 100 * TOLERANCE


def test_nothing_is_handed_on_so_free_chains_are_the_forced_ones(target: LanguageModel, tmp_path: Path) -> None:
    _, drafted = draft(read("plain", target, tmp_path), free=True)
    assert drafted.free == drafted.forced and all(queries.state is None for queries in (*drafted.forced, drafted.fresh))


def test_shorter_drafts_are_the_beginning_of_longer_ones(target: LanguageModel, tmp_path: Path) -> None:
    drafter = read("plain", target, tmp_path)
    for short, long in zip(draft(drafter, 2)[0], draft(drafter)[0], strict=False):
        torch.testing.assert_close(short, long)


@pytest.mark.parametrize("name", ["plain", "sliding"])
def test_regions_of_chains_and_of_their_controls_sum_to_one_and_are_cut_alike(name: str, target: LanguageModel, tmp_path: Path) -> None:
    _, drafted = draft(read(name, target, tmp_path), 4)
    labels = trajectory().labels
    for depth in range(1, 5):
        for queries, fresh in ((drafted.forced[depth - 1], False), (drafted.control(depth), True)):
            assert queries.masses is not None
            shares = shares_of(queries.masses, None, labels, drafted.ahead(queries, depth, fresh=fresh))
            total = sum(shares[region] for region in REGIONS if region in shares)
            torch.testing.assert_close(total, torch.ones_like(total))  # type: ignore[arg-type]
    control, first = drafted.control(1).masses, drafted.forced[0].masses
    assert control is not None and first is not None
    torch.testing.assert_close(control.label, first.label)


def test_a_served_round_guesses_what_the_engine_does_in_one_step(target: LanguageModel, tmp_path: Path) -> None:
    drafter, text = read("normed", target, tmp_path), trajectory()
    _, drafted = draft(drafter)
    guessed = torch.stack([queries.guesses.drafted for queries in drafted.forced], dim=1)
    served, rows, found = serve(drafter, 20, DEPTHS), 0, []
    for anchor in range(FIRST, FIRST + ANCHORS):
        streams = {boundary: text.streams[boundary][None, rows:anchor] for boundary in BOUNDARIES}
        guesses = [served.read(text.ids[None, rows + 1 : anchor + 1], streams)]
        guesses += [served.follow(guesses[0]) for _ in range(DEPTHS - 1)]
        found.append(torch.cat(guesses))
        rows = anchor
    torch.testing.assert_close(torch.stack(found), guessed)


def test_the_mask_and_what_norms_and_layers_leave_open_are_tried_and_no_feedback(target: LanguageModel, tmp_path: Path) -> None:
    declaration = declared("normed", target, tmp_path)
    fields = [next(iter(one.changes)) for one in alternatives(declaration, None, (), masks=(1, 259))]
    assert {"capture", "residual", "ones", "rope", "mask"} <= set(fields) and "feedback" not in fields
    assert [one.mask for one in alternatives(declaration, None, (), masks=(1, 259)) if one.mask is not None] == [1]
    assert "feedback" not in declaration.record() and declaration.record()["trained_depths"].value == DEPTHS
