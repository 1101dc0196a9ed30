"""Which process measures what: the parts of a run that need nothing of one another, stage by stage.

Where every process gets as many batches as any other, each measures its batches whole. Elsewhere the conditions on which others rest go
first, then the others, those on a batch's own texts in as many parts as there are processes. Rows do not depend on who measures them, nor
on what is measured beside them, as a resumed run's do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, TextSettings
from driftcli.engine.agenda import sharing_texts


@dataclass(frozen=True)
class Unit:
    """Conditions that share their texts, on one batch, by its place. limit: of how many of the run's prompts they are asked, 0 for all."""

    batch: int
    limit: int
    conditions: Sequence[Condition]


def stages(conditions: Sequence[Condition], batches: int, processes: int) -> list[list[Unit]]:
    """What is measured, in stages that all processes begin together; in a stage the unit at place `i` falls to process `i % processes`."""
    groups = [(limit, group) for (_, limit), group in sharing_texts(conditions).items()]
    if batches % processes == 0:
        rounds = (range(at, at + processes) for at in range(0, batches, processes))
        return [[Unit(batch, *group) for some in rounds for group in groups for batch in some]]
    first, then = [], []
    for limit, group in groups:
        resting, parts = _parts(group, processes)
        first += [Unit(batch, limit, part) for part in resting for batch in range(batches)]
        then += [Unit(batch, limit, part) for part in parts for batch in range(batches)]
    return [first, then]


def _parts(group: Sequence[Condition], processes: int) -> tuple[list[Sequence[Condition]], list[Sequence[Condition]]]:
    """The conditions of a group on which others rest, and the others, in parts where they draft on texts that are there already."""
    if group[0].text != TextSettings():
        return [], [group]
    full, rest = [one for one in group if one.full], [one for one in group if not one.full]
    parts = min(len(rest), processes)
    return ([full] if full else []), [rest[at::parts] for at in range(parts)]
