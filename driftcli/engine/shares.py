"""Which process measures what, and what is measured one after the other since the target writes its texts together.

Where every process gets as many batches as any other, each measures its batches whole. Elsewhere the conditions on which others rest go
first, then the others, those on a batch's own texts in as many parts as there are processes. Rows do not depend on who measures them, nor
on what was measured before, as a resumed run's do not; on which texts are written together they depend by rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

from driftcli.conditions import Condition, TextSettings
from driftcli.domain import RunSpec
from driftcli.engine.agenda import sharing_texts
from driftcli.engine.texts import is_kept

LONG = 128  # tokens that are put before a prompt from which on texts are long: their companions are, too (chosen by us)
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


Company = Sequence[Unit]  # on one batch, one after the other; where there are several, texts are written together, and read, before
Stage = Sequence[Sequence[Company]]  # by process, in the order in which it measures
Group = tuple[int, Sequence[Condition]]  # conditions that share their texts, and of how many prompts they are asked


def stages(conditions: Sequence[Condition], sizes: Sequence[int], processes: int, spec: RunSpec) -> list[Stage]:
    """What is measured, in stages that all processes begin together. sizes: prompts of each batch."""
    groups = _groups(conditions)
    if len(sizes) % processes == 0:
        whole = _companies(groups, sizes, spec)
        return [[list(chain.from_iterable(whole[rank::processes])) for rank in range(processes)]]
    parted = [(limit, *_parts(group, processes)) for limit, group in groups]
    first = [(limit, part) for limit, resting, _ in parted for part in resting]
    then = [(limit, part) for limit, _, parts in parted for part in parts]
    every = [list(chain.from_iterable(_companies(some, sizes, spec))) for some in (first, then)]
    return [[some[rank::processes] for rank in range(processes)] for some in every]


def companies(conditions: Sequence[Condition], sizes: Sequence[int], spec: RunSpec) -> list[tuple[Company, int]]:
    """The companies of a batch of each kind, and how many such batches there are. sizes: prompts of each batch."""
    groups = _groups(conditions)
    limits = sorted({limit for limit, _ in groups})
    kinds: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for batch, (size, before) in enumerate(_sized(sizes)):
        kinds.setdefault((size, *(rows_asked(limit, size, before) for limit in limits)), []).append((batch, size, before))
    return [(company, len(alike)) for alike in kinds.values() for company in _of_batch(*alike[0], groups, spec)]


def rows_asked(limit: int, size: int, before: int) -> int:
    """Of how many prompts of a batch of some size, which has so many before it, conditions are asked. limit: as in a unit."""
    return min(size, max(0, limit - before)) if limit else size


def _groups(conditions: Sequence[Condition]) -> list[Group]:
    return [(limit, group) for (_, limit), group in sharing_texts(conditions).items()]


def _sized(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of each batch its size, and how many prompts are before it."""
    return zip(sizes, accumulate(sizes, initial=0), strict=False)


def _companies(groups: Sequence[Group], sizes: Sequence[int], spec: RunSpec) -> list[Sequence[Company]]:
    """Of each batch what is measured one after the other, each unit behind those on whose texts it rests."""
    return [_of_batch(batch, size, before, groups, spec) for batch, (size, before) in enumerate(_sized(sizes))]


def _of_batch(batch: int, size: int, before: int, groups: Sequence[Group], spec: RunSpec) -> Sequence[Company]:
    """The units of a batch in companies, each where its first one stands. Units that need half a batch of replies at most share one, and
    replayed texts, which nobody writes, come to those that are rendered as they are.
    """
    found, open_ones = list[list[Unit]](), list[_Open]()
    for limit, group in groups:
        unit, rows = Unit(batch, limit, group), rows_asked(limit, size, before)
        if rows and (alike := _rendered_alike(found, unit.text, spec)):
            alike.append(unit)
        elif not 0 < 2 * rows <= spec.batch_size or not _is_written(unit.text, spec):
            found.append([unit])
        elif not any(one.takes(unit, rows, spec.batch_size) for one in open_ones):
            open_ones.append(_Open([unit], rows, _put_before(unit.text), _put_before(unit.text)))
            found.append(open_ones[-1].units)
    return found


def _rendered_alike(companies: Sequence[list[Unit]], text: TextSettings, spec: RunSpec) -> list[Unit] | None:
    """The company in which prompts are rendered as those of replayed texts are, None for other texts, and where there is none."""
    settings = replace(text, replayed=False)
    if not text.replayed or not _is_written(settings, spec):
        return None
    return next((company for company in companies if any(unit.text == settings for unit in company)), None)


def _is_written(text: TextSettings, spec: RunSpec) -> bool:
    """Whether the target writes such texts, and greedily, so that they come out the same beside others."""
    return is_kept(text) and not text.alone and not spec.temperature_of(text)


def _put_before(text: TextSettings) -> int:
    """Tokens that stand before what is asked, as far as settings tell."""
    return max(text.length, text.system_tokens)


@dataclass
class _Open:
    """A company with room for more. shortest, longest: tokens that stand before what is asked in its texts."""

    units: list[Unit]
    rows: int
    shortest: int
    longest: int

    def takes(self, unit: Unit, rows: int, most: int) -> bool:
        """Whether a unit came in, since there was room for so many texts, and they are about as long."""
        shortest, longest = min(self.shortest, _put_before(unit.text)), max(self.longest, _put_before(unit.text))
        alike = longest <= LONG or (shortest > LONG and longest <= APART * shortest)
        if self.rows + rows > most or not alike:
            return False
        self.units.append(unit)
        self.rows, self.shortest, self.longest = self.rows + rows, shortest, longest
        return True


def _parts(group: Sequence[Condition], processes: int) -> tuple[list[Sequence[Condition]], list[Sequence[Condition]]]:
    """The conditions of a group on which others rest, and the others, in parts where they draft on texts that are there already."""
    if group[0].text != TextSettings():
        return [], [group]
    full, rest = [one for one in group if one.full], [one for one in group if not one.full]
    parts = min(len(rest), processes)
    return ([full] if full else []), [rest[at::parts] for at in range(parts)]
