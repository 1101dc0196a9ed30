"""`driftcli server URL --run RUN`: does a running server compute what its files say? Imports no torch."""

from pathlib import Path
from typing import Annotated

import typer

from driftcli.cli.outputs import OutputChoice, outputs_asked
from driftcli.report.choices import FailOn, ScanFormat

FAILS = "Exit 4 when the server is otherwise, or decays, at this severity or above, 5 when nothing is decided."


def server(
    url: Annotated[str, typer.Argument(help="Root of a vLLM, SGLang or TensorRT-LLM server that speculates, as http://127.0.0.1:8000.")],
    run: Annotated[Path, typer.Option(help="Run folder of the pair that is served, as diagnose wrote it.")],
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Requests sent at a time; counted together unless the server tells.")
    ] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask for the replies to this many prompts.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds that a request may take in all.")] = 120,
    own_sampling: Annotated[bool, typer.Option("--own-sampling", help="Ask once more as the server samples unless told.")] = False,
    format: Annotated[ScanFormat, typer.Option(help="How to print.")] = "terminal",
    fail_on: Annotated[FailOn, typer.Option(help=FAILS)] = "none",
    output: OutputChoice = None,
) -> None:
    """Hold the acceptance of a running server against RUN: as the files say, or where it departs and what explains it.

    The run's prompts are sent as token ids and decoded greedily. A key is read from DRIFTCLI_SERVER_KEY alone, and never shown or stored.
    """
    from driftcli.cli.main import tell
    from driftcli.cli.runs import opened_run
    from driftcli.cli.serving import end
    from driftcli.served.held import hold
    from driftcli.served.http import client

    outputs = outputs_asked(output, format)
    found = hold(client(url, timeout), opened_run(run), limit, concurrency, tell, own_sampling=own_sampling)
    end(found, format, fail_on, outputs)
