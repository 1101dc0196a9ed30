"""A run folder being read: its manifest, and its rows summed a prompt, ready for any statistic. Needs neither torch nor the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftcli.conditions import BASELINE, Plan, StopMeasure, Wiring
from driftcli.domain import REWIRED, Absent, Estimate, Feed, PairCard, RunSpec
from driftcli.errors import RunError
from driftcli.statistics.costs import Costs
from driftcli.statistics.costs_file import read_costs
from driftcli.statistics.curves import emitted_per_round
from driftcli.statistics.intervals import Mapped
from driftcli.statistics.pooled import NO_ANCHORS, Pooled
from driftcli.statistics.positions import Replies, no_replies
from driftcli.statistics.shift import Shift
from driftcli.statistics.survival import Chains, Told
from driftcli.statistics.walks import EXACT_TEXT, Sums
from driftcli.traces.layout import COSTS_FILE
from driftcli.traces.manifest import read_manifest, wiring_of
from driftcli.traces.pieces import Vocabulary, read_vocabulary
from driftcli.traces.plans import fresh_band, lacks_for_stop, plan_sums
from driftcli.traces.positions import reply_sums
from driftcli.traces.rows import ReplyRows
from driftcli.traces.shift import shift_of, twin_card
from driftcli.traces.soundness import check_cells
from driftcli.traces.streams import stream_numbers, stream_sums
from driftcli.traces.sums import WHOLE, Grid, cells, condition_sums, ending_sums, grids, read_table, target_sums
from driftcli.traces.survival import survival
from driftcli.traces.units import Units, with_anchors
from driftcli.traces.writer import Plain, batch_key

TEXT_COLUMNS = [
    *("prompt", "turn", "category", "group", "prompt_length", "length", "anchors", "sink_row", "argmax_share", "generated", "unlocated"),
    *("target_entropy", "rendered_sha256"),
]
ENDINGS = ["prompt", "turn", "group", "rendered_sha256", "prompt_length", "length", "rounds_to_end"]  # columns that tell rounds to the end


@dataclass(frozen=True)
class Run(Pooled):
    """A finished run; implements `driftcli.probe.Trace`."""

    path: Path
    manifest: dict[str, Plain]
    pair: PairCard
    spec: RunSpec
    _span: tuple[int, int] = WHOLE
    _reference: str | None = None
    _category: str | None = None
    _sums: dict[tuple[str, tuple[int, int], str], Sums] = field(default_factory=dict)  # by reference, span and condition
    _feeds: dict[tuple[str, tuple[int, int]], dict[Feed, Grid | None]] = field(default_factory=dict)  # by condition and span
    _plans: dict[tuple[Plan, tuple[int, int]], Sums] = field(default_factory=dict)
    _texts: dict[tuple[str, str], pa.Table] = field(default_factory=dict)  # by reference and condition

    @property
    def probe_names(self) -> list[str]:
        """The probes that the run was measured for, as they were named."""
        request = self.manifest["request"]
        assert isinstance(request, dict) and isinstance(request["probes"], list)
        return [str(name) for name in request["probes"]]

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Probe and name of every condition besides the baseline, in the order of the run."""
        return [(condition["probe"], condition["name"]) for condition in self._measured if condition["name"] != BASELINE]

    def is_sampled(self, condition: str) -> bool:
        """Whether a condition drafts on replies that the target itself drew at a temperature, behind the very prompts that they follow."""
        text: dict[str, Any] = next((one.get("text", {}) for one in self._measured if one["name"] == condition), {})
        drawn = (text.get("temperature", 0) or self.spec.temperature) > 0 and not text.get("replayed", False)
        return drawn and all(self._texts_of(condition)["generated"].to_pylist())

    def depth_of(self, condition: str) -> int:
        """Proposals a chain of a condition."""
        return next((one["settings"]["depth"] for one in self._measured if one["name"] == condition and "settings" in one), self.spec.depth)

    @cached_property
    def measured(self) -> frozenset[str]:
        """Names of the conditions that have been run, those that failed among them."""
        return frozenset(condition["name"] for condition in self._measured) | self.failed.keys()

    @cached_property
    def failed(self) -> Mapping[str, str]:
        """Why each condition failed that did, or was dropped to keep to a time; its numbers are absent for that reason."""
        failed, dropped = (self.manifest.get(key, ()) for key in ("failed", "dropped"))
        assert isinstance(failed, list | tuple) and isinstance(dropped, list | tuple)
        return {one["name"]: one["reason"] for one in (*dropped, *failed)}

    @property
    def dropped(self) -> frozenset[str]:
        """Names of the conditions that were asked for and dropped to keep to a time."""
        dropped = self.manifest.get("dropped", ())
        assert isinstance(dropped, list | tuple)
        return frozenset(one["name"] for one in dropped)

    @property
    def _measured(self) -> list[dict[str, Any]]:
        measured = self.manifest["conditions"]
        assert isinstance(measured, list)
        return measured

    @cached_property
    def costs(self) -> Costs | None:
        """Seconds of the pair's steps, None where nobody measured or gave them; raises SourceError for a file that is none."""
        path = self.path / COSTS_FILE
        return read_costs(path, self.spec.depth) if path.exists() else None

    @property
    def reference(self) -> str:
        """The condition that everything is held against: the baseline, or its rewired twin where another wiring fits the weights."""
        return self._reference or (REWIRED if REWIRED in self.measured else BASELINE)

    def against(self, condition: str) -> Run:
        """The same run with everything held against another full condition."""
        return replace(self, _reference=condition)

    @property
    def wiring(self) -> Wiring:
        """How the reference is put together, where that is not as declared."""
        if self.reference == BASELINE:
            return Wiring()
        return next(wiring_of(one["settings"]["wiring"]) for one in self._measured if one["name"] == self.reference)

    @cached_property
    def trajectories(self) -> pa.Table:
        """The reference's table of trajectories without their token lists."""
        return self._texts_of(self.reference)

    def _texts_of(self, condition: str) -> pa.Table:
        """Trajectories of the texts that a condition drafts on, without their token lists."""
        key = (self.reference, condition)
        if key not in self._texts:
            holder = condition if cells(self.path / "trajectories", condition) else self.reference
            self._texts[key] = read_table(self.path / "trajectories", TEXT_COLUMNS, holder)
        return self._texts[key]

    def _texts_with_ids(self) -> pa.Table:
        """The reference's texts that have an anchor, token by token."""
        return with_anchors(read_table(self.path / "trajectories", ["prompt", "turn", "prompt_length", "anchors", "ids"], self.reference))

    @cached_property
    def _spanned(self) -> pa.Table:
        """Trajectories with an anchor in the span."""
        start, stop = self._span
        usable = with_anchors(self.trajectories)
        first, count = usable["prompt_length"], usable["anchors"]
        return usable.filter(pc.and_(pc.less(first, stop), pc.greater(pc.add(first, count), start)))

    @cached_property
    def units(self) -> Units:
        """What counts as one prompt, of those with an anchor in the span."""
        return Units.of(self._spanned)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of the prompts with at least one anchor, sorted."""
        own = self.units.prompts
        return own if self._category is None else tuple(name for name in own if self._category_of.get(name) == self._category)

    @cached_property
    def _category_of(self) -> Mapping[str, str | None]:
        return dict(zip(self.trajectories["prompt"].to_pylist(), self.trajectories["category"].to_pylist(), strict=True))

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """Categories of the prompts with at least one anchor, sorted, each with its number of units; those without one are left out."""
        names = sorted({name for prompt in self.units.prompts if (name := self._category_of[prompt]) is not None})
        return {name: int(self.within_category(name).sum()) for name in names}

    def within_category(self, category: str) -> np.ndarray:
        """Which units are of a category, as all their prompts are; (unit,)."""
        return self._within(self.units, category)

    def _within(self, units: Units, category: str) -> np.ndarray:
        return np.array([all(self._category_of[prompt] == category for prompt in unit) for unit in units.members], dtype=bool)

    def of_category(self, category: str) -> Run:
        """The same run with the prompts of a category alone."""
        return replace(self, _category=category)

    @cached_property
    def context_lengths(self) -> Mapping[int, str]:
        """Prompt lengths in tokens that prompts were filled up to, shortest first, each with the condition that drafts there in full."""
        found: dict[int, str] = {}
        for one in self._measured:
            if (length := self.context_length(one["name"])) and one.get("settings", {}).get("window") is None:
                found.setdefault(length, one["name"])
        return dict(sorted(found.items()))

    def context_length(self, condition: str) -> int | None:
        """The length that a condition's prompts are filled up to, None where they are as they were given."""
        text: dict[str, Any] = next((one.get("text", {}) for one in self._measured if one["name"] == condition), {})
        return text.get("length") or None

    def at_context_length(self, length: int) -> Run:
        """The same run on its prompts of that length, all of whose numbers that take controls are absent."""
        return replace(self, _reference=self.context_lengths[length], _sums={}, _feeds={}, _plans={}, _texts={})

    @property
    def too_short(self) -> tuple[str, ...]:
        """Ids of the prompts without a single anchor, sorted."""
        return tuple(sorted(set(self.trajectories["prompt"].to_pylist()) - set(self.prompts)))

    @cached_property
    def sink_texts(self) -> tuple[int, int]:
        """How many trajectories with an anchor have a sink, and how many there are."""
        usable = with_anchors(self.trajectories)
        return len(usable) - usable["sink_row"].null_count, len(usable)

    @property
    def n_prompts(self) -> int:
        """Units with at least one anchor: prompts, but for those that count as one."""
        return self.units.count if self._category is None else int(self.within_category(self._category).sum())

    @property
    def n_anchors(self) -> int:
        """Anchors of all prompts together."""
        return int(self.sums(self.reference)["anchors"].sum()) if self.n_prompts else 0

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of each text, prompt and reply together, of those with an anchor."""
        found: list[int] = with_anchors(self.trajectories)["length"].to_pylist()
        return found

    def between(self, start: int, stop: int) -> Run:
        """The same run with the anchors at positions `start .. stop - 1` alone; what counts along walks is undefined there."""
        return replace(self, _span=(start, stop))

    @cached_property
    def replies(self) -> Replies:
        """The replies of the reference's texts by how far they have gone, of all categories."""
        return (
            reply_sums(self._grids(self.reference), self.trajectories, self.units, self.spec)
            if self.n_prompts
            else no_replies(self.spec.depth)
        )

    @cached_property
    def survival(self) -> Mapping[Told, Chains | Absent]:
        """What the drafter says of the reference's chains, by what says it, and what became of them; absent where it says nothing."""
        own = None if self._category is None else self.within_category(self._category)
        return survival(self._grids(self.reference) if self.n_prompts else None, self.spec.seed, own, self.argmax_share)

    @cached_property
    def shift(self) -> Shift | None:
        """What changes against the twin that this run is held against; None without one, or where its texts were not measured."""
        here = twin_card(self.path.name, self.manifest, self.pair.target, self.wiring)
        return shift_of(self.path, self.manifest, here, self.units, self.spec, self.reference) if self.n_prompts else None

    @property
    def argmax_share(self) -> float:
        """Share of given reply tokens that are the target's own choice, 1 when it wrote all; below 0.99 no acceptance is claimed."""
        return self.argmax_share_of(self.reference)

    def argmax_share_of(self, condition: str) -> float:
        """The same of the texts of any condition; a reply that is replayed behind another rendering counts as given."""
        texts = self._texts_of(condition)
        given = texts.filter(pc.invert(texts["generated"]))
        tokens = given["length"].to_numpy() - given["prompt_length"].to_numpy()
        return float(np.average(given["argmax_share"].to_numpy(), weights=tokens)) if len(given) else 1.0

    def sums(self, condition: str = BASELINE) -> Sums:
        """Sums over anchors by unit, (unit,) or (unit, depth), that `driftcli.statistics.curves` turns into numbers."""
        key = (self.reference, self._span, condition)
        if key not in self._sums:
            texts = self._texts_with_ids() if condition == self.reference else None
            sampled = self.is_sampled(condition)
            sums = condition_sums(self._grids(condition), self.units, self.spec.depth, sampled=sampled, texts=texts)
            floor: Sums = {}
            if texts is None and self._drafts_as_reference(condition):
                floor = {"favourite_right": replace(self, _category=None).sums(self.reference)["favourite_right"]}
            self._sums[key] = {**sums, **target_sums(self._texts_of(condition), self.units), **floor}
        return self._of_own(self._sums[key])

    def _of_own(self, sums: Sums) -> Sums:
        """Sums of the units of the category that the run is narrowed to."""
        if self._category is None:
            return sums
        own = self.within_category(self._category)
        return Mapped(sums, lambda values: values[own])

    def _drafts_as_reference(self, condition: str) -> bool:
        """Whether a condition drafts from the very anchors of the reference."""
        own = bool(cells(self.path / "trajectories", condition)) and condition != BASELINE
        return not own and self.depth_of(condition) <= self.spec.depth

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the tokens of the run stand for."""
        return read_vocabulary(self.path)

    @cached_property
    def rows(self) -> ReplyRows:
        """The reference's rows, reply by reply."""
        return ReplyRows(self.path, self.reference, self.spec.depth)

    @property
    def emitted_per_round(self) -> Estimate | Absent:
        """Tokens that a round of the reference's decoding emits, over whole replies: those of one chain and those too short for one, and
        the last rounds, whose chains reach past the end.
        """
        if self.argmax_share < EXACT_TEXT:
            return Absent(f"the given replies are the target's own choice at only {self.argmax_share:.1%} of their tokens")
        texts = read_table(self.path / "trajectories", ENDINGS, self.reference)
        if texts["rounds_to_end"].null_count:
            return Absent("this run was measured before rounds were counted to the end of each reply")
        units = Units.of(texts)
        some = np.arange(units.count) if self._category is None else np.flatnonzero(self._within(units, self._category))
        if not len(some):
            return Absent(NO_ANCHORS)
        return self._draws(len(some)).estimate(Mapped(ending_sums(texts, units), lambda values: values[some]), emitted_per_round)

    def cannot_plan(self, plan: Plan) -> Absent | None:
        """Why decoding by a plan cannot be counted, None where it can."""
        reason = "" if plan.condition in (self.reference, *self.measured) else f"{plan.condition} is none of the run's conditions"
        if not reason and plan.stop and plan.condition not in self.failed:
            reason = lacks_for_stop(plan.condition, self._grids(plan.condition)["free"], plan.stop)
        return Absent(reason) if reason else None

    def plan_sums(self, plan: Plan) -> Sums:
        """Sums by unit of decoding by a plan."""
        if (key := (plan, self._span)) not in self._plans:
            feeds = self._grids(plan.condition)
            assert feeds["forced"] is not None
            self._plans[key] = plan_sums(feeds["forced"], feeds["free"], plan)
        return self._of_own(self._plans[key])

    def _grids(self, condition: str) -> dict[Feed, Grid | None]:
        """The rows of a condition; those of the reference are kept, since every plan is held against them."""
        found = self._feeds.get(key := (condition, self._span)) or grids(self.path, condition, self.units, self._span)
        if condition == self.reference:
            self._feeds[key] = found
        return found

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        """Between which values a measure of the reference's fresh queries lies, but for a share on either side, on the half that selects;
        None where it has no fresh queries.
        """
        fresh = self._grids(self.reference)["fresh"] if self.n_prompts else None
        return None if fresh is None else fresh_band(fresh, measure, np.arange(self.units.count) % 2 == 0, outside)

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        """For each captured stream in order, and the fused input: RMS, and the RMS of what it adds to the fused input."""
        sums = stream_sums(self.path, self.reference, self.units)
        return stream_numbers(sums, self._draws(self.units.count)) if sums else {}


def read_run(path: Path, *, finished: bool = True) -> Run:
    """The run in a folder, begun or finished; raises RunError where there is none, only a begun one, or one that a newer driftcli wrote."""
    found = read_manifest(path)
    if finished and not found.complete:
        raise RunError(f"{path}: this run is not finished; repeat its diagnose command with --out {path} to resume it")
    if finished and "batches" in found.content:
        batches = found.content["batches"]
        assert isinstance(batches, list)
        check_cells(path, {batch_key(batch) for batch in batches})
    return Run(path, found.content, found.pair, found.spec)
