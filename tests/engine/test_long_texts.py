"""No tensor that a long text is measured with is as long as the text both ways: twice the tokens take about twice the bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from driftcli.conditions import DraftSettings
from driftcli.engine.cells import draft
from driftcli.engine.drafted import Queries
from driftcli.engine.texts import Text
from driftcli.engine.trajectories import read_text
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target.target import Writing
from driftcli.texts.rendering import REPLY
from tests.tiny import boundaries, prompts

DEPTH, REPLIED, CHUNK, SCORES = 4, 24, 16, 1 << 11
TWICE = 2.2  # some rows are fewer than the tokens by so many; both ways would be 4


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [one.untyped_storage().nbytes() for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        self.bytes = max([self.bytes, *made])
        return out


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are so small that a tiny text has many."""
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", CHUNK)
    for name in ("BLOCK", "BLOCK_ON_CPU"):
        monkeypatch.setattr(f"driftcli.engine.attention.{name}", SCORES)


def text_of(length: int) -> Text:
    ids = torch.randint(4, 200, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    return Text(prompts(1)[0], 0, tuple(ids), (1,) * (length - REPLIED) + (REPLY,) * REPLIED, length - REPLIED, True, 0, "")


def largest(pair: LoadedPair, length: int) -> dict[str, int]:
    """Bytes of the largest tensor by stage; what is drafted on, the drafter alone takes."""
    text, found = text_of(length), {}
    with Largest() as seen:
        pair.target.write([text.ids[: text.prompt_length]], Writing(4))
    found["write"] = seen.bytes
    with Largest() as seen:
        trajectory = read_text(pair.target, text, boundaries(pair))
    found["read"] = seen.bytes
    with Largest() as seen:
        draft(pair, [trajectory], DraftSettings(DEPTH), DEPTH, free=True, to_end=True)
    return {**found, "chains": seen.bytes}


@pytest.mark.parametrize("name", ["pre", "lm"])
@pytest.mark.usefixtures("small")
def test_the_largest_tensor_grows_as_the_text_does(name: str, pair: Callable[[str], LoadedPair]) -> None:
    short, long = (largest(pair(name), length) for length in (512, 1024))
    assert {stage for stage in long if long[stage] > TWICE * short[stage]} == set()


@pytest.mark.usefixtures("small")
def test_a_head_of_two_layers_over_a_long_text_keeps_no_scores_of_all_rows(layouts: Path) -> None:
    both = load_pair(str(layouts / "target"), str(layouts / "eagle1"), torch.device("cpu"), "float32")
    short, long = (largest(both, length)["chains"] for length in (512, 1024))
    assert long <= TWICE * short


def drafted(pair: LoadedPair) -> list[Queries]:
    text = text_of(100)
    found = draft(pair, [read_text(pair.target, text, boundaries(pair))], DraftSettings(DEPTH), DEPTH, free=True, to_end=True)
    assert len(found.free) == DEPTH
    return [found.fresh, *found.forced, *found.free]


@pytest.mark.parametrize("name", ["pre", "lm"])
def test_a_text_in_parts_gives_what_it_gives_whole(name: str, pair: Callable[[str], LoadedPair], request: pytest.FixtureRequest) -> None:
    whole = drafted(pair(name))
    request.getfixturevalue("small")
    for one, other in zip(whole, drafted(pair(name)), strict=True):
        assert one.guesses.drafted.tolist() == other.guesses.drafted.tolist()
        for field in ("draft_prob", "wanted_prob", "entropy"):
            expected = getattr(other.guesses, field)
            torch.testing.assert_close(getattr(one.guesses, field), expected, rtol=1e-5, atol=1e-5, equal_nan=True)
        for field in ("label", "first", "tail", "entropy"):
            torch.testing.assert_close(getattr(one.masses, field), getattr(other.masses, field), rtol=1e-5, atol=1e-5)
