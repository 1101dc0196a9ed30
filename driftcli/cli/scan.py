"""`driftcli scan`: what a drafter's checkpoint is and what can be said without running it. Imports no torch."""

from typing import Annotated

import typer

from driftcli.report.choices import ScanFormat


def scan(
    drafter: Annotated[str, typer.Option(help="Checkpoint to look at: hub id, id@revision, folder, or `mtp`: the head in the target.")],
    target: Annotated[
        str | None, typer.Option(help="Its target; only the config is read. Layer ids and ranges are held against it.")
    ] = None,
    format: Annotated[ScanFormat, typer.Option(help="How to print.")] = "terminal",
) -> None:
    """Say how a drafter's checkpoint is read by vLLM, SGLang and its trainer, from headers alone."""
    from driftcli.errors import FormatError
    from driftcli.loading.scan import scan_checkpoint
    from driftcli.report.console import put
    from driftcli.report.scan import render, render_json
    from driftcli.scanned import Unread

    found = scan_checkpoint(drafter, target)
    if format == "json":
        put(render_json(found))
    if isinstance(found, Unread):
        raise FormatError(found.refusal)
    if format == "terminal":
        put(render(found))
