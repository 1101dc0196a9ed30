"""`diagnose --num-processes 2` on a CPU: what several processes write, how the run ends where one of them is gone, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pyarrow.parquet as pq
import pytest

from driftcli.cli import launching
from driftcli.cli.diagnose import DEFAULTS
from driftcli.cli.launching import diagnose_together
from driftcli.cli.request import Request
from driftcli.domain import RunSpec
from driftcli.errors import UsageError
from driftcli.target import gpus

ASKED = ("--quick", "--limit", "6", "--batch-size", "2", "--max-new-tokens", "24", "--threads", "1", "--format", "json")
BOUNDED = 60.0  # seconds in which a run must end after one of its processes was killed, on a machine that others use


@contextmanager
def diagnosis(out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "driftcli", "diagnose", *ASKED, "--out", str(out), *options]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell set it aside, which a child would inherit
    try:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(out: Path, *options: str) -> tuple[int, str, str]:
    with diagnosis(out, *options) as process:
        stdout, stderr = process.communicate(timeout=300)
        return process.returncode, stdout, stderr


def cells(run: Path) -> dict[str, object]:
    return {str(file.relative_to(run)): pq.read_table(file) for file in sorted(run.rglob("*.parquet"))}


def members(parent: int) -> dict[str, int]:
    """Process numbers by rank, of those that a process began."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                told = (place / "environ").read_bytes().split(b"\0")
                found |= {one[5:].decode(): int(place.name) for one in told if one.startswith(b"RANK=")}
    return found


def wait_for_cells(run: Path, process: subprocess.Popen[str], least: int = 6) -> None:
    until = monotonic() + 240
    while len(list((run / "steps").glob("*.parquet"))) < least:
        assert process.poll() is None and monotonic() < until, process.communicate()[1]
        sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run by one process, and what it printed."""
    out = tmp_path_factory.mktemp("alone") / "r"
    code, stdout, stderr = ended(out)
    assert code == 0, stderr
    return out, stdout


def test_two_processes_write_exactly_the_rows_of_one_and_print_one_report(alone: tuple[Path, str], tmp_path: Path) -> None:
    code, stdout, stderr = ended(tmp_path / "r", "--num-processes", "2")
    assert code == 0, stderr
    assert cells(tmp_path / "r") == cells(alone[0])
    assert stdout.count('"schema"') == alone[1].count('"schema"') == 1
    assert stderr.count("loading bundled:target") == 1 and "by 2 processes" in stderr
    counted = [line.split(" prompts x conditions")[0] for line in stderr.splitlines() if " prompts x conditions measured" in line]
    assert counted[-1].split(" of ")[0] == counted[-1].split(" of ")[1]  # the whole's, not one process's part


@pytest.mark.parametrize("rank", ["1", "0"])
def test_a_killed_process_ends_the_run_soon_with_one_sentence_and_one_process_goes_on(
    alone: tuple[Path, str], tmp_path: Path, rank: str
) -> None:
    with diagnosis(tmp_path / "r", "--num-processes", "2") as process:
        wait_for_cells(tmp_path / "r", process)
        others = members(process.pid)
        os.kill(others[rank], signal.SIGKILL)
        killed = monotonic()
        _, stderr = process.communicate(timeout=BOUNDED)
    assert monotonic() - killed < BOUNDED and process.returncode == 3
    errors = [line for line in stderr.splitlines() if "error" in line or "Traceback" in line]
    assert errors == [
        f"error: process {int(rank) + 1} of 2 was killed (SIGKILL), expected all to stay to the end; whole batches are kept, and the same "
        "command goes on from there, with any number of processes"
    ]
    assert not any(Path(f"/proc/{number}").exists() for number in others.values())
    code, _, stderr = ended(tmp_path / "r")
    assert code == 0, stderr
    assert cells(tmp_path / "r") == cells(alone[0])


def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    with diagnosis(tmp_path / "r", "--num-processes", "2") as process:
        wait_for_cells(tmp_path / "r", process, 1)
        others = members(process.pid)
        assert sorted(others) == ["0", "1"]
        process.kill()
        until = monotonic() + 20
        while any(Path(f"/proc/{number}").exists() for number in others.values()):
            assert monotonic() < until
            sleep(0.1)


def test_what_no_process_can_do_is_said_once(tmp_path: Path) -> None:
    code, stdout, stderr = ended(
        tmp_path / "r", "--num-processes", "2", "--target", str(tmp_path / "nothing"), "--drafter", "bundled:pre-norm"
    )
    assert code == 3 and stdout == ""
    assert [line for line in stderr.splitlines() if line.startswith("error: ")] == [
        line for line in stderr.splitlines() if "nothing" in line
    ][-1:]


def test_ctrl_c_is_passed_on_and_tells_how_to_go_on(tmp_path: Path) -> None:
    with diagnosis(tmp_path / "r", "--num-processes", "2") as process:
        wait_for_cells(tmp_path / "r", process, 1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=BOUNDED)
    assert process.returncode == 130, stderr
    assert stderr.count("interrupted; whole batches are kept, and this goes on from there: driftcli diagnose") == 1


def request(**changes: object) -> Request:
    asked = {
        "target": "bundled:target", "drafter": "bundled:pre-norm", "prompts": None, "probes": [], "spec": DEFAULTS, "limit": None, "device": "auto",
        "dtype": "auto", "reading": "declared", "remote_code": False, "out": None, "force": False,
    }  # fmt: skip
    return Request(**{**asked, **changes})  # type: ignore[arg-type]


def test_vllm_spreads_a_target_by_itself() -> None:
    with pytest.raises(UsageError, match="--num-processes 2: vLLM spreads the target over GPUs by itself"):
        diagnose_together(request(engine="vllm", num_processes=2), [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 4),
        ({"device": "cuda"}, 4),
        ({"num_processes": 1}, 1),
        ({"num_processes": 3}, 3),
        ({"device": "cpu"}, 1),
        ({"device": "cuda:1"}, 1),
    ],
)
def test_each_gpu_that_could_hold_the_target_has_a_process(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], expected: int
) -> None:
    class Properties:
        total_memory = 80 << 30

    monkeypatch.setattr(gpus.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(gpus.torch.cuda, "get_device_properties", lambda _: Properties())
    began: list[int] = []
    monkeypatch.setattr(launching, "_run", lambda *asked: began.append(asked[1]) or 7)  # type: ignore[func-returns-value]
    if expected == 1:
        diagnose_together(request(**changes), [])
    else:
        with pytest.raises(SystemExit) as left:
            diagnose_together(request(**changes), [])
        assert left.value.code == 7
    assert began == [expected] * (expected > 1)


def test_a_target_that_fits_on_no_gpu_is_left_to_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 1 << 10

    monkeypatch.setattr(gpus.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(gpus.torch.cuda, "get_device_properties", lambda _: Properties())
    assert gpus.gpus_for("bundled:target") == 1


def test_a_process_that_was_begun_begins_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    diagnose_together(request(num_processes=2, spec=RunSpec()), [])
