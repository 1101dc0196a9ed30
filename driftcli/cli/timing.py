"""From what `driftcli costs` was asked to timed steps or rounds, their file and what is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from driftcli.cli.progress import Told
from driftcli.cli.request import DtypeChoice
from driftcli.cli.threads import allowed_threads, threads
from driftcli.errors import MachineError, UsageError
from driftcli.report.choices import ScanFormat
from driftcli.report.console import put
from driftcli.report.costs import render
from driftcli.statistics.costs import Costs
from driftcli.statistics.costs_file import costs_json
from driftcli.traces.writer import write_json

if TYPE_CHECKING:
    from driftcli.cli.costs import EngineChoice


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be timed, and how."""

    target: str
    drafter: str
    draft_lengths: Sequence[int]
    batch_sizes: Sequence[int]
    context: int
    dtype: DtypeChoice
    device: str
    threads: int | None
    remote_code: bool
    settings: Mapping[str, object] | None


def settings(given: str | None, engine: EngineChoice) -> Mapping[str, object] | None:
    """`--engine-args` as an object; UsageError for anything else."""
    if given is None:
        return None
    if engine != "vllm":
        raise UsageError(f"--engine-args {given}: are arguments of vLLM's engine; add --engine vllm, or leave them out")
    try:
        found = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise UsageError(f'--engine-args {given}: no JSON ({error}), expected an object, as {{"enforce_eager": true}}') from error
    if not isinstance(found, dict):
        raise UsageError(f'--engine-args {given}: expected a JSON object, as {{"enforce_eager": true}}')
    return found


def write(request: Request, engine: EngineChoice, out: Path, format: ScanFormat, *, force: bool) -> None:
    """Time, write the file, print; UsageError before anything is timed where the file could not be written."""
    if out.exists() and not (force and out.is_file()):
        raise UsageError(f"--out {out}: is there; name another file, or overwrite one with --force")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first, or name another file")
    with Told(Console(stderr=True, highlight=False, markup=False)) as told, threads(request.threads or allowed_threads()):
        found = (_of_vllm if engine == "vllm" else _of_transformers)(request, told)
    try:
        write_json(out, costs_json(found))
    except OSError as error:
        raise MachineError(f"{out}: cannot be written ({error.strerror or error}); make room, and time again") from error
    put(json.dumps(costs_json(found), indent=2, allow_nan=False) if format == "json" else render(found, str(out)))


def _of_vllm(request: Request, told: Told) -> Costs:
    from driftcli.engine.vllm_rounds import Asked, time_rounds

    lengths, sizes = request.draft_lengths, request.batch_sizes
    asked = Asked(request.target, request.drafter, lengths, sizes, request.context, request.dtype, request.remote_code, request.settings)
    return time_rounds(asked, told.now)


def _of_transformers(request: Request, told: Told) -> Costs:
    from driftcli.engine.timing import measure_costs
    from driftcli.loading.pair import load_pair
    from driftcli.target.language_model import choose_device

    pair = load_pair(request.target, request.drafter, choose_device(request.device), request.dtype, remote_code=request.remote_code)
    return measure_costs(pair, request.batch_sizes, max(request.draft_lengths), request.context, told.now)
