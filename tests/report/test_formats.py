from __future__ import annotations

import io
import sys
from typing import get_args

import pytest

from driftcli.printable import escape_what_cannot_be_encoded
from driftcli.report.choices import OutputFormat
from driftcli.report.console import plain
from driftcli.report.formats import RENDERERS, renderer, show
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, Recipe


def test_every_format_that_is_offered_is_rendered_and_the_other_way_round() -> None:
    assert set(RENDERERS) == set(get_args(OutputFormat))


@pytest.mark.parametrize("format", get_args(OutputFormat))
def test_a_report_goes_to_stdout_whole_and_nothing_else_does(
    judged: Judged, format: OutputFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    run, verdict = judged(Recipe(DRIFTING))
    show(run, verdict, format, full=False)
    rendered = renderer(format)(run, verdict)
    assert capsys.readouterr() == ((rendered if isinstance(rendered, str) else plain(rendered)) + "\n", "")


@pytest.mark.parametrize("format", get_args(OutputFormat))
def test_a_stdout_that_only_knows_ascii_gets_escapes_and_no_crash(
    judged: Judged, format: OutputFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    escape_what_cannot_be_encoded()
    show(*judged(Recipe(DRIFTING, target="模型")), format, full=True)
    assert b"\\u6a21\\u578b" in written.getvalue()
    assert b" - depth 8 - " in written.getvalue() or format == "json"  # our own mark has a plain twin
