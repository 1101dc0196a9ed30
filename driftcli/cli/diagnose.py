"""`driftcli diagnose`: measure a pair and say what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from driftcli.domain import RunSpec
from driftcli.errors import UsageError
from driftcli.report.choices import FailOn, OutputFormat, ReadingChoice

DEFAULTS = RunSpec()
NO_PAIR = (
    "no pair is bundled yet, so both --target and --drafter must be named; two heads for SmolLM2-135M-Instruct are in examples/smollm2, "
    "and examples/export_smollm2.py writes their target"
)


def diagnose(
    target: Annotated[str | None, typer.Option(help="Verifying model: hub id, id@revision or folder.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Proposing model: an EAGLE head or a causal LM with the target's tokenizer.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON Lines of {id, messages} or {id, text}; default: the 80 built-in prompts.")
    ] = None,
    probe: Annotated[list[str] | None, typer.Option(help="Only this probe, or your own as package.module:NAME; may be repeated.")] = None,
    depth: Annotated[int, typer.Option(min=1, max=64, help="Proposals a chain.")] = DEFAULTS.depth,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Longest continuation by the target, in tokens.")] = DEFAULTS.max_new_tokens,
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many prompts, dealt over the categories.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that the target continues together.")] = DEFAULTS.batch_size,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the intervals' resampling.")] = DEFAULTS.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="auto: float32 on a CPU, the config's on a GPU.")
    ] = "auto",
    reading: Annotated[
        ReadingChoice, typer.Option(help="Whose way to compute an EAGLE head's step; declared: vLLM's, where it can run the file.")
    ] = "declared",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run Python that comes with a checkpoint.")] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; the same request resumes it. Default: runs/<time>-<drafter>.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a run of another request in --out.")] = False,
    format: Annotated[OutputFormat, typer.Option(help="How to print.")] = "terminal",
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit 4 when the verdict is at this severity or above, 5 when it is inconclusive.")
    ] = "none",
) -> None:
    """Measure a drafter/target pair: curves by depth, drift and its cost, findings, what to do."""
    if target is None or drafter is None:
        raise UsageError(NO_PAIR)
    from driftcli.cli.diagnosis import Request, diagnose_pair
    from driftcli.report.formats import show
    from driftcli.report.verdict import exit_code

    spec = RunSpec(depth=depth, max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed)
    run, verdict = diagnose_pair(
        Request(target, drafter, prompts, probe or [], spec, limit, device, dtype, reading, trust_remote_code, out, force)
    )
    show(run, verdict, format)
    raise typer.Exit(exit_code(verdict, fail_on))
