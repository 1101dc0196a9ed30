"""`driftcli explain WORD`: what a finding's code or a term of the report means; of a code, what only looks like it and what mends it."""

from textwrap import fill
from typing import Annotated

import typer

from driftcli.codes import BY_NAME, CODES, Code
from driftcli.errors import UsageError
from driftcli.suggestions import meant
from driftcli.terms import BY_WORDS, TERMS, plain

WIDTH = 100


def explain(
    word: Annotated[
        list[str] | None,
        typer.Argument(metavar="word", help="A finding's code or a term of the report; without one, all are listed."),
    ] = None,
) -> None:
    """Say what a finding or a term means; of a finding, what looks the same and is not, and what mends it."""
    asked = " ".join(word or ())
    if not asked:
        codes = [entry(one.name, one.axis, one.meaning) for one in CODES]
        typer.echo("\n\n".join([*codes, *(entry(one.name, "term", one.meaning) for one in TERMS)]))
    elif (code := BY_NAME.get(asked.upper())) is not None:
        typer.echo(explanation(code))
    elif (term := BY_WORDS.get(plain(asked))) is not None:
        typer.echo(f"{term.name}\n\n{fill(term.meaning, WIDTH)}")
    else:
        names = [*BY_NAME, *(term.name for term in TERMS)]
        raise UsageError(f"explain {asked}: no such code or term; {meant(asked, names)}`driftcli explain` lists them all")


def explanation(code: Code) -> str:
    """All that is known of a code, within 100 columns."""
    return "\n\n".join(
        [
            f"{code.name}   ({code.axis})",
            fill(code.meaning, WIDTH),
            _labelled("looks the same: ", code.looks_like),
            "\n".join(_labelled("what mends it:  " if not place else "", remedy) for place, remedy in enumerate(code.remedies)),
        ]
    )


def entry(name: str, facts: str, text: str) -> str:
    """One entry of a list: a name with facts beside it, and a text below, within 100 columns."""
    return f"{name}   ({facts})\n{fill(text, WIDTH, initial_indent='    ', subsequent_indent='    ')}"


def _labelled(label: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"{label:16}", subsequent_indent=" " * 16)
