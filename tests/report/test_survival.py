from __future__ import annotations

import pytest

from driftcli.domain import Absent, Estimate, Verdict
from driftcli.report.json import report
from driftcli.report.remedies import tried
from driftcli.report.survival import survival_lines, survival_tables, telling
from driftcli.statistics.costs import StepCosts
from driftcli.traces.reader import Run
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, Life, Recipe
from tests.statistics.test_temperatures import planted

COSTS = StepCosts(1, 0.1, 0.1, (1.0,) * 9)


def told(run: Run, verdict: Verdict) -> dict[str, object]:
    found = report(run, verdict)["survival"]
    assert isinstance(found, dict)
    return found


def test_the_table_says_what_is_promised_and_what_is_accepted_by_depth(judged: Judged) -> None:
    run, _ = judged(Recipe(DRIFTING))
    ((heading, rows),) = survival_tables(run)
    assert heading == "Survival"
    cells = {row.name: row.cells for row in rows}
    assert list(cells["promised"]) == [f"{0.6**depth:.0%}" for depth in range(1, 9)]  # every draft token is told to be right at 60%
    kept = [len(run.survival["draft_prob"].accepted[run.survival["draft_prob"].accepted >= depth]) for depth in range(1, 9)]  # type: ignore[union-attr]
    assert list(cells["accepted, all anchors"]) == [f"{count / run.n_anchors:.0%}" for count in kept]
    assert set(cells["AUROC"][:5]) == {"0.500"}  # of one promise for all; hardly a chain survives deeper
    first = next(float(one) for one in cells["temperature"])
    share = kept[0] / run.n_anchors
    assert 0.6 ** (1 / first) / (0.6 ** (1 / first) + 0.4 ** (1 / first)) == pytest.approx(share, abs=0.005)  # right on average then


def test_json_has_every_score_before_and_after_and_what_to_export(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[COSTS]))
    found = told(run, verdict)
    assert found["confidence"] == {"by_depth": [], "reason": "it has no confidence head"}
    rows = found["draft_prob"]["by_depth"]  # type: ignore[index]
    assert [row["depth"] for row in rows] == list(range(1, 9))
    for name in ("promised", "calibration_error", "brier", "auroc"):
        assert {f"{name}", f"{name}_scaled"} <= rows[0].keys()
    export = found["export"]["draft_prob"]  # type: ignore[index]
    assert export["temperatures"] == pytest.approx([row["temperature"]["value"] or 1.0 for row in rows])
    half = run.survival["draft_prob"].fit("selecting")  # type: ignore[union-attr]
    assert export["threshold_temperatures"] == list(half.temperatures)
    assert export["thresholds"].keys() == {"product", "product_calibrated", "token"}
    stopping = found["stopping"]
    assert isinstance(stopping, list)
    assert any("against the same without temperatures" in str(line) for line in stopping)
    assert survival_lines(run, tried(run))[1:] == stopping


def test_what_temperatures_give_is_said_and_so_is_that_they_give_nothing() -> None:
    assert telling("draft_prob", planted(3, 2.0, prompts=40)).startswith(
        "its probabilities: a temperature a depth lowers the Brier score on other prompts at depth 1, 2, 3, 4, most surely at "
    )
    assert "no gain by calibration is shown" in telling("draft_prob", planted(3, 1.0, prompts=40))
    assert telling("draft_prob", planted(3, 2.0, prompts=9)).startswith("its probabilities: no temperatures, 9 prompts")


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(DRIFTING, argmax_share=0.5), "the given replies are not the target's own"),
        (Recipe(DRIFTING, prompts=(), short=("a", "b")), "no reply was long enough"),
    ],
)
def test_a_run_of_given_replies_or_without_a_chain_promises_nothing(judged: Judged, recipe: Recipe, reason: str) -> None:
    run, verdict = judged(recipe)
    assert survival_tables(run) == []
    assert survival_lines(run, tried(run)) == []
    assert str(told(run, verdict)["draft_prob"]["reason"]).startswith(reason)  # type: ignore[index]


def test_of_one_category_it_is_that_of_its_prompts(judged: Judged) -> None:
    names = Recipe().prompts
    run, _ = judged(Recipe(Life(), categories={name: "code" if place < 9 else "prose" for place, name in enumerate(names)}))
    whole, part = run.survival["draft_prob"], run.of_category("code").survival["draft_prob"]
    assert not isinstance(whole, Absent)
    assert not isinstance(part, Absent)
    assert (whole.n_prompts, part.n_prompts) == (16, 9)
    assert isinstance(whole.temperatures()[0], Estimate)
    assert isinstance(part.temperatures()[0], Absent)
