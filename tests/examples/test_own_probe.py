from __future__ import annotations

from pathlib import Path

import pytest

import own_probe
from driftcli.cli.main import main
from driftcli.domain import Estimate
from driftcli.testing import compute_probe, pair_card
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


@pytest.mark.parametrize(("kept", "codes"), [((1.2, 1.1, 1.3), ["WINDOW-HELPS"]), ((1.1, 0.9, 1.3), []), ((0.8, 0.7, 0.9), [])])
def test_it_speaks_where_the_window_surely_helps_and_is_quiet_where_not(kept: tuple[float, float, float], codes: list[str]) -> None:
    assert compute_probe(PROBE, ratios={"last-32": Estimate(*kept, 10)}).codes == codes


def test_a_causal_lm_has_no_window_to_set() -> None:
    told = compute_probe(PROBE, pair=pair_card(no_recursion="no state"))
    assert (told.conditions, told.said) == ((), ())


def test_the_line_that_checks_it_is_the_one_that_is_shown() -> None:
    shown = Path("examples/README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    line = next(line for line in shown.splitlines() if line.startswith("assert"))
    assert line in (own_probe.__doc__ or "")
    exec(shown, {})
