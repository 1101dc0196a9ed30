"""A run: every condition on every batch of prompts, each cell written as soon as it is measured.

Batches are formed from prompts sorted by the hash of their content, so the same prompt set gives the same rows in whatever order it was
given. A cell that is already written is not measured again; a batch with a missing cell is generated anew, which gives the same
trajectories.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from driftcli.domain import BASELINE, Condition, DraftSettings, PairCard, Prompt, RunSpec
from driftcli.drafters.causal_lm import CausalLm
from driftcli.engine.chains import Drafted, draft_chains
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.rows import cell_rows, find_sink, stream_columns, trajectory_columns
from driftcli.engine.trajectories import Trajectory, set_aside_generation_settings, trajectories
from driftcli.errors import ProbeError
from driftcli.loading.pair import LoadedPair
from driftcli.loading.prompts import content_hash
from driftcli.probe import Probe
from driftcli.traces.writer import Columns, Plain, RunFolder, manifest_of, open_run

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

    def conditions(self) -> list[Condition]:
        """The baseline and what the probes ask for; raises ProbeError for a bad or repeated name or a chain too deep."""
        found = [Condition(BASELINE, DraftSettings(depth=self.spec.depth), controls=True)]
        for probe in self.battery:
            found += probe.conditions(self.pair.card, self.spec)
        names = [condition.name for condition in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ProbeError(f"condition {twice!r} is asked for twice, expected distinct names; rename it in one probe")
        if odd := next((name for name in names if not re.fullmatch(CONDITION_NAME, name)), None):
            raise ProbeError(f"condition {odd!r}: expected a name of letters, digits and . _ + - only, since its files carry it; rename it")
        if deep := next((condition for condition in found if condition.settings.depth > self.spec.depth), None):
            raise ProbeError(
                f"condition {deep.name!r} drafts {deep.settings.depth} deep, but the run's anchors allow {self.spec.depth}; raise --depth"
            )
        return found

    def request(self) -> dict[str, Plain]:
        """What two runs must share for one to resume the other; prompts are compared apart."""
        card, head = self.pair.card, self.pair.target.head
        return {
            "target": card.target.fingerprint,
            "drafter": card.drafter.fingerprint,
            **asdict(self.spec),
            "dtype": str(head.dtype).removeprefix("torch."),
            "device": head.device.type,
            "probes": list(self.probe_names),
            "conditions": [asdict(condition) for condition in self.conditions()],
        }


def measure(job: Job, progress: Progress) -> Path:
    """Run every missing cell of `job` and return the run's folder; `run.json` says `complete` only at the very end."""
    by_hash = {content_hash(prompt): prompt for prompt in job.prompts}
    conditions, request = job.conditions(), job.request()
    folder = open_run(job.out, request, sorted(by_hash), job.spec.batch_size, force=job.force)
    facts = _facts(job)
    folder.write_manifest(manifest_of(request, card_json(job.pair.card), facts, complete=False))
    done, total = 0, len(by_hash) * len(conditions)
    for batch in folder.batches:
        pending = [condition for condition in conditions if not folder.is_done(condition.name, batch)]
        done += len(batch) * (len(conditions) - len(pending))
        if pending:
            progress(done, total, "target")
            _measure_batch(job, folder, batch, [by_hash[name] for name in batch], pending, lambda name, at=done: progress(at, total, name))  # type: ignore[misc]
            done += len(batch) * len(pending)
        progress(done, total, "written")
    folder.write_manifest(manifest_of(request, card_json(job.pair.card), {**facts, "finished": _now()}, complete=True))
    return folder.path


def _measure_batch(
    job: Job, folder: RunFolder, batch: Sequence[str], prompts: list[Prompt], pending: list[Condition], say: Callable[[str], None]
) -> None:
    boundaries = _boundaries(job, pending)
    made = trajectories(job.pair.target, prompts, boundaries, job.spec.max_new_tokens)
    baseline = DraftSettings(depth=job.spec.depth)
    free = any(condition.name == BASELINE for condition in pending)
    usable = [trajectory for trajectory in made if trajectory.n_anchors(job.spec.depth)]
    say(BASELINE)
    based = [draft(job.pair, trajectory, baseline, job.spec.depth, free=free) for trajectory in usable]
    offset = job.pair.card.token_offset
    sinks = [find_sink(drafted.fresh.masses, trajectory.labels[offset:]) for trajectory, drafted in zip(usable, based, strict=True)]
    for condition in pending:
        say(condition.name)
        tables: dict[str, list[Columns]] = {"steps": [], "heads": []}
        for trajectory, drafted, sink in zip(usable, based, sinks, strict=True):
            own = drafted if condition.name == BASELINE else draft(job.pair, trajectory, condition.settings, job.spec.depth, free=False)
            rows = cell_rows(condition, trajectory, own, sink, offset, controls=condition.controls)
            tables["steps"] += rows.steps
            tables["heads"] += rows.heads
        if condition.name == BASELINE:
            of_usable = dict(zip(map(id, usable), sinks, strict=True))
            tables["trajectories"] = [trajectory_columns(trajectory, job.spec.depth, of_usable.get(id(trajectory))) for trajectory in made]
            tables["streams"] = _streams(job, condition, made)
        folder.write_cell(condition.name, batch, tables)


def _boundaries(job: Job, conditions: Sequence[Condition]) -> list[int]:
    drafter = job.pair.drafter
    if isinstance(drafter, CausalLm):
        return []
    settings = [DraftSettings(depth=job.spec.depth), *(condition.settings for condition in conditions)]
    return sorted({boundary for setting in settings for boundary in drafter.capture(setting)})


def _streams(job: Job, condition: Condition, made: Sequence[Trajectory]) -> list[Columns]:
    drafter = job.pair.drafter
    return (
        [] if isinstance(drafter, CausalLm) else [stream_columns(condition, trajectory, drafter, condition.settings) for trajectory in made]
    )


def draft(pair: LoadedPair, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, free: bool) -> Drafted:
    """All chains of one trajectory, whatever the drafter's family."""
    if isinstance(pair.drafter, CausalLm):
        return draft_lm_chains(pair.drafter, trajectory, settings, horizon, free=free)
    return draft_chains(pair.drafter, trajectory, settings, horizon, free=free)


def card_json(card: PairCard) -> dict[str, Plain]:
    """The pair's card as it stands in `run.json`."""
    record: dict[str, Plain] = {name: {"value": field.value, "source": field.source} for name, field in card.record.items()}
    return {**asdict(card), "record": record}


def _facts(job: Job) -> dict[str, Plain]:
    target, card = job.pair.target, job.pair.card
    ignored = set_aside_generation_settings(target)
    device = torch.cuda.get_device_name(target.device) if target.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device_name": device,
        "started": _now(),
        "ignored_generation_settings": ignored,
        "chat_template_sha256": _template_hash(target.tokenizer.chat_template),
        "n_prompts": len(job.prompts),
        "notes": card.notes,
    }


def _template_hash(template: object) -> str | None:
    return None if template is None else sha256(str(template).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
