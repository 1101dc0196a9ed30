from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftcli.cli.battery import WHOLE
from driftcli.domain import RenderingFacts, RunSpec
from driftcli.engine.agenda import Agenda
from driftcli.engine.budget import Budgeted, budget_of, fit, left_out
from driftcli.engine.run import measure
from driftcli.errors import RunError, UsageError
from driftcli.loading.pair import load_pair
from driftcli.report.notes import remarks
from driftcli.testing import pair_card
from driftcli.traces.reader import read_run
from probes import QUICK
from probes.noise import InputNoise
from tests.engine.test_run import job, silent
from tests.tiny import prompts

AGENDA = Agenda(
    replace(pair_card(), rendering=RenderingFacts(templated=True, begins_with_bos=True), target_positions=4096), RunSpec(depth=8), WHOLE
)


def takes(agenda: Agenda, prompts: int) -> float:
    """A second a condition and prompt."""
    return float(len(agenda.conditions()) * prompts)


def probes_of(names: tuple[str, ...]) -> set[str]:
    return {condition.probe for condition in AGENDA.asked() if condition.name in names}


def test_what_fits_is_left_alone() -> None:
    assert fit(10**6, AGENDA, 80, takes) == Budgeted(10**6, (), 80, 80)


def test_noise_goes_first_and_whole_since_its_texts_are_shared() -> None:
    whole = len(AGENDA.conditions()) * 80
    found = fit(whole - 1, AGENDA, 80, takes)
    assert probes_of(found.dropped) == {"noise"} and found.prompts == 80
    assert set(found.dropped) == {condition.name for condition in AGENDA.asked() if condition.probe == "noise"}


def test_prompts_go_before_the_short_battery_and_no_further_than_quick_takes() -> None:
    names = {one.name for one in replace(AGENDA, spec=replace(AGENDA.spec, quick=True)).asked() if one.probe in QUICK}
    short = len([one for one in AGENDA.asked() if one.name in names]) + len(AGENDA.opening())
    seconds = short * 80 - 1
    found = fit(seconds, AGENDA, 80, takes)
    assert not names & set(found.dropped) and found.prompts == 79
    left = len(replace(AGENDA, dropped=found.dropped).conditions())
    assert left * found.prompts <= seconds < left * (found.prompts + 1)


def test_baseline_and_wiring_stay_with_eight_prompts_and_less_is_refused() -> None:
    kept = len(AGENDA.opening())
    found = fit(kept * 8, AGENDA, 80, takes)
    assert found.prompts == 8 and set(found.dropped) == {condition.name for condition in AGENDA.asked()}
    with pytest.raises(UsageError, match=r"--budget of 7s: .* on 8 prompts, which always stay, take about .* allow that much"):
        fit(7, AGENDA, 80, takes)


def test_a_run_of_few_prompts_keeps_them() -> None:
    assert fit(10, replace(AGENDA, battery=()), 5, takes).prompts == 5


def test_what_is_left_out_is_said_a_line_a_probe_with_the_time() -> None:
    lines = left_out(fit(len(AGENDA.conditions()) * 80 - 1, AGENDA, 80, takes), AGENDA.asked())
    assert len(lines) == 1 and lines[0].startswith("noise: ") and lines[0].endswith("(--budget)")
    assert "40 of 80 prompts to keep to 20m" in left_out(Budgeted(1200, (), 40, 80), [])[0]
    assert left_out(Budgeted(1200, (), 24, 24), []) == []


@pytest.mark.parametrize(
    "content", ["", "{}", '{"request": {"budget": null}}', '{"request": {"budget": {"seconds": 60, "dropped": 1, "prompts": 8}}}']
)
def test_a_folder_without_a_run_of_that_budget_has_decided_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert budget_of(tmp_path, 60) is None


def test_what_a_run_left_out_is_left_out_again_for_the_same_time_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"request": {"budget": {"seconds": 60, "dropped": ["a"], "prompts": 9, "offered": 12}}}))
    assert budget_of(tmp_path, 60) == Budgeted(60, ("a",), 9, 12)
    assert budget_of(tmp_path, 61) is None


def test_a_dropped_condition_is_absent_with_its_reason_and_the_decision_is_part_of_the_request(models: Path, tmp_path: Path) -> None:
    pair, out = load_pair(str(models / "target"), str(models / "pre"), torch.device("cpu"), "float32"), tmp_path / "r"
    asked = [condition.name for condition in InputNoise().conditions(pair.card, job(pair, out).spec)]
    made = job(pair, out, prompts(2), battery=(InputNoise(),), probe_names=["noise"], budget=Budgeted(60, tuple(asked[1:]), 2, 2))
    measure(made, silent)
    run = read_run(out)
    assert run.failed == dict.fromkeys(asked[1:], "left out to keep to 1m (--budget)")
    assert {name for _, name in run.conditions} == {asked[0]}
    assert budget_of(out, 60) == made.budget
    told = remarks(run)
    assert sum("left out to keep to 1m (--budget)" in line for line in told) == 1 and not any("failed" in line for line in told)
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")}
    measure(made, silent)
    assert {file: file.stat().st_mtime_ns for file in (out / "steps").glob("*")} == {
        file: time for file, time in files.items() if file.parent.name == "steps"
    }
    with pytest.raises(RunError, match="budget"):
        measure(replace(made, budget=None), silent)
