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
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from driftcli.domain import BASELINE, Condition, DraftSettings, Prompt, RunSpec, Wiring
from driftcli.drafters.causal_lm import CausalLm
from driftcli.engine.chains import Drafted, draft_chains
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.rendering import render
from driftcli.engine.rows import cell_rows, find_sink, stream_columns, trajectory_columns
from driftcli.engine.trajectories import Trajectory, ignored_settings, trajectories
from driftcli.errors import ProbeError, RunError
from driftcli.loading.pair import LoadedPair
from driftcli.loading.prompts import content_hash
from driftcli.probe import Probe
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
        if isinstance(self.pair.drafter, CausalLm) and (other := next((c.name for c in found if not _is_plain(c)), None)):
            raise ProbeError(f"condition {other!r} changes how a self-feeding drafter drafts, but this is a causal LM; leave its probe out")
        return found

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
            "conditions": [asdict(condition) for condition in self.conditions()],
        }


def _is_plain(condition: Condition) -> bool:
    return condition.settings == DraftSettings(depth=condition.settings.depth)


def measure(job: Job, progress: Progress) -> Path:
    """Run every missing cell of `job` and return the run's folder; `run.json` says `complete` only at the very end.

    Raises PromptError before anything runs when the target's template refuses a prompt.
    """
    by_hash = {content_hash(prompt): prompt for prompt in job.prompts}
    conditions, begun = job.conditions(), manifest_of(job.request(), card_json(job.pair.card), _facts(job))
    for prompt in job.prompts:
        render(job.pair.target.tokenizer, prompt.id, prompt.turns[0], prompt.text)
    folder = open_run(job.out, begun, sorted(by_hash), job.spec.batch_size, force=job.force)
    done, total = 0, len(by_hash) * len(conditions)
    for batch in folder.batches:
        pending = [condition for condition in conditions if not folder.is_done(condition.name, batch)]
        done += len(batch) * (len(conditions) - len(pending))
        if pending:
            measured = _measure_batch(job, folder, batch, [by_hash[name] for name in batch], pending, partial(progress, done, total))
            for condition in pending:
                folder.write_cell(condition.name, batch, measured[condition.name])
            done += len(batch) * len(pending)
        progress(done, total, "written")
    folder.write_manifest({**begun, "finished": _now(), "complete": True})
    return folder.path


def _measure_batch(
    job: Job, folder: RunFolder, batch: Sequence[str], prompts: list[Prompt], pending: list[Condition], say: Callable[[str], None]
) -> dict[str, dict[str, list[Columns]]]:
    """The tables of every pending condition, trajectory after trajectory, so that one trajectory's chains are in memory at a time."""
    say("target")
    made = trajectories(job.pair.target, prompts, _boundaries(job, pending), job.spec.max_new_tokens)
    if all(condition.name != BASELINE for condition in pending):
        _require_same_texts(folder, batch, made)
    tables: dict[str, dict[str, list[Columns]]] = {condition.name: {"steps": [], "heads": []} for condition in pending}
    if BASELINE in tables:
        tables[BASELINE] |= {"trajectories": [], "streams": []}
    for number, trajectory in enumerate(made, 1):
        say(f"drafter, text {number} of {len(made)}")
        sink = _draft_conditions(job, trajectory, pending, tables) if trajectory.n_anchors(job.spec.depth) else None
        if BASELINE in tables:
            tables[BASELINE]["trajectories"].append(trajectory_columns(trajectory, job.spec.depth, sink))
            if not isinstance(job.pair.drafter, CausalLm):
                tables[BASELINE]["streams"].append(stream_columns(trajectory, job.pair.drafter))
    return tables


def _draft_conditions(
    job: Job, trajectory: Trajectory, pending: list[Condition], tables: dict[str, dict[str, list[Columns]]]
) -> int | None:
    """Add one trajectory's rows of every pending condition; returns the sink of the baseline, which all conditions keep."""
    horizon, offset = job.spec.depth, job.pair.card.token_offset
    baseline = draft(job.pair, trajectory, DraftSettings(depth=horizon), horizon, free=BASELINE in tables)
    sink = find_sink(baseline.fresh.masses, trajectory.labels[offset:])
    for condition in pending:
        own = baseline if condition.name == BASELINE else draft(job.pair, trajectory, condition.settings, horizon, free=False)
        rows = cell_rows(condition, trajectory, own, sink, offset, controls=condition.controls)
        tables[condition.name]["steps"] += rows.steps
        tables[condition.name]["heads"] += rows.heads
    return sink


def _require_same_texts(folder: RunFolder, batch: Sequence[str], made: Sequence[Trajectory]) -> None:
    """Raise RunError where the target no longer writes what the batch's baseline holds: the conditions would not be paired with it."""
    written = folder.written_ids(batch)
    if changed := next((t.prompt.id for t in made if written[t.prompt.id, t.turn] != t.ids.tolist()), None):
        raise RunError(
            f"{folder.path}: the target now continues prompt {changed} otherwise than when this run began (another library version or "
            "machine, or a template with a date in it), so it cannot be resumed; start it again with --force"
        )


def _boundaries(job: Job, conditions: Sequence[Condition]) -> list[int]:
    drafter = job.pair.drafter
    if isinstance(drafter, CausalLm):
        return []
    wirings = {Wiring(), *(condition.settings.wiring for condition in conditions)}
    return sorted({boundary for wiring in wirings for boundary in drafter.wired(wiring).boundaries})


def draft(pair: LoadedPair, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, free: bool) -> Drafted:
    """All chains of one trajectory, whatever the drafter's family."""
    if isinstance(pair.drafter, CausalLm):
        return draft_lm_chains(pair.drafter, trajectory, settings, horizon, free=free)
    return draft_chains(pair.drafter, trajectory, settings, horizon, free=free)


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
