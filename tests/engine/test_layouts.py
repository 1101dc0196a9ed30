"""Every layout in every reading: the engine's chains equal chains drafted alone by formulas spelled by hand, and the laws hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_chains
from driftcli.engine.drafted import Drafted
from driftcli.engine.trajectories import Trajectory
from driftcli.loading.pair import LoadedPair, load_pair
from tests.engine.regions import shares_of
from tests.engine.test_chains import assert_same
from tests.layouts import LAYOUTS, Layout, layout
from tests.reference import Lone, target_streams
from tests.tiny import prompts, trajectories

DEPTH = 5
READINGS = [(each.name, reading) for each in LAYOUTS for reading in each.formulas]


@pytest.fixture(scope="module")
def target(layouts: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(layouts / "target").eval()


Run = Callable[[str, str], tuple[LoadedPair, Trajectory, Drafted]]


@pytest.fixture(scope="module")
def run(layouts: Path) -> Run:
    made: dict[tuple[str, str], tuple[LoadedPair, Trajectory, Drafted]] = {}

    def get(name: str, reading: str) -> tuple[LoadedPair, Trajectory, Drafted]:
        if (name, reading) not in made:
            pair = load_pair(str(layouts / "target"), str(layouts / name), torch.device("cpu"), "float32", reading=reading)  # type: ignore[arg-type]
            settings = DraftSettings(depth=DEPTH)
            (trajectory,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 14)  # type: ignore[union-attr]
            made[name, reading] = pair, trajectory, draft_chains(pair.drafter, trajectory, settings, DEPTH, free=True)  # type: ignore[arg-type]
        return made[name, reading]

    return get


def chains(
    name: str, reading: str, layouts: Path, target: LlamaForCausalLM, ids: list[int], first: int, **fault: object
) -> Callable[[int, bool], tuple[Lone, list]]:
    formula = layout(name).formulas[reading]
    lone = Lone.of(layouts / name, layouts / "target", formula, **fault)  # type: ignore[arg-type]
    streams = target_streams(target, ids, formula.boundaries)
    return lambda place, forced: (lone, lone.chain(ids, streams, first + place, DEPTH, forced=forced))


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize(("name", "reading"), READINGS)
def test_every_chain_equals_the_same_chain_drafted_alone(
    name: str, reading: str, forced: bool, run: Run, layouts: Path, target: LlamaForCausalLM
) -> None:
    pair, trajectory, drafted = run(name, reading)
    assert pair.card.record["reading"].value == reading
    alone = chains(name, reading, layouts, target, trajectory.ids.tolist(), trajectory.prompt_length)
    for place in range(0, drafted.n_anchors, 3):
        lone, steps = alone(place, forced)
        assert_same(lone, steps, drafted.forced if forced else drafted.free, place)


@pytest.mark.parametrize(("name", "reading"), READINGS)
def test_attention_of_every_layer_equals_the_lone_chains(
    name: str, reading: str, run: Run, layouts: Path, target: LlamaForCausalLM
) -> None:
    _, trajectory, drafted = run(name, reading)
    alone = chains(name, reading, layouts, target, trajectory.ids.tolist(), trajectory.prompt_length)
    place = drafted.n_anchors - 1
    _, steps = alone(place, True)
    for depth, (step, queries) in enumerate(zip(steps, drafted.forced, strict=True), 1):
        shares = shares_of(queries.masses, None, trajectory.labels[1:], None)
        for layer, (attention, rows) in enumerate(zip(step.attention, step.rows, strict=True)):
            ahead = torch.tensor([row + 1 > trajectory.prompt_length + place for row in rows])
            torch.testing.assert_close(
                shares["ahead"][layer, :, place], attention[:, ahead].sum(1), rtol=0, atol=3e-5, msg=f"depth {depth}"
            )
            entropy = torch.special.entr(attention).sum(1)
            torch.testing.assert_close(queries.masses.entropy[layer, :, place], entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "reading"), READINGS)
def test_the_laws_hold(name: str, reading: str, run: Run) -> None:
    _, trajectory, drafted = run(name, reading)
    assert torch.equal(drafted.forced[0].state, drafted.control(1).state)
    for depth in range(1, DEPTH + 1):
        for queries, ahead in ((drafted.forced[depth - 1], None), (drafted.free[depth - 1], None), (drafted.control(depth), depth - 1)):
            shares = shares_of(queries.masses, 0, trajectory.labels[1:], ahead)
            total = sum(share for region, share in shares.items() if region != "recent")
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reading", "other"),
    [
        (each.name, reading, other)
        for each in LAYOUTS
        for reading in each.formulas
        for other in each.formulas
        if reading < other
        and each.formulas[reading] != each.formulas[other]
        and each.name != "eagle1-sglang"  # its own embedding is a copy
    ],
)
def test_where_formulas_differ_the_engine_tells_the_readings_apart(
    name: str, reading: str, other: str, run: Run, layouts: Path, target: LlamaForCausalLM
) -> None:
    pair, trajectory, drafted = run(name, reading)
    alone = chains(name, other, layouts, target, trajectory.ids.tolist(), trajectory.prompt_length)
    with pytest.raises(AssertionError):
        for place in range(0, drafted.n_anchors, 3):
            lone, steps = alone(place, True)
            assert_same(lone, steps, drafted.forced, place)
    assert pair.card.readings[other], "the record does not say that they differ"


@pytest.mark.parametrize("name", [each.name for each in LAYOUTS])
def test_a_reading_without_a_formula_is_refused_and_the_card_says_so(name: str, run: Run) -> None:
    known: Layout = layout(name)
    declared = next(reading for reading in ("as_served:vllm", "as_served:sglang", "as_trained") if reading in known.formulas)
    card = run(name, declared)[0].card
    unknown = {"as_served:vllm", "as_served:sglang", "as_trained"} - known.formulas.keys()
    assert {reading for reading, fields in card.readings.items() if "refused" in fields} == unknown
