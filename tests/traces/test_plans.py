from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from driftcli.conditions import BASELINE, Condition, DraftSettings, Plan, StopRule
from driftcli.domain import Absent, Estimate, PairCard, RunSpec
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair
from driftcli.statistics.curves import length_by_draft_length
from driftcli.statistics.walks import Floats, Sums, acceptance_length
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from tests.reference import Lone, Step, target_streams
from tests.tiny import prompts

DEPTH = 4
CAPTURE = (2, 4, 5)


class Window:
    """A probe with one condition that drafts no free chains."""

    name, axes = "window", ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> list[Condition]:
        return [Condition("window-4", DraftSettings(spec.depth, window=4), "window")]


@pytest.fixture(scope="module")
def run(pair: Callable[[str], LoadedPair], tmp_path_factory: pytest.TempPathFactory) -> Run:
    spec, out = RunSpec(depth=DEPTH, max_new_tokens=24, batch_size=4), tmp_path_factory.mktemp("plans") / "r"
    return read_run(measure(Job(pair("trained-pre"), prompts(16), (Window(),), spec, out, []), lambda *_: None))  # type: ignore[arg-type]


def rounds(sums: Sums) -> Floats:
    return sums["rounds_by_sent"].sum(axis=-1)


def kept(sums: Sums) -> Floats:
    return sums["kept"]


def length(sums: Sums) -> Floats:
    return acceptance_length(rounds(sums), kept(sums))


def sent(sums: Sums) -> Floats:
    return (sums["rounds_by_sent"] * np.arange(sums["rounds_by_sent"].shape[-1])).sum(axis=-1)


def numbers(run: Run, plan: Plan) -> list[float]:
    found = [run.planned(number, plan) for number in (rounds, sent, kept)]
    assert all(isinstance(one, Estimate) for one in found)
    return [one.value for one in found]  # type: ignore[union-attr]


def test_every_draft_length_is_that_of_the_walk(run: Run) -> None:
    for drafts, wanted in enumerate(run.by_depth(length_by_draft_length), 1):
        assert run.planned(length, Plan(BASELINE, drafts)) == wanted


@pytest.mark.parametrize(
    "nothing",
    [
        StopRule("confidence", low=0.0),
        StopRule("entropy"),
        StopRule("state", 0.0, 1e9),
        StopRule("prompt", low=0.0),
        StopRule("survival", low=0.0),
    ],
)
def test_a_rule_that_never_ends_a_chain_changes_nothing(nothing: StopRule, run: Run) -> None:
    assert numbers(run, Plan(BASELINE, DEPTH, nothing)) == numbers(run, Plan(BASELINE, DEPTH))
    same = run.planned(length, Plan(BASELINE, DEPTH, nothing), Plan(BASELINE, DEPTH))
    assert isinstance(same, Estimate) and same.value == 1


MEASURED: dict[str, tuple[str, Callable[[Step], float]]] = {
    "confidence": ("draft_prob", lambda step: float(step.logits.softmax(-1).max())),
    "entropy": ("draft_entropy", lambda step: float(torch.special.entr(step.logits.softmax(-1)).sum())),
    "state": ("rms", lambda step: float(step.state.square().mean().sqrt())),
}


def rules(run: Run) -> list[StopRule]:
    """One on each measure of a draft token, at its middle, and two on the whole chain."""
    steps = read_table(run.path / "steps", ["feed", *(column for column, _ in MEASURED.values())], BASELINE).to_pandas()
    free = steps[steps["feed"] == "free"]
    middle = {name: float(free[column].quantile(0.5)) + 1e-5 for name, (column, _) in MEASURED.items()}
    low = float(free["draft_prob"].quantile(0.5)) ** 2
    single = [StopRule("confidence", low=middle["confidence"]), *(StopRule(name, high=middle[name]) for name in ("entropy", "state"))]  # type: ignore[arg-type]
    return [*single, StopRule("survival", low=low), StopRule("survival", low=low, temperatures=(0.5, 2.0, 3.0, 1.0))]


def outside(rule: StopRule, chain: list[Step]) -> list[bool]:
    """Of each draft token of a chain, whether a rule ends the chain behind it."""
    if rule.measure != "survival":
        return [not rule.low <= MEASURED[rule.measure][1](step) <= rule.high for step in chain]
    product, found = 1.0, []
    for step, temperature in zip(chain, rule.temperatures or (1.0,) * DEPTH, strict=True):
        said = MEASURED["confidence"][1](step)
        product *= 1 / (1 + ((1 - said) / said) ** (1 / temperature))
        found.append(product < rule.low)
    return found


class Naive:
    """Chains of the run's texts, each drafted alone, once for all rules that end them."""

    def __init__(self, run: Run, models: Path) -> None:
        self.texts: list[dict] = read_table(run.path / "trajectories", ["ids", "prompt_length"], BASELINE).to_pylist()
        self.lone = Lone.of(models / "trained-pre", models / "target")
        target = LlamaForCausalLM.from_pretrained(models / "target").eval()
        self._streams = [target_streams(target, text["ids"], CAPTURE) for text in self.texts]
        self._chains: dict[tuple[int, int], list[Step]] = {}

    def chain(self, number: int, anchor: int) -> list[Step]:
        """Of a text's anchor, in full."""
        if (number, anchor) not in self._chains:
            streams = self._streams[number]
            self._chains[number, anchor] = self.lone.chain(self.texts[number]["ids"], streams, anchor, DEPTH, forced=False)
        return self._chains[number, anchor]


@pytest.fixture(scope="module")
def naive(run: Run, trained: Path) -> Naive:
    return Naive(run, trained)


@pytest.mark.parametrize("number", range(5))
def test_chains_that_end_early_count_as_in_a_naive_decoding_loop(number: int, run: Run, naive: Naive) -> None:
    rule = rules(run)[number]
    counted = [0, 0, 0]
    for place, text in enumerate(naive.texts):
        ids, anchor = text["ids"], text["prompt_length"]
        while anchor < len(ids) - DEPTH:
            chain = naive.chain(place, anchor)
            last = next((depth for depth, ends in enumerate(outside(rule, chain), 1) if ends), DEPTH)
            drafts = [naive.lone.to_target(int(step.logits.argmax())) for step in chain[:last]]
            right = next((i for i, draft in enumerate(drafts) if draft != ids[anchor + 1 + i]), last)
            counted = [counted[0] + 1, counted[1] + last, counted[2] + right]
            anchor += right + 1
    assert numbers(run, Plan(BASELINE, DEPTH, rule)) == counted
    assert 1 < counted[1] / counted[0] < DEPTH, "a rule that ends every chain, or none, proves nothing"


def test_a_rule_must_see_free_chains(run: Run) -> None:
    found = run.planned(length, Plan("window-4", DEPTH, StopRule("confidence", 0.5)))
    assert found == Absent("window-4 drafted no free chains, which a rule that ends them must see")
    assert isinstance(run.planned(length, Plan("window-4", DEPTH)), Estimate)


def test_halves_are_every_other_prompt_and_the_band_is_of_the_one_that_selects(run: Run) -> None:
    plan, names = Plan(BASELINE, 2), run.prompts
    parts = [run.planned(kept, plan, half=half) for half in ("selecting", "judging")]  # type: ignore[arg-type]
    assert [one.n_prompts for one in parts if isinstance(one, Estimate)] == [len(names[0::2]), len(names[1::2])]
    whole = run.planned(kept, plan)
    assert isinstance(whole, Estimate)
    assert sum(one.value for one in parts if isinstance(one, Estimate)) == whole.value
    steps = read_table(run.path / "steps", ["prompt", "feed", "rms"], BASELINE).to_pandas()
    fresh = steps[(steps["feed"] == "fresh") & steps["prompt"].isin(names[0::2])]["rms"].astype(float)
    assert run.fresh_band("state", 0.1) == pytest.approx((fresh.quantile(0.1), fresh.quantile(0.9)))
