"""Measuring: conditions on every batch, each cell written as soon as it is there, by one process or by several that share the cells.

The first process alone writes `run.json` and removes what nothing asks for; each writes its own cells, and all wait for one another before
anything rests on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic

from driftcli.conditions import BASELINE, Condition, TextSettings
from driftcli.domain import Prompt
from driftcli.engine.agenda import Agenda
from driftcli.engine.batches import WRITING, Batch, Work, Written, write_ahead
from driftcli.engine.cells import Holders, measure_cells, tables_of
from driftcli.engine.processes import ALONE, Processes
from driftcli.engine.shares import Company, Stage, Unit, rows_asked, stages
from driftcli.errors import PromptError, RunError
from driftcli.traces.reader import Run, read_run
from driftcli.traces.writer import Plain, RunFolder

Progress = Callable[[float, int, str], None]  # prompts x conditions done, a part of one too; of how many; what runs now, if anything
LOOKED = 1.0  # seconds between two looks at what other processes have written (chosen by us)


@dataclass(frozen=True)
class Failure:
    """Why a condition could not be measured, and on which batch, by its place."""

    batch: int
    reason: str


@dataclass
class Measuring:
    """A run under way: the conditions measured so far, those that failed and why, and how many prompts x conditions of how many known.

    total: of all processes, as far as it is known; done: of this one, and what it has seen of the others; ahead: what was written for those
    that come next counts for; told: how far the run was said to be; noted: for how much there is room, as the manifest
    says it.
    """

    work: Work
    agenda: Agenda
    folder: RunFolder
    prompts: Mapping[str, Prompt]
    begun: Mapping[str, Plain]
    progress: Progress
    total: int
    processes: Processes = ALONE
    done: int = 0
    conditions: list[Condition] = field(default_factory=list)
    adding: Sequence[Condition] = ()
    failed: dict[str, Failure] = field(default_factory=dict)
    elsewhere: list[Unit] = field(default_factory=list)
    looked: float = 0.0
    ahead: float = 0.0
    told: float = 0.0
    noted: Mapping[str, int] = field(default_factory=dict)

    def add(self, conditions: Sequence[Condition], reference: str, *, foreseen: bool = True) -> None:
        """Measure these on every batch, in whose texts they keep the sink of `reference`; cells of the same name and other settings go."""
        self.agenda.checked([*self.conditions, *conditions])
        if not foreseen or reference != BASELINE:
            self.total += len(self.prompts) * (len(conditions) if not foreseen else 1)
        changed = [one.name for one in conditions if self.folder.known.get(one.name, plain(one)) != plain(one)]
        self._forget(changed)
        self.adding = conditions
        self._note()
        for stage in stages(conditions, list(map(len, self.folder.batches)), self.processes.count, self.work.spec):
            while self._measure(stage, reference):
                pass
        self.conditions += conditions
        self.adding = ()
        self._note()

    def so_far(self) -> Run:
        """The run as far as it is measured, for a probe that asks further by what it sees there."""
        self._tell("looking at what was measured")
        return read_run(self.folder.path, finished=False)

    def finish(self, more: Mapping[str, Plain]) -> None:
        """Cells that nothing asks for any more go, and the manifest says that the run is complete, with what more is known of it."""
        self._forget((self.folder.known.keys() - {condition.name for condition in self.conditions}) | self.failed.keys())
        self._write({**more, "finished": now(), "complete": True})

    def _measure(self, stage: Stage, reference: str) -> bool:
        """Measure this process's part of a stage and wait for the others; whether some of it must be measured again, since a condition
        failed in another process on which what came after it rested here.
        """
        before, failed, rank = self.done, dict(self.failed), self.processes.rank
        own, others = stage[rank], [*stage[:rank], *stage[rank + 1 :]]
        self.elsewhere = list(chain.from_iterable(chain.from_iterable(others)))
        units = [*chain.from_iterable(own), *self.elsewhere]
        for company in own:
            self._add_company(company, reference)
        if self.processes.count == 1:
            return False
        self._gather_failures()
        self.done = before + sum(map(self._weight, units))
        self._tell()
        if self.failed == failed:
            return False
        self.done = before
        self._drop_what_rests_on(self.failed.keys() - failed.keys(), units)
        return True

    def _gather_failures(self) -> None:
        """Let every process know what failed in any, a condition by the first batch on which it did, and for how much there was room."""
        told = self.processes.gathered((self.failed, self.work.room.most), self._look)
        found = [item for failed, _ in told for item in failed.items()]
        self.failed = dict(sorted(found, key=lambda item: -item[1].batch))
        for _, most in told:
            self.work.room.learn(most)
        self.elsewhere = []

    def _drop_what_rests_on(self, names: set[str], units: Sequence[Unit]) -> None:
        """Remove cells that were measured beside a condition which had failed on an earlier batch."""
        for unit in units if self.processes.first else ():
            held = [self.failed[one.name].batch for one in unit.conditions if one.name in names]
            for one in unit.conditions if held and unit.batch > min(held) else ():
                self.folder.drop(one.name, self.folder.batches[unit.batch])
        self.processes.agreed(lambda: None)

    def _look(self) -> None:
        """Count what other processes have written meanwhile, as far as this one is waited for by a person."""
        if not self.processes.first or monotonic() - self.looked < LOOKED:
            return
        self.looked = monotonic()
        seen = [unit for unit in self.elsewhere if self._is_written(unit)]
        self.done += sum(map(self._weight, seen))
        self.elsewhere = [unit for unit in self.elsewhere if unit not in seen]
        if seen:
            self._tell()

    def _is_written(self, unit: Unit) -> bool:
        names = self.folder.batches[unit.batch]
        return all(one.name in self.failed or self.folder.is_done(one.name, names) for one in unit.conditions)

    def _weight(self, unit: Unit) -> int:
        """Prompts x conditions of a unit."""
        return len(self.folder.batches[unit.batch]) * len(unit.conditions)

    def _batch(self, unit: Unit) -> Batch:
        """A batch with those of its prompts that the unit asks."""
        names, whole = self.folder.batches[unit.batch], len(self.prompts)
        before = sum(map(len, self.folder.batches[: unit.batch]))
        some = names[: rows_asked(unit.limit, len(names), before)]
        return Batch(names, [self.prompts[name] for name in some], before, min(unit.limit or whole, whole))

    def _forget(self, conditions: Sequence[str] | set[str]) -> None:
        """Remove every cell of these, before any process measures on."""
        for name in conditions if self.processes.first else ():
            self.folder.forget(name)
        self.processes.agreed(lambda: None)

    def _note(self) -> None:
        """Set down what is measured on every batch, and what else there may be cells of: from before, or because it is begun now."""
        others = {**self.folder.known, **{condition.name: plain(condition) for condition in self.adding}}
        self._write({"other_conditions": list(others.values())})

    def _write(self, more: Mapping[str, Plain]) -> None:
        self.noted = dict(self.work.room.most)
        if self.processes.first:
            self.folder.write_manifest({**self.begun, **self._told(), **self._room(), **more})

    def _room(self) -> dict[str, Plain]:
        """For how much there was room at once, of what there was not as asked, and the notes that say so."""
        notes = self.begun["notes"]
        assert isinstance(notes, Sequence)
        room = self.work.room
        return {"room": dict(room.most), "notes": [*notes, *room.notes(self.work.spec.batch_size)]}

    def _told(self) -> dict[str, Plain]:
        told = [(one, self.failed[one.name].reason) for one in self.conditions if one.name in self.failed]
        failed = [{"probe": one.probe, "name": one.name, "reason": reason} for one, reason in told]
        return {"conditions": [plain(one) for one in self.conditions if one.name not in self.failed], "failed": failed}

    def _tell(self, now: str = "", more: float = 0.0) -> None:
        """Say how far the run is, which is never less than before, and what is done now. more: of what is measured now."""
        self.told = max(self.told, self.done + self.ahead + more)
        self.progress(self.told, self.total, now)

    def _add_company(self, company: Company, reference: str) -> None:
        """Measure units, whose texts are written first where they are written together."""
        written = self._written(company)
        ahead = [WRITING * self._weight(unit) * (texts is not None) for unit, texts in zip(company, written, strict=True)]
        self.ahead = sum(ahead)
        for unit, texts, share in zip(company, written, ahead, strict=True):
            self.ahead -= share
            self._add_group(unit, replace(self._batch(unit), written=texts), reference)

    def _written(self, company: Company) -> list[Written | None]:
        """The texts of each unit of a company, where some that the target writes are in no cell yet: all of them, also those of conditions
        that failed on another batch, so that the company is the same in every process, and in a run that is resumed.
        """
        if len(company) == 1 or all(map(self._has_texts, [unit for unit in company if not unit.text.replayed])):
            return [None for _ in company]
        weight = sum(map(self._weight, company))

        def say(now: str, share: float) -> None:
            self._look()
            self._tell(now, share * weight)

        return write_ahead(self.work, self.folder, [(self._batch(unit), unit.conditions) for unit in company], say)

    def _has_texts(self, unit: Unit) -> bool:
        """Whether a unit's texts are in a cell, or all of its conditions failed."""
        able = [one.name for one in unit.conditions if one.name not in self.failed]
        return not able or self.folder.is_done(able[0], self.folder.batches[unit.batch])

    def _add_group(self, unit: Unit, batch: Batch, reference: str) -> None:
        """Measure the conditions on the same texts that have no cell yet and did not fail before."""
        group = unit.conditions
        able = [condition for condition in group if condition.name not in self.failed]
        asked = {prompt.id for prompt in batch.prompts}
        open = [condition for condition in able if not self.folder.keeps(condition.name, batch.names, tables_of(condition), asked)]
        self.done += len(batch.names) * (len(group) - len(open) * bool(batch.prompts))
        if open and batch.prompts:
            own = open[0].text == TextSettings()
            self._attempt(unit, batch, open, Holders(BASELINE, reference) if own else Holders(able[0].name, able[0].name))
        self._tell()

    def _attempt(self, unit: Unit, batch: Batch, conditions: Sequence[Condition], holders: Holders) -> None:
        """Measure and write them together, or one by one where that fails; one that fails alone is left out of the run with its reason, but
        for those on which the others rest.
        """

        def say(now: str, share: float) -> None:
            self._look()
            self._tell(now, share * len(batch.names) * len(conditions))

        try:
            measured = measure_cells(self.work, self.folder, batch, conditions, holders, say)
        except (PromptError, RunError) as error:
            if len(conditions) == 1:
                self._fail(conditions[0], unit, error)
                self.done += len(batch.names)
            else:
                for condition in conditions:
                    self._attempt(unit, batch, [condition], holders)
            return
        if self.work.room.most != self.noted:
            self._note()  # before the first cell that was measured so
        for condition in conditions:
            try:
                self.folder.write_cell(condition.name, batch.names, measured[condition.name])
            except RunError as error:
                self._fail(condition, unit, error)
        self.done += len(batch.names) * len(conditions)

    def _fail(self, condition: Condition, unit: Unit, error: PromptError | RunError) -> None:
        if condition.full:
            raise error
        self.failed[condition.name] = Failure(unit.batch, str(error))


def plain(condition: Condition) -> Plain:
    """A condition as `run.json` holds it."""
    found: Plain = json.loads(json.dumps(asdict(condition)))
    return found


def now() -> str:
    """The time of day, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
