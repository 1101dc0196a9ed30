"""Which process measures what, and what is measured one after the other since the target writes its texts together.

Where every process gets as many batches as any other, each measures its batches whole. Elsewhere the conditions on which others rest go
first, then the others, those on a batch's own texts in as many parts as there are processes. Rows do not depend on who measures them, nor
on what is measured beside them, as a resumed run's do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from driftcli.conditions import Condition, TextSettings
from driftcli.domain import RunSpec
from driftcli.engine.agenda import sharing_texts
from driftcli.engine.texts import is_kept

LONG = 256  # tokens that are put before a prompt from which on texts are long: their companions are, too (chosen by us)
APART = 8  # times as many as the shortest of long texts the longest has that is written with it, at most (chosen by us)


@dataclass(frozen=True)
class Unit:
    """Conditions that share their texts, on one batch, by its place. limit: of how many of the run's prompts they are asked, 0 for all."""

    batch: int
    limit: int
    conditions: Sequence[Condition]

    @property
    def text(self) -> TextSettings:
        """How their texts come about."""
        return self.conditions[0].text


Together = Sequence[Unit]  # on one batch, whose texts are written together where there are several
Stage = Sequence[Sequence[Together]]  # by process, in the order in which it measures


def stages(conditions: Sequence[Condition], sizes: Sequence[int], processes: int, spec: RunSpec) -> list[Stage]:
    """What is measured, in stages that all processes begin together. sizes: prompts of each batch."""
    groups = [(limit, group) for (_, limit), group in sharing_texts(conditions).items()]
    if len(sizes) % processes == 0:
        whole = [together(batch, groups, sizes, spec) for batch in range(len(sizes))]
        return [[list(chain.from_iterable(whole[rank::processes])) for rank in range(processes)]]
    parted = [(limit, *_parts(group, processes)) for limit, group in groups]
    first = [(limit, part) for limit, resting, _ in parted for part in resting]
    then = [(limit, part) for limit, _, parts in parted for part in parts]
    every = [[one for batch in range(len(sizes)) for one in together(batch, some, sizes, spec)] for some in (first, then)]
    return [[some[rank::processes] for rank in range(processes)] for some in every]


def together(batch: int, groups: Iterable[tuple[int, Sequence[Condition]]], sizes: Sequence[int], spec: RunSpec) -> list[Together]:
    """The units of a batch, each behind those on whose texts others rest, one by one but for those whose texts are written together: as
    many as are replies that a batch may have. groups: conditions that share their texts, and of how many prompts they are asked.
    """
    found = list[list[Unit]]()
    for limit, group in groups:
        unit = Unit(batch, limit, group)
        company = next((some for some in found if _fit([*some, unit], sizes, spec)), None)
        if company is None:
            found.append(company := [])
        company.append(unit)
    return [*found]


def asked(unit: Unit, sizes: Sequence[int]) -> int:
    """Of how many prompts of its batch a unit is asked. sizes: prompts of each batch."""
    whole = sizes[unit.batch]
    return min(whole, max(0, unit.limit - sum(sizes[: unit.batch]))) if unit.limit else whole


def _fit(units: Sequence[Unit], sizes: Sequence[int], spec: RunSpec) -> bool:
    """Whether the texts of units are written together: greedily, none of them by itself or known already, and about as long ones."""
    rows, before = [asked(unit, sizes) for unit in units], [max(unit.text.length, unit.text.system_tokens) for unit in units]
    alike = max(before) <= max(LONG, APART * min(before)) and (min(before) > LONG or max(before) <= LONG)
    written = all(is_kept(unit.text) and not unit.text.alone and not spec.temperature_of(unit.text) for unit in units)
    return written and alike and all(rows) and sum(rows) <= spec.batch_size


def _parts(group: Sequence[Condition], processes: int) -> tuple[list[Sequence[Condition]], list[Sequence[Condition]]]:
    """The conditions of a group on which others rest, and the others, in parts where they draft on texts that are there already."""
    if group[0].text != TextSettings():
        return [], [group]
    full, rest = [one for one in group if one.full], [one for one in group if not one.full]
    parts = min(len(rest), processes)
    return ([full] if full else []), [rest[at::parts] for at in range(parts)]
