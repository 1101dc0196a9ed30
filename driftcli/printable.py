"""Foreign text made harmless: nothing from a checkpoint, a prompt or a path can drive the terminal."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Sequence
from io import TextIOWrapper

NAMED = 5  # names of several that a sentence lists (chosen by us)
PLAIN_MARKS = {"·": "-"}  # marks of our own, as a locale without UTF-8 shows them
ESCAPING = "driftcli-escape"  # how a stream handles what it cannot encode
SECRETS = (  # what is shown of each: nothing but that it was there
    (re.compile(r"(?<=://)[^/\s@]+@"), "***@"),  # user and password of a URL
    (re.compile(r"\b(?:hf|sk|ghp|github_pat)_[A-Za-z0-9_]{16,}"), "***"),  # tokens of hubs and services
    (re.compile(r"(?i)(?<=[?&])((?:[\w-]*(?:token|key|secret|password|signature|credential))=)[^&\s]+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
)


def one_line(text: str, longest: int) -> str:
    """A text on one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 prompt`, `2 prompts`; `several` where it is more than an s."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def counted_names(names: Sequence[str], one: str, more: str) -> str:
    """Tensors that something is true of: `tensor x is missing`, `4 tensors are missing (a, b, c ...)`."""
    return f"tensor {names[0]} {one}" if len(names) == 1 else f"{len(names)} tensors {more} ({few(names, 3)})"


def few(names: Sequence[object], most: int = NAMED) -> str:
    """The first of some names in a row, with a mark where there are more."""
    return ", ".join(map(str, names[:most])) + " ..." * (len(names) > most)


def printable(text: str) -> str:
    """The text without secrets, with control characters, escape sequences and invisible marks shown as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in masked(text))


def masked(text: str) -> str:
    """The text with what grants access (passwords in URLs, tokens) taken out."""
    for secret, shown in SECRETS:
        text = secret.sub(shown, text)
    return text


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
