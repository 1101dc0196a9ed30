"""A number as the page shows it: value, interval, how many prompts, or why there is none; read from the report or from an estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from driftcli.domain import Absent, Estimate
from driftcli.report.evidence import TOO_FEW

Node: TypeAlias = Mapping[str, Any]  # a part of the JSON report, whose shape `driftcli.report.json` settles
Form = Literal["percent", "share", "times", "number", "points"]
FORMS: dict[Form, Callable[[float], str]] = {
    "percent": lambda value: f"{value:z.0%}",
    "share": lambda value: f"{value:z.1%}",
    "times": lambda value: f"{value:.2f}x",
    "number": lambda value: f"{value:z.2f}",
    "points": lambda value: f"{100 * value:+z.1f}",
}


@dataclass(frozen=True, slots=True)
class Number:
    """One number; value: None where there is none, low and high: None where there is no interval, reason: why either is so."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n_prompts: int | None = None
    reason: str = ""

    def text(self, form: Form) -> str:
        """The number with its interval, or a dash."""
        write = FORMS[form]
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return write(self.value)
        return f"{write(self.value)} [{write(self.low)}, {write(self.high)}]"

    def said(self, form: Form) -> str:
        """The same in a sentence, with the reason where something lacks."""
        if self.value is None:
            return f"unknown ({self.reason})"
        return self.text(form) if self.low is not None else f"{self.text(form)} ({TOO_FEW})"


def of(value: Estimate | Absent) -> Number:
    """An estimate, or its absence."""
    if isinstance(value, Absent):
        return Number(value.value, n_prompts=value.n_prompts, reason=value.reason)
    return Number(value.value, value.low, value.high, value.n_prompts)


def read(node: Node) -> Number:
    """A number of the report: `{value, low, high, n_prompts, reason?}`."""
    return Number(node["value"], node["low"], node["high"], node["n_prompts"], node.get("reason", ""))


def at_depth(row: Node, name: str) -> Number:
    """A number of a row of `by_depth`."""
    low, high = row["intervals"].get(name, (None, None))
    return Number(row[name], low, high, reason=row["absent"].get(name, ""))


def length(node: Node) -> Number:
    """An acceptance length under whichever name it may claim."""
    return read(node["text_match_length"] if "text_match_length" in node else node["acceptance_length"])
