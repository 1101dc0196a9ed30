from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

import driftcli
from driftcli.errors import MachineError, UsageError
from driftcli.opened import HEADLINE, OpenRun
from driftcli.report.json import report
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, OpenRun]:
    folder = tmp_path_factory.mktemp("opened")
    window = Life(lost=(0, 0.05, 0.05), growth=(1, 1, 1), moved=(0, 0, 0))
    short = Life(lost=DRIFTING.lost[:3], growth=DRIFTING.growth[:3], moved=DRIFTING.moved[:3])
    recipes = {"drifting": Recipe(short, extra={"window-4": ("windows", window)}), "without": Recipe(WITHOUT_STATE)}
    return {name: driftcli.open_run(write_run(folder / name, recipe)) for name, recipe in recipes.items()}


def number(frame: pd.DataFrame) -> list[dict]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@pytest.mark.parametrize("name", ["drifting", "without"])
def test_the_numbers_are_those_of_the_report(runs: Mapping[str, OpenRun], name: str) -> None:
    run = runs[name]
    told = report(run.run, run.verdict)
    baseline = told["baseline"]
    for row in number(run.headline):
        assert {"reason": None, **baseline[row["name"]]} == {key: row[key] for key in ("value", "low", "high", "n_prompts", "reason")}
    assert set(run.headline["name"]) == set(HEADLINE) & baseline.keys()
    curves = {(row["depth"], row["name"]): row for row in number(run.by_depth)}
    for wanted in baseline["by_depth"]:
        for curve in wanted.keys() - {"depth", "intervals", "absent"}:
            row = curves.pop((wanted["depth"], curve))
            assert (row["value"], row["reason"]) == (wanted[curve], wanted["absent"].get(curve))
            assert [row["low"], row["high"]] == wanted["intervals"].get(curve, [None, None])
    assert curves == {}
    assert [{**row, "n_prompts": int(row["n_prompts"])} for row in number(run.findings)] == told["findings"]
    for row in number(run.conditions):
        (wanted,) = [one for one in told["conditions"] if one["name"] == row["condition"]]
        assert [row[key] for key in ("value", "low", "high")] == [wanted[row["name"]][key] for key in ("value", "low", "high")]
    assert len(run.mitigations) == len(told["mitigations"]) == 0


def test_tables_are_read_as_data_sets_with_names_as_text(runs: Mapping[str, OpenRun]) -> None:
    run = runs["drifting"]
    assert run.tables == ("trajectories", "steps", "heads", "streams", "pieces")
    forced = (
        run.table("steps")
        .to_table(columns=["feed", "condition", "match"])
        .to_pandas()
        .query("feed == 'forced' and condition == 'baseline'")
    )
    wanted = run.by_depth.query("name == 'forced_accuracy'")["value"].mean()
    assert forced["match"].mean() == pytest.approx(wanted)
    with pytest.raises(UsageError, match="did you mean steps"):
        run.table("step")
    with pytest.raises(UsageError, match="expected headline"):
        run.arrow("heads")  # type: ignore[arg-type]


def test_samples_are_those_of_the_run(runs: Mapping[str, OpenRun]) -> None:
    found = runs["drifting"].samples
    head, lost = found.losing(3)[0]
    assert lost > 0
    assert head in found.heads()
    assert found.chain(head.prompt, 10).anchor == found.reply(head.prompt).rounds[0].anchor == 10


def test_without_pandas_frames_say_so_and_arrow_tables_are_there(runs: Mapping[str, OpenRun], monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs["drifting"]

    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'pandas'")

    monkeypatch.setattr("driftcli.opened.as_frame", missing)
    with pytest.raises(MachineError, match="pip install pandas"):
        _ = run.headline
    assert run.arrow("headline").num_rows == 4


def test_importing_driftcli_brings_nothing_until_open_run_is_asked_for() -> None:
    code = "import sys, driftcli; assert not {'numpy', 'pyarrow', 'rich', 'torch'} & sys.modules.keys(); driftcli.open_run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], timeout=120)
    assert {"open_run", "OpenRun"} <= set(dir(driftcli))
    with pytest.raises(AttributeError, match="nothing"):
        _ = driftcli.nothing
