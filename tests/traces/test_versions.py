"""A run of every older schema, written by the driftcli of its day, still opens; `tests/report/synthetic.py` of that day made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from driftcli.cli.battery import load_battery
from driftcli.errors import RunError
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.traces.reader import read_run
from driftcli.traces.samples import chain, reply, reply_heads
from driftcli.traces.schema import VERSION
from tests.report.synthetic import write_run

VERSIONS = Path(__file__).parent / "versions"


def test_there_is_a_run_of_every_older_version() -> None:
    assert sorted(folder.name for folder in VERSIONS.iterdir()) == [f"v{version}" for version in range(1, VERSION)]


@pytest.mark.parametrize("folder", sorted(VERSIONS.iterdir()), ids=lambda folder: folder.name)
def test_an_older_run_opens_and_is_judged_and_shown_token_by_token(folder: Path) -> None:
    run = read_run(folder)
    told = report(run, judge(run, load_battery(run.probe_names)))
    rows = pd.read_parquet(next((folder / "steps").iterdir())).query("feed == 'forced' and on_walk")
    kept = (
        rows.sort_values("depth").groupby(["prompt", "anchor"], observed=True)["match"].agg(lambda match: match.astype(int).cumprod().sum())
    )
    assert told["baseline"]["acceptance_length"]["value"] == pytest.approx(1 + kept.mean())
    assert {head.prompt for head in reply_heads(run)} >= {"one", "two"}
    assert reply(run, "one").pieces[0].text == (" right" if (folder / "pieces.parquet").exists() else "#5")
    assert chain(run, "one", 0, 10).steps[2].wanted.id == 5


def test_a_newer_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r")
    newer = {**json.loads((path / "run.json").read_text()), "schema": VERSION + 1}
    (path / "run.json").write_text(json.dumps(newer))
    with pytest.raises(
        RunError, match=f"r: written with trace schema {VERSION + 1}, this driftcli reads up to {VERSION}; update driftcli$"
    ):
        read_run(path)
    shutil.rmtree(path)
