"""Where a report says that `driftcli heal` has something to do, `heal` accepts the run; elsewhere the line is not there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from driftcli.codes import CODES
from driftcli.conditions import Wiring
from driftcli.domain import REWIRED, Estimate, Finding, PairCard, Severity, Sourced, Verdict
from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.map_kinds import MARKED
from driftcli.families.mtp.head import Mtp
from driftcli.healing.treatments import chosen
from driftcli.loading.pair import load_pair
from driftcli.mitigations.healable import healable
from driftcli.report.notes import pointers
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Recipe, write_run

SOME = Recipe(DRIFTING)
FEW = tuple(f"prompt-{number:02}" for number in range(14))


def found(*codes: str, severity: Severity = "moderate") -> Verdict:
    """A verdict with these findings."""
    said = [Finding(code, severity, "", Estimate(0.4, 0.3, 0.5, 16), "share", "") for code in codes]
    return Verdict(severity, "", findings=said)


def run_of(folder: Path, recipe: Recipe = SOME, **card: object) -> Run:
    """A run on disk, its pair changed."""
    run = read_run(write_run(folder / "run", recipe))
    return replace(run, pair=replace(run.pair, **card))  # type: ignore[arg-type]


def rewired(folder: Path, wiring: Wiring, **card: object) -> Run:
    """A run whose weights fit another wiring than declared."""
    run = run_of(folder, Recipe(DRIFTING, extra={REWIRED: ("wiring", DRIFTING)}, lengths={REWIRED: 0}), **card)
    conditions = run.manifest["conditions"]
    assert isinstance(conditions, list)
    named = [{**one, "settings": {"depth": 8, "wiring": asdict(wiring)}} for one in conditions if isinstance(one, dict)]
    return replace(run, manifest={**run.manifest, "conditions": named})


def lines(run: Run, verdict: Verdict) -> list[str]:
    return [line for line in pointers(run, verdict) if line.startswith("heal it:")]


def test_a_finding_that_heal_treats_is_followed_by_the_command(tmp_path: Path) -> None:
    assert lines(run_of(tmp_path), found("DRIFT-STATE")) == [f"heal it:      driftcli heal --run {tmp_path}/run --out healed"]


def test_a_finding_that_it_does_not_treat_is_not(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    assert lines(run, found()) == []
    assert lines(run, found("NO-PAYOFF", "LOW-CAPACITY")) == []
    assert lines(run, found("STREAM-IMBALANCE", severity="healthy")) == []  # a note, which asks for nothing now


@pytest.mark.parametrize(("family", "name"), [("eagle3", "pre-norm"), ("mtp", "mtp")])
def test_it_is_said_of_a_finding_exactly_where_heal_knows_a_treatment(tmp_path: Path, family: str, name: str) -> None:
    run, drafter = run_of(tmp_path, family=family), load_pair("bundled:target", f"bundled:{name}", torch.device("cpu"), "float32").drafter
    assert isinstance(drafter, Eagle3 | Mtp)
    for code in (one.name for one in CODES):
        try:
            treated = bool(chosen([], frozenset({code}), drafter))
        except UsageError:
            treated = False
        assert healable(run, found(code)) is treated, code


@pytest.mark.parametrize("family", ["eagle", "block", "assistant", "feed-forward", "peagle"])
def test_other_families_are_not_sent_there(tmp_path: Path, family: str) -> None:
    assert not healable(run_of(tmp_path, family=family), found("DRIFT-STATE"))


def test_nor_are_heads_that_feed_no_state_back_and_too_few_prompts(tmp_path: Path) -> None:
    assert not healable(run_of(tmp_path / "none", family="mtp", no_recursion="each depth has its own weights"), found("DRIFT-STATE"))
    assert not healable(run_of(tmp_path / "lm", Recipe(WITHOUT_STATE)), found("EXPOSURE-GAP"))
    assert not healable(run_of(tmp_path / "few", Recipe(DRIFTING, prompts=FEW)), found("DRIFT-STATE"))  # 7 of 14 would be left to judge


@pytest.mark.parametrize("engine", [None, {"name": "vllm", "args": {}}])
def test_whatever_ran_the_target(tmp_path: Path, engine: dict[str, object] | None) -> None:
    run = run_of(tmp_path)
    assert healable(replace(run, manifest={**run.manifest, "asked": {"engine": engine}}), found("DRIFT-STATE"))  # type: ignore[dict-item]


def test_a_wrong_wiring_is_mended_where_the_files_of_the_head_can_say_it(tmp_path: Path) -> None:
    assert healable(rewired(tmp_path / "flag", Wiring(feedback="normed")), found())
    assert not healable(rewired(tmp_path / "window", Wiring(window="dropped")), found("DRIFT-STATE"))
    assert not healable(rewired(tmp_path / "mtp", Wiring(feedback="normed"), family="mtp"), found("DRIFT-STATE"))


@pytest.mark.parametrize(("stored", "mended"), [("absolute", True), (MARKED, True), ("offset", False), ("zeros", False)])
def test_a_map_that_servers_misread_is_written_anew(tmp_path: Path, stored: str, mended: bool) -> None:
    run = run_of(tmp_path)
    card: PairCard = replace(run.pair, record={**run.pair.record, "vocab_map": Sourced(stored, "tensor")})
    assert healable(replace(run, pair=card), found()) is mended
