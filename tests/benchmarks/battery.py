"""Where a diagnosis spends its time, and how fast the tool starts and judges: `python -m tests.benchmarks.battery [options of diagnose ...]`

Prints, all from one sitting: seconds and share by stage, the share inside models' forward passes, seconds of drafting by condition, rows
written a second; what `--help` and `report` take to start, by the fastest of some times; and what judging a run of a million rows takes.

    --against REV   the same diagnosis by another commit, in a worktree of its own, by turns with this one; the ratio of each stage is printed
    --repeats N     how often each is run; the fastest counts, since other work on the machine only ever adds time
    --only PARTS    of stages, start, million

Seconds are of this process's own computing on a CPU, and on the clock elsewhere. Goals: `--help` 0.15 s, `report` 0.6 s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
ASKED = ("--quick", "--limit", "8", "--threads", "1")
TOOL = [sys.executable, "-c", "from driftcli.cli.main import main; main()"]
HELP_GOAL, REPORT_GOAL = 0.15, 0.6
STAGES = {  # where each stage is entered, by the module that calls it; what a commit has not yet is not looked for
    "loading": ("driftcli.cli.diagnosis.load_pair",),
    "looking ahead": ("driftcli.cli.diagnosis.plan_line",),
    "writing replies": (
        "driftcli.engine.cells.write_texts",
        "driftcli.engine.batches.write_texts",
        "driftcli.engine.batches.write_together",
    ),
    "reading texts": (
        "driftcli.target.in_process.read",
        "driftcli.target.in_process._beginning",
        "driftcli.target.decoding.read_beside",
    ),
    "drafting": ("driftcli.engine.cells._drafted",),
    "making rows": ("driftcli.engine.cells.cell_rows",),
    "keeping rows": ("driftcli.engine.measuring.RunFolder.write_cell",),
    "timing steps": ("driftcli.cli.diagnosis.measure_costs",),
    "judging": ("driftcli.cli.diagnosis.judge",),
}


# ---- one diagnosis, in an interpreter of its own


@contextmanager
def entered(where: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """A function by its full name is another one inside."""
    owner, _, name = where.rpartition(".")
    module, _, kind = owner.rpartition(".") if owner.rpartition(".")[2][0].isupper() else (owner, "", "")
    if find_spec(module) is None:
        yield
        return
    place = getattr(import_module(module), kind) if kind else import_module(module)
    with patch.object(place, name, wrap(getattr(place, name))) if hasattr(place, name) else nullcontext():
        yield


class Stages:
    """Seconds by stage, of conditions, and inside forward passes of models; each without what other stages take inside it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.conditions: dict[str, float] = defaultdict(float)
        self.forwards = 0.0
        self.rows = 0
        self._within: list[str] = []
        self._since = clock()
        self._deep = 0
        self._entered = 0.0

    def _turn(self) -> None:
        """Give the seconds that have gone by to the innermost stage."""
        now = self.clock()
        self.seconds[self._within[-1] if self._within else "else"] += now - self._since
        self._since = now

    def stage(self, name: str) -> Callable[[Any], Any]:
        """Wraps a function so that its seconds count as a stage's."""

        def wrap(made: Any) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                self._turn()
                self._within.append(name)
                before = self.seconds[name]
                try:
                    return made(*args, **options)
                finally:
                    self._turn()
                    self._within.pop()
                    self._count(name, args, self.seconds[name] - before)

            return call

        return wrap

    def _count(self, name: str, args: Sequence[Any], seconds: float) -> None:
        if name == "drafting":
            self.conditions[args[2].name] += seconds
        if name == "keeping rows":
            self.rows += sum(len(next(column for column in part.values() if column is not None)) for part in args[3]["steps"])

    def forward(self, made: Any) -> Any:
        """Wraps the call of a module so that the outermost one's seconds are counted."""

        def call(module: Any, *args: Any, **options: Any) -> Any:
            self._deep += 1
            if self._deep == 1:
                self._entered = self.clock()
            try:
                return made(module, *args, **options)
            finally:
                self._deep -= 1
                if not self._deep:
                    self.forwards += self.clock() - self._entered

        return call


def measured(options: Sequence[str]) -> dict[str, Any]:
    """The stages of one diagnosis in this process."""
    import torch

    from driftcli.cli.main import main

    import_module("driftcli.cli.diagnosis")  # before the clock starts
    stages = Stages(perf_counter if torch.cuda.is_available() else process_time)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for name, where in ((name, where) for name, places in STAGES.items() for where in places):
            stack.enter_context(entered(where, stages.stage(name)))
        stack.enter_context(patch.object(torch.nn.Module, "__call__", stages.forward(torch.nn.Module.__call__)))
        stack.enter_context(redirect_stdout(StringIO()))
        said = stack.enter_context(redirect_stderr(StringIO()))
        began = stages.clock()
        try:
            main(["diagnose", *options, "--out", str(Path(folder) / "run")])
        except SystemExit as ended:
            if ended.code:
                raise SystemExit(said.getvalue()) from ended
        stages._turn()
    whole = stages.clock() - began
    return {"whole": whole, "stages": stages.seconds, "conditions": stages.conditions, "forwards": stages.forwards, "rows": stages.rows}


def once(options: Sequence[str], tree: Path) -> dict[str, Any]:
    """The same by the sources in `tree`."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    line = [sys.executable, str(Path(__file__).resolve()), "--once", *options]
    ran = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tree, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


# ---- what is printed


def by_stage(options: Sequence[str], other: Path | None, repeats: int) -> None:
    """Stages of the fastest diagnosis, beside those of the other commit."""
    trees = [ROOT, *([other] if other else [])]
    best: dict[Path, dict[str, Any]] = {}
    for _ in range(repeats):
        for tree in trees:
            found = once(options, tree)
            best[tree] = min(best.get(tree, found), found, key=lambda one: one["whole"])
    own, before = best[ROOT], best.get(other) if other else None
    print(f"diagnose {' '.join(options)}\n{'':26}{'seconds':>9}{'share':>8}{'before':>10}{'ratio':>8}")
    for name in [*STAGES, "else"]:
        row(name, own["stages"].get(name, 0.0), own["whole"], before and before["stages"].get(name, 0.0))
    row("all", own["whole"], own["whole"], before and before["whole"])
    row("inside forward passes", own["forwards"], own["whole"], before and before["forwards"])
    print(f"{own['rows']:,} rows of steps, {own['rows'] / own['whole']:,.0f} a second of the whole")
    print("\ndrafting by condition")
    for name, seconds in sorted(own["conditions"].items(), key=lambda item: -item[1]):
        row(name, seconds, own["whole"], before and before["conditions"].get(name, 0.0))


def row(name: str, seconds: float, whole: float, before: float | None) -> None:
    """A line of a table."""
    told = "" if before is None else f"{before:10.2f}{seconds / before if before else float('nan'):8.2f}"
    print(f"{name:26}{seconds:9.2f}{seconds / whole:8.0%}{told}")


def starting(repeats: int) -> None:
    """How long the tool takes to print its help, and a report."""
    with TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        subprocess.run([*TOOL, "diagnose", *ASKED, "--out", run], check=True, capture_output=True, cwd=ROOT, env=environment())
        bare = fastest([sys.executable, "-c", "pass"], repeats)
        print(f"\n{'Python alone':26}{bare:9.2f} s of computing")
        for name, words, goal in (("--help", ["--help"], HELP_GOAL), ("report", ["report", run], REPORT_GOAL)):
            taken = fastest([*TOOL, *words], repeats)
            print(f"{name:26}{taken:9.2f} s of computing, goal {goal} s: {'met' if taken <= goal else 'MISSED'}")


def fastest(line: Sequence[str], repeats: int) -> float:
    """The least computing that a command took of some times, in seconds."""
    found = []
    for _ in range(repeats):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, line
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def environment() -> Mapping[str, str]:
    """This tree, compiled as an installed package is, whatever the surroundings say of that."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(Path(gettempdir()) / "driftcli-compiled")}


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """The sources of a commit, in a folder of their own."""
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", str(tree), revision], check=True, cwd=ROOT)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=True, cwd=ROOT)


def main() -> None:
    """All parts, or those that are named."""
    if sys.argv[1:2] == ["--once"]:
        print(json.dumps(measured(sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("stages", "start", "million"), default=("stages", "start", "million"))
    asked, options = parser.parse_known_args()
    if "stages" in asked.only:
        with ExitStack() as stack:
            other = stack.enter_context(worktree(asked.against)) if asked.against else None
            by_stage(options or ASKED, other, asked.repeats)
    if "start" in asked.only:
        starting(max(3, asked.repeats))
    if "million" in asked.only:
        print(flush=True)
        line = [sys.executable, "-m", "tests.benchmarks.million_rows", "--only", "report --format terminal"]
        subprocess.run(line, check=True, cwd=ROOT, env=environment())


if __name__ == "__main__":
    main()
