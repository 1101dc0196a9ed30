from __future__ import annotations

import pytest

from driftcli.cli.battery import WHOLE
from driftcli.cli.main import main
from driftcli.mitigations.probe import MITIGATED, MITIGATIONS
from probes import QUICK


def test_the_battery_is_listed_with_its_questions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["probes"])
    assert ended.value.code == 0
    text, tried = capsys.readouterr().out.split("\nTried by the last of them:\n")
    assert entries(text) == [probe.name for probe in WHOLE]
    assert text.count("?\n") == len(WHOLE)
    assert text.count("; in --quick too)") == len(QUICK)
    assert WHOLE[-1].name == MITIGATED
    assert entries(tried) == [one.name for one in MITIGATIONS]
    assert max(map(len, [*text.splitlines(), *tried.splitlines()])) <= 100


def entries(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]


def test_the_short_battery_is_part_of_the_whole() -> None:
    assert set(QUICK) < {probe.name for probe in WHOLE}
