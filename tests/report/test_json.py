from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from driftcli.domain import SHARES
from driftcli.report import markdown
from driftcli.report.console import plain
from driftcli.report.json import AGAINST_CONTROL, render
from driftcli.report.terminal import whole
from driftcli.statistics.intervals import unseen_share
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, NO_STATE, WITHOUT_STATE, Life, Recipe

SHORT = Recipe(Life(lost=DRIFTING.lost[:3], growth=DRIFTING.growth[:3], moved=DRIFTING.moved[:3]), anchors=60, short=("tiny",))
WINDOW = Life(lost=(0, 0.05, 0.05), growth=(1, 1, 1), moved=(0, 0, 0))
CONTROLLED = {f"control_{name}" for name in (*SHARES, "entropy", "rms")}
CURVES = {"joint_walk", "joint", "forced_accuracy", "fresh_accuracy", "compounding", "rms", "rms_ratio", "state_cosine", "attention_drift"}


def parsed(text: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON number")

    return json.loads(text, parse_constant=refuse)


def nulls(value: object, where: str = "") -> Iterator[tuple[str, object]]:
    """Every null and the object that holds it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if inner is None:
            yield f"{where}/{key}", value
        yield from nulls(inner, f"{where}/{key}")


def rounded(text: str) -> str:
    """Four decimals a number and an interval a line: what a diff should show, and nothing of another machine's rounding."""
    short = json.dumps(json.loads(text, parse_float=lambda digits: float(f"{float(digits):z.4f}")), indent=1) + "\n"
    return re.sub(r"\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]", r"[\1, \2]", short)


def test_the_report_of_a_drifting_head_reads_as_agreed(judged: Judged, golden: Callable[[str, str], None]) -> None:
    golden("report_drift.json", rounded(render(*judged(SHORT))))


def test_every_key_that_scripts_rely_on_is_there(judged: Judged) -> None:
    report = parsed(render(*judged(Recipe(SHORT.life, extra={"window-4": ("windows", WINDOW)}))))
    assert {"schema", "pair", "verdict", "baseline", "findings", "conditions", "mitigations"} <= report.keys()
    assert report["schema"] == 1
    assert report["verdict"].keys() >= {"severity", "axes"}
    assert report["baseline"].keys() >= {"acceptance_length", "self_feeding_tax", "handoff", "by_depth"}
    for number in ("acceptance_length", "self_feeding_tax", "handoff"):
        assert report["baseline"][number].keys() >= {"value", "low", "high", "n_prompts"}
    assert [row["depth"] for row in report["baseline"]["by_depth"]] == [1, 2, 3]
    for row in report["baseline"]["by_depth"]:
        assert row.keys() >= {"depth", "intervals", *CURVES, *SHARES, "entropy", *CONTROLLED}
    for finding in report["findings"]:
        assert finding.keys() >= {"code", "severity", "claim", "estimate", "low", "high", "unit", "n_prompts", "condition", "fix"}
    (condition,) = report["conditions"]
    assert condition.keys() >= {"probe", "name", "acceptance_length", "ratio_to_baseline"}


@pytest.mark.parametrize(
    "recipe",
    [SHORT, Recipe(WITHOUT_STATE), Recipe(Life(sink=False)), Recipe(prompts=(), short=("a", "b")), Recipe(SHORT.life, argmax_share=0.5)],
    ids=["drift", "causal-lm", "no-sink", "no-anchors", "given-replies"],
)
def test_no_number_is_nan_and_every_null_has_a_reason(judged: Judged, recipe: Recipe) -> None:
    report = parsed(render(*judged(recipe)))
    for row in report["baseline"]["by_depth"]:
        curves = row.keys() - {"depth", "intervals", "absent"}
        empty = {name for name in curves if row[name] is None}
        assert row["absent"].keys() == empty
        assert row["intervals"].keys() == curves - empty
        assert all(row["absent"].values())
    for where, holder in nulls({key: value for key, value in report["baseline"].items() if key != "by_depth"}):
        assert isinstance(holder, dict), where
        assert holder["reason"], where


def test_parts_of_the_replies_stand_beside_the_depths_with_how_many_reach_them(judged: Judged) -> None:
    first, later = parsed(render(*judged(Recipe(SHORT.life, anchors=100))))["baseline"]["by_position"]
    assert [(part["from"], part["to"], part["replies"], part["ended"]) for part in (first, later)] == [(0, 63, 16, 0), (64, 127, 16, 0)]
    for name in ("acceptance_length", "rms", "rms_ratio", "prompt_side"):
        assert later[name]["low"] <= later[name]["value"] <= later[name]["high"]
    paired, grown = later["against_first"], DRIFTING.growth[1] + DRIFTING.growth[2]
    assert paired["accepted_drafts"]["low"] < 1 < paired["accepted_drafts"]["high"]  # nothing falls in these replies
    assert later["rms_ratio"]["value"] == pytest.approx(grown / 2, rel=0.02)
    assert paired["rms_ratio"]["value"] == pytest.approx(1, rel=0.02)
    assert paired["prompt_side"]["value"] == pytest.approx(0, abs=1e-6)


def test_a_drafter_without_a_state_has_no_states_by_position_and_says_why(judged: Judged) -> None:
    without = parsed(render(*judged(Recipe(WITHOUT_STATE, anchors=100))))["baseline"]["by_position"][1]
    assert without["prompt_side"]["value"] is not None
    assert without["rms_ratio"]["reason"] == without["against_first"]["rms"]["reason"] == NO_STATE


def test_an_interval_holds_its_number_at_every_depth(judged: Judged) -> None:
    for row in parsed(render(*judged(SHORT)))["baseline"]["by_depth"]:
        for name, (low, high) in row["intervals"].items():
            assert low - 1e-9 <= row[name] <= high + 1e-9, name


def test_what_is_zero_by_construction_without_recursion_is_null_with_the_reason(judged: Judged) -> None:
    baseline = parsed(render(*judged(Recipe(WITHOUT_STATE))))["baseline"]
    assert baseline["self_feeding_tax"] == {"value": None, "low": None, "high": None, "n_prompts": None, "reason": NO_STATE}
    assert baseline["handoff"]["reason"] == NO_STATE
    for row in baseline["by_depth"]:
        assert {row["absent"].get(name) for name in (*AGAINST_CONTROL, "rms", "control_rms", "free_rms")} == {NO_STATE}
        assert row["forced_accuracy"] is not None
        assert row["ahead"] is not None


def test_without_a_sink_its_share_alone_is_null(judged: Judged) -> None:
    row = parsed(render(*judged(Recipe(Life(sink=False)))))["baseline"]["by_depth"][1]
    assert {name for name in row["absent"] if name not in ("compounding", "block_independence")} == {
        "sink",
        "control_sink",
        "sink_change",
        "free_sink",
    }
    assert row["absent"]["sink"] == "no trajectory of this run has a sink"
    assert row["prompt_side_change"] == pytest.approx(0)


def test_replies_that_are_not_the_targets_own_claim_no_acceptance_length(judged: Judged) -> None:
    baseline = parsed(render(*judged(Recipe(SHORT.life, argmax_share=0.9))))["baseline"]
    assert baseline["acceptance_length"]["value"] is None
    assert "own choice at only 90.0% of their tokens" in baseline["acceptance_length"]["reason"]
    assert baseline["text_match_length"]["value"] > 1
    assert baseline["target_argmax_share"] == pytest.approx(0.9)


def test_replies_that_are_the_targets_own_have_no_text_match_length(judged: Judged) -> None:
    assert "text_match_length" not in parsed(render(*judged(SHORT)))["baseline"]


def test_a_condition_is_held_against_the_baseline_prompt_by_prompt(judged: Judged) -> None:
    extra = {"same": ("windows", SHORT.life), "window-4": ("windows", WINDOW)}
    report = parsed(render(*judged(Recipe(SHORT.life, anchors=60, extra=extra))))
    same, window = report["conditions"]
    assert (same["probe"], same["name"], window["name"]) == ("windows", "same", "window-4")
    assert same["acceptance_length"] == report["baseline"]["acceptance_length"]
    ratio = same["ratio_to_baseline"]
    unseen = unseen_share(ratio["n_prompts"])  # paired: the spread between prompts cancels, and other prompts may differ
    assert (ratio["value"], ratio["low"], ratio["high"]) == pytest.approx((1, 1 - unseen, 1 / (1 - unseen)))
    lengths = window["acceptance_length"]["value"] / report["baseline"]["acceptance_length"]["value"]
    assert window["ratio_to_baseline"]["value"] == pytest.approx(lengths)
    assert window["ratio_to_baseline"]["low"] > 1


def test_prompts_too_short_for_a_chain_are_named(judged: Judged) -> None:
    assert parsed(render(*judged(SHORT)))["prompts_too_short"] == ["tiny"]


def test_text_from_outside_is_escaped_and_comes_back_as_it_was(judged: Judged) -> None:
    name = "evil\x1b[31m\x9b2J\u202egnp [red]x[/red] 東京"
    text = render(*judged(Recipe(SHORT.life, drafter=name, short=("a\x1b]0;t\x07",))))
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert parsed(text)["pair"]["drafter"]["name"] == name


@pytest.mark.parametrize("prompts", [1, 3, 7])
def test_with_few_prompts_numbers_stand_without_an_interval_and_say_why(judged: Judged, prompts: int) -> None:
    run, verdict = judged(Recipe(DRIFTING, prompts=[f"p{number}" for number in range(prompts)]))
    content = parsed(render(run, verdict))
    length = content["baseline"]["acceptance_length"]
    why = f"{prompts} prompt{'s' * (prompts > 1)} with a chain, at least 8 are needed"
    assert 1 < length["value"] < 9
    assert (length["low"], length["high"], length["n_prompts"], length["reason"]) == (None, None, prompts, why)
    third = content["baseline"]["by_depth"][2]
    assert 0 < third["forced_accuracy"] < 1
    assert "forced_accuracy" not in third["intervals"]
    assert third["absent"]["forced_accuracy"] == why
    shown = " ".join(plain(whole(run, verdict)).split())
    assert f"acceptance length {length['value']:.2f} (too few prompts for an interval); over whole replies, as a server counts, " in shown
    assert "95%" not in shown and "[" not in shown
    assert "nan" not in shown.lower()


@pytest.mark.parametrize(("prompts", "brackets"), [(7, False), (8, True)])
def test_eight_prompts_are_the_fewest_with_intervals_in_every_report(judged: Judged, prompts: int, brackets: bool) -> None:
    run, verdict = judged(Recipe(DRIFTING, prompts=[f"p{number}" for number in range(prompts)]))
    third = parsed(render(run, verdict))["baseline"]["by_depth"][2]
    assert ("sink" in third["intervals"]) == brackets
    assert third["sink"] is not None and ("sink" in third["absent"]) == (not brackets)  # a sink is there, however few the prompts
    for shown in (plain(whole(run, verdict)), markdown.render(run, verdict)):
        assert ("too few prompts for an interval" in shown) == (not brackets)
        assert bool(re.search(r"\d%? \[\d", shown)) == brackets
