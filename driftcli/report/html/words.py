"""Terms and codes as links into the glossary, explained on hover and focus by a script; without it they still lead there."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from driftcli.codes import BY_NAME
from driftcli.printable import printable
from driftcli.terms import BY_WORDS, TERMS, Term, plain

EVERYDAY = {  # words of the glossary that plain sentences use in another sense: linked only where the page itself says so
    *(
        "free",
        "held",
        "kept",
        "open",
        "bound",
        "grade",
        "tax",
        "sink",
        "ahead",
        "verified",
        "recent",
        "depth",
        "control",
        "fresh",
        "forced",
    ),
    *("stream", "walk", "chain", "anchor", "reading", "interval", "at least", "nat", "temperature", "inconclusive", "own state", "wired"),
    *("regions", "most likely", "not settled", "target state", "wiring", "cosine", "rms", "drift"),
}
WORDS = sorted(
    {word for term in TERMS for word in (term.name, *term.also) if word.lower() not in EVERYDAY}, key=lambda word: (-len(word), word)
)
LINKED = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, [*BY_NAME, *WORDS]))})(?![\w-])", re.IGNORECASE)


def anchor(name: str) -> str:
    """The id of a term's or a code's entry in the glossary."""
    return f"term-{plain(name)}"


def term(word: str, shown: str = "") -> Markup:
    """A term as a link to its entry; plain text for what is none."""
    found = BY_WORDS.get(plain(word))
    return escape(shown or word) if found is None else _link(found.name, shown or word)


def code(name: str) -> Markup:
    """A finding's code as a link to its entry."""
    return _link(name, name) if name in BY_NAME else escape(name)


def linked(text: str) -> Markup:
    """Foreign text made printable and escaped, each term or code in it a link where it first stands."""
    shown, seen, parts, end = printable(text), set[str](), list[str](), 0
    for found in LINKED.finditer(shown):
        name = _entry(found[0])
        parts.append(escape(shown[end : found.start()]))
        parts.append(escape(found[0]) if name in seen else _link(name, found[0]))
        seen.add(name)
        end = found.end()
    return Markup("").join([*parts, escape(shown[end:])])  # every part is escaped


def _entry(word: str) -> str:
    """The name of the entry that a word leads to."""
    return word.upper() if word.upper() in BY_NAME else BY_WORDS[plain(word)].name


def _link(name: str, shown: str) -> Markup:
    return Markup('<a class="term" href="#{}">{}</a>').format(anchor(name), shown)


def others(one: Term) -> str:
    """Other words for a term, as a list."""
    return ", ".join(one.also)
