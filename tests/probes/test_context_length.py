from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from driftcli.domain import Finding, Open, PairCard, RunSpec, Skipped, Sound, Sourced
from driftcli.testing import Facts, Head, pair_card
from probes.context_length import PROMPTS, ContextLength, lengths

PROBE = ContextLength()


def pair(target: int | None = 8192, drafter: int | None = 4096, *, no_recursion: str | None = None) -> PairCard:
    base = pair_card(no_recursion=no_recursion)
    declared = {} if drafter is None else {"max_position_embeddings": Sourced(drafter, "config:max_position_embeddings")}
    return replace(base, record={**base.record, **declared}, target_positions=target)


def keeping(kept: float) -> Head:
    """So many drafts kept in 40 rounds of every prompt."""
    return Head(rounds=(40,) * 4, kept=(kept,) * 4, prompts=PROMPTS)


def trace(kept: Mapping[str, float | Head], **changes: object) -> Facts:
    """A run at 512, 1024 and 2048 tokens; what is not said keeps 40 drafts in 40 rounds."""
    asked = PROBE.conditions(pair(), RunSpec(depth=4))
    told = {condition.name: kept.get(condition.name, 40.0) for condition in asked}
    others = {name: value if isinstance(value, Head) else keeping(value) for name, value in told.items()}
    return replace(Facts(keeping(40), pair(), conditions=others), **changes)  # type: ignore[arg-type]


def test_full_attention_comes_first_at_every_length_and_shorter_windows_after_it() -> None:
    asked = PROBE.conditions(pair(), RunSpec(depth=4))
    names = [condition.name for condition in asked if condition.text.length == 512]
    assert names == ["context-512", "context-512-window-256", "context-512-window-256-keep-sink", "context-512-window-256-keep-system"]
    assert len([condition for condition in asked if condition.text.length == 2048]) == 1 + 3 * 3
    assert {condition.prompts for condition in asked} == {PROMPTS}


@pytest.mark.parametrize(
    ("asked", "target", "drafter", "admitted"),
    [
        ((), 8192, 4096, [512, 1024, 2048]),
        ((), 8192, 2048, [512, 1024]),  # a reply must fit behind
        ((), 1024, None, [512]),
        ((4096, 1024), 8192, 2048, [1024, 4096]),  # what is asked for is bounded by the target alone
        ((4096, 8192), 8192, 2048, [4096]),
        ((), None, None, [512, 1024, 2048]),
    ],
)
def test_lengths_are_those_that_the_models_admit(
    asked: tuple[int, ...], target: int | None, drafter: int | None, admitted: list[int]
) -> None:
    assert lengths(pair(target, drafter), RunSpec(lengths=asked)) == admitted


def test_a_causal_lm_is_asked_at_full_attention_alone() -> None:
    asked = PROBE.conditions(pair(no_recursion="no state"), RunSpec(depth=4))
    assert [condition.name for condition in asked] == ["context-512", "context-1024", "context-2048"]


@pytest.mark.parametrize(("kept", "severity"), [(36, "mild"), (32, "moderate"), (20, "severe")])
def test_a_fall_that_a_window_restores_is_drift_with_length(kept: float, severity: str) -> None:
    falling = {name: kept for name in trace({}).conditions if name.startswith("context-2048")}
    helped, found = PROBE.judge(trace({**falling, "context-2048-window-512-keep-sink": 40}))
    assert isinstance(helped, Finding) and isinstance(found, Finding)
    assert (helped.code, helped.severity, helped.condition) == ("WINDOW-HELPS", "healthy", "context-2048-window-512-keep-sink")
    assert (found.code, found.severity, found.condition) == ("DRIFT-LONGCTX", severity, "context-2048")
    lost = f"{1 - kept / 40:.0%}"
    assert found.claim.startswith(f"from 512 to 2048 tokens {lost} [{lost}, {lost}] of the accepted draft tokens are lost; ")
    assert f"a window of 512 and the sink kept gives back {(40 - kept) / 40:.2f} a round" in found.claim


def test_a_fall_that_no_window_restores_has_a_name_of_its_own() -> None:
    falling = {name: 20.0 for name in trace({}).conditions if name.startswith("context-2048")}
    (found,) = PROBE.judge(trace(falling))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("LENGTH-LOSS", "severe")
    assert found.claim.endswith("50% [50%, 50%] of the accepted draft tokens are lost, and no window gives them back")


def test_lengths_alike_are_sound_and_a_window_that_helps_all_the_same_is_noted() -> None:
    (said,) = PROBE.judge(trace({"context-2048": 39.0, **{n: 39.0 for n in trace({}).conditions if n.startswith("context-2048-")}}))
    assert isinstance(said, Sound) and said.reason.startswith("no length costs ")
    helped, said = PROBE.judge(trace({"context-1024-window-256": 50.0}))
    assert isinstance(helped, Finding) and isinstance(said, Sound)
    assert (
        helped.claim
        == "at 1024 tokens a window of 256: +0.25 accepted draft tokens a round [+0.25, +0.25], 125% of those with full attention"
    )


def test_a_window_that_helps_only_the_prompts_that_select_is_not_believed() -> None:
    lucky = Head(rounds=(40,) * 4, kept=((80,) * 4, (30,) * 4), prompts=PROMPTS)  # dealt over the prompts in turn
    (said,) = PROBE.judge(trace({"context-1024-window-256": lucky}))
    assert isinstance(said, Sound)


def test_a_window_that_gives_less_than_two_per_cent_is_not_worth_a_note() -> None:
    (said,) = PROBE.judge(trace({"context-1024-window-256": 40.5}))
    assert isinstance(said, Sound)


def test_an_uncertain_fall_is_open_with_what_is_not_excluded() -> None:
    wide = Head(rounds=(40,) * 4, kept=((78,) * 4, (2,) * 4), prompts=PROMPTS)
    (said,) = PROBE.judge(trace({name: wide for name in trace({}).conditions if name.startswith("context-2048")}))
    assert isinstance(said, Open) and said.axis == "context"
    assert said.bound is not None and said.bound > 0.15
    assert (
        f"up to {said.bound:.0%} is not excluded (from 512 to 2048 tokens 0% [-19%, 19%] of the accepted draft tokens are lost"
        in said.reason
    )
    assert "more prompts a length would tell" in said.reason


def test_few_lengths_and_given_replies_are_inconclusive() -> None:
    for run, why in (
        (replace(trace({}), pair=pair(1024)), "the models admit 1 of the lengths"),
        (trace({}, chosen=0.5), "the given replies are not the target's own"),
    ):
        (said,) = [item for item in PROBE.judge(run) if isinstance(item, Skipped)]
        assert said.state == "inconclusive" and said.reason.startswith(why)
