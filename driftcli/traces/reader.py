"""A run folder being read: its manifest, and its rows summed a prompt, ready for any statistic. Needs neither torch nor the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftcli.costs import Costs, read_costs
from driftcli.domain import (
    BASELINE,
    REWIRED,
    Absent,
    Estimate,
    Feed,
    Half,
    ModelCard,
    PairCard,
    Plan,
    RenderingFacts,
    RunSpec,
    Sourced,
    StopMeasure,
    Wiring,
)
from driftcli.errors import RunError
from driftcli.stats import Bootstrap, Floats, Mapped, Sums, ratio
from driftcli.traces.plans import fresh_band, lacks_for_stop, plan_sums
from driftcli.traces.schema import VERSION
from driftcli.traces.sums import WHOLE, Grid, cells, condition_sums, grids, places, read_table, target_sums
from driftcli.traces.writer import Plain

COSTS_FILE = "costs.json"
NO_ANCHORS = "no reply was long enough for a chain"
TEXT_COLUMNS = [
    *("prompt", "turn", "category", "prompt_length", "length", "anchors", "sink_row", "argmax_share", "generated", "unlocated"),
    "target_entropy",
]


@dataclass(frozen=True)
class Run:
    """A finished run; implements `driftcli.probe.Trace`."""

    path: Path
    manifest: dict[str, Plain]
    pair: PairCard
    spec: RunSpec
    _span: tuple[int, int] = WHOLE
    _reference: str | None = None
    _category: str | None = None
    _sums: dict[tuple[str, tuple[int, int], str], Sums] = field(default_factory=dict)  # by reference, span and condition
    _bootstraps: dict[int, Bootstrap] = field(default_factory=dict)
    _feeds: dict[tuple[str, tuple[int, int]], dict[Feed, Grid | None]] = field(default_factory=dict)  # by condition and span
    _plans: dict[tuple[Plan, tuple[int, int]], Sums] = field(default_factory=dict)

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
        """Whether a condition's replies were drawn at a temperature."""
        return any(one["name"] == condition and one.get("text", {}).get("temperature", 0) > 0 for one in self._measured)

    def depth_of(self, condition: str) -> int:
        """Proposals a chain of a condition."""
        return next((one["settings"]["depth"] for one in self._measured if one["name"] == condition and "settings" in one), self.spec.depth)

    @property
    def measured(self) -> frozenset[str]:
        """Names of the conditions that have been run, those that failed among them."""
        return frozenset(condition["name"] for condition in self._measured) | self.failed.keys()

    @cached_property
    def failed(self) -> Mapping[str, str]:
        """Why each condition that failed did; its numbers are absent for that reason."""
        failed = self.manifest.get("failed", ())
        assert isinstance(failed, list | tuple)
        return {one["name"]: one["reason"] for one in failed}

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
        return next(_wiring(one["settings"]["wiring"]) for one in self._measured if one["name"] == self.reference)

    @cached_property
    def trajectories(self) -> pa.Table:
        """The reference's table of trajectories without their token lists."""
        return self._texts_of(self.reference)

    def _texts_of(self, condition: str) -> pa.Table:
        """Trajectories of the texts that a condition drafts on, without their token lists."""
        holder = condition if cells(self.path / "trajectories", condition) else self.reference
        return read_table(self.path / "trajectories", TEXT_COLUMNS, holder)

    def _texts_with_ids(self) -> pa.Table:
        """The reference's texts that have an anchor, token by token."""
        table = read_table(self.path / "trajectories", ["prompt", "turn", "prompt_length", "anchors", "ids"], self.reference)
        return table.filter(pc.field("anchors") > 0)

    @cached_property
    def _spanned(self) -> pa.Table:
        """Trajectories with an anchor in the span."""
        start, stop = self._span
        first, count = pc.field("prompt_length"), pc.field("anchors")
        return self.trajectories.filter((count > 0) & (first < stop) & (first + count > start))

    @cached_property
    def _every_prompt(self) -> tuple[str, ...]:
        return tuple(sorted(set(self._spanned["prompt"].to_pylist())))

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of the prompts with at least one anchor, sorted."""
        if self._category is None:
            return self._every_prompt
        return tuple(sorted(set(self._spanned.filter(pc.field("category") == self._category)["prompt"].to_pylist())))

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """Categories of the prompts with at least one anchor, sorted, each with its number of prompts; those without one are left out."""
        usable = self.trajectories.filter((pc.field("anchors") > 0) & pc.field("category").is_valid())
        own = set(zip(usable["category"].to_pylist(), usable["prompt"].to_pylist(), strict=True))
        return {name: sum(category == name for category, _ in own) for name in sorted({category for category, _ in own})}

    def of_category(self, category: str) -> Run:
        """The same run with the prompts of a category alone."""
        return replace(self, _category=category)

    @property
    def too_short(self) -> tuple[str, ...]:
        """Ids of the prompts without a single anchor, sorted."""
        return tuple(sorted(set(self.trajectories["prompt"].to_pylist()) - set(self.prompts)))

    @cached_property
    def sink_texts(self) -> tuple[int, int]:
        """How many trajectories with an anchor have a sink, and how many there are."""
        usable = self.trajectories.filter(pc.field("anchors") > 0)
        return len(usable) - usable["sink_row"].null_count, len(usable)

    @property
    def n_prompts(self) -> int:
        """Prompts with at least one anchor."""
        return len(self.prompts)

    @property
    def n_anchors(self) -> int:
        """Anchors of all prompts together."""
        return int(self.sums(self.reference)["anchors"].sum()) if self.n_prompts else 0

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of each text, prompt and reply together, of those with an anchor."""
        found: list[int] = self.trajectories.filter(pc.field("anchors") > 0)["length"].to_pylist()
        return found

    def between(self, start: int, stop: int) -> Run:
        """The same run with the anchors at positions `start .. stop - 1` alone; what counts along walks is undefined there."""
        return replace(self, _span=(start, stop))

    @property
    def argmax_share(self) -> float:
        """Share of given reply tokens that are the target's own choice, 1 when it wrote all; below 0.99 no acceptance is claimed."""
        return self.argmax_share_of(self.reference)

    def argmax_share_of(self, condition: str) -> float:
        """The same of the texts of any condition; a reply that is replayed behind another rendering counts as given."""
        texts = self._texts_of(condition)
        given = texts.filter(~pc.field("generated"))
        tokens = given["length"].to_numpy() - given["prompt_length"].to_numpy()
        return float(np.average(given["argmax_share"].to_numpy(), weights=tokens)) if len(given) else 1.0

    def _draws(self, n_prompts: int) -> Bootstrap:
        """Draws of so many prompts, the same whenever they are asked for."""
        if n_prompts not in self._bootstraps:
            self._bootstraps[n_prompts] = Bootstrap.of(n_prompts, self.spec.seed)
        return self._bootstraps[n_prompts]

    def sums(self, condition: str = BASELINE) -> Sums:
        """Sums over anchors by prompt, (prompt,) or (prompt, depth), that `driftcli.curves` turns into numbers."""
        key = (self.reference, self._span, condition)
        if key not in self._sums:
            texts = self._texts_with_ids() if condition == self.reference else None
            sampled, prompts = self.is_sampled(condition), self._every_prompt
            sums = condition_sums(self._grids(condition), prompts, self.spec.depth, sampled=sampled, texts=texts)
            self._sums[key] = {**sums, **target_sums(self._texts_of(condition), prompts)}
        if self._category is None:
            return self._sums[key]
        own = np.isin(self._every_prompt, self.prompts)
        return Mapped(self._sums[key], lambda values: values[own])

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Estimate | Absent:
        """One number with its interval over prompts, of the reference unless another condition is named."""
        return self.by_depth(statistic, condition)[0]

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first, of the reference unless another condition is named."""
        if lacking := self._lacking(condition):
            return [lacking] * self.spec.depth
        sums = self.sums(condition or self.reference)
        some = np.flatnonzero(sums["anchors"])
        return self._draws(len(some)).estimates(Mapped(sums, lambda values: values[some]), statistic)

    def _lacking(self, *conditions: str | None) -> Absent | None:
        """Why these conditions have no numbers, None where they have."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        if failed := next((name for name in conditions if name is not None and name in self.failed), None):
            return Absent(self.failed[failed])
        return None if all(self.sums(name or self.reference)["anchors"].any() for name in conditions) else Absent(NO_ANCHORS)

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over the reference's, paired prompt by prompt; the interval holds for `tries` such numbers at once."""
        return self.ratio(statistic, condition, self.reference, tries)

    def ratio(self, statistic: Callable[[Sums], Floats], condition: str, over: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over another's, on the prompts that both have, paired; the interval holds for `tries` at once."""
        return self._compared(statistic, ratio, condition, over, slice(None), tries)

    def gain(self, statistic: Callable[[Sums], Floats], condition: str, over: str, half: Half) -> Estimate | Absent:
        """The condition's number minus another's, paired prompt by prompt, on one half of the prompts.

        Halves are every other prompt by id, so that categories named alike fall into both.
        """
        return self._compared(statistic, np.subtract, condition, over, slice(0 if half == "selecting" else 1, None, 2), 1)

    def planned(
        self, statistic: Callable[[Sums], Floats], plan: Plan, over: Plan | None = None, half: Half | None = None, tries: int = 1
    ) -> Estimate | Absent:
        """A number of decoding by a plan, or its ratio to that of another, on the prompts that both have; `statistic` sees `rounds_by_sent`
        (draw, drafts + 1), `kept` and `anchors` (draw,). half: of the prompts, all unless said. The interval holds for `tries` at once.
        """
        plans = [plan] if over is None else [plan, over]
        if lacking := self._lacking(*(one.condition for one in plans)) or self._cannot_stop(plans):
            return lacking
        sums = [self._planned_sums(one) for one in plans]
        some = np.flatnonzero(np.all([one["anchors"] > 0 for one in sums], axis=0))
        some = some if half is None else some[some % 2 == (half == "judging")]
        if not len(some):
            return Absent(NO_ANCHORS)
        own = [Mapped(one, lambda values: values[some]) for one in sums]
        draws = self._draws(len(some))
        return draws.estimate(own[0], statistic, tries) if over is None else draws.compared(own[0], own[1], statistic, ratio, tries)

    def _cannot_stop(self, plans: Sequence[Plan]) -> Absent | None:
        unseen = (lacks_for_stop(one.condition, self._grids(one.condition)["free"], one.stop) for one in plans if one.stop)
        return next((Absent(reason) for reason in unseen if reason), None)

    def _planned_sums(self, plan: Plan) -> Sums:
        key = (plan, self._span)
        if key not in self._plans:
            feeds = self._grids(plan.condition)
            assert feeds["forced"] is not None
            self._plans[key] = plan_sums(feeds["forced"], feeds["free"], plan)
        return self._plans[key]

    def _grids(self, condition: str) -> dict[Feed, Grid | None]:
        """The rows of a condition; those of the reference are kept, since every plan is held against them."""
        key = (condition, self._span)
        found = self._feeds.get(key) or grids(self.path, condition, self._every_prompt, self._span)
        if condition == self.reference:
            self._feeds[key] = found
        return found

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        """Between which values a measure of the reference's fresh queries lies, but for a share on either side, on the half that selects;
        None where it has no fresh queries.
        """
        fresh = self._grids(self.reference)["fresh"] if self.n_prompts else None
        return None if fresh is None else fresh_band(fresh, measure, np.arange(len(self._every_prompt)) % 2 == 0, outside)

    def _compared(
        self,
        statistic: Callable[[Sums], Floats],
        combine: Callable[[Floats, Floats], Floats],
        condition: str,
        over: str,
        part: slice,
        tries: int,
    ) -> Estimate | Absent:
        """A number of two conditions combined, on a part of the prompts that both have, as deep as the shorter of the two chains goes."""
        if lacking := self._lacking(condition, over):
            return lacking
        first, second = self.sums(condition), self.sums(over)
        some = np.flatnonzero((first["anchors"] > 0) & (second["anchors"] > 0))[part]
        if not len(some):
            return Absent(NO_ANCHORS)
        depth = min(sums["kept_at"].shape[1] for sums in (first, second))
        own, other = (Mapped(sums, lambda values: values[some, :depth] if values.ndim > 1 else values[some]) for sums in (first, second))
        return self._draws(len(some)).compared(own, other, statistic, combine, tries)

    def contrast(
        self, statistic: Callable[[Sums], Floats], combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1
    ) -> Estimate | Absent:
        """A category's number combined with that of all other prompts, all resampled together; the interval holds for `tries` at once."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        inside, sums = np.isin(self.prompts, self.of_category(category).prompts), self.sums(self.reference)
        own, others = (Mapped(sums, lambda values, some=some: (values.T * some).T) for some in (inside, ~inside))  # type: ignore[misc]
        return self._draws(self.n_prompts).compared(own, others, statistic, combine, tries)

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        """For each captured stream in order, and the fused input: RMS, and the RMS of what it adds to the fused input."""
        table = read_table(self.path / "streams", ["prompt", "stream", "place", "rows", "rms", "added_rms"], self.reference)
        found: dict[str, tuple[Estimate | Absent, Estimate | Absent]] = {}
        for place in sorted(set(table["place"].to_pylist())):
            rows = table.filter(pc.field("place") == place)
            prompts = sorted(set(rows["prompt"].to_pylist()))
            index = places(rows["prompt"], prompts)
            counts = rows["rows"].to_numpy().astype(np.float64)
            sums: dict[str, Floats] = {"rows": np.bincount(index, counts).astype(np.float64)}
            sums |= {name: np.bincount(index, counts * rows[name].to_numpy()).astype(np.float64) for name in ("rms", "added_rms")}
            bootstrap = Bootstrap.of(len(prompts), self.spec.seed)
            both = [bootstrap.estimate(sums, lambda s, name=name: s[name] / s["rows"]) for name in ("rms", "added_rms")]  # type: ignore[misc]
            found[rows["stream"][0].as_py()] = (both[0], both[1])
        return found


def read_run(path: Path, *, finished: bool = True) -> Run:
    """The run in a folder, begun or finished; raises RunError where there is none, only a begun one, or one that a newer driftcli wrote."""
    manifest = path / "run.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        schema, complete = content["schema"], content["complete"]
        pair, spec = _pair(content["pair"]), _spec(content["request"])
        content.setdefault("conditions", content["request"]["conditions"])  # as runs were written before probes asked in rounds
    except FileNotFoundError:
        raise RunError(f"{path}: no run.json, expected the folder of a driftcli run; name the folder that diagnose wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{manifest}: not a readable manifest of a run ({error!r}); run the diagnosis again") from error
    if schema > VERSION:
        raise RunError(f"{path}: written with trace schema {schema}, this driftcli reads up to {VERSION}; update driftcli")
    if finished and not complete:
        raise RunError(f"{path}: this run is not finished; repeat its diagnose command with --out {path} to resume it")
    return Run(path, content, pair, spec)


def _pair(card: dict[str, Any]) -> PairCard:
    fields, others = _fields(card["record"]), {name: _fields(found) for name, found in card.get("readings", {}).items()}
    models = {name: ModelCard(**card[name]) for name in ("target", "drafter")}
    open = tuple(_wiring(found) for found in card.get("alternatives", ()))
    rendering = RenderingFacts(**card.get("rendering", {}))
    told: dict[str, Any] = {"notes": tuple(card["notes"]), "alternatives": open, "rendering": rendering}
    return PairCard(**{**card, **models, "record": fields, "readings": others, **told})


def _wiring(found: dict[str, Any]) -> Wiring:
    capture = found.get("capture")
    return Wiring(**{**found, "capture": None if capture is None else tuple(capture)})


def _fields(found: dict[str, Any]) -> dict[str, Sourced]:
    return {name: Sourced(tuple(f["value"]) if isinstance(f["value"], list) else f["value"], f["source"]) for name, f in found.items()}


def _spec(request: dict[str, Any]) -> RunSpec:
    names = ("depth", "max_new_tokens", "batch_size", "seed", "quick")
    lengths = tuple(request.get("lengths", ()))
    return RunSpec(**{name: request[name] for name in names if name in request}, lengths=lengths)
