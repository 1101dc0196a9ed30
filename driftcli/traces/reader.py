"""A run folder being read: its manifest, and its rows summed a prompt, ready for any statistic. Needs neither torch nor the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from driftcli.domain import BASELINE, SHARES, Absent, Estimate, ModelCard, PairCard, RunSpec, Sourced
from driftcli.errors import RunError
from driftcli.stats import Bootstrap, Floats, Sums, leading_matches, ratio, walk_counts
from driftcli.traces.schema import VERSION
from driftcli.traces.writer import Plain

NO_ANCHORS = "no reply was long enough for a chain"


@dataclass(frozen=True)
class Run:
    """A finished run; implements `driftcli.probe.Trace`."""

    path: Path
    manifest: dict[str, Plain]
    pair: PairCard
    spec: RunSpec
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
        request = self.manifest["request"]
        assert isinstance(request, dict)
        asked = request["conditions"]
        assert isinstance(asked, list)
        return [(condition["probe"], condition["name"]) for condition in asked if condition["name"] != BASELINE]

    @cached_property
    def trajectories(self) -> pa.Table:
        """The table of trajectories without their token lists."""
        columns = ["prompt", "turn", "category", "prompt_length", "length", "anchors", "sink_row", "argmax_share", "generated", "unlocated"]
        return _table(self.path / "trajectories", columns)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of the prompts with at least one anchor, sorted."""
        long_enough = self.trajectories.filter(pc.field("anchors") > 0)
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
            self._sums[condition] = _condition_sums(self.path, condition, self.prompts)
        return self._sums[condition]

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str = BASELINE) -> Estimate | Absent:
        """One number with its interval over prompts."""
        return self._bootstrap.estimate(self.sums(condition), statistic) if self.n_prompts else Absent(NO_ANCHORS)

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str = BASELINE) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first."""
        return self._bootstrap.estimates(self.sums(condition), statistic) if self.n_prompts else [Absent(NO_ANCHORS)] * self.spec.depth

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str) -> Estimate | Absent:
        """The condition's number over the baseline's, paired prompt by prompt."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        both = {f"{name} {key}": values for name in (BASELINE, condition) for key, values in self.sums(name).items()}

        def one(sums: Sums, name: str) -> Floats:
            return statistic({key.removeprefix(f"{name} "): values for key, values in sums.items() if key.startswith(f"{name} ")})

        return self._bootstrap.estimate(both, lambda sums: ratio(one(sums, condition), one(sums, BASELINE)))

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        """For each captured stream in order, and the fused input: RMS, and the RMS of what it adds to the fused input."""
        table = _table(self.path / "streams", ["prompt", "stream", "place", "rows", "rms", "added_rms"])
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


def read_run(path: Path) -> Run:
    """The run in a folder; raises RunError when there is none, when it is unfinished, or when a newer driftcli wrote it."""
    manifest = path / "run.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        schema, complete = content["schema"], content["complete"]
        pair, spec = _pair(content["pair"]), _spec(content["request"])
    except FileNotFoundError:
        raise RunError(f"{path}: no run.json, expected the folder of a driftcli run; name the folder that diagnose wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{manifest}: not a readable manifest of a run ({error!r}); run the diagnosis again") from error
    if schema > VERSION:
        raise RunError(f"{path}: written with trace schema {schema}, this driftcli reads up to {VERSION}; update driftcli")
    if not complete:
        raise RunError(f"{path}: this run is not finished; repeat its diagnose command with --out {path} to resume it")
    return Run(path, content, pair, spec)


def _pair(card: dict[str, Any]) -> PairCard:
    fields, others = _fields(card["record"]), {name: _fields(found) for name, found in card.get("readings", {}).items()}
    models = {name: ModelCard(**card[name]) for name in ("target", "drafter")}
    return PairCard(**{**card, **models, "record": fields, "readings": others, "notes": tuple(card["notes"])})


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


def _condition_sums(path: Path, condition: str, prompts: tuple[str, ...]) -> Sums:
    """Sums by prompt of every feed that the condition wrote."""
    columns = [
        "prompt",
        "turn",
        "anchor",
        "depth",
        "feed",
        "match",
        "on_walk",
        "rms",
        "state_cosine",
        *(f"share_{name}" for name in SHARES),
        "entropy",
    ]
    table = _table(path / "steps", columns, condition)
    feeds = {feed: _grid(table.filter(pc.field("feed") == feed), prompts) for feed in ("fresh", "forced", "free")}
    forced = feeds["forced"]
    assert forced is not None
    sums = {**_walk_sums(forced), "sink_anchors": forced.total(~np.isnan(forced.values["sink"][:, :1]))[:, 0]}
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

    values = {name: column(name) for name in ("match", "on_walk", "rms", "state_cosine", *SHARES, "entropy")}
    first = order.reshape(shape)[:, 0]
    trajectory = np.cumsum(np.r_[0, (np.diff(prompt[first]) != 0) | (np.diff(turn[first]) != 0)])
    return _Grid(values, prompt[first], trajectory, len(prompts))


def _places(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """Index in `names` of every entry of a text column."""
    places: np.ndarray = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string())).to_numpy()
    return places


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
