"""Does the tool say what is true as often as it says? `python -m tests.benchmarks.calibration [--only TABLE ...] [--sound REGIME ...] [--runs N] [--short]`.

Pairs are simulated of which the truth is known, and runs over a few of their prompts are read by the tool's own intervals, probes and
verdict. Printed are tables of shares in percent with their Monte-Carlo error, and below each the bounds that it must keep: one is broken
where the share would surely lie beyond it with endless runs too. The exit code is 1 if any is. Seeded: the same command prints the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

from tests.benchmarks.calibration import changes, coverage, nulls, power, replies, timing, unsettled
from tests.benchmarks.calibration.effort import FULL, SHORT, Effort
from tests.benchmarks.calibration.regimes import REGIMES
from tests.benchmarks.calibration.shares import Table

TABLES: Mapping[str, Callable[[Effort], Table]] = {
    "coverage": coverage.table,
    "nulls": nulls.table,
    "power": power.power,
    "grades": power.grades,
    "open": unsettled.table,
    "replies": replies.table,
    "timing": timing.table,
    "changes": changes.table,
}


def main(args: Sequence[str] | None = None) -> int:
    """Print the tables that are asked for; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(TABLES), default=tuple(TABLES), help="tables to print, all unless said")
    parser.add_argument("--runs", type=int, help="simulated runs of a cell")
    parser.add_argument("--short", action="store_true", help="what is enough to see every bound, in less than three minutes")
    parser.add_argument("--sound", nargs="+", choices=tuple(REGIMES), help="regimes of the sound pairs that are judged as a whole")
    asked = parser.parse_args(args)
    effort = SHORT if asked.short else FULL
    effort = replace(effort, sound=tuple(asked.sound or effort.sound))
    broken = 0
    for name in asked.only:
        started = perf_counter()
        told = TABLES[name](
            replace(effort, runs=asked.runs, verdicts=asked.runs, runs_of_axis=asked.runs, timed=asked.runs) if asked.runs else effort
        )
        print(told, f"-- {perf_counter() - started:.0f} s\n", sep="\n", flush=True)
        broken += sum(bound.broken for bound in told.bounds)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
