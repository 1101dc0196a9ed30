"""`driftcli heal`: train a head against what its diagnosis found, and prove it on prompts that were kept apart."""

from pathlib import Path
from typing import Annotated

import typer

from driftcli.cli.diagnose import ENGINE_ARGS, THREADS
from driftcli.cli.engine import checked_engine
from driftcli.cli.request import DtypeChoice, EngineChoice
from driftcli.durations import duration
from driftcli.mitigations.treatment import NAMES
from driftcli.report.choices import CompareFormat

TREATMENT = f"What to do, instead of what the findings call for: {', '.join(NAMES)}; may be repeated."
ENGINE = "What writes the replies to learn from: transformers, or vLLM, which writes many at once (needs driftcli[vllm])."


def heal(
    run: Annotated[Path, typer.Option(help="Run that diagnosed the pair; half of its prompts judge, the other half may be learned from.")],
    out: Annotated[Path, typer.Option(help="Folder for the healed head and all that it comes from; an ended attempt in it goes on.")],
    target: Annotated[str | None, typer.Option(help="Target; default: the run's.")] = None,
    drafter: Annotated[str | None, typer.Option(help="EAGLE-3 or MTP head; default: the run's.")] = None,
    budget: Annotated[str, typer.Option(help="Time for writing replies and training, such as 20m; judging comes on top.")] = "20m",
    treatment: Annotated[list[str] | None, typer.Option(help=TREATMENT)] = None,
    replies: Annotated[
        Path | None, typer.Option(help="Replies of this target to learn from instead of new ones: JSON Lines with ids and spans.")
    ] = None,
    unroll: Annotated[int | None, typer.Option(min=1, help="Draft tokens of a chain in training; default: the run's depth.")] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Peak learning rate; default: by the head's width; 0: add what treatments add, and train nothing."),
    ] = None,
    acceptance: Annotated[float, typer.Option(min=0, max=1, help="Share of the loss that is accepted tokens, not cross-entropy.")] = 0.0,
    tokens: Annotated[int, typer.Option(min=1, help="Padded tokens a batch.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="Seed of drawn replies and of the order of batches.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Of the target; the head is trained in float32.")] = "auto",
    engine: Annotated[EngineChoice, typer.Option(help=ENGINE)] = "transformers",
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS)] = None,
    threads: Annotated[int | None, typer.Option(min=1, help=THREADS)] = None,
    format: Annotated[CompareFormat, typer.Option(help="How to print.")] = "terminal",
) -> None:
    """Train the head against what its run found, and hold it against the original on prompts kept apart: exit 4 where nothing is shown."""
    from driftcli.cli.healing import Asked, end, heal_pair

    seconds = duration(budget)
    asked = Asked(
        run, out, target, drafter, seconds, tuple(treatment or ()), replies, unroll, rate, acceptance, tokens, seed, device, dtype, threads,
        engine, checked_engine(engine, engine_args),
    )  # fmt: skip
    end(heal_pair(asked), format)
