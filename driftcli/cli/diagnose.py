"""`driftcli diagnose`: measure a pair and say what is wrong with it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from driftcli.cli.engine import checked_engine
from driftcli.cli.formats import FormatChoice
from driftcli.cli.outputs import OutputChoice, outputs_asked
from driftcli.cli.request import DtypeChoice, EngineChoice, Request
from driftcli.domain import BUNDLED, RunSpec
from driftcli.durations import duration
from driftcli.errors import UsageError
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.report.choices import FAILS, FULL, STRICT, FailOn, ReadingChoice

DEFAULTS = RunSpec()
PROMPTS = (
    "JSON Lines of {id, messages} or {id, text}, or builtin:languages (seven languages, tool calls) or builtin:all. "
    "Default: builtin, 80 prompts in English; for the bundled target its own."
)
TARGET = "The model that verifies: hub id, id@revision, folder or a GGUF file's path. Default, with no --drafter: the bundled pair."
DRAFTER = (
    "The model that drafts, named likewise: an EAGLE or MTP head, a block drafter, Medusa or Hydra heads, an MLPSpeculator, a Gemma 4 "
    "assistant, or a causal LM, also one with another tokenizer. Or `mtp`: the head in the target; `lookup`: prompt lookup of 1 to 3 "
    "tokens, `lookup:1,5` of others; `early-exit:4`: the target's own first layers."
)
PROBE = "Only this probe, one of an installed package, or your own as package.module:NAME; may be repeated."
QUICK = (
    "24 prompts and the short battery, unless named otherwise; --no-quick asks every probe of all prompts, also of the pair that ships. "
    "Default: quick where no pair is named."
)
LENGTHS = "Prompt lengths of context-length, as 512,1024,...; default: up to 2048 as far as admitted."
THREADS = "Threads on a CPU. Default: the cores that this process may use, or OMP_NUM_THREADS."
NUM_PROCESSES = (
    "Processes that share the run, each with a GPU of its own; accelerate launch and torchrun begin theirs. Default: one for each GPU "
    "where the target fits one, else 1; on a CPU 1, and each of several takes --threads."
)
OUT = "Run folder; the same request resumes it. Default: the last unfinished run of the same command in runs, else a new one there."
TEMPERATURE = "Temperature at which the target draws its replies, and of all probabilities; 0 decodes greedily."
SEED = "Seed of the intervals' resampling, and of replies drawn at a temperature."
BATCH_SIZES = "Sequences that are decoded together: steps are timed at 1,8,...; the first decides."
ENGINE = "What runs the target: transformers in this process, or vLLM, which measures it as served (needs driftcli[vllm])."
ENGINE_ARGS = 'Arguments of vLLM\'s engine as JSON, such as \'{"tensor_parallel_size": 2, "quantization": "fp8"}\'.'
READING = "Whose way to compute a head's step; declared: vLLM's, where it can run the file."
AGAINST = "A finished run of the same prompts with the target's twin, such as its float model: says what the drafter loses against that."
BUDGET = "Leave out what tells least until the run takes about so long, as 90s, 20m, 1h30m; says what. driftcli plan tells before."
COLDEST, HOTTEST = 0.01, 10.0  # of a temperature; at a lower one servers decode greedily, above there is nothing but noise (chosen by us)
BUNDLED_PAIR = (f"{BUNDLED}target", f"{BUNDLED}pre-norm")


def diagnose(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help=TARGET)] = None,
    drafter: Annotated[str | None, typer.Option(help=DRAFTER)] = None,
    prompts: Annotated[Path | None, typer.Option(help=PROMPTS)] = None,
    probe: Annotated[list[str] | None, typer.Option(help=PROBE)] = None,
    quick: Annotated[bool | None, typer.Option("--quick/--no-quick", help=QUICK)] = None,
    depth: Annotated[int, typer.Option(min=1, max=64, help="Draft tokens a chain, as num_speculative_tokens.")] = DEFAULTS.depth,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Longest reply of the target, in tokens.")] = DEFAULTS.max_new_tokens,
    lengths: Annotated[str | None, typer.Option(help=LENGTHS)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many prompts, dealt over the categories.")] = None,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE)] = DEFAULTS.temperature,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that the target answers together.")] = DEFAULTS.batch_size,
    batch_sizes: Annotated[str, typer.Option(help=BATCH_SIZES)] = "1",
    costs: Annotated[Path | None, typer.Option(help="Step times in place of timing them here: costs.json of a run elsewhere.")] = None,
    seed: Annotated[int, typer.Option(min=0, help=SEED)] = DEFAULTS.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help=THREADS)] = None,
    num_processes: Annotated[int | None, typer.Option(min=1, help=NUM_PROCESSES)] = None,
    dtype: Annotated[DtypeChoice, typer.Option(help="auto: float32 on a CPU, the config's on a GPU.")] = "auto",
    engine: Annotated[EngineChoice, typer.Option(help=ENGINE)] = "transformers",
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS)] = None,
    against_target: Annotated[Path | None, typer.Option(metavar="RUN", help=AGAINST)] = None,
    reading: Annotated[ReadingChoice, typer.Option(help=READING)] = "declared",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run Python that comes with a checkpoint.")] = False,
    budget: Annotated[str | None, typer.Option(help=BUDGET)] = None,
    out: Annotated[Path | None, typer.Option(help=OUT)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a run of another request in --out; without --out begin anew.")] = False,
    format: FormatChoice = "terminal",
    fail_on: Annotated[FailOn, typer.Option(help=FAILS)] = "none",
    strict: Annotated[bool, typer.Option("--strict", help=STRICT)] = False,
    output: OutputChoice = None,
    full: Annotated[bool, typer.Option("--full", help=FULL)] = False,
) -> None:
    """Measure a drafter/target pair: curves by depth, drift and its cost, findings, what to do."""
    request = requested(
        target, drafter, prompts, probe, quick, depth, max_new_tokens, lengths, limit, temperature, batch_size, batch_sizes, costs, seed,
        device, threads, dtype, engine, engine_args, reading, trust_remote_code, out, force, budget, num_processes, against_target,
    )  # fmt: skip
    from driftcli.cli.launching import diagnose_together

    diagnose_together(request, context.obj or sys.argv[1:])
    from driftcli.cli.diagnosis import diagnose_pair
    from driftcli.cli.gate import Ending, end

    ending = Ending("diagnose", format, full, fail_on, strict, outputs_asked(output, format))
    if (judged := diagnose_pair(request)) is not None:
        end(*judged, ending)


def requested(
    target: str | None, drafter: str | None, prompts: Path | None, probe: list[str] | None, quick: bool | None, depth: int,
    max_new_tokens: int, lengths: str | None, limit: int | None, temperature: float, batch_size: int, batch_sizes: str,
    costs: Path | None, seed: int, device: str, threads: int | None, dtype: DtypeChoice, engine: EngineChoice, engine_args: str | None,
    reading: ReadingChoice, trust_remote_code: bool, out: Path | None, force: bool, budget: str | None, num_processes: int | None,
    against_target: Path | None,
) -> Request:  # fmt: skip
    """What options of `diagnose` ask for; UsageError for those that cannot be."""
    quick = (target is None and drafter is None) if quick is None else quick
    target, drafter = named_pair(target, drafter)
    seconds = None if budget is None else duration(budget)
    lengths_asked, drawn_at = whole_numbers("--lengths", lengths, "512,1024"), checked_temperature(temperature)
    spec = RunSpec(depth, max_new_tokens, batch_size, seed, quick, lengths_asked, drawn_at)
    args = checked_engine(engine, engine_args)
    sizes, asked = whole_numbers("--batch-sizes", batch_sizes, "1,8,32"), probe or []
    return Request(
        target, drafter, prompts, asked, spec, limit, device, dtype, reading, trust_remote_code, out, force, costs, sizes, threads, seconds,
        engine, args, num_processes, against_target,
    )  # fmt: skip


def whole_numbers(option: str, asked: str | None, example: str) -> tuple[int, ...]:
    """Numbers from a list with commas, none where nothing was asked; UsageError for anything else than positive whole numbers."""
    words = [] if asked is None else asked.split(",")
    if odd := next((word for word in words if not word.strip().isdecimal() or int(word) < 1), None):
        raise UsageError(f"{option} {asked}: {odd!r} is no such number, expected positive whole numbers with commas, as {example}")
    return tuple(int(word) for word in words)


def checked_temperature(asked: float) -> float:
    """A temperature as it is; UsageError for one that no server would take."""
    if asked and not COLDEST <= asked <= HOTTEST:
        raise UsageError(f"--temperature {asked:g}: expected 0 for greedy decoding, or {COLDEST:g} to {HOTTEST:g}; name another")
    return asked


def named_pair(target: str | None, drafter: str | None) -> tuple[str, str]:
    """Target and drafter: the bundled pair where neither is named, the bundled target for a bundled drafter, and for a target alone the
    head that it carries; UsageError for any other drafter alone.
    """
    if target is None and (drafter is None or drafter.startswith(BUNDLED)):
        return BUNDLED_PAIR[0], drafter or BUNDLED_PAIR[1]
    if target is None:
        raise UsageError("--drafter without --target: a pair has two models; name both, or neither for the pair that ships")
    return target, drafter or OWN_HEAD
