"""The engine's states and logits equal the golden steps, which the producers' own classes and formulas computed (`make_steps.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import DraftSettings, Wiring
from driftcli.engine.chains import draft_chains
from driftcli.engine.drafted import Drafted
from driftcli.engine.trajectories import Trajectory
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.edits import declared
from tests.layouts import layout, write_layout, write_layout_target
from tests.tiny import WIDTH, bare_trajectory

GOLDEN = Path(__file__).parents[1] / "golden" / "steps"
STEPS = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
ROWS, DEPTH, PROMPT = 9, 5, 1
TOLERANCE = 1e-4  # of the RMS


class Listened:
    """A drafter that keeps the logits of every guess, in the order in which the engine asks."""

    def __init__(self, drafter: Eagle3 | Eagle) -> None:
        self._drafter = drafter
        self.heard: list[Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._drafter, name)

    def wired(self, wiring: Wiring) -> object:
        """As declared, and still heard."""
        assert wiring == Wiring()
        return self

    def logits(self, output: Tensor) -> Tensor:
        self.heard.append(self._drafter.logits(output))
        return self.heard[-1]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = write_layout_target(tmp_path_factory.mktemp("golden") / "target")
    return load_language_model(Source("target", folder), torch.device("cpu"), "float32")


def trajectory(golden: Mapping[str, Tensor]) -> Trajectory:
    """The golden rows as a trajectory with every anchor from 1 to the last row's; later rows hold noise that no query of these may see."""
    ids = torch.cat([golden["ids"], golden["ids"][:1]])
    noise = torch.randn(DEPTH - 1, WIDTH, generator=torch.Generator().manual_seed(1)) * 100
    streams = {int(key.split(".")[1]): torch.cat([held.float(), noise]) for key, held in golden.items() if key.startswith("stream.")}
    return bare_trajectory("golden", ids, PROMPT, streams)


def draft(name: str, reading: str, golden: Mapping[str, Tensor], target: LanguageModel, folder: Path) -> tuple[Listened, Drafted]:
    drafter, _ = read_eagle(declared(write_layout(folder / name, layout(name)), target), target, reading)  # type: ignore[arg-type]
    assert set(drafter.boundaries) == trajectory(golden).streams.keys()
    listened = Listened(drafter)
    return listened, draft_chains(listened, trajectory(golden), DraftSettings(depth=DEPTH), DEPTH, free=False)  # type: ignore[arg-type]


def assert_close(found: Tensor, golden: Tensor) -> None:
    """Equal to TOLERANCE, relative to the RMS of each row."""
    torch.testing.assert_close(found.shape, golden.shape)
    off = (found - golden).abs().amax(-1) / golden.square().mean(-1).sqrt()
    assert float(off.max()) < TOLERANCE, f"off by {float(off.max()):.1e} of the RMS"


def split(step: str) -> tuple[str, str]:
    """Layout and reading of a golden file."""
    name, reading = step.rsplit(".as_", 1)
    return name, f"as_{reading.replace('-', ':')}"


def test_there_are_golden_steps_of_every_producer() -> None:
    producers = {"safeai", "specforge", "speculators", "modelopt", "nemo", "mla", "fork", "eagle1", "hass", "wide", "deepspec"}
    assert {split(step)[0].split("-")[0] for step in STEPS} == producers


@pytest.mark.parametrize("step", STEPS)
def test_the_engine_computes_what_the_producers_code_computed(step: str, target: LanguageModel, tmp_path: Path) -> None:
    golden = load_file(GOLDEN / f"{step}.safetensors")
    drafter, drafted = draft(*split(step), golden, target, tmp_path)
    asked = slice(0, ROWS - PROMPT + 1)  # the fresh rows whose guess lies in the reply, before the noise
    assert drafted.fresh.state is not None
    assert_close(drafted.fresh.state[asked], golden["fresh.state"][PROMPT - 1 :])
    assert_close(drafter.heard[0][asked], golden["fresh.logits"][PROMPT - 1 :])
    for depth, queries in enumerate(drafted.forced):
        assert queries.state is not None
        assert_close(queries.state[-1], golden["chain.state"][depth])
        assert_close(drafter.heard[depth][asked.stop - 1], golden["chain.logits"][depth])
        prob, guess = golden["chain.logits"][depth].softmax(-1).max(-1)
        assert float(queries.guesses.draft_prob[-1]) == pytest.approx(float(prob), rel=1e-3)
        assert int(queries.guesses.drafted[-1]) == int(drafter.to_target(guess))  # type: ignore[operator]


@pytest.mark.parametrize("step", ["specforge-3.1.as_trained", "modelopt.as_trained", "mla.as_trained", "eagle1-bias.as_trained"])
def test_a_golden_step_of_shifted_streams_is_told_apart(step: str, target: LanguageModel, tmp_path: Path) -> None:
    golden = load_file(GOLDEN / f"{step}.safetensors")
    streams = {key: held.roll(1, 0) for key, held in golden.items() if key.startswith("stream.")}
    drafter, _ = draft(*split(step), {**golden, **streams}, target, tmp_path)
    with pytest.raises(AssertionError):
        assert_close(drafter.heard[0][: ROWS - PROMPT + 1], golden["fresh.logits"][PROMPT - 1 :])
