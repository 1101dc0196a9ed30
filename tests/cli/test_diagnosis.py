from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from driftcli.cli.diagnosis import Request, diagnose_pair
from driftcli.domain import RunSpec
from driftcli.errors import RunError, SourceError, Stopped, UsageError
from driftcli.report.evidence import facts_line
from driftcli.traces.holding import held
from driftcli.traces.writer import RunFolder
from probes import QUICK


def request(models: Path, out: Path, **changes: object) -> Request:
    asked = {
        "target": str(models / "target"), "drafter": str(models / "pre"), "prompts": None, "probes": [], "spec": RunSpec(depth=3, max_new_tokens=12),
        "limit": 8, "device": "cpu", "dtype": "float32", "reading": "declared", "remote_code": False, "out": out, "force": False,
    }  # fmt: skip
    return Request(**{**asked, **changes})  # type: ignore[arg-type]


def test_a_diagnosis_leaves_a_whole_run_with_its_findings(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, verdict = diagnose_pair(request(models, tmp_path / "r"))
    assert run.n_prompts == 8
    assert "8 prompts" in verdict.axes["payoff"].reason  # of which one half would select and the other judge
    wiring = {finding.code: finding.severity for finding in verdict.findings if finding.code in ("POS-RANGE", "LOAD-BROKEN")}
    assert "POS-RANGE" not in wiring  # at a token a byte these prompts run past its 512 positions, but too few of them to be judged
    assert wiring["LOAD-BROKEN"] == verdict.axes["wiring"].state == "miswired"  # its weights are random: no better than the floor
    assert (tmp_path / "r" / "findings.json").read_text().startswith("[")
    seen = capsys.readouterr()
    assert seen.out == ""  # results are for the caller to print; what it does goes to stderr
    assert re.search(
        r"8 prompts, \d+ conditions, depth 3: up to \d+ replies and \d+k drafter tokens, roughly \d+ \w+; traces go to",
        " ".join(seen.err.split()),
    )


def test_the_threads_asked_for_are_in_the_request_and_another_number_is_another_request(models: Path, tmp_path: Path) -> None:
    asked = {"out": tmp_path / "r", "limit": 2, "probes": ["vocabulary"], "threads": 1}
    run, _ = diagnose_pair(request(models, **asked))
    assert json.loads((run.path / "run.json").read_text())["request"]["threads"] == 1
    with pytest.raises(RunError, match=r"holds another request [(]threads was 1, now 2[)]"):
        diagnose_pair(request(models, **{**asked, "threads": 2}))


def test_replies_too_short_for_any_chain_are_refused_before_any_model_is_loaded(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-new-tokens 8: no reply would be long enough for a chain of 8 draft tokens"):
        diagnose_pair(request(models, tmp_path / "r", spec=RunSpec(depth=8, max_new_tokens=8), target="/nowhere"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"limit": 2}, "2 of 80 prompts (--limit)"),
        ({"limit": None, "spec": RunSpec(depth=3, max_new_tokens=4, quick=True)}, "24 of 80 prompts (--quick; --no-quick or --limit for more)"),
        (
            {"limit": 2, "probes": ["context-length"], "spec": RunSpec(depth=3, max_new_tokens=6, lengths=(64, 128, 4096))},
            "context-length: 4096 left out: the target admits 512 positions, 6 of them for the reply (--max-new-tokens)",
        ),
        (
            {"limit": 2, "probes": ["context-length"], "spec": RunSpec(depth=3, max_new_tokens=6)},
            "context-length: 512, 1024, 2048 left out: the drafter declares 512 positions, 6 of them for the reply (--max-new-tokens)",
        ),
        (
            {"limit": 8, "spec": RunSpec(depth=3, max_new_tokens=6, quick=True), "probes": []},
            "system-prompt, context-length, domain, sampling, noise, magnitude and parts of other probes left out (--quick; --no-quick for all)",
        ),
        (
            {"limit": 18, "probes": ["controls"], "spec": RunSpec(depth=3, max_new_tokens=6)},
            "controls: 16 of 18 prompts for repeated",
        ),
    ],
)  # fmt: skip
def test_what_of_a_request_is_left_out_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], line: str
) -> None:
    run, _ = diagnose_pair(request(models, tmp_path / "r", **{"probes": ["vocabulary"], **changes}))
    assert line in capsys.readouterr().err.splitlines()
    assert (line.startswith(("context-length", "controls"))) == (line in run.manifest["notes"])  # type: ignore[operator]
    assert f"{len(run.prompts)} of 80 prompts" in facts_line(run)


def test_an_unknown_probe_is_refused_before_any_model_is_loaded(models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match="--probe nonesuch: no such probe; expected one of wiring, position-range, controls, chain-length, block-independence, "
        "streams, template, system-prompt, ",
    ):
        diagnose_pair(request(models, tmp_path / "r", probes=["nonesuch"], target="/nowhere"))
    assert not (tmp_path / "r").exists()


def test_quick_takes_24_prompts_and_the_short_battery_unless_told_otherwise(models: Path, tmp_path: Path) -> None:
    short, _ = diagnose_pair(request(models, tmp_path / "a", limit=None, spec=RunSpec(depth=3, max_new_tokens=6, quick=True)))
    assert (len(short.trajectories["prompt"].unique()), short.probe_names, {probe for probe, _ in short.conditions}) == (
        24,
        list(QUICK),
        {"wiring", "template", "held-state", "mitigations"},
    )
    own, _ = diagnose_pair(
        request(models, tmp_path / "b", limit=2, probes=["magnitude"], spec=RunSpec(depth=3, max_new_tokens=12, quick=True))
    )
    assert (len(own.trajectories["prompt"].unique()), own.probe_names) == (2, ["magnitude"])


COSTS = {"source": "a server", "context": 512, "by_batch": [{"batch_size": 8, "draft_first": 1, "draft_step": 1, "verify": [1, 2, 3, 4]}]}


def test_step_times_are_given_or_timed_once_and_kept(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"out": tmp_path / "r", "probes": ["mitigations"]}
    timed, _ = diagnose_pair(request(models, **asked))
    assert timed.costs is not None
    assert [one.batch_size for one in timed.costs.by_batch] == [1]
    monkeypatch.setattr("driftcli.cli.diagnosis.measure_costs", lambda *_: pytest.fail("timed again"))
    again, _ = diagnose_pair(request(models, **asked))
    assert again.costs == timed.costs
    (tmp_path / "costs.json").write_text(json.dumps(COSTS))
    given, _ = diagnose_pair(request(models, **asked, costs=tmp_path / "costs.json"))
    assert given.costs is not None
    assert (given.costs.source, given.costs.by_batch[0].verify) == ("a server", (1.0, 2.0, 3.0, 4.0))


def test_step_times_that_are_none_are_refused_before_any_model_is_loaded(models: Path, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps({**COSTS, "by_batch": []}))
    with pytest.raises(SourceError, match=r"costs\.json, by_batch: saw"):
        diagnose_pair(request(models, tmp_path / "r", costs=tmp_path / "costs.json", target="/nowhere"))
    assert not (tmp_path / "r").exists()


def test_a_target_whose_steps_cannot_be_timed_is_diagnosed_all_the_same(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RunError("its cache takes no tokens back")

    monkeypatch.setattr("driftcli.cli.diagnosis.measure_costs", refuse)
    run, verdict = diagnose_pair(request(models, tmp_path / "r", probes=["mitigations"]))
    assert run.costs is None
    assert verdict.axes["payoff"].state == "inconclusive"
    assert "steps are not timed: its cache takes no tokens back" in capsys.readouterr().err


def test_a_folder_that_another_holds_is_refused_before_any_model_is_loaded(models: Path, tmp_path: Path) -> None:
    with held(tmp_path / "r"), pytest.raises(RunError, match=rf"another driftcli is writing .*process {os.getpid()} on "):
        diagnose_pair(request(models, tmp_path / "r", target="/nowhere"))


def test_a_folder_of_somebody_else_is_refused_before_any_model_is_loaded(models: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(RunError, match="no driftcli run"):
            diagnose_pair(request(models, tmp_path, target="/nowhere", force=force))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left on device"), 3), (MemoryError(), 3)]
)
def test_a_stop_while_measuring_names_the_folder_and_the_same_request_goes_on(
    error: BaseException, code: int, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(models, tmp_path / "r", probes=["magnitude"], spec=RunSpec(depth=3, max_new_tokens=6, batch_size=4))
    written = []

    def write(self: RunFolder, *cell: object) -> None:
        if written:
            raise error
        written.append(cell)
        cells_of(self, *cell)  # type: ignore[arg-type]

    cells_of = RunFolder.write_cell
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_cell", write)
        with pytest.raises(Stopped) as stopped:
            diagnose_pair(asked)
    assert (stopped.value.folder, stopped.value.exit_code) == (tmp_path / "r", code)
    (kept,) = (tmp_path / "r" / "steps").iterdir()
    stamp = kept.stat().st_ino
    run, _ = diagnose_pair(asked)
    assert run.n_prompts == 8 and kept.stat().st_ino == stamp
    assert not (tmp_path / "r" / "run.lock").exists()
