"""A run: what is asked for, and the rounds in which it is measured.

Batches are formed from prompts sorted by the hash of their content, so the same prompt set gives the same rows in whatever order it was
given. A batch's texts are written with its baseline, once; whatever is drafted on them later, in another round or a resumed run, reads
them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from driftcli.conditions import BASELINE, Condition, Wiring
from driftcli.domain import REWIRED, Prompt, RunSpec
from driftcli.durations import told
from driftcli.engine.agenda import Agenda, on
from driftcli.engine.batches import Work
from driftcli.engine.budget import Budgeted, left_out
from driftcli.engine.in_float32 import rounding
from driftcli.engine.left_out import cramped, lacked, on_some, untold
from driftcli.engine.measuring import Measuring, Progress, now, plain
from driftcli.engine.processes import ALONE, Processes
from driftcli.engine.room import Room
from driftcli.engine.texts import ignored_settings
from driftcli.families.quantisation import quantisation
from driftcli.loading.pair import LoadedPair
from driftcli.probe import Cutting, Probe, Rounds, Search
from driftcli.sources.files import read_config
from driftcli.target.target import Target
from driftcli.texts.pieces import piece_columns
from driftcli.texts.prompts import content_hash
from driftcli.traces.reader import Run
from driftcli.traces.shift import twin_card
from driftcli.traces.writer import Plain, RunFolder, card_json, manifest_of, open_run

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
    in_float32: Callable[[], LoadedPair] | None = None  # loads the pair once more, to tell what its own dtype does

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
        cut += on_some(self.conditions(), len(self.prompts))
        cut += cramped(self.pair, self.prompts, self.spec)  # refuses tokens beyond the target's, before any are looked up
        return [*cut, *untold(self.pair), *lacked(self.pair, self.prompts)]

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
            "conditions": list(map(plain, self.conditions())),
            "budget": None if self.budget is None else {**asdict(self.budget), "dropped": list(self.budget.dropped)},
            "engine": None if self.pair.target.served is None else asdict(self.pair.target.served),
        }


def measure(job: Job, progress: Progress, processes: Processes = ALONE) -> Path:
    """Run every missing cell of `job` and return the run's folder; `run.json` says `complete` only at the very end.

    Searches go first, round by round; the others run on the wiring that they settle. What is asked by numbers is asked by the first process
    for all. Raises PromptError before anything runs when the target's template refuses a prompt.
    """
    by_hash = {content_hash(prompt): prompt for prompt in job.prompts}
    begun = {**job.begun(), **_facts(job), "processes": processes.count}
    folder = processes.agreed(lambda: _opened(job, begun, sorted(by_hash)))
    total = len(by_hash) * len(job.conditions())
    work = Work(job.pair, job.spec, Room(dict(folder.room)), job.twin)
    running = Measuring(work, job.agenda, folder, by_hash, begun, progress, total, processes)
    wiring, agenda = Wiring(), job.agenda
    if agenda.searches:
        running.add(agenda.opening(), BASELINE)
        for search in agenda.searches:
            while further := processes.agreed(partial(_further, search, running)):
                running.add(further, BASELINE, foreseen=False)
            wiring = wiring.then(processes.agreed(partial(_settled, search, running)))
        running.add(agenda.rest(wiring), REWIRED if wiring.changes else BASELINE)
    else:
        running.add(job.conditions(), BASELINE)
    for probe in agenda.later_rounds:
        while more := processes.agreed(partial(_further, probe, running)):
            running.add([on(wiring, condition) for condition in more], REWIRED if wiring.changes else BASELINE, foreseen=False)
    known = rounding(job.pair, job.in_float32, folder, job.prompts, job.spec) if processes.first else None
    running.finish({} if known is None else {"rounding": asdict(known)})
    return folder.path


def _opened(job: Job, begun: Mapping[str, Plain], hashes: Sequence[str]) -> RunFolder:
    folder = open_run(job.out, begun, hashes, job.spec.batch_size, force=job.force)
    folder.write_pieces(piece_columns(job.pair.target.tokenizer))
    return folder


def _further(probe: Rounds, running: Measuring) -> Sequence[Condition]:
    """What a probe asks for after what has been measured."""
    return probe.further(running.so_far())


def _settled(search: Search, running: Measuring) -> Wiring:
    """The wiring that a search has found."""
    return search.wiring(running.so_far())


def _facts(job: Job) -> dict[str, Plain]:
    """What else a manifest says."""
    target, card = job.pair.target, job.pair.card
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device_name": target.device_name,
        "started": now(),
        "ignored_generation_settings": ignored_settings(target),
        "chat_template_sha256": _template_hash(target.tokenizer.chat_template),
        "n_prompts": len(job.prompts),
        "n_offered": job.offered or len(job.prompts),
        "notes": [*card.notes, *job.left_out],
        "dropped": _dropped(job),
        "asked": job.asked,
        "target_quantisation": quantised_as(target),
        "twin": None if (twin := job.twin) is None else asdict(twin_card(twin.path.name, twin.manifest, twin.pair.target, twin.wiring)),
    }


def quantised_as(target: Target) -> str | None:
    """How a target's weights are quantised and, in this process, as what they are computed with; None where they are not."""
    scheme, computed = quantisation(target.source, read_config(target.source)), target.computed_as
    if scheme is None:
        return None
    return f"{scheme.value}, {computed}" if computed else str(scheme.value)


def _dropped(job: Job) -> list[Plain]:
    """Conditions that were asked for and left out to keep to a time."""
    if job.budget is None:
        return []
    reason = f"left out to keep to {told(job.budget.seconds)} (--budget)"
    gone = [one for one in job.agenda.asked() if one.name in job.budget.dropped]
    return [{"probe": one.probe, "name": one.name, "reason": reason} for one in gone]


def _template_hash(template: object) -> str | None:
    return None if template is None else sha256(str(template).encode()).hexdigest()[:16]
