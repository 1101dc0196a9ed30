from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from driftcli.cli.battery import load_battery
from driftcli.domain import Verdict
from driftcli.errors import RunError
from driftcli.report.console import plain
from driftcli.report.html.page import render as html
from driftcli.report.json import render as as_json
from driftcli.report.markdown import render as markdown
from driftcli.report.terminal import whole
from driftcli.report.verdict import judge
from driftcli.statistics.rounding import Apart, Rounding
from driftcli.traces.reader import Run
from tests.comparison.runs import linked, written
from tests.report.synthetic import Recipe

MEASURED = Rounding(10, 1234, tuple(Apart(20, number % 2, 100, 2 * (number % 2)) for number in range(10)))
UNMEASURED = Rounding(reason="an engine serves the target")


def of(found: Rounding | None, folder: Path) -> tuple[Run, Verdict]:
    run = written(folder, Recipe(), "own")
    if found is not None:
        run = linked(run.path, folder / "rounded", lambda held: held.update(rounding=asdict(found)))
    return run, judge(run, load_battery(run.probe_names))


def shown(run: Run, verdict: Verdict) -> list[str]:
    """The report in every format, its line breaks and what Markdown and links mark left out."""
    texts = [plain(whole(run, verdict)), markdown(run, verdict), re.sub("</?a[^>]*>", "", html(run, verdict))]
    return [" ".join(text.replace("\\", "").split()) for text in texts]


def test_every_format_tells_how_many_draft_tokens_are_others_in_float32(tmp_path: Path) -> None:
    run, verdict = of(MEASURED, tmp_path)
    for text in shown(run, verdict):
        assert "bfloat16 against float32, measured again on 10 texts (1234 tokens): another draft token at 2.5%" in text
        assert "of the anchors, 1.0%" in text
    told = json.loads(as_json(run, verdict))["rounding"]
    assert (told["texts"], told["tokens"], told["reason"]) == (10, 1234, None)
    for name, share in (("other_anchors", 5 / 200), ("other_draft_tokens", 10 / 1000)):
        assert told[name]["value"] == pytest.approx(share)
        assert told[name]["low"] < share < told[name]["high"]


def test_what_was_not_measured_is_said_with_the_reason(tmp_path: Path) -> None:
    run, verdict = of(UNMEASURED, tmp_path)
    for text in shown(run, verdict):
        assert "how many draft tokens bfloat16 changes against float32 was not measured: an engine serves the target" in text
    told = json.loads(as_json(run, verdict))["rounding"]
    assert (told["other_anchors"], told["reason"]) == (None, "an engine serves the target")


def test_a_run_that_does_not_know_says_nothing(tmp_path: Path) -> None:
    run, verdict = of(None, tmp_path)
    assert all("against float32" not in text for text in shown(run, verdict))
    assert json.loads(as_json(run, verdict))["rounding"] is None


def test_counts_of_another_kind_are_refused_by_their_place(tmp_path: Path) -> None:
    run = written(tmp_path, Recipe(), "own")
    with pytest.raises(RunError, match=r"rounding.prompts"):
        linked(run.path, tmp_path / "wrong", lambda held: held.update(rounding={"prompts": [{"anchors": "many"}]}))
