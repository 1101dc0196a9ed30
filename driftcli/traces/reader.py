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

from driftcli.domain import BASELINE, REWIRED, Absent, Estimate, Half, ModelCard, PairCard, RenderingFacts, RunSpec, Sourced, Wiring
from driftcli.errors import RunError
from driftcli.stats import Bootstrap, Floats, Sums, ratio
from driftcli.traces.schema import VERSION
from driftcli.traces.sums import WHOLE, cells, condition_sums, entropy_sums, places, read_table
from driftcli.traces.writer import Plain

NO_ANCHORS = "no reply was long enough for a chain"
FIRST, SECOND = "first", "second"
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
    _sums: dict[str, Sums] = field(default_factory=dict)
    _bootstraps: dict[int, Bootstrap] = field(default_factory=dict)

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
        return int(self.sums(condition)["kept_at"].shape[1])

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

    @property
    def reference(self) -> str:
        """The condition that everything is held against: the baseline, or its rewired twin where another wiring fits the weights."""
        return self._reference or (REWIRED if REWIRED in self.measured else BASELINE)

    def against(self, condition: str) -> Run:
        """The same run with everything held against another full condition."""
        return replace(self, _reference=condition, _sums={})

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

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of the prompts with at least one anchor, sorted."""
        start, stop = self._span
        first, count = pc.field("prompt_length"), pc.field("anchors")
        some = (count > 0) & (first < stop) & (first + count > start)
        if self._category is not None:
            some &= pc.field("category") == self._category
        return tuple(sorted(set(self.trajectories.filter(some)["prompt"].to_pylist())))

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """Categories of the prompts with at least one anchor, sorted, each with its number of prompts; those without one are left out."""
        usable = self.trajectories.filter((pc.field("anchors") > 0) & pc.field("category").is_valid())
        own = set(zip(usable["category"].to_pylist(), usable["prompt"].to_pylist(), strict=True))
        return {name: sum(category == name for category, _ in own) for name in sorted({category for category, _ in own})}

    def of_category(self, category: str) -> Run:
        """The same run with the prompts of a category alone."""
        return replace(self, _category=category, _sums={})

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
        return replace(self, _span=(start, stop), _sums={})

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
        if condition not in self._sums:
            sums = condition_sums(self.path, condition, self.prompts, self._span, self.spec.depth)
            self._sums[condition] = {**sums, **entropy_sums(self._texts_of(condition), self.prompts)}
        return self._sums[condition]

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Estimate | Absent:
        """One number with its interval over prompts, of the reference unless another condition is named."""
        return self._estimates(condition, statistic)[0]

    def _estimates(self, condition: str | None, statistic: Callable[[Sums], Floats]) -> Sequence[Estimate | Absent]:
        if lacking := self._lacking(condition):
            return [lacking] * self.spec.depth
        bootstrap, sums = self._of_prompts(self.sums(condition or self.reference), "anchors")
        return bootstrap.estimates(sums, statistic)

    def _of_prompts(self, sums: Sums, *counts: str, half: Half | None = None) -> tuple[Bootstrap, Sums]:
        """Sums of the prompts that have every one of `counts`, those of a half of them if asked, and draws of as many."""
        some = np.flatnonzero(np.all([sums[name] > 0 for name in counts], axis=0))
        some = some if half is None else some[(0 if half == "selecting" else 1) :: 2]
        whole = len(some) == self.n_prompts
        return self._draws(len(some)), sums if whole else {name: values[some] for name, values in sums.items()}

    def _lacking(self, *conditions: str | None) -> Absent | None:
        """Why these conditions have no numbers, None where they have."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        if failed := next((name for name in conditions if name is not None and name in self.failed), None):
            return Absent(self.failed[failed])
        return None if all(self.sums(name or self.reference)["anchors"].any() for name in conditions) else Absent(NO_ANCHORS)

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first, of the reference unless another condition is named."""
        return self._estimates(condition, statistic)

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over the reference's, paired prompt by prompt; the interval holds for `tries` such numbers at once."""
        return self.ratio(statistic, condition, self.reference, tries)

    def ratio(self, statistic: Callable[[Sums], Floats], condition: str, over: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over another's, on the prompts that both have, paired; the interval holds for `tries` at once."""
        if lacking := self._lacking(condition, over):
            return lacking
        bootstrap, both = self._of_prompts(self._both(condition, over), f"{FIRST} anchors", f"{SECOND} anchors")
        return bootstrap.estimate(both, _combined(statistic, ratio), tries)

    def gain(self, statistic: Callable[[Sums], Floats], condition: str, over: str, half: Half) -> Estimate | Absent:
        """The condition's number minus another's, paired prompt by prompt, on one half of the prompts.

        Halves are every other prompt by id, so that categories named alike fall into both.
        """
        if lacking := self._lacking(condition, over):
            return lacking
        bootstrap, both = self._of_prompts(self._both(condition, over), f"{FIRST} anchors", f"{SECOND} anchors", half=half)
        return bootstrap.estimate(both, _combined(statistic, np.subtract)) if bootstrap.weights.size else Absent(NO_ANCHORS)

    def contrast(
        self, statistic: Callable[[Sums], Floats], combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1
    ) -> Estimate | Absent:
        """A category's number combined with that of all other prompts, all resampled together; the interval holds for `tries` at once."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        inside = np.isin(self.prompts, self.of_category(category).prompts)
        both: dict[str, Floats] = {}
        for place, some in ((FIRST, inside), (SECOND, ~inside)):
            both |= {f"{place} {key}": (values.T * some).T for key, values in self.sums(self.reference).items()}
        return self._draws(self.n_prompts).estimate(both, _combined(statistic, combine), tries)

    def _both(self, condition: str, other: str) -> dict[str, Floats]:
        """The sums of two conditions side by side, named for `_combined`, by depth as far as the shorter of the two chains goes."""
        pair = {FIRST: self.sums(condition), SECOND: self.sums(other)}
        depth = min(sums["kept_at"].shape[1] for sums in pair.values())
        return {
            f"{place} {key}": values[:, :depth] if values.ndim > 1 else values
            for place, sums in pair.items()
            for key, values in sums.items()
        }

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


def _combined(statistic: Callable[[Sums], Floats], combine: Callable[[Floats, Floats], Floats]) -> Callable[[Sums], Floats]:
    """A statistic of the first condition combined with that of the second, draw by draw."""

    def one(sums: Sums, place: str) -> Floats:
        return statistic({key.removeprefix(f"{place} "): values for key, values in sums.items() if key.startswith(f"{place} ")})

    return lambda sums: combine(one(sums, FIRST), one(sums, SECOND))


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
