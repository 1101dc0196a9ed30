"""Foreign text made harmless: nothing from a checkpoint, a prompt or a path can drive the terminal."""

from __future__ import annotations


def one_line(text: str, longest: int) -> str:
    """A text on one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def printable(text: str) -> str:
    """The text with control characters, escape sequences and invisible marks shown as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
