"""Foreign text made harmless: nothing from a checkpoint, a prompt or a path can drive the terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters, escape sequences and invisible marks shown as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
