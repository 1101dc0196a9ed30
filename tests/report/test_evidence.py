from __future__ import annotations

import pytest

from driftcli.domain import AxisVerdict, Verdict
from driftcli.printable import counted
from driftcli.report.evidence import Curve, banner, facts_line
from driftcli.report.notes import axis_lines
from driftcli.report.tables import shown_depths
from driftcli.statistics.walks import Floats, Sums
from tests.report.conftest import Judged
from tests.report.synthetic import Recipe


@pytest.mark.parametrize("depth", list(range(1, 65)))
def test_the_shown_depths_fit_ascend_and_hold_the_first_and_the_last(depth: int) -> None:
    shown = shown_depths(depth)
    assert len(shown) == min(depth, 8)
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (1, depth)


@pytest.mark.parametrize(("form", "cell"), [("percent", "0%"), ("number", "0.00"), ("points", "+0.0"), ("low", "0%"), ("high", "0%")])
def test_a_number_that_rounds_to_zero_bears_no_minus_sign(judged: Judged, form: str, cell: str) -> None:
    def nearly_zero(sums: Sums) -> Floats:
        return -1e-6 + 0 * sums["kept_at"]

    run, _ = judged(Recipe())
    assert set(Curve("x", nearly_zero, form).row(run).cells) == {cell}  # type: ignore[arg-type]


def test_the_banner_speaks_of_drift_only_where_drift_decided() -> None:
    def of(severity: str, drift: str) -> str:
        return banner(Verdict(severity, "", {"drift": AxisVerdict(drift)}))  # type: ignore[arg-type]

    assert of("moderate", "moderate") == "MODERATE DRIFT"
    assert of("moderate", "mild") == "MODERATE"
    assert of("healthy", "healthy") == "HEALTHY"
    unasked = {"drift": AxisVerdict("healthy"), "wiring": AxisVerdict("not measured")}
    assert banner(Verdict("healthy", "", unasked)) == "NO DRIFT"
    assert of("inconclusive", "not applicable") == "INCONCLUSIVE"
    assert of("not applicable", "not applicable") == "DRIFT NOT APPLICABLE"
    assert of("miswired", "severe") == "MISWIRED"


def test_a_reason_that_the_headline_gave_is_not_repeated() -> None:
    axes = {"drift": AxisVerdict("inconclusive", "too few"), "capacity": AxisVerdict("inconclusive", "no anchors")}
    assert axis_lines(Verdict("inconclusive", "drift is inconclusive: too few", axes)) == ["capacity: inconclusive, no anchors"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finished", "shown"),
    [("03:04:45", "40 s"), ("03:06:15", "2 min 10 s"), ("05:06:15", "2 h 2 min"), ("03:04:05", "0 s")],
)
def test_the_time_taken_is_told_in_two_units_at_most(judged: Judged, finished: str, shown: str) -> None:
    run, _ = judged(Recipe())
    run.manifest["finished"] = f"2026-01-02T{finished}+00:00"  # it started at 03:04:05
    assert f" · {shown} · " in facts_line(run)


def test_one_is_singular() -> None:
    assert [counted(number, "prompt") for number in (0, 1, 2)] == ["0 prompts", "1 prompt", "2 prompts"]


def test_quantised_weights_of_the_target_are_told_where_no_engine_tells_them(judged: Judged) -> None:
    run, _ = judged(Recipe())
    assert "target's weights" not in facts_line(run)
    run.manifest["target_quantisation"] = "fp8 e4m3, dequantised to bfloat16"
    assert " · target's weights: fp8 e4m3, dequantised to bfloat16 · " in facts_line(run)
    run.manifest["request"] = {**run.manifest["request"], "engine": {"engine": "vLLM", "version": "1", "quantisation": "fp8"}}  # type: ignore[dict-item]
    assert "in vLLM 1, fp8" in facts_line(run)
    assert "target's weights" not in facts_line(run)
