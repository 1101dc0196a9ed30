"""How long a run of a million rows of `steps` takes to report, to look into and to draw; prints seconds, asserts nothing.

    python -m tests.benchmarks.million_rows [--prompts 350] [--only losing chain]

Each is timed on a run that is opened anew, files in the system's cache, as a command would; what Python needs to start is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from driftcli.cli.battery import load_battery
from driftcli.inspection.sql import answered
from driftcli.opened import open_run
from driftcli.report.formats import RENDERERS, renderer
from driftcli.report.verdict import judge
from driftcli.traces.reader import Run, read_run
from driftcli.traces.samples import chain, losing, reply, reply_heads
from driftcli.traces.tables import rows_of
from tests.report import synthetic
from tests.report.synthetic import DRIFTING, Recipe, write_run

PROMPTS, ANCHORS, BATCH = 350, 120, 40  # 8 depths and 3 feeds of each anchor: 1,008,000 rows; 40 is the batch of `diagnose`
QUERY = "select feed, depth, avg(match::int), avg(rms) from steps where condition = 'baseline' group by all order by all"


def asked(run: Run) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    first = reply_heads(read_run(run.path))[0].prompt

    def rendered(kind: str) -> object:
        fresh = read_run(run.path)
        with redirect_stdout(StringIO()):
            return renderer(kind)(fresh, judge(fresh, load_battery(fresh.probe_names)))

    return {
        "reply_heads": lambda: reply_heads(read_run(run.path)),
        "losing": lambda: losing(read_run(run.path), 3),
        "reply": lambda: reply(read_run(run.path), first),
        "chain": lambda: chain(read_run(run.path), first, 0, synthetic.PROMPT_LENGTH),
        "100 replies": lambda: [reply(fresh, head.prompt) for fresh in [read_run(run.path)] for head in reply_heads(fresh)[:100]],
        "100 chains of a reply": lambda: [
            chain(fresh, first, 0, synthetic.PROMPT_LENGTH + place) for fresh in [read_run(run.path)] for place in range(100)
        ],
        "sql": lambda: _answered(run.path),
        "open_run, by_depth": lambda: open_run(run.path).arrow("by_depth"),
        **{f"report --format {kind}": lambda kind=kind: rendered(kind) for kind in RENDERERS},  # type: ignore[misc]
    }


def _answered(path: Path) -> list[object]:
    with answered(path, QUERY) as (_, parts):
        return [row for part in parts for row in part.to_pylist()]


def main() -> None:
    """Write the run, then time each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--only", nargs="+")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        synthetic.BATCH = BATCH
        prompts = tuple(f"prompt-{number:05}" for number in range(options.prompts))
        run = read_run(write_run(Path(folder) / "run", Recipe(DRIFTING, prompts=prompts, anchors=ANCHORS)))
        print(f"{rows_of(run.path, 'steps'):,} rows of steps, {len(prompts)} prompts")
        for name, ask in asked(run).items():
            if options.only is None or name in options.only:
                begun, used = time.perf_counter(), time.process_time()
                ask()
                print(f"{name:28} {time.perf_counter() - begun:6.2f} s, {time.process_time() - used:6.2f} s of processor", flush=True)


if __name__ == "__main__":
    main()
