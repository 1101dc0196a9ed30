"""The card of a healed head: what was done, with what, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from driftcli.comparison.telling import shown_change
from driftcli.domain import Absent, Estimate
from driftcli.healing.judged import Judged
from driftcli.printable import printable
from driftcli.sources.files import Json


def card(name: str, target: str, treatments: Sequence[str], facts: Mapping[str, Json], found: Judged) -> str:
    """Markdown."""
    how = ", ".join(treatments) if treatments else "files mended, no training"
    lines = [
        f"# {name}, healed",
        "",
        f"Made from `{name}` for `{target}` by `driftcli heal`: {how}.",
        "",
        *(f"- **{key.replace('_', ' ')}**: {_told(value)}" for key, value in facts.items()),
        "",
        f"On {found.comparison.pairing.shared} prompts that were kept from training ({found.why}):",
        "",
        "| number | before | after | change | |",
        "|---|---|---|---|---|",
        *(
            f"| {one.number.words} | {_number(one.before)} | {_number(one.after)} | {shown_change(one)} | {one.word} |"
            for one in found.comparison.changes
        ),
    ]
    return "\n".join(map(printable, lines)) + "\n"


def _told(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(one: Estimate | Absent) -> str:
    return "" if one.value is None else f"{one.value:.3f}"
