"""From a parsed command line to a judged run; the only module of the command line that imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils import logging as transformers_logging

from driftcli.cli.battery import load_battery, probe_names
from driftcli.cli.folder import run_folder
from driftcli.cli.net import Resumable
from driftcli.cli.threads import allowed_threads, threads
from driftcli.codes import BY_NAME
from driftcli.costs import Costs, costs_json, read_costs
from driftcli.domain import BUNDLED, Prompt, RunSpec, Verdict
from driftcli.engine.forecast import forecast
from driftcli.engine.run import Job, measure
from driftcli.engine.timing import measure_costs
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.loading.prompts import builtin_prompts, bundled_prompts, limited, read_prompts
from driftcli.loading.target import Dtype, choose_device
from driftcli.mitigations.probe import MITIGATED
from driftcli.probe import Probe
from driftcli.report.choices import ReadingChoice
from driftcli.report.evidence import counted
from driftcli.report.json import finding_json
from driftcli.report.verdict import judge
from driftcli.traces.layout import COSTS_FILE, FINDINGS_FILE
from driftcli.traces.reader import Run, read_run
from driftcli.traces.writer import write_json
from probes import QUICK

QUICK_PROMPTS = 24  # that --quick takes where --limit names no number (chosen by us)


@dataclass(frozen=True)
class Request:
    """What `diagnose` was asked."""

    target: str
    drafter: str
    prompts: Path | None
    probes: Sequence[str]
    spec: RunSpec
    limit: int | None
    device: str
    dtype: Dtype
    reading: ReadingChoice
    remote_code: bool
    out: Path | None
    force: bool
    costs: Path | None = None
    batch_sizes: Sequence[int] = (1,)
    threads: int | None = None


def diagnose_pair(request: Request) -> tuple[Run, Verdict]:
    """Load, measure, judge; the findings are written beside the traces. Raises DriftError with one sentence for anything that cannot be."""
    battery = load_battery(_names(request))
    with run_folder(request.out, request.drafter) as out, Resumable(out), threads(request.threads or allowed_threads()):
        return _diagnose(request, battery, out)


def _names(request: Request) -> Sequence[str]:
    """The probes that are asked for, none for all."""
    return request.probes or (QUICK if request.spec.quick else ())


def _diagnose(request: Request, battery: Sequence[Probe], out: Path) -> tuple[Run, Verdict]:
    """The same in a folder that is this process's alone."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    console = Console(stderr=True, highlight=False, markup=False)
    given = None if request.costs is None else read_costs(request.costs, request.spec.depth)
    prompts = limited(_prompts(request), request.limit or (QUICK_PROMPTS if request.spec.quick else None))
    device = choose_device(request.device)
    if request.target.startswith(BUNDLED) and request.drafter.startswith(BUNDLED):
        console.print("the pair that ships with driftcli; --target and --drafter name your own")
    console.print(f"loading {request.target} and {request.drafter} on {device}")
    reading = None if request.reading == "declared" else request.reading
    pair = load_pair(request.target, request.drafter, device, request.dtype, remote_code=request.remote_code, reading=reading)
    job = Job(pair, prompts, battery, request.spec, out, probe_names(battery, _names(request)), request.force)
    console.print(f"{plan_line(job)}; traces go to {out}", soft_wrap=True)
    with ProgressBar(console) as bar:
        measure(job, bar)
    if any(probe.name == MITIGATED for probe in battery):
        _note_costs(request, pair, read_run(out), given, console)
    run = read_run(out)
    verdict = judge(run, battery)
    lasting = [finding for finding in verdict.findings if not BY_NAME[finding.code].timed]
    write_json(out / FINDINGS_FILE, [finding_json(finding) for finding in lasting])
    return run, verdict


def _note_costs(request: Request, pair: LoadedPair, run: Run, given: Costs | None, console: Console) -> None:
    """Write the seconds of the pair's steps beside the traces: those given, those that are there, or those timed now behind the run's usual
    length of text. A target whose steps cannot be timed is said to be so, and what would rest on them stays open.
    """
    sizes = None if run.costs is None else [one.batch_size for one in run.costs.by_batch]
    if given is None and sizes == list(request.batch_sizes) and not request.force:
        return
    if given is None:
        console.print(f"timing single steps, batch {', '.join(map(str, request.batch_sizes))}")
    try:
        costs = given or measure_costs(pair, request.batch_sizes, request.spec.depth, max(2, round(median(run.lengths or [0]))))
    except RunError as error:
        console.print(f"steps are not timed: {error}", soft_wrap=True)
        return
    write_json(run.path / COSTS_FILE, costs_json(costs))


def plan_line(job: Job) -> str:
    """What is going to be run: counts, the drafter's tokens, and a rough time."""
    ahead = forecast(job)
    asked = f"{counted(len(job.prompts), 'prompt')}, {counted(len(job.conditions()), 'condition')}, depth {job.spec.depth}"
    drafted = f"up to {counted(ahead.texts, 'reply', 'replies')} and {ahead.drafter_tokens / 1000:,.0f}k drafter tokens"
    minutes = ahead.seconds / 60
    return f"{asked}: {drafted}, roughly {f'{minutes:.0f} min' if minutes >= 2 else f'{ahead.seconds:.0f} s'}"


def _prompts(request: Request) -> list[Prompt]:
    if request.prompts is not None:
        return read_prompts(request.prompts)
    return bundled_prompts() if request.target.startswith(BUNDLED) else builtin_prompts()


class ProgressBar:
    """A bar on a terminal, a line a batch elsewhere; both on stderr, both with the time left as the batches of this session tell it."""

    def __init__(self, console: Console) -> None:
        self._console, self._started, self._left = console, monotonic(), ""
        self._first = self._last = -1
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = TextColumn("{task.fields[left]}")
        self._bar = Progress(*columns, left, console=console, transient=True) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("starting", total=None, left="")

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        if self._bar is not None:
            self._bar.stop()
        return False

    def __call__(self, done: int, total: int, now: str) -> None:
        """Show that `done` of `total` prompts x conditions are measured and what runs now."""
        self._first = done if self._first < 0 else self._first
        if done != self._last:
            self._left = time_left(done - self._first, total - done, monotonic() - self._started)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=f"prompts x conditions · {now}", left=self._left)
        elif done != self._last:
            self._console.print(f"{done} of {total} prompts x conditions measured{', ' * bool(self._left)}{self._left}")
        self._last = done


def time_left(done: int, open: int, seconds: float) -> str:
    """How long `open` more will take when `done` took `seconds`; nothing before the first is done or after the last."""
    if not done or not open:
        return ""
    left = round(seconds / done * open)
    return f"about {left // 60} min {left % 60} s left" if left >= 60 else f"about {left} s left"
