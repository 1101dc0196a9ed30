"""A run folder being read: its manifest, and its rows summed a prompt, ready for any statistic. Needs neither torch nor the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from driftcli.domain import BASELINE, REWIRED, SHARES, Absent, Estimate, Half, ModelCard, PairCard, RunSpec, Sourced, Wiring
from driftcli.errors import RunError
from driftcli.stats import Bootstrap, Floats, Sums, leading_matches, ratio, walk_counts
from driftcli.traces.schema import VERSION
from driftcli.traces.writer import Plain

NO_ANCHORS = "no reply was long enough for a chain"
LEAST_PROB = 1e-30  # in place of a probability that float32 rounds to 0, so that its logarithm is finite (chosen by us)
FIRST, SECOND = "first", "second"
WHOLE = (0, 1 << 31)  # positions of any anchor


@dataclass(frozen=True)
class Run:
    """A finished run; implements `driftcli.probe.Trace`."""

    path: Path
    manifest: dict[str, Plain]
    pair: PairCard
    spec: RunSpec
    _span: tuple[int, int] = WHOLE
    _reference: str | None = None
    _sums: dict[str, Sums] = field(default_factory=dict)

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

    def depth_of(self, condition: str) -> int:
        """Proposals a chain of a condition."""
        return int(self.sums(condition)["kept_at"].shape[1])

    @property
    def measured(self) -> frozenset[str]:
        """Names of the conditions that have been measured."""
        return frozenset(condition["name"] for condition in self._measured)

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
        columns = ["prompt", "turn", "category", "prompt_length", "length", "anchors", "sink_row", "argmax_share", "generated", "unlocated"]
        return _table(self.path / "trajectories", columns, self.reference)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of the prompts with at least one anchor, sorted."""
        start, stop = self._span
        first, count = pc.field("prompt_length"), pc.field("anchors")
        long_enough = self.trajectories.filter((count > 0) & (first < stop) & (first + count > start))
        return tuple(sorted(set(long_enough["prompt"].to_pylist())))

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

    @cached_property
    def argmax_share(self) -> float:
        """Share of given reply tokens that are the target's own choice, 1 when it wrote all; below 0.99 no acceptance is claimed."""
        given = self.trajectories.filter(~pc.field("generated"))
        tokens = given["length"].to_numpy() - given["prompt_length"].to_numpy()
        return float(np.average(given["argmax_share"].to_numpy(), weights=tokens)) if len(given) else 1.0

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap.of(self.n_prompts, self.spec.seed)

    def sums(self, condition: str = BASELINE) -> Sums:
        """Sums over anchors by prompt, (prompt,) or (prompt, depth), that `driftcli.curves` turns into numbers."""
        if condition not in self._sums:
            self._sums[condition] = _condition_sums(self.path, condition, self.prompts, self._span)
        return self._sums[condition]

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Estimate | Absent:
        """One number with its interval over prompts, of the reference unless another condition is named."""
        return self._bootstrap.estimate(self.sums(condition or self.reference), statistic) if self.n_prompts else Absent(NO_ANCHORS)

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first, of the reference unless another condition is named."""
        if not self.n_prompts:
            return [Absent(NO_ANCHORS)] * self.spec.depth
        return self._bootstrap.estimates(self.sums(condition or self.reference), statistic)

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str) -> Estimate | Absent:
        """The condition's number over the reference's, paired prompt by prompt."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        return self._bootstrap.estimate(self._both(condition, self.reference), _combined(statistic, ratio))

    def gain(self, statistic: Callable[[Sums], Floats], condition: str, over: str, half: Half) -> Estimate | Absent:
        """The condition's number minus another's, paired prompt by prompt, on one half of the prompts.

        Halves are every other prompt by id, so that categories named alike fall into both.
        """
        some = slice(0 if half == "selecting" else 1, None, 2)
        both = {name: values[some] for name, values in self._both(condition, over).items()}
        n_prompts = len(range(self.n_prompts)[some])
        if not n_prompts:
            return Absent(NO_ANCHORS)
        return Bootstrap.of(n_prompts, self.spec.seed).estimate(both, _combined(statistic, np.subtract))

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
        table = _table(self.path / "streams", ["prompt", "stream", "place", "rows", "rms", "added_rms"], self.reference)
        found: dict[str, tuple[Estimate | Absent, Estimate | Absent]] = {}
        for place in sorted(set(table["place"].to_pylist())):
            rows = table.filter(pc.field("place") == place)
            prompts = sorted(set(rows["prompt"].to_pylist()))
            index = _places(rows["prompt"], prompts)
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
    return PairCard(**{**card, **models, "record": fields, "readings": others, "notes": tuple(card["notes"]), "alternatives": open})


def _wiring(found: dict[str, Any]) -> Wiring:
    capture = found.get("capture")
    return Wiring(**{**found, "capture": None if capture is None else tuple(capture)})


def _fields(found: dict[str, Any]) -> dict[str, Sourced]:
    return {name: Sourced(tuple(f["value"]) if isinstance(f["value"], list) else f["value"], f["source"]) for name, f in found.items()}


def _spec(request: dict[str, int]) -> RunSpec:
    return RunSpec(**{name: request[name] for name in ("depth", "max_new_tokens", "batch_size", "seed")})


def _table(folder: Path, columns: list[str], condition: str | None = None) -> pa.Table:
    pattern = "*.parquet" if condition is None else f"{condition}-????????????.parquet"
    files = sorted(folder.glob(pattern))
    if not files:
        raise RunError(
            f"{folder}: no Parquet file for {condition or 'any condition'}, though the run says it is complete; run it again with --force"
        )
    try:
        return ds.dataset(files, format="parquet").to_table(columns=columns).unify_dictionaries()
    except (pa.ArrowInvalid, OSError) as error:
        raise RunError(f"{folder}: a trace file cannot be read ({error}); run it again with --force") from error


def _condition_sums(path: Path, condition: str, prompts: tuple[str, ...], span: tuple[int, int]) -> Sums:
    """Sums by prompt of every feed that the condition wrote, over the anchors of a span of positions."""
    columns = [
        "prompt",
        "turn",
        "anchor",
        "depth",
        "feed",
        "match",
        "on_walk",
        "wanted_prob",
        "rms",
        "state_cosine",
        *(f"share_{name}" for name in SHARES),
        "entropy",
    ]
    table = _table(path / "steps", columns, condition)
    if span != WHOLE:
        table = table.filter((pc.field("anchor") >= span[0]) & (pc.field("anchor") < span[1]))
    feeds = {feed: _grid(table.filter(pc.field("feed") == feed), prompts) for feed in ("fresh", "forced", "free")}
    forced = feeds["forced"]
    assert forced is not None
    sums = {**_walk_sums(forced), **_likelihood_sums(forced), "sink_anchors": forced.total(~np.isnan(forced.values["sink"][:, :1]))[:, 0]}
    if feeds["fresh"] is not None:
        sums["fresh_accepted"] = feeds["fresh"].total(leading_matches(feeds["fresh"].values["match"] == 1))
    for feed, grid in feeds.items():
        if grid is not None:
            sums |= {
                f"{feed}_{name}": grid.total(np.nan_to_num(values))
                for name, values in grid.values.items()
                if name == "sink" or not np.isnan(values).all()
            }
    return {**_absent(sums), **sums}


def _absent(sums: Sums) -> Sums:
    """NaN columns for what this drafter or condition does not have, so that its statistics come out absent and not zero."""
    missing = np.full_like(sums["kept_at"], np.nan)
    names = ("match", "rms", "state_cosine", *SHARES, "entropy")
    return {**{f"{feed}_{name}": missing for feed in ("fresh", "forced", "free") for name in names}, "fresh_accepted": missing[:, 0]}


@dataclass(frozen=True)
class _Grid:
    """One feed's rows as (anchor, depth) arrays, with the trajectory and prompt of each anchor; null is NaN."""

    values: dict[str, Floats]
    prompt: np.ndarray
    trajectory: np.ndarray
    n_prompts: int

    def total(self, values: np.ndarray) -> Floats:
        """Sum over the anchors of each prompt; (anchor, ...) -> (prompt, ...)."""
        out = np.zeros((self.n_prompts, *values.shape[1:]))
        np.add.at(out, self.prompt, values)
        return out


def _grid(table: pa.Table, prompts: tuple[str, ...]) -> _Grid | None:
    if not len(table):
        return None
    prompt = _places(table["prompt"], prompts)
    turn, anchor, depth = (table[name].to_numpy() for name in ("turn", "anchor", "depth"))
    order = np.lexsort((depth, anchor, turn, prompt))
    deepest = int(depth.max())
    shape = (len(table) // deepest, deepest)

    def column(name: str) -> Floats:
        name = f"share_{name}" if name in SHARES else name
        values = table[name].cast(pa.float32()) if name in ("match", "on_walk") else table[name]
        numbers: Floats = values.to_numpy(zero_copy_only=False).astype(np.float64)
        return numbers[order].reshape(shape)

    values = {name: column(name) for name in ("match", "on_walk", "wanted_prob", "rms", "state_cosine", *SHARES, "entropy")}
    first = order.reshape(shape)[:, 0]
    trajectory = np.cumsum(np.r_[0, (np.diff(prompt[first]) != 0) | (np.diff(turn[first]) != 0)])
    return _Grid(values, prompt[first], trajectory, len(prompts))


def _places(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """Index in `names` of every entry of a text column."""
    places: np.ndarray = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string())).to_numpy()
    return places


def _likelihood_sums(forced: _Grid) -> dict[str, Floats]:
    """Log-probability in nats of the wanted tokens that the draft vocabulary holds, and how many they are."""
    prob = forced.values["wanted_prob"]
    covered = ~np.isnan(prob)
    log_prob = np.log(np.where(covered, np.maximum(prob, LEAST_PROB), 1.0))
    return {"forced_log_prob": forced.total(log_prob), "forced_covered": forced.total(covered)}


def _walk_sums(forced: _Grid) -> dict[str, Floats]:
    """Counts over all anchors and over the walks, from the forced chain alone."""
    match = forced.values["match"] == 1
    on_walk = forced.values["on_walk"][:, 0] == 1
    depth = match.shape[1]
    accepted = leading_matches(match)
    kept_at = accepted[:, None] >= np.arange(1, depth + 1)
    starts = np.flatnonzero(np.r_[True, np.diff(forced.trajectory) != 0])
    rounds, kept = np.zeros((forced.n_prompts, depth)), np.zeros((forced.n_prompts, depth))
    for at, chunk in zip(starts, np.split(accepted, starts[1:]), strict=True):
        of_walk = walk_counts(chunk, depth)
        rounds[forced.prompt[at]] += of_walk[0]
        kept[forced.prompt[at]] += of_walk[1]
    return {
        "anchors": forced.total(np.ones(len(match))),
        "accepted": forced.total(accepted),
        "kept_at": forced.total(kept_at),
        "walk_rounds": forced.total(on_walk),
        "walk_kept_at": forced.total(kept_at & on_walk[:, None]),
        "rounds_by_length": rounds,
        "kept_by_length": kept,
    }
