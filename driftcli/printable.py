"""Foreign text made harmless: nothing from a checkpoint, a prompt or a path can drive the terminal."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

PLAIN_MARKS = {"·": "-"}  # marks of our own, as a locale without UTF-8 shows them
ESCAPING = "driftcli-escape"  # how a stream handles what it cannot encode


def one_line(text: str, longest: int) -> str:
    """A text on one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def printable(text: str) -> str:
    """The text with control characters, escape sequences and invisible marks shown as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def escape_what_cannot_be_encoded() -> None:
    """Let stdout and stderr, in a locale without UTF-8, take any text."""
    codecs.register_error(ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ESCAPING)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """The plain twins of our own marks, backslash escapes of anything else."""
    assert isinstance(error, UnicodeEncodeError)
    bad = error.object[error.start : error.end]
    return "".join(PLAIN_MARKS.get(char) or char.encode("ascii", "backslashreplace").decode() for char in bad), error.end
