"""How what is shown reaches stdout: with colour and its own width on a terminal, as plain text of 100 columns elsewhere."""

from __future__ import annotations

import sys
from io import StringIO

from rich.console import Console, RenderableType

PLAIN_WIDTH = 100  # columns when stdout is no terminal


def plain(shown: RenderableType) -> str:
    """What is shown on a terminal as plain text, without colour or trailing blanks."""
    console = Console(file=StringIO(), width=PLAIN_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def put(shown: str | RenderableType) -> None:
    """Print on stdout: text as it is, anything else as the place allows."""
    if not isinstance(shown, str) and sys.stdout.isatty():
        Console(highlight=False, markup=False, emoji=False).print(shown)
    else:
        sys.stdout.write((shown if isinstance(shown, str) else plain(shown)) + "\n")
