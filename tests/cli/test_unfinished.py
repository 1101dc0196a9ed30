"""The same command without --out goes on with the last unfinished run of the same request, and with nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from driftcli.cli.diagnosis import Request, diagnose_pair
from driftcli.cli.folder import RUNS
from driftcli.domain import RunSpec
from driftcli.errors import Stopped
from driftcli.traces.holding import held
from driftcli.traces.writer import RunFolder

ROOT = Path(__file__).parents[2]
SPEC = RunSpec(depth=3, max_new_tokens=6, batch_size=4)


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(json.dumps({"id": f"p{number}", "text": f"say {number}"}) + "\n" for number in range(8)))


def request(models: Path, **changes: object) -> Request:
    asked = {
        "target": str(models / "target"), "drafter": str(models / "pre"), "prompts": Path("prompts.jsonl"), "probes": ["magnitude"], "spec": SPEC,
        "limit": None, "device": "cpu", "dtype": "float32", "reading": "declared", "remote_code": False, "out": None, "force": False,
    }  # fmt: skip
    return Request(**{**asked, **changes})  # type: ignore[arg-type]


def stopped_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted when its first cell was written."""
    cells, whole = [], RunFolder.write_cell

    def write(self: RunFolder, *cell: object) -> None:
        if cells:
            raise KeyboardInterrupt
        cells.append(cell)
        whole(self, *cell)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_cell", write)
        with pytest.raises(Stopped) as stopped:
            diagnose_pair(request(models))
    return stopped.value.folder


def complete(run: Path) -> bool:
    return bool(json.loads((run / "run.json").read_text())["complete"])


def test_the_same_request_goes_on_with_the_unfinished_run_and_says_so(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = stopped_run(models, monkeypatch)
    (kept,) = (unfinished / "steps").iterdir()
    stamp = kept.stat().st_ino
    run, _ = diagnose_pair(request(models))
    assert run.path == unfinished and complete(unfinished)
    assert kept.stat().st_ino == stamp
    assert (
        f"going on with {unfinished}, an unfinished run of the same request; --force or another --out begins anew"
        in capsys.readouterr().err
    )
    assert [path.name for path in RUNS.iterdir()] == [unfinished.name]


@pytest.mark.parametrize(
    "changes",
    [{"force": True}, {"spec": RunSpec(depth=2, max_new_tokens=6, batch_size=4)}, {"probes": ["noise"]}, {"limit": 4}, {"threads": 1}],
)
def test_force_and_any_other_request_begin_anew(models: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]) -> None:
    unfinished = stopped_run(models, monkeypatch)
    run, _ = diagnose_pair(request(models, **changes))
    assert run.path != unfinished and not complete(unfinished)


def test_a_finished_run_is_left_alone(models: Path) -> None:
    first, _ = diagnose_pair(request(models))
    second, _ = diagnose_pair(request(models))
    assert first.path != second.path


def test_a_run_that_another_process_holds_is_left_to_it_and_that_is_said(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = stopped_run(models, monkeypatch)
    with held(unfinished):
        run, _ = diagnose_pair(request(models))
    assert run.path != unfinished and not complete(unfinished)
    assert (
        f"an unfinished run of the same command is left alone, and another one begins: {unfinished}: another driftcli is writing to this folder "
        f"(process {os.getpid()} on "
    ) in capsys.readouterr().err


def test_a_killed_process_is_gone_on_with_by_its_own_command_line(models: Path) -> None:
    words = "--probe magnitude --depth 3 --max-new-tokens 6 --batch-size 1 --prompts prompts.jsonl --device cpu --dtype float32 --threads 1"
    pair = ["--target", str(models / "target"), "--drafter", str(models / "pre")]
    line = [sys.executable, "-c", "from driftcli.cli.main import main; main()", "diagnose", *pair, *words.split()]
    killed = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = monotonic() + 120
    while not (cells := list(RUNS.glob("*/steps/*.parquet"))) and killed.poll() is None and monotonic() < deadline:
        sleep(0.002)
    killed.kill()
    assert cells and killed.wait() == -signal.SIGKILL, "the run has 8 batches: it cannot be over yet"
    (unfinished,) = RUNS.iterdir()
    stamp = cells[0].stat().st_ino
    again = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"going on with {unfinished}, an unfinished run of the same request" in again.stderr
    assert complete(unfinished) and cells[0].stat().st_ino == stamp
    assert list(RUNS.iterdir()) == [unfinished]


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "7", '{"complete": false}'])
def test_what_cannot_be_read_beside_it_is_passed_over(models: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    unfinished = stopped_run(models, monkeypatch)
    (RUNS / "zzz").mkdir()
    (RUNS / "zzz" / "run.json").write_text(content)
    run, _ = diagnose_pair(request(models))
    assert run.path == unfinished


def test_the_same_words_on_other_prompts_begin_a_new_run_and_say_so(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = stopped_run(models, monkeypatch)
    Path("prompts.jsonl").write_text(Path("prompts.jsonl").read_text().replace("say", "tell"))
    run, _ = diagnose_pair(request(models))
    assert run.path != unfinished and complete(run.path) and not complete(unfinished)
    assert (
        f"{unfinished} is an unfinished run of the same command on other files or prompts, so a new one begins" in capsys.readouterr().err
    )
