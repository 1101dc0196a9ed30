from __future__ import annotations

from dataclasses import replace

from driftcli.conditions import Condition, DraftSettings, Wiring
from driftcli.domain import Estimate, Finding, RunSpec, Sourced
from driftcli.testing import Facts, Head, pair_card
from probes.switches import Switches, by_switch

READINGS = {
    "as_served:sglang": {"feedback": Sourced("normed", "default"), "first_row": Sourced("kept", "default")},
    "as_served:transformers": {"feedback": Sourced("normed", "default"), "modules": Sourced("one a depth", "default")},
}
MTP = replace(pair_card(), family="mtp", readings=READINGS)
NORMED, KEPT = "switch-feedback-normed", "switch-first_row-kept"


def judged(**ratios: tuple[float, float, float]) -> list[Finding]:
    named = {NORMED: ratios["normed"], KEPT: ratios["kept"]}
    trace = Facts(Head(prompts=10), pair=MTP, ratios={name: Estimate(*ratio, 10) for name, ratio in named.items()})
    return [said for said in Switches().judge(trace) if isinstance(said, Finding)]


def test_a_switch_is_asked_for_once_whoever_differs_on_it_and_only_for_mtp_heads() -> None:
    assert by_switch(MTP) == {
        Wiring(feedback="normed"): ["as_served:sglang", "as_served:transformers"],
        Wiring(first_row="kept"): ["as_served:sglang"],
    }
    assert by_switch(replace(MTP, family="eagle3")) == {}
    asked = Switches().conditions(MTP, RunSpec(depth=3))
    assert asked[0] == Condition(NORMED, DraftSettings(3, wiring=Wiring(feedback="normed")), "switches")
    assert [one.name for one in asked] == [NORMED, KEPT]
    assert [one.name for one in Switches().conditions(MTP, RunSpec(depth=1))] == [KEPT]  # the first guess is blind to the feedback


def test_what_a_switch_gives_is_noted_with_who_does_so_and_what_to_do() -> None:
    (found,) = judged(normed=(1.3, 1.2, 1.4), kept=(1.0, 0.999, 1.001))
    assert (found.code, found.severity, found.condition) == ("SWITCH-WORTH", "healthy", NORMED)
    assert found.claim == (
        "as computed by SGLang 0.5.23 and transformers 5.24, with the normed state fed back: +30% accepted draft tokens [+20%, +40%] "
        "against the way that is run here (10 prompts)"
    )
    assert found.fix == "serve it so, as SGLang 0.5.23 and transformers 5.24 would"


def test_what_a_switch_takes_is_warned_of() -> None:
    (found,) = judged(normed=(0.5, 0.4, 0.6), kept=(1.0, 0.9, 1.1))
    assert "-50% accepted draft tokens" in found.claim and found.fix.startswith("do not serve it with SGLang 0.5.23")


def test_small_or_unsure_switches_and_few_prompts_keep_it_quiet() -> None:
    assert judged(normed=(1.03, 1.01, 1.05), kept=(0.99, 0.985, 0.995)) == []
    trace = Facts(Head(prompts=7), pair=MTP, ratios={NORMED: Estimate(1.3, 1.2, 1.4, 7)})
    assert list(Switches().judge(trace)) == []
