"""Units of a run: prompts that are evidence of their own, or several that count as one.

Prompts that the target is shown alike are the same observation twice, and those of one `group` (turns of a conversation, parts of a
document) are no more independent than the anchors of one reply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Units:
    """Prompt ids, sorted, and the number of the unit that each belongs to, (prompt,); units are numbered by their first prompt."""

    prompts: tuple[str, ...]
    unit: np.ndarray

    @cached_property
    def count(self) -> int:
        """How many units there are."""
        return len(np.unique(self.unit))

    @property
    def members(self) -> list[list[str]]:
        """The prompts of each unit."""
        found: list[list[str]] = [[] for _ in range(self.count)]
        for prompt, unit in zip(self.prompts, self.unit.tolist(), strict=True):
            found[unit].append(prompt)
        return found

    @classmethod
    def of(cls, texts: pa.Table) -> Units:
        """The units of texts: their prompts, joined where they share a group or a rendered prompt."""
        marks = defaultdict[str, set[tuple[str, str]]](set)
        for prompt, rendered, group in zip(*(texts[name].to_pylist() for name in ("prompt", "rendered_sha256", "group")), strict=True):
            marks[prompt] |= {("rendered", rendered)} | ({("group", group)} if group is not None else set())
        prompts = tuple(sorted(marks))
        return cls(prompts, _numbered(_joined(prompts, marks)))


def _joined(prompts: Sequence[str], marks: Mapping[str, Iterable[tuple[str, str]]]) -> list[int]:
    """For each prompt the place of the first one that shares a mark with it, or with one that does."""
    first, holder = list(range(len(prompts))), dict[tuple[str, str], int]()
    for place, prompt in enumerate(prompts):
        for mark in marks[prompt]:
            one, other = first[place], first[holder.setdefault(mark, place)]
            first = [min(one, other) if root in (one, other) else root for root in first]
    return first


def _numbered(roots: Sequence[int]) -> np.ndarray:
    """Roots as numbers 0, 1, ... in the order in which they first come."""
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root] for root in roots], dtype=int)


def with_anchors(texts: pa.Table) -> pa.Table:
    """Those rows of `trajectories` that have an anchor."""
    return texts.filter(pc.greater(texts["anchors"], 0))
