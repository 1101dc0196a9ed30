"""`--format` as the commands take it: one of our own formats, or one that an installed package adds."""

from __future__ import annotations

from typing import Annotated

import typer

from driftcli.report.choices import OUTPUT_FORMATS


def known_format(name: str) -> str:
    """A format's name as it is, before anything is measured for it; raises as `driftcli.report.formats.renderer` does."""
    if name not in OUTPUT_FORMATS:
        from driftcli.report.formats import renderer

        renderer(name)
    return name


FormatChoice = Annotated[
    str,
    typer.Option(
        callback=known_format,
        metavar=f"<{'|'.join(OUTPUT_FORMATS)}>",
        help="How to print, or a format of an installed package: `driftcli probes` lists them.",
    ),
]
