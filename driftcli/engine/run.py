"""A run: every condition on every batch of prompts, each cell written as soon as it is measured.

Batches are formed from prompts sorted by the hash of their content, so the same prompt set gives the same rows in whatever order it was
given. A batch's texts are written with its baseline, once; whatever is drafted on them later, in another round or a resumed run, reads
them from there.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from driftcli.domain import BASELINE, REWIRED, Condition, DraftSettings, Prompt, RunSpec, TextSettings, Wiring
from driftcli.drafters.causal_lm import CausalLm
from driftcli.engine.chains import Drafted, draft_chains
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.rows import cell_rows, find_sink, stream_columns, trajectory_columns
from driftcli.engine.texts import Text, ignored_settings, replay_texts, write_texts
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.errors import ProbeError
from driftcli.loading.pair import LoadedPair
from driftcli.loading.prompts import content_hash
from driftcli.loading.rendering import render
from driftcli.probe import Probe, Search
from driftcli.traces.reader import read_run
from driftcli.traces.schema import TABLES
from driftcli.traces.writer import Columns, Plain, RunFolder, card_json, manifest_of, open_run

Progress = Callable[[int, int, str], None]  # prompts x conditions done, of how many, what runs now
CONDITION_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
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

    @property
    def searches(self) -> list[Search]:
        """The probes that ask in rounds, before the others."""
        return [probe for probe in self.battery if isinstance(probe, Search)]

    def opening(self) -> list[Condition]:
        """The baseline and the first round of every search."""
        baseline = Condition(BASELINE, DraftSettings(depth=self.spec.depth), controls=True, full=True)
        return [baseline, *(condition for probe in self.searches for condition in probe.conditions(self.pair.card, self.spec))]

    def rest(self, wiring: Wiring) -> list[Condition]:
        """What the other probes ask for, on the wiring that fits the weights; that one drafts first where it is not the declared one."""
        rewired = Condition(REWIRED, DraftSettings(self.spec.depth, wiring=wiring), controls=True, full=True)
        found = [rewired] if wiring.changes else []
        for probe in self.battery:
            if not isinstance(probe, Search):
                found += [_on(wiring, condition) for condition in probe.conditions(self.pair.card, self.spec)]
        return found

    def checked(self, conditions: Sequence[Condition]) -> Sequence[Condition]:
        """The conditions of a run; raises ProbeError for a bad or repeated name or a chain too deep."""
        names = [condition.name for condition in conditions]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ProbeError(f"condition {twice!r} is asked for twice, expected distinct names; rename it in one probe")
        if odd := next((name for name in names if not re.fullmatch(CONDITION_NAME, name)), None):
            raise ProbeError(f"condition {odd!r}: expected a name of letters, digits and . _ + - only, since its files carry it; rename it")
        if deep := next((condition for condition in conditions if condition.settings.depth > self.spec.depth), None):
            raise ProbeError(
                f"condition {deep.name!r} drafts {deep.settings.depth} deep, but the run's anchors allow {self.spec.depth}; raise --depth"
            )
        if isinstance(self.pair.drafter, CausalLm) and (other := next((c.name for c in conditions if not _is_plain(c)), None)):
            raise ProbeError(f"condition {other!r} changes how a self-feeding drafter drafts, but this is a causal LM; leave its probe out")
        return conditions

    def conditions(self) -> Sequence[Condition]:
        """All that is known to be run before anything is measured."""
        return self.checked([*self.opening(), *self.rest(Wiring())])

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
            "probes": list(self.probe_names),
            "conditions": list(map(_plain, self.conditions())),
        }


def _is_plain(condition: Condition) -> bool:
    return condition.settings == DraftSettings(depth=condition.settings.depth)


def _on(wiring: Wiring, condition: Condition) -> Condition:
    """A condition of a probe on another wiring than the declared one."""
    return replace(condition, settings=replace(condition.settings, wiring=wiring.then(condition.settings.wiring)))


def measure(job: Job, progress: Progress) -> Path:
    """Run every missing cell of `job` and return the run's folder; `run.json` says `complete` only at the very end.

    Searches go first, round by round; the others run on the wiring that they settle. Raises PromptError before anything runs when the
    target's template refuses a prompt.
    """
    by_hash = {content_hash(prompt): prompt for prompt in job.prompts}
    begun = manifest_of(job.request(), card_json(job.pair.card), _facts(job))
    for prompt in job.prompts:
        render(job.pair.target.tokenizer, prompt.id, prompt.turns[0], prompt.text)
    folder = open_run(job.out, begun, sorted(by_hash), job.spec.batch_size, force=job.force)
    running = _Running(job, folder, by_hash, begun, progress, total=len(by_hash) * len(job.conditions()))
    wiring = Wiring()
    if job.searches:
        running.add(job.opening(), BASELINE)
        for search in job.searches:
            while further := search.further(read_run(folder.path, finished=False)):
                running.add(further, BASELINE, foreseen=False)
            wiring = wiring.then(search.wiring(read_run(folder.path, finished=False)))
        running.add(job.rest(wiring), REWIRED if wiring.changes else BASELINE)
    else:
        running.add(job.conditions(), BASELINE)
    running.finish()
    return folder.path


@dataclass
class _Running:
    """A run under way: the conditions measured so far and how many prompts x conditions they were, of how many known."""

    job: Job
    folder: RunFolder
    prompts: Mapping[str, Prompt]
    begun: Mapping[str, Plain]
    progress: Progress
    total: int
    done: int = 0
    conditions: list[Condition] = field(default_factory=list)

    def add(self, conditions: Sequence[Condition], reference: str, *, foreseen: bool = True) -> None:
        """Measure these on every batch, in whose texts they keep the sink of `reference`; cells of the same name and other settings go."""
        self.job.checked([*self.conditions, *conditions])
        if not foreseen or reference != BASELINE:
            self.total += len(self.prompts) * (len(conditions) if not foreseen else 1)
        for condition in conditions:
            if self.folder.known.get(condition.name, _plain(condition)) != _plain(condition):
                self.folder.forget(condition.name)
        self._note(conditions)
        for batch in self.folder.batches:
            self._add_batch(batch, conditions, reference)
        self.conditions += conditions
        self._note()

    def _note(self, begun: Sequence[Condition] = ()) -> None:
        """Set down what is measured on every batch, and what else there may be cells of: from before, or because it is begun now."""
        others = {**self.folder.known, **{condition.name: _plain(condition) for condition in begun}}
        measured = list(map(_plain, self.conditions))
        self.folder.write_manifest({**self.begun, "conditions": measured, "other_conditions": list(others.values())})

    def _add_batch(self, names: Sequence[str], conditions: Sequence[Condition], reference: str) -> None:
        open = [condition for condition in conditions if not self.folder.is_done(condition.name, names)]
        self.done += len(names) * (len(conditions) - len(open))
        if open:
            batch, say = Batch(names, [self.prompts[name] for name in names]), partial(self.progress, self.done, self.total)
            measured = _measure_batch(self.job, self.folder, batch, conditions, reference, say)
            for condition in open:
                self.folder.write_cell(condition.name, names, measured[condition.name])
            self.done += len(names) * len(open)
        self.progress(self.done, self.total, "written")

    def finish(self) -> None:
        """Cells that nothing asks for any more go, and the manifest says that the run is complete."""
        for name in self.folder.known.keys() - {condition.name for condition in self.conditions}:
            self.folder.forget(name)
        measured = list(map(_plain, self.conditions))
        self.folder.write_manifest({**self.begun, "conditions": measured, "finished": _now(), "complete": True})


@dataclass(frozen=True)
class Batch:
    """Prompts that the target continues together, and the hashes of their content."""

    names: Sequence[str]
    prompts: Sequence[Prompt]


def _plain(condition: Condition) -> Plain:
    """A condition as `run.json` holds it."""
    plain: Plain = json.loads(json.dumps(asdict(condition)))
    return plain


def _measure_batch(
    job: Job, folder: RunFolder, batch: Batch, conditions: Sequence[Condition], reference: str, say: Callable[[str], None]
) -> dict[str, dict[str, list[Columns]]]:
    """The tables of every condition without a cell, text after text, so that one text's streams and chains are in memory at a time.

    Conditions on the same texts are drafted together. The first of them finds each text's sink and all keep it; on the run's own texts that
    is `reference`.
    """
    pending = [condition for condition in conditions if not folder.is_done(condition.name, batch.names)]
    tables = {condition.name: {name: list[Columns]() for name in _tables(condition)} for condition in pending}
    own: list[Text] | None = None
    for settings in dict.fromkeys([TextSettings(), *(condition.text for condition in pending)]):
        group = [condition for condition in conditions if condition.text == settings]
        first = reference if settings == TextSettings() else group[0].name
        say("target")
        texts, sinks = _written(folder, batch, BASELINE if settings == TextSettings() else first, first)
        if texts is None and settings.replayed:
            assert own is not None
            texts = replay_texts(job.pair.target, own, settings)
        elif texts is None:
            texts = write_texts(job.pair.target, batch.prompts, job.spec.max_new_tokens, settings, job.spec.seed)
        own = texts if settings == TextSettings() else own
        asked = sorted((one for one in group if one in pending), key=lambda one: one.name != first)
        for number, text in enumerate(texts, 1):
            say(f"text {number} of {len(texts)}")
            _draft_text(job, text, asked, first, sinks.get((text.prompt.id, text.turn)), tables)
    return tables


def _tables(condition: Condition) -> tuple[str, ...]:
    """The tables that a condition fills: all for a full one, and its texts where they are its own."""
    if condition.full:
        return TABLES
    return ("steps", "heads") if condition.text == TextSettings() else ("trajectories", "steps", "heads")


def _written(folder: RunFolder, batch: Batch, holder: str, first: str) -> tuple[list[Text] | None, dict[tuple[str, int], int | None]]:
    """The batch's texts as the cell of `holder` has them, so that all conditions see the same, None before it is written; and their sinks
    as `first` found them.
    """
    if not folder.is_done(holder, batch.names):
        return None, {}
    by_id = {prompt.id: prompt for prompt in batch.prompts}
    names = [field.name for field in fields(Text) if field.name != "prompt"]
    texts = [Text(by_id[row["prompt"]], **{name: row[name] for name in names}) for row in folder.written_texts(holder, batch.names)]
    found = folder.written_texts(first, batch.names) if folder.is_done(first, batch.names) else []
    return texts, {(row["prompt"], row["turn"]): row["sink_row"] for row in found}


def _draft_text(
    job: Job, text: Text, conditions: Sequence[Condition], first: str, sink: int | None, tables: dict[str, dict[str, list[Columns]]]
) -> None:
    """Add one text's rows of every condition to its tables; the condition `first` finds the sink, if it is among them."""
    if not conditions:
        return
    temperature = conditions[0].text.temperature
    trajectory = read_text(job.pair.target, text, _boundaries(job, conditions), temperature)
    horizon, offset = job.spec.depth, job.pair.card.token_offset
    for condition in conditions:
        into = tables[condition.name]
        if trajectory.n_anchors(horizon):
            drafted = draft(job.pair, trajectory, condition.settings, horizon, free=condition.full, temperature=temperature)
            if condition.name == first:
                sink = find_sink(drafted.fresh.masses, trajectory.labels[offset:])
            rows = cell_rows(condition, trajectory, drafted, sink, offset)
            into["steps"] += rows.steps
            into["heads"] += rows.heads
        if "trajectories" in into:
            into["trajectories"].append(trajectory_columns(trajectory, horizon, sink))
        if "streams" in into and not isinstance(job.pair.drafter, CausalLm):
            into["streams"].append(stream_columns(trajectory, job.pair.drafter.wired(condition.settings.wiring), condition))


def _boundaries(job: Job, conditions: Sequence[Condition]) -> list[int]:
    drafter = job.pair.drafter
    if isinstance(drafter, CausalLm):
        return []
    return sorted({boundary for condition in conditions for boundary in drafter.wired(condition.settings.wiring).boundaries})


def draft(
    pair: LoadedPair, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, free: bool, temperature: float = 0.0
) -> Drafted:
    """All chains of one trajectory, whatever the drafter's family."""
    if isinstance(pair.drafter, CausalLm):
        return draft_lm_chains(pair.drafter, trajectory, settings, horizon, free=free, temperature=temperature)
    return draft_chains(pair.drafter, trajectory, settings, horizon, free=free, temperature=temperature)


def _facts(job: Job) -> dict[str, Plain]:
    target, card = job.pair.target, job.pair.card
    device = torch.cuda.get_device_name(target.device) if target.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device_name": device,
        "started": _now(),
        "ignored_generation_settings": ignored_settings(target),
        "chat_template_sha256": _template_hash(target.tokenizer.chat_template),
        "n_prompts": len(job.prompts),
        "notes": card.notes,
    }


def _template_hash(template: object) -> str | None:
    return None if template is None else sha256(str(template).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
