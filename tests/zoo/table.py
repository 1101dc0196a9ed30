"""What `driftcli scan` prints for each of the 64 published drafters, in short, whether it is what is right for it, and its seconds.

    python -m tests.zoo.table [NUMBER...]

Each scan is a process of its own, as a user starts it. What is right stands in `tests/zoo/test_scan.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from tests.zoo.build import Case, cases, write
from tests.zoo.test_scan import REFUSED, unmet

TOOL = "from driftcli.cli.main import main; main()"


def scanned(case: Case, folder: Path) -> tuple[str, int, float]:
    """What is printed on one line, the exit code and the seconds."""
    target = [] if case.target is None else ["--target", str(folder / "target")]
    started = perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", TOOL, "scan", "--drafter", str(folder), *target], capture_output=True, text=True, check=False
    )
    return " ".join((ran.stdout + ran.stderr).replace(str(folder), case.name).split()), ran.returncode, perf_counter() - started


def short(text: str, code: int) -> str:
    """What it is, and which servers cannot run it."""
    if code:
        return text.partition(": ")[2].partition(": ")[2][:100]
    what = text.partition("/target ")[2].partition(" FINDINGS")[0].partition(" No finding")[0]
    return what + "".join(f"; not in {name}" for name in ("vLLM", "SGLang") if _refuses(name, text))


def _refuses(name: str, text: str) -> bool:
    return any(f"{name} {version} cannot run it" in text for version in ("0.33", "0.5.23"))


def main() -> int:
    wrong, slowest = 0, 0.0
    with TemporaryDirectory() as scratch:
        for case in cases():
            if sys.argv[1:] and case.number not in sys.argv[1:]:
                continue
            text, code, seconds = scanned(case, write(case, Path(scratch)))
            right = not unmet(case.number, text) and (code == 3) == (case.number in REFUSED)
            wrong, slowest = wrong + (not right), max(slowest, seconds)
            print(f"{case.name[:44]:<44} {'right' if right else 'WRONG'} {seconds:4.1f} s  {short(text, code)}", flush=True)
    print(f"{wrong} wrong; slowest {slowest:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
