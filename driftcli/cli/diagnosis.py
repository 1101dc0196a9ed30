"""From a parsed command line to a judged run; the only module of the command line that loads a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console

from driftcli.cli.battery import WHOLE, load_battery, probe_names
from driftcli.cli.folder import RUNS, run_folder, unfinished_runs
from driftcli.cli.net import Resumable
from driftcli.cli.progress import Told
from driftcli.cli.request import Request
from driftcli.cli.threads import allowed_threads, threads
from driftcli.codes import BY_NAME
from driftcli.domain import BUNDLED, Prompt, RunSpec, Verdict
from driftcli.engine.budget import Budgeted, budget_of
from driftcli.engine.forecast import fitted, forecast
from driftcli.engine.processes import Processes, joined
from driftcli.engine.run import Job, measure
from driftcli.engine.timing import measure_costs
from driftcli.engine.twin_check import check_pair, check_request
from driftcli.errors import RunError, UsageError
from driftcli.families.mtp.head import MtpModules
from driftcli.loading.depths import require_depth
from driftcli.loading.pair import InVllm, LoadedPair, load_pair
from driftcli.mitigations.probe import MITIGATED
from driftcli.printable import counted, masked
from driftcli.probe import Probe
from driftcli.report.evidence import spent
from driftcli.report.json import finding_json
from driftcli.report.verdict import judge
from driftcli.statistics.costs import Costs
from driftcli.statistics.costs_file import costs_json, read_costs
from driftcli.target.language_model import choose_device, quiet_transformers
from driftcli.texts.prompts import builtin_prompts, bundled_prompts, limited, read_prompts
from driftcli.traces.layout import COSTS_FILE, ENGINE_FOLDER, FINDINGS_FILE
from driftcli.traces.reader import Run, read_run
from driftcli.traces.soundness import mark
from driftcli.traces.writer import Plain, resumes, write_json
from probes import QUICK
from probes.target_shift import TARGET_SHIFT

QUICK_PROMPTS = 24  # that --quick takes where --limit names no number (chosen by us)


def diagnose_pair(request: Request) -> tuple[Run, Verdict] | None:
    """Load, measure, judge; the findings are written beside the traces. None in those of several processes that only help to measure.

    Raises DriftError with one sentence for anything that cannot be.
    """
    request = with_twin(request)
    battery = load_battery(names_asked(request))
    with (
        joined(request.device, request.num_processes) as (processes, device),
        threads(request.threads or allowed_threads()),
        Told(Console(stderr=True, highlight=False, markup=False, quiet=not processes.first)) as told,
    ):
        here = Here(processes, choose_device(device), told)
        if processes.first:
            return _first(request, battery, here)
        _helping(request, battery, here)
    return None


def with_twin(request: Request) -> Request:
    """A request whose run is marked as held against that of the target's twin, where it names one; RunError for one that is not finished,
    or was asked otherwise.
    """
    if request.against_target is None:
        return request
    twin = read_run(request.against_target)
    check_request(twin, request.spec, _used(request, asked_prompts(request)))
    asked = twin.manifest["request"]
    assert isinstance(asked, Mapping)
    return replace(request, spec=replace(request.spec, against=mark(asked)))


@dataclass(frozen=True)
class Here:
    """This process: one of those that share the run, on its device; told: what shows how far they are."""

    processes: Processes
    device: torch.device
    told: Told


@dataclass(frozen=True)
class Settled:
    """What the first process settles for all: the folder, and what a budget leaves out."""

    out: Path
    budget: Budgeted | None


def _first(request: Request, battery: Sequence[Probe], here: Here) -> tuple[Run, Verdict]:
    """Measure with the others, and judge."""
    found = () if request.out or request.force else unfinished_runs(_asked(request))
    with run_folder(request.out, request.drafter, found, here.told.say) as out, Resumable(out):
        return _diagnose(request, battery, out, here, taken_up=out in found)


def _helping(request: Request, battery: Sequence[Probe], here: Here) -> None:
    """Measure with the others what the first has settled."""
    offered = asked_prompts(request)
    pair = _pair(request, RUNS, here)
    with closing(pair.target):
        job = _job(request, pair, battery, RUNS, offered)
        settled = here.processes.agreed(lambda: Settled(job.out, None))
        with Resumable(settled.out):
            measure(_settled(job, settled), here.told, here.processes)


def _settled(job: Job, settled: Settled) -> Job:
    """A job as the first process has settled it."""
    prompts = job.prompts if settled.budget is None else limited(job.prompts, settled.budget.prompts)
    return replace(job, out=settled.out, budget=settled.budget, prompts=prompts)


def names_asked(request: Request) -> Sequence[str]:
    """The probes that are asked for, none for all; what is lost against a twin is asked wherever one is named, and nowhere else."""
    names = request.probes or (QUICK if request.spec.quick else ())
    if TARGET_SHIFT in names and request.against_target is None:
        raise UsageError(f"--probe {TARGET_SHIFT}: a target is held against its twin; name the run of that with --against-target RUN")
    return [*names, TARGET_SHIFT] if names and request.against_target is not None and TARGET_SHIFT not in names else names


def _asked(request: Request) -> dict[str, Plain]:
    """The request in the words of the command line, by which an unfinished run of the same is found."""
    named = {name: getattr(request, name) for name in ("limit", "device", "dtype", "reading", "threads")}
    pair = {"target": masked(request.target), "drafter": masked(request.drafter)}
    prompts = None if request.prompts is None else str(request.prompts)
    asked = {**pair, **named, **asdict(request.spec), "prompts": prompts, "probes": list(request.probes)}
    twin = None if request.against_target is None else str(request.against_target)
    engine = None if request.engine == "transformers" else {"name": request.engine, "args": request.engine_args}
    return {**asked, "budget": request.budget, "engine": engine, "against_target": twin}  # older runs name none, which counts as none


def _diagnose(request: Request, battery: Sequence[Probe], out: Path, here: Here, *, taken_up: bool) -> tuple[Run, Verdict]:
    """The same in a folder that is this process's alone. taken_up: an unfinished run that nobody named."""
    given = None if request.costs is None else read_costs(request.costs, request.spec.depth)
    offered, told = asked_prompts(request), here.told
    check_room(_used(request, offered), request.spec)
    pair = _pair(request, out, here)
    with closing(pair.target):
        job = _within(_job(request, pair, battery, out, offered), request.budget, told)
        job = replace(job, in_float32=partial(_in_float32, request, here))
        if not taken_up:
            return _measured(request, job, given, here)
        if resumes(out, job.begun(), job.hashes):
            told.say(f"going on with {out}, an unfinished run of the same request; --force or another --out begins anew")
            return _measured(request, job, given, here)
        with run_folder(None, request.drafter) as new, Resumable(new):
            told.say(f"{out} is an unfinished run of the same command on other files or prompts, so a new one begins")
            return _measured(request, replace(job, out=new), given, here)


def _used(request: Request, offered: Sequence[Prompt]) -> list[Prompt]:
    return limited(offered, request.limit or (QUICK_PROMPTS if request.spec.quick else None))


def _pair(request: Request, out: Path, here: Here) -> LoadedPair:
    """The pair, loaded; out: the run's folder, in which an engine has one of its own."""
    quiet_transformers()
    if request.target.startswith(BUNDLED) and request.drafter.startswith(BUNDLED):
        here.told.say("the pair that ships with driftcli; --target and --drafter name your own")
    vllm = InVllm(request.engine_args, out / ENGINE_FOLDER) if request.engine == "vllm" else None
    several = f", by {here.processes.count} processes" if here.processes.count > 1 else ""
    loading = f"loading {request.target}{' into vLLM' if vllm else ''} and {request.drafter} on {here.device}{several}"
    here.told.say(loading, loading)
    reading = None if request.reading == "declared" else request.reading
    code, spread = request.remote_code, here.processes.count == 1
    return load_pair(
        request.target, request.drafter, here.device, request.dtype, remote_code=code, reading=reading, vllm=vllm, spread=spread
    )


def _in_float32(request: Request, here: Here) -> LoadedPair:
    """The pair once more, in float32; out of the way of an engine."""
    here.told.now("measuring some texts again in float32")
    return _pair(replace(request, dtype="float32"), RUNS, here)


def _job(request: Request, pair: LoadedPair, battery: Sequence[Probe], out: Path, offered: Sequence[Prompt]) -> Job:
    """What is to be measured, were there no budget; RunError for a twin's run that had another drafter, or another tokenizer."""
    require_depth(pair.card, request.spec.depth, len(pair.drafter.modules) if isinstance(pair.drafter, MtpModules) else 1)
    names, prompts = probe_names(battery, names_asked(request)), _used(request, offered)
    twin = None if request.against_target is None else read_run(request.against_target)
    if twin is not None:
        check_pair(twin, pair, prompts)
    job = Job(pair, prompts, battery, request.spec, out, names, request.force, _asked(request), len(offered))
    return replace(job, twin=twin)


def _within(job: Job, seconds: int | None, told: Told) -> Job:
    """A job that keeps to a time. What a run in its folder left out for the same time is left out again, however fast things are today."""
    if seconds is None:
        return job
    before = None if job.force else budget_of(job.out, seconds)
    if before is None:
        told.now("timing a few tokens")
        before = fitted(job, seconds)
    return _settled(job, Settled(job.out, before))


def check_room(prompts: Sequence[Prompt], spec: RunSpec) -> None:
    """UsageError where no reply could ever be long enough for one chain."""
    if spec.max_new_tokens <= spec.depth and any(prompt.response is None for prompt in prompts):
        raise UsageError(
            f"--max-new-tokens {spec.max_new_tokens}: no reply would be long enough for a chain of {spec.depth} draft tokens (--depth), "
            f"expected at least {spec.depth + 1}; ask for longer replies or fewer draft tokens"
        )


def _left_out(request: Request, job: Job) -> list[str]:
    """What of the request is not run: what `--quick` and `--limit` leave, and how to have more; what a probe, or a budget, says."""
    by = "--limit" if request.limit else "--quick; --no-quick or --limit for more"
    kept = len(job.prompts) if job.budget is None else job.budget.offered
    prompts = [f"{kept} of {job.offered} prompts ({by})"] if kept < (job.offered or 0) else []
    short = request.spec.quick and not request.probes
    unasked = ", ".join(probe.name for probe in WHOLE if probe.name not in (*QUICK, TARGET_SHIFT))
    battery = [f"{unasked} and parts of other probes left out (--quick; --no-quick for all)"] if short else []
    return [*prompts, *battery, *job.left_out]


def _measured(request: Request, job: Job, given: Costs | None, here: Here) -> tuple[Run, Verdict]:
    """Measure with all processes, then time and judge."""
    told, processes = here.told, here.processes
    for line in _left_out(request, job):
        told.say(line)
    told.say(f"{plan_line(job, processes.count)}; traces go to {job.out}", "measuring")
    processes.agreed(lambda: Settled(job.out, job.budget))
    measure(job, told, processes)
    if any(probe.name == MITIGATED for probe in job.battery):
        _note_costs(request, job.pair, read_run(job.out), given, told)
    told.now("judging")
    run = read_run(job.out)
    verdict = judge(run, job.battery)
    lasting = [finding for finding in verdict.findings if not BY_NAME[finding.code].timed]
    write_json(job.out / FINDINGS_FILE, [finding_json(finding) for finding in lasting])
    return run, verdict


def _note_costs(request: Request, pair: LoadedPair, run: Run, given: Costs | None, told: Told) -> None:
    """Write the seconds of the pair's steps beside the traces: those given, those that are there, or those timed now behind the run's usual
    length of text. A target whose steps cannot be timed is said to be so, and what would rest on them stays open.
    """
    sizes = None if run.costs is None else [one.batch_size for one in run.costs.by_batch]
    if given is None and sizes == list(request.batch_sizes) and not request.force:
        return
    if given is None:
        timing = f"timing single steps, batch {', '.join(map(str, request.batch_sizes))}"
        told.say(timing, timing)
    try:
        context = max(2, round(median(run.lengths or [0])))
        costs = given or measure_costs(pair, request.batch_sizes, request.spec.depth, context, told.now)
    except RunError as error:
        told.say(f"steps are not timed: {error}")
        return
    write_json(run.path / COSTS_FILE, costs_json(costs))


def plan_line(job: Job, processes: int = 1) -> str:
    """What is going to be run: counts, the drafter's tokens, and a rough time."""
    ahead = forecast(job)
    asked = f"{counted(len(job.prompts), 'prompt')}, {counted(len(job.conditions()), 'condition')}, depth {job.spec.depth}"
    drafted = f"up to {counted(ahead.texts, 'reply', 'replies')} and {ahead.drafter_tokens / 1000:,.0f}k drafter tokens"
    seconds = ahead.seconds / processes
    return f"{asked}: {drafted}, roughly {f'{seconds / 60:.0f} min' if seconds >= 120 else spent(seconds)}"


def asked_prompts(request: Request) -> list[Prompt]:
    """All prompts that a request offers: those that it names, else those that ship for its target."""
    if request.prompts is not None:
        return read_prompts(request.prompts)
    return bundled_prompts() if request.target.startswith(BUNDLED) else builtin_prompts()
