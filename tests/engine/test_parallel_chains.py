"""Chains of P-EAGLE as the engine drafts them equal what speculators' class gives in one pass (`make_peagle_steps.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.domain import REGIONS, System
from driftcli.engine.serving import serve
from driftcli.errors import FormatError
from driftcli.families.eagle.alternatives import alternatives
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.target.language_model import LanguageModel
from tests.engine.golden import (
    CHAINS,
    FIRST,
    TOLERANCE,
    TRAINED,
    VLLM,
    declare_parallel,
    draft_parallel,
    golden_parallel,
    golden_target,
    off,
    read_parallel,
    text,
)
from tests.engine.regions import shares_of
from tests.families.eagle.peagle import BOUNDARIES, CASES, DEPTHS


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return golden_target(tmp_path_factory.mktemp("golden") / "target")


def read(name: str, target: LanguageModel, folder: Path, system: System = TRAINED) -> Eagle3:
    """The drafter of a case in one system's reading."""
    return read_parallel(CASES[name], target, folder, system)


@pytest.mark.parametrize("name", CASES)
def test_every_row_of_every_chain_equals_the_producers_one_pass(name: str, target: LanguageModel, tmp_path: Path) -> None:
    found, _ = draft_parallel(read(name, target, tmp_path))
    assert len(found) == DEPTHS and off(found, golden_parallel(name)) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in CASES if name != "stream-norms"])
def test_vllm_is_read_to_compute_the_same(name: str, target: LanguageModel, tmp_path: Path) -> None:
    found, _ = draft_parallel(read(name, target, tmp_path, VLLM))
    assert off(found, golden_parallel(name)) < TOLERANCE


def test_vllm_has_no_place_for_norms_of_single_streams(target: LanguageModel, tmp_path: Path) -> None:
    declaration = declare_parallel(CASES["stream-norms"], target, tmp_path)
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
    found, _ = draft_parallel(wrong(read(name, target, tmp_path)))
    assert off([found[depth - 1]], golden_parallel(name)[:, depth - 1 : depth]) > 100 * TOLERANCE


def test_nothing_is_handed_on_so_free_chains_are_the_forced_ones(target: LanguageModel, tmp_path: Path) -> None:
    _, drafted = draft_parallel(read("plain", target, tmp_path), free=True)
    assert drafted.free == drafted.forced and all(queries.state is None for queries in (*drafted.forced, drafted.fresh))


def test_shorter_drafts_are_the_beginning_of_longer_ones(target: LanguageModel, tmp_path: Path) -> None:
    drafter = read("plain", target, tmp_path)
    for short, long in zip(draft_parallel(drafter, 2)[0], draft_parallel(drafter)[0], strict=False):
        torch.testing.assert_close(short, long)


@pytest.mark.parametrize("name", ["plain", "sliding"])
def test_regions_of_chains_and_of_their_controls_sum_to_one_and_are_cut_alike(name: str, target: LanguageModel, tmp_path: Path) -> None:
    _, drafted = draft_parallel(read(name, target, tmp_path), 4)
    labels = text(BOUNDARIES).labels
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
    drafter, made = read("normed", target, tmp_path), text(BOUNDARIES)
    _, drafted = draft_parallel(drafter)
    guessed = torch.stack([queries.guesses.drafted for queries in drafted.forced], dim=1)
    served, rows, found = serve(drafter, 20, DEPTHS), 0, []
    for anchor in range(FIRST, FIRST + CHAINS):
        streams = {boundary: made.streams[boundary][None, rows:anchor] for boundary in BOUNDARIES}
        guesses = [served.read(made.ids[None, rows + 1 : anchor + 1], streams)]
        guesses += [served.follow(guesses[0]) for _ in range(DEPTHS - 1)]
        found.append(torch.cat(guesses))
        rows = anchor
    torch.testing.assert_close(torch.stack(found), guessed)


def test_the_mask_and_what_norms_and_layers_leave_open_are_tried_and_no_feedback(target: LanguageModel, tmp_path: Path) -> None:
    declaration = declare_parallel(CASES["normed"], target, tmp_path)
    fields = [next(iter(one.changes)) for one in alternatives(declaration, None, (), masks=(1, 259))]
    assert {"capture", "residual", "ones", "rope", "mask"} <= set(fields) and "feedback" not in fields
    assert [one.mask for one in alternatives(declaration, None, (), masks=(1, 259)) if one.mask is not None] == [1]
    assert "feedback" not in declaration.record() and declaration.record()["trained_depths"].value == DEPTHS
