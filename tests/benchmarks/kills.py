"""Does a diagnosis that is killed again and again end with the rows of one that was left alone?
`python -m tests.benchmarks.kills [--kills 50] [--busy 4] [--seed 1] [diagnose options ...]`

The bundled pair is diagnosed once undisturbed; then the same request is started, killed (SIGKILL, at a random moment of what the first took)
and resumed by the same line, beside so many busy loops, until as many processes were killed; whenever a run is whole its tables are held
against the first's, row by row, and the next begins in a new folder. Prints what was under way at each kill, and what was compared.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pyarrow.parquet as pq

ASKED = ("--quick", "--limit", "12", "--batch-size", "3", "--max-new-tokens", "48", "--threads", "1")
TOOL = "from driftcli.cli.main import main; main()"
LONGEST = 1800  # seconds in which a run that is left alone must end


def started(asked: Sequence[str], out: Path, log: Path) -> subprocess.Popen[bytes]:
    """A diagnosis in a session of its own, its stderr in a file."""
    line = [sys.executable, "-c", TOOL, "diagnose", *asked, "--out", str(out), "--format", "json"]
    with log.open("wb") as told:
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Other work on the machine."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def rows(run: Path) -> dict[str, object]:
    """Every cell of a run, a table each."""
    return {str(file.relative_to(run)): pq.read_table(file) for file in sorted(run.rglob("*.parquet"))}


def stage(log: Path, run: Path) -> str:
    """What a killed process was at."""
    told = log.read_text(errors="replace").splitlines()
    if not told:
        return "starting"
    measured = any("measured" in line for line in told)
    timing = any("timing" in line for line in told)
    return "timing" if timing else "measuring" if measured or (run / "run.json").is_file() else "loading"


def differing(expected: dict[str, object], run: Path) -> list[str]:
    """The cells of a run that are not those expected."""
    found = rows(run)
    return sorted(name for name in expected.keys() | found.keys() if name not in found or found[name] != expected.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--busy", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked, options = parser.parse_known_args()
    request, chance = options or ASKED, random.Random(asked.seed)
    with TemporaryDirectory() as scratch:
        folder, began = Path(scratch), monotonic()
        alone = started(request, folder / "alone", folder / "alone.log")
        if code := alone.wait(LONGEST):
            print((folder / "alone.log").read_text(), f"the run that was left alone ended with {code}", sep="\n")
            return 1
        seconds, expected = monotonic() - began, rows(folder / "alone")
        print(f"left alone: {len(expected)} cells in {seconds:.0f} s", flush=True)
        killed, ended, wrong, number = Counter[str](), 0, list[str](), 0
        with busy(asked.busy):
            while killed.total() < asked.kills:
                run, log = folder / f"run-{number}", folder / f"run-{number}.log"
                process = started(request, run, log)
                try:
                    process.wait(chance.uniform(0, seconds))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    killed[stage(log, run)] += 1
                    continue
                ended, number = ended + 1, number + 1
                wrong += [f"exit {process.returncode}: {log.read_text()[-300:]}"] if process.returncode else differing(expected, run)
            last = started(request, run, log)
            if code := last.wait(LONGEST):
                wrong.append(f"exit {code}: {log.read_text()[-300:]}")
            wrong += differing(expected, run)
        stages = ", ".join(f"{count} {name}" for name, count in sorted(killed.items()))
        print(f"killed {killed.total()} times beside {asked.busy} busy loops: {stages}; {ended + 1} runs ended whole")
        print("\n".join(wrong) or f"every one of their {len(expected)} cells holds the rows of the run that was left alone")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
