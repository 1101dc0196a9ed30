"""A server's counters as Prometheus text: samples by name, each with its labels. Whatever else stands there is passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

LONGEST_LINE = 16 << 10  # characters (chosen by us)
SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+([^\s}]+)(?:[ \t]+-?\d+)?\s*")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples by name, in the order in which they stand."""

    by_name: Mapping[str, list[tuple[Mapping[str, str], float]]]

    def has(self, name: str) -> bool:
        """Whether there is a sample of this name, or of it with what Prometheus puts behind counters."""
        return self._named(name) is not None

    def total(self, name: str) -> float | None:
        """A counter summed over all engines, None where there is none."""
        found = self._named(name)
        return None if found is None else sum(value for _, value in found)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """A counter by the values of a label, summed over all others."""
        totals: dict[str, float] = {}
        for labels, value in self._named(name) or ():
            totals[labels.get(label, "")] = totals.get(labels.get(label, ""), 0.0) + value
        return totals

    def labels(self, name: str) -> Mapping[str, str]:
        """The labels of the first sample, which hold a configuration; none where there is no such sample."""
        return next((labels for labels, _ in self._named(name) or ()), {})

    def _named(self, name: str) -> list[tuple[Mapping[str, str], float]] | None:
        return self.by_name.get(f"{name}_total", self.by_name.get(name))


def read_metrics(body: bytes, prefix: str) -> Samples:
    """The samples whose names begin with a prefix; those that are no finite number are left out."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for line in body.decode(errors="replace").split("\n"):
        if not line.startswith(prefix) or len(line) > LONGEST_LINE or (sample := SAMPLE.fullmatch(line)) is None:
            continue
        if (value := _number(sample[3])) is not None:
            found.setdefault(sample[1], []).append((dict(LABEL.findall(sample[2] or "")), value))
    return Samples(found)


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if isfinite(value) else None
