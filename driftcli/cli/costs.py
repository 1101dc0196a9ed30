"""`driftcli costs`: time what speculation costs here, for `driftcli diagnose --costs`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from driftcli.cli.diagnose import BATCH_SIZES, THREADS, named_pair, whole_numbers
from driftcli.cli.request import DtypeChoice
from driftcli.report.choices import ScanFormat

EngineChoice = Literal["transformers", "vllm"]
ENGINE = "What is timed: single steps in transformers, as diagnose does, or whole rounds in vLLM, which has to be installed here."
LENGTHS = "Draft tokens a round, as num_speculative_tokens; those between are interpolated. vLLM is held once for each and once without."
ENGINE_ARGS = 'Of --engine vllm: further arguments of its engine as JSON, as it serves: {"enforce_eager": true}.'


def costs(
    target: Annotated[str | None, typer.Option(help="As of diagnose.")] = None,
    drafter: Annotated[str | None, typer.Option(help="As of diagnose.")] = None,
    engine: Annotated[EngineChoice, typer.Option(help=ENGINE)] = "transformers",
    draft_lengths: Annotated[str, typer.Option(help=LENGTHS)] = "1,2,3,5,8",
    batch_sizes: Annotated[str, typer.Option(help=BATCH_SIZES)] = "1",
    context: Annotated[int, typer.Option(min=2, help="Tokens of text that come before.")] = 512,
    dtype: Annotated[DtypeChoice, typer.Option(help="As of diagnose; of vLLM its own auto.")] = "auto",
    device: Annotated[str, typer.Option(help="Of --engine transformers: auto, cpu, cuda, cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help=THREADS)] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run Python that comes with a checkpoint.")] = False,
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS)] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("costs.json"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    format: Annotated[ScanFormat, typer.Option(help="How to print.")] = "terminal",
) -> None:
    """Time plain decoding and rounds of speculative decoding by draft length and batch size, and write costs.json for diagnose --costs."""
    pair, lengths = named_pair(target, drafter), whole_numbers("--draft-lengths", draft_lengths, "1,2,4")
    sizes = whole_numbers("--batch-sizes", batch_sizes, "1,8,32")
    from driftcli.cli.timing import Request, settings, write

    request = Request(*pair, lengths, sizes, context, dtype, device, threads, trust_remote_code, settings(engine_args, engine))
    write(request, engine, out, format, force=force)
