from __future__ import annotations

from pathlib import Path
from typing import get_args

from driftcli.domain import SYSTEM_NAMES, SYSTEMS, Sourced, System
from driftcli.families.block.readings import Reading as OfBlocks
from driftcli.families.eagle.readings import Reading
from driftcli.report.evidence import facts_line
from driftcli.report.notes import remarks
from driftcli.report.switches import SWITCHES, written
from driftcli.traces.reader import read_run
from tests.report.synthetic import Recipe, write_run


def test_every_switch_of_a_reading_and_every_system_has_a_name() -> None:
    others = {"first_row", "rotation", "modules", "position", "softcap"}  # of MTP heads and assistants, besides what both families have
    assert SWITCHES.keys() == Reading.__dataclass_fields__.keys() | others | OfBlocks.__dataclass_fields__.keys()
    assert SYSTEM_NAMES.keys() == set(get_args(System)) > set(SYSTEMS)


def test_a_report_names_the_systems_that_would_compute_the_drafter_otherwise(tmp_path: Path) -> None:
    others = {
        "as_served:vllm": {"refused": Sourced("no place for aux_norm_low", "default:vLLM")},
        "as_trained": {"capture": Sourced((1, 5, 7), "config"), "biases": Sourced(True, "tensor")},
    }
    run = read_run(write_run(tmp_path / "r", Recipe(reading="as_served:sglang", readings=others)))
    assert "reading: SGLang 0.5.23" in facts_line(run)
    said = remarks(run)
    assert "vLLM 0.33: cannot run this drafter: no place for aux_norm_low" in said
    assert "as trained: otherwise: captured boundaries 1, 5, 7; attention biases yes" in said


def test_the_declared_reading_of_vllm_is_not_told_again(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r"))
    assert "reading" not in facts_line(run)
    assert not any("otherwise" in remark for remark in remarks(run))


def test_values_are_written_for_people() -> None:
    assert [written(value) for value in ((2, 4), True, False, None, 3, "raw")] == ["2, 4", "yes", "no", "not said", "3", "raw"]
