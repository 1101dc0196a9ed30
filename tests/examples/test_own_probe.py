from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.cli.main import main
from driftcli.domain import Estimate, Finding, RunSpec
from driftcli.testing import Facts, Head, pair_card
from own_probe import PROBE


def test_a_probe_of_ones_own_runs_by_its_modules_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "diagnose",
                "--probe",
                "own_probe:PROBE",
                "--full",
                "--limit",
                "8",
                "--max-new-tokens",
                "40",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "r"),
            ]
        )
    assert ended.value.code == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("last-rows")]
    assert len(rows) == 1 and "last-32" in rows[0]


def test_it_speaks_where_the_window_surely_helps_and_is_quiet_where_not() -> None:
    for kept, speaks in (((1.2, 1.1, 1.3), True), ((1.1, 0.9, 1.3), False), ((0.8, 0.7, 0.9), False)):
        run = Facts(ratios={"last-32": Estimate(*kept, 10)}, conditions={"last-32": Head()})
        assert [item.code for item in PROBE.judge(run) if isinstance(item, Finding)] == ["WINDOW-HELPS"] * speaks


def test_a_causal_lm_has_no_window_to_set() -> None:
    assert PROBE.conditions(pair_card(no_recursion="no state"), RunSpec()) == ()
    assert list(PROBE.judge(Facts())) == []
