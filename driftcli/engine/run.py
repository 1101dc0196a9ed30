"""A run: every condition on every batch of prompts, each cell written as soon as it is measured.

Batches are formed from prompts sorted by the hash of their content, so the same prompt set gives the same rows in whatever order it was
given. A batch's texts are written with its baseline, once; whatever is drafted on them later, in another round or a resumed run, reads
them from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from driftcli.conditions import BASELINE, Condition, TextSettings, Wiring
from driftcli.domain import REWIRED, Prompt, RunSpec
from driftcli.durations import told
from driftcli.engine.agenda import Agenda, on, sharing_texts
from driftcli.engine.budget import Budgeted, left_out
from driftcli.engine.cells import Batch, Holders, Work, measure_cells, tables_of
from driftcli.engine.left_out import cramped, on_some, untold
from driftcli.engine.texts import ignored_settings
from driftcli.errors import PromptError, RunError
from driftcli.families.quantisation import quantisation
from driftcli.loading.pair import LoadedPair
from driftcli.probe import Cutting, Probe
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.texts.pieces import piece_columns
from driftcli.texts.prompts import content_hash
from driftcli.traces.reader import Run, read_run
from driftcli.traces.shift import twin_card
from driftcli.traces.writer import Plain, RunFolder, card_json, manifest_of, open_run

Progress = Callable[[float, int, str], None]  # prompts x conditions done, a part of one too; of how many; what runs now, if anything
PACKAGES = ("driftcli", "torch", "transformers", "accelerate", "numpy", "pyarrow")


@dataclass(frozen=True)
class Job:
    """All that a run is made of."""

    pair: LoadedPair
    prompts: Sequence[Prompt]
    battery: Sequence[Probe]
    spec: RunSpec
    out: Path
    probe_names: Sequence[str]
    force: bool = False
    asked: Mapping[str, Plain] = field(default_factory=dict)  # the request in the words of whoever asked
    offered: int | None = None  # prompts that there were, where not all are used
    budget: Budgeted | None = None  # what a budget left out
    twin: Run | None = None  # of the target's twin, which it is held against

    @property
    def work(self) -> Work:
        """What its cells are measured with."""
        return Work(self.pair, self.spec, self.twin)

    @cached_property
    def agenda(self) -> Agenda:
        """What is measured, as far as the pair and the battery tell."""
        return Agenda(self.pair.card, self.spec, self.battery, () if self.budget is None else self.budget.dropped)

    def conditions(self) -> Sequence[Condition]:
        """All that is known to be run before anything is measured."""
        return self.agenda.conditions()

    @property
    def hashes(self) -> list[str]:
        """Content hashes of the prompts, sorted."""
        return sorted(map(content_hash, self.prompts))

    @cached_property
    def left_out(self) -> list[str]:
        """What of the request is not run, or not on all prompts, and why, and what runs further than servers go.

        Raises PromptError for a prompt that the target has no room for.
        """
        cut = [line for probe in self.battery if isinstance(probe, Cutting) for line in probe.left_out(self.pair.card, self.spec)]
        if self.budget is not None:
            cut += left_out(self.budget, self.agenda.asked())
        return [*cut, *on_some(self.conditions(), len(self.prompts)), *untold(self.pair), *cramped(self.pair, self.prompts, self.spec)]

    def begun(self) -> dict[str, Plain]:
        """The manifest of the run as it begins, but for the facts of the day."""
        return manifest_of(self.request(), card_json(self.pair.card), {})

    def request(self) -> dict[str, Plain]:
        """What two runs must share for one to resume the other; prompts are compared apart."""
        card, head = self.pair.card, self.pair.target.head
        return {
            "target": card.target.fingerprint,
            "drafter": card.drafter.fingerprint,
            "reading": card.record["reading"].value if "reading" in card.record else None,
            **asdict(self.spec),
            "dtype": str(head.dtype).removeprefix("torch."),
            "device": head.device.type,
            "threads": torch.get_num_threads() if head.device.type == "cpu" else None,  # by which sums are parted, so digits may differ
            "probes": list(self.probe_names),
            "conditions": list(map(_plain, self.conditions())),
            "budget": None if self.budget is None else {**asdict(self.budget), "dropped": list(self.budget.dropped)},
            "engine": None if self.pair.target.served is None else asdict(self.pair.target.served),
        }


def measure(job: Job, progress: Progress) -> Path:
    """Run every missing cell of `job` and return the run's folder; `run.json` says `complete` only at the very end.

    Searches go first, round by round; the others run on the wiring that they settle. Raises PromptError before anything runs when the
    target's template refuses a prompt.
    """
    by_hash = {content_hash(prompt): prompt for prompt in job.prompts}
    begun = {**job.begun(), **_facts(job)}
    folder = open_run(job.out, begun, sorted(by_hash), job.spec.batch_size, force=job.force)
    folder.write_pieces(piece_columns(job.pair.target.tokenizer))
    running = _Running(job, folder, by_hash, begun, progress, total=len(by_hash) * len(job.conditions()))
    wiring, agenda = Wiring(), job.agenda
    if agenda.searches:
        running.add(agenda.opening(), BASELINE)
        for search in agenda.searches:
            while further := search.further(running.so_far()):
                running.add(further, BASELINE, foreseen=False)
            wiring = wiring.then(search.wiring(running.so_far()))
        running.add(agenda.rest(wiring), REWIRED if wiring.changes else BASELINE)
    else:
        running.add(job.conditions(), BASELINE)
    for probe in agenda.later_rounds:
        while more := probe.further(running.so_far()):
            running.add([on(wiring, condition) for condition in more], REWIRED if wiring.changes else BASELINE, foreseen=False)
    running.finish()
    return folder.path


@dataclass
class _Running:
    """A run under way: the conditions measured so far, those that failed and why, and how many prompts x conditions of how many known."""

    job: Job
    folder: RunFolder
    prompts: Mapping[str, Prompt]
    begun: Mapping[str, Plain]
    progress: Progress
    total: int
    done: int = 0
    conditions: list[Condition] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, conditions: Sequence[Condition], reference: str, *, foreseen: bool = True) -> None:
        """Measure these on every batch, in whose texts they keep the sink of `reference`; cells of the same name and other settings go."""
        self.job.agenda.checked([*self.conditions, *conditions])
        if not foreseen or reference != BASELINE:
            self.total += len(self.prompts) * (len(conditions) if not foreseen else 1)
        for condition in conditions:
            if self.folder.known.get(condition.name, _plain(condition)) != _plain(condition):
                self.folder.forget(condition.name)
        self._note(conditions)
        for names in self.folder.batches:
            for (_, some), group in sharing_texts(conditions).items():
                self._add_group(self._batch(names, some), group, reference)
        self.conditions += conditions
        self._note()

    def so_far(self) -> Run:
        """The run as far as it is measured, for a probe that asks further by what it sees there."""
        self.progress(self.done, self.total, "looking at what was measured")
        return read_run(self.folder.path, finished=False)

    def _batch(self, names: Sequence[str], limit: int) -> Batch:
        """A batch with those of its prompts that are among the first `limit` of the run, all for 0."""
        before = sum(len(batch) for batch in self.folder.batches[: self.folder.batches.index(tuple(names))])
        some = names[: max(0, limit - before)] if limit else names
        whole = len(self.prompts)
        return Batch(names, [self.prompts[name] for name in some], before, min(limit or whole, whole))

    def _note(self, begun: Sequence[Condition] = ()) -> None:
        """Set down what is measured on every batch, and what else there may be cells of: from before, or because it is begun now."""
        others = {**self.folder.known, **{condition.name: _plain(condition) for condition in begun}}
        self.folder.write_manifest({**self.begun, **self._told(), "other_conditions": list(others.values())})

    def _told(self) -> dict[str, Plain]:
        failed = [
            {"probe": one.probe, "name": one.name, "reason": self.failed[one.name]} for one in self.conditions if one.name in self.failed
        ]
        return {"conditions": [_plain(one) for one in self.conditions if one.name not in self.failed], "failed": failed}

    def _add_group(self, batch: Batch, group: Sequence[Condition], reference: str) -> None:
        """Measure the conditions on the same texts that have no cell yet and did not fail before."""
        able = [condition for condition in group if condition.name not in self.failed]
        asked = {prompt.id for prompt in batch.prompts}
        open = [condition for condition in able if not self.folder.keeps(condition.name, batch.names, tables_of(condition), asked)]
        self.done += len(batch.names) * (len(group) - len(open) * bool(batch.prompts))
        if open and batch.prompts:
            own = open[0].text == TextSettings()
            self._attempt(batch, open, Holders(BASELINE, reference) if own else Holders(able[0].name, able[0].name))
        self.progress(self.done, self.total, "")

    def _attempt(self, batch: Batch, conditions: Sequence[Condition], holders: Holders) -> None:
        """Measure and write them together, or one by one where that fails; one that fails alone is left out of the run with its reason, but
        for those on which the others rest.
        """

        def say(now: str, share: float) -> None:
            self.progress(self.done + share * len(batch.names) * len(conditions), self.total, now)

        try:
            measured = measure_cells(self.job.work, self.folder, batch, conditions, holders, say)
        except (PromptError, RunError) as error:
            if len(conditions) == 1:
                self._fail(conditions[0], error)
                self.done += len(batch.names)
            else:
                for condition in conditions:
                    self._attempt(batch, [condition], holders)
            return
        for condition in conditions:
            try:
                self.folder.write_cell(condition.name, batch.names, measured[condition.name])
            except RunError as error:
                self._fail(condition, error)
        self.done += len(batch.names) * len(conditions)

    def _fail(self, condition: Condition, error: PromptError | RunError) -> None:
        if condition.full:
            raise error
        self.failed[condition.name] = str(error)

    def finish(self) -> None:
        """Cells that nothing asks for any more go, and the manifest says that the run is complete."""
        for name in (self.folder.known.keys() - {condition.name for condition in self.conditions}) | self.failed.keys():
            self.folder.forget(name)
        self.folder.write_manifest({**self.begun, **self._told(), "finished": _now(), "complete": True})


def _plain(condition: Condition) -> Plain:
    """A condition as `run.json` holds it."""
    plain: Plain = json.loads(json.dumps(asdict(condition)))
    return plain


def _facts(job: Job) -> dict[str, Plain]:
    """What else a manifest says."""
    target, card = job.pair.target, job.pair.card
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device_name": target.device_name,
        "started": _now(),
        "ignored_generation_settings": ignored_settings(target),
        "chat_template_sha256": _template_hash(target.tokenizer.chat_template),
        "n_prompts": len(job.prompts),
        "n_offered": job.offered or len(job.prompts),
        "notes": [*card.notes, *job.left_out],
        "dropped": _dropped(job),
        "asked": job.asked,
        "target_quantisation": None if (scheme := quantisation(open_checkpoint(target.source))) is None else str(scheme.value),
        "twin": None if (twin := job.twin) is None else asdict(twin_card(twin.path.name, twin.manifest, twin.pair.target, twin.wiring)),
    }


def _dropped(job: Job) -> list[Plain]:
    """Conditions that were asked for and left out to keep to a time."""
    if job.budget is None:
        return []
    reason = f"left out to keep to {told(job.budget.seconds)} (--budget)"
    gone = [one for one in job.agenda.asked() if one.name in job.budget.dropped]
    return [{"probe": one.probe, "name": one.name, "reason": reason} for one in gone]


def _template_hash(template: object) -> str | None:
    return None if template is None else sha256(str(template).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
