"""Rows of a run's tables summed a unit, which is all that a statistic sees; a span of anchors may be summed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from driftcli.domain import FEEDS, SHARES, Feed
from driftcli.errors import RunError
from driftcli.statistics.survival import binned_sums
from driftcli.statistics.temperatures import survival
from driftcli.statistics.walks import Floats, Sums, by_unit, leading_matches, sampled_walk, walk, walk_counts
from driftcli.traces.floors import DEFAULT, lookup_accepted, looping, others_favourites
from driftcli.traces.parquet import Holding, holding, read_columns
from driftcli.traces.schema import arrow_schema
from driftcli.traces.units import Units

LEAST_PROB = 1e-30  # in place of a probability that float32 rounds to 0, so that its logarithm is finite (chosen by us)
WHOLE = (0, 1 << 31)  # positions of any anchor
NUMBERS = (
    *("match", "on_walk", "target_prob", "draft_prob", "wanted_prob", "draft_entropy", "confidence", "rms", "state_cosine"),
    *SHARES,
    "entropy",
)
PROPOSED = "proposed"  # beside them: whether there is a draft token at all
TOTALLED = (PROPOSED, "match", "rms", "state_cosine", *SHARES, "entropy")  # of every feed, as `forced_match`
BINS = 10  # of a probability, equally wide


def target_sums(texts: pa.Table, units: Units) -> dict[str, Floats]:
    """Reply tokens of each unit, the target's entropy over them in nats, NaN where its engine does not tell it, and how many it would
    choose itself, read in one pass.
    """
    texts = of_units(texts, units)
    index = units.unit[places(texts["prompt"], units.prompts)]
    tokens = texts["length"].to_numpy() - texts["prompt_length"].to_numpy()
    total = [sum(np.nan if value is None else value for value in values) for values in texts["target_entropy"].to_pylist()]
    return {
        "reply_tokens": np.bincount(index, tokens, minlength=units.count).astype(np.float64),
        "target_entropy": np.bincount(index, total, minlength=units.count).astype(np.float64),
        "own_choices": np.bincount(index, tokens * texts["argmax_share"].to_numpy(), minlength=units.count).astype(np.float64),
    }


def ending_sums(texts: pa.Table, units: Units) -> dict[str, Floats]:
    """Reply tokens behind the first of each text, which comes without a draft, (unit,), and the rounds in which decoding comes to the last
    one by draft length, (unit, depth).
    """
    index = units.unit[places(texts["prompt"], units.prompts)]
    emitted = texts["length"].to_numpy() - texts["prompt_length"].to_numpy() - 1
    by_text = np.array(texts["rounds_to_end"].to_pylist(), dtype=np.float64)
    rounds = by_unit(index, by_text, units.count)
    return {"emitted": np.bincount(index, emitted, minlength=units.count).astype(np.float64), "rounds_to_end": rounds}


def cells(folder: Path, condition: str) -> list[Path]:
    """The files of a condition's cells in a table's folder."""
    return sorted(folder.glob(f"{condition}-????????????.parquet"))


def read_table(folder: Path, columns: Sequence[str], condition: str) -> pa.Table:
    """The rows of a condition's cells in a table's folder, null in a column that older runs lack; raises RunError where there is no cell or
    one cannot be read.
    """
    files = cells(folder, condition)
    if not files:
        raise RunError(f"{folder}: no Parquet file for {condition}, though the run says it is complete; run it again with --force")
    return pa.concat_tables([read_rows(file, columns) for file in files]).unify_dictionaries()


def read_rows(file: Path, columns: Sequence[str], where: Holding | pc.Expression | None = None, table: str | None = None) -> pa.Table:
    """Rows of one cell's file, or those that `where` admits, null in a column that older runs lack; of the table that its folder names
    unless told.

    where: values that rows hold, or an expression, for which Arrow's datasets are imported. Arrow is given the file open, since
    it would read a path such as `a:b` as a URL. RunError where it is damaged or the cell of another
    name.
    """
    try:
        with file.open("rb") as opened:
            found = pq.ParquetFile(opened)
            told = (found.schema_arrow.metadata or {}).get(b"driftcli.cell", file.stem.encode()).decode(errors="replace")
            schema = arrow_schema(table or file.parent.name)
            if isinstance(where, pc.Expression):
                opened.seek(0)
                rows = pq.read_table(opened, columns=list(columns), schema=schema, filters=where)
            else:
                rows = _holding(found, columns, where or {}, schema)
    except (OSError, ValueError, pa.ArrowException) as error:
        said = "; ".join(str(error).splitlines())
        raise RunError(f"{file}: cannot be read ({said}); remove it and repeat the diagnosis, which measures it again") from error
    if told != file.stem:
        raise RunError(f"{file}: is a copy of {told}; remove it and repeat the diagnosis, which measures it again")
    return rows


def _holding(found: pq.ParquetFile, columns: Sequence[str], where: Holding, schema: pa.Schema) -> pa.Table:
    rows = read_columns(found, list(dict.fromkeys([*columns, *where])), schema)
    return holding(rows, where).select(columns) if where else rows


def grids(path: Path, condition: str, units: Units, span: tuple[int, int] = WHOLE) -> dict[Feed, Grid | None]:
    """The rows that a condition wrote, by feed, None where it wrote none."""
    columns = ["prompt", "turn", "anchor", "depth", "feed", "drafted", *map(_column, NUMBERS)]
    table = read_table(path / "steps", columns, condition)
    table = of_units(table, units)
    if span != WHOLE:
        table = table.filter(pc.and_(pc.greater_equal(table["anchor"], span[0]), pc.less(table["anchor"], span[1])))
    return {feed: _grid(holding(table, {"feed": [feed]}), units) for feed in FEEDS}


def condition_sums(
    feeds: Mapping[Feed, Grid | None], units: Units, depth: int, *, sampled: bool = False, texts: pa.Table | None = None
) -> Sums:
    """Sums by unit of every feed that a condition wrote.

    depth: of its chains where it has none at all, since no text of it is long enough. sampled: its replies were drawn at a temperature.
    texts: what it drafts on, with token ids, where guesses that need no drafter are to be counted on the same anchors.
    """
    nothing = np.zeros(0, dtype=int)
    forced = feeds["forced"] or Grid({name: np.zeros((0, depth)) for name in (*NUMBERS, PROPOSED)}, nothing, nothing, nothing, units)
    sums = {
        **_walk_sums(forced),
        **(_sampled_sums(forced) if sampled else {}),
        **({} if texts is None else _floor_sums(forced, texts, units)),
        **_likelihood_sums(forced),
        **_certainty_sums(forced),
        "sink_anchors": forced.total(~np.isnan(forced.values["sink"][:, :1]))[:, 0],
    }
    if feeds["fresh"] is not None:
        sums["fresh_accepted"] = feeds["fresh"].total(leading_matches(feeds["fresh"].values["match"] == 1))
    sums |= _chain_sums(forced, feeds["free"])
    for feed, grid in feeds.items():
        if grid is not None:
            sums |= {
                f"{feed}_{name}": grid.total(np.nan_to_num(grid.values[name]))
                for name in TOTALLED
                if name == "sink" or not np.isnan(grid.values[name]).all()
            }
    return {**_absent(sums), **sums}


def _absent(sums: Sums) -> Sums:
    """NaN columns for what this drafter or condition does not have, so that its statistics come out absent and not zero."""
    missing = np.full_like(sums["kept_at"], np.nan)
    single = dict.fromkeys(("fresh_accepted", "sampled_rounds", "sampled_kept"), missing[:, 0])
    return {**{f"{feed}_{name}": missing for feed in FEEDS for name in TOTALLED}, **single}


def _column(name: str) -> str:
    """The column of a number."""
    return f"share_{name}" if name in SHARES else name


@dataclass(frozen=True)
class Grid:
    """One feed's rows as (anchor, depth) arrays, with turn, position and prompt of each anchor, by which they are ordered; null is NaN.

    values: by the names of `NUMBERS`, and 1 or 0 for `PROPOSED`.
    prompt: (anchor,) its place among the prompts of `units`.
    """

    values: dict[str, Floats]
    turn: np.ndarray
    anchor: np.ndarray
    prompt: np.ndarray
    units: Units

    @cached_property
    def accepted(self) -> np.ndarray:
        """Drafts kept at each anchor; (anchor,)."""
        return leading_matches(self.values["match"] == 1)

    @cached_property
    def proposed(self) -> np.ndarray:
        """Draft tokens proposed at each anchor, which end with the first place where there is none; (anchor,)."""
        return leading_matches(self.values[PROPOSED] == 1)

    @property
    def on_walk(self) -> np.ndarray:
        """Anchors from which decoding would draft; (anchor,)."""
        visited: np.ndarray = self.values["on_walk"][:, 0] == 1
        return visited

    @cached_property
    def trajectories(self) -> list[slice]:
        """The anchors of each trajectory."""
        begins = np.flatnonzero((np.diff(self.prompt, prepend=-1) != 0) | (np.diff(self.turn, prepend=-1) != 0)).tolist()
        return [slice(start, stop) for start, stop in zip(begins, [*begins[1:], len(self.prompt)], strict=False)]

    @cached_property
    def unit(self) -> np.ndarray:
        """The unit of each anchor; (anchor,)."""
        units: np.ndarray = self.units.unit[self.prompt]
        return units

    def total(self, values: np.ndarray) -> Floats:
        """Sum over the anchors of each unit; (anchor, ...) -> (unit, ...)."""
        return by_unit(self.unit, values, self.units.count)


def prompt_side(grid: Grid) -> Floats:
    """Share of attention on all that was there before the reply, (anchor, depth); NaN without attention, while a text may have no sink."""
    found: Floats = np.nan_to_num(grid.values["sink"]) + grid.values["template"] + grid.values["prompt"]
    return found


def _grid(table: pa.Table, units: Units) -> Grid | None:
    if not len(table):
        return None
    prompt = places(table["prompt"], units.prompts)
    turn, anchor, depth = (table[name].to_numpy() for name in ("turn", "anchor", "depth"))
    order = np.lexsort((depth, anchor, turn, prompt))
    deepest = int(depth.max())
    if len(table) % deepest:
        raise RunError(f"{len(table)} rows of chains of depth {deepest}: some are missing or stand there twice; run the diagnosis again")
    shape = (len(table) // deepest, deepest)

    def column(name: str) -> Floats:
        values = table[name].cast(pa.float32()) if name in ("match", "on_walk") else table[name]
        numbers: Floats = values.to_numpy(zero_copy_only=False).astype(np.float64)
        return numbers[order].reshape(shape)

    there = table["drafted"].is_valid().to_numpy(zero_copy_only=False).astype(np.float64)
    values = {**{name: column(_column(name)) for name in NUMBERS}, PROPOSED: there[order].reshape(shape)}
    first = order.reshape(shape)[:, 0]
    return Grid(values, turn[first], anchor[first], prompt[first], units)


def of_units(table: pa.Table, units: Units) -> pa.Table:
    """The rows of the units' prompts."""
    return holding(table, {"prompt": units.prompts})


def places(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """Index in `names` of every entry of a text column."""
    found: np.ndarray = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string())).to_numpy()
    return found.astype(np.int64)  # of an empty column Arrow says nothing of integers


def _likelihood_sums(forced: Grid) -> dict[str, Floats]:
    """Log-probability in nats of the wanted tokens that the draft vocabulary holds, and how many they are, those included of which the
    drafter has no distribution; how many the log-probability is of, which leaves these out.
    """
    prob = forced.values["wanted_prob"]
    covered = ~np.isnan(prob)
    likely = covered & ~np.isnan(forced.values["draft_prob"])
    log_prob = np.log(np.where(likely, np.maximum(prob, LEAST_PROB), 1.0))
    return {"forced_log_prob": forced.total(log_prob), "forced_covered": forced.total(covered), "forced_likely": forced.total(likely)}


def _certainty_sums(forced: Grid) -> dict[str, Floats]:
    """First guesses, and right ones, by how likely the target finds the wanted token, (unit, 1, bin); all guesses with a probability of the
    drafter's own, right ones and that probability by depth and by it, (unit, depth, bin).
    """
    match = forced.values["match"] == 1
    sure, drafted = (_binned(forced.values[name]) for name in ("target_prob", "draft_prob"))
    drafted = drafted * ~np.isnan(forced.values["draft_prob"])[:, :, None]
    return {
        "first_by_certainty": forced.total(sure[:, :1]),
        "first_right_by_certainty": forced.total(sure[:, :1] * match[:, :1, None]),
        "guesses_by_confidence": forced.total(drafted),
        "right_by_confidence": forced.total(drafted * match[:, :, None]),
        "probability_by_confidence": forced.total(drafted * np.nan_to_num(forced.values["draft_prob"])[:, :, None]),
    }


def _chain_sums(forced: Grid, free: Grid | None) -> dict[str, Floats]:
    """What the drafter's probabilities promise of its deployed chains, and what survives, by depth and promise; NaN without them."""
    if free is None or np.isnan(free.values["draft_prob"]).any():
        return {
            name: np.full((forced.units.count, forced.values["match"].shape[1], 1), np.nan)
            for name in ("promised_by_bin", "survived_by_bin")
        }
    return binned_sums(survival(free.values["draft_prob"]), forced.accepted, forced.unit, forced.units.count)


def _binned(probability: Floats) -> Floats:
    """One where a probability lies in a bin; (anchor, depth) -> (anchor, depth, bin)."""
    place = np.clip((np.nan_to_num(probability) * BINS).astype(int), 0, BINS - 1)
    found: Floats = np.eye(BINS)[place]
    return found


def _sampled_sums(forced: Grid) -> dict[str, Floats]:
    """Rounds and kept drafts that rejection sampling expects along the texts; they mean something where the texts were sampled."""
    accept = np.minimum(1.0, np.nan_to_num(forced.values["wanted_prob"]) / np.maximum(forced.values["target_prob"], LEAST_PROB))
    rounds, kept = np.zeros(forced.units.count), np.zeros(forced.units.count)
    for span in forced.trajectories:
        of_walk = sampled_walk(accept[span])
        rounds[forced.unit[span.start]] += of_walk[0]
        kept[forced.unit[span.start]] += of_walk[1]
    return {"sampled_rounds": rounds, "sampled_kept": kept}


def _floor_sums(forced: Grid, texts: pa.Table, units: Units) -> dict[str, Floats]:
    """What guesses without a drafter get at the same anchors, and what the drafter keeps where the text does not go round in circles."""
    depth, anchors = forced.values["match"].shape[1], len(forced.anchor)
    found, visited, loops, favourite = (np.zeros(anchors, dtype=kind) for kind in (np.int64, bool, bool, bool))
    usual, on_usual = (np.zeros(anchors, dtype=kind) for kind in (np.int64, bool))
    known = {(row["prompt"], row["turn"]): row for row in texts.to_pylist()}
    said: list[list[int]] = [[] for _ in range(units.count)]
    unit_of = dict(zip(units.prompts, units.unit.tolist(), strict=True))
    for (name, _), text in known.items():
        if name in unit_of:
            said[unit_of[name]].extend(text["ids"][text["prompt_length"] :])
    guesses = others_favourites(said)
    for span in forced.trajectories:
        place, first = forced.prompt[span.start], int(forced.anchor[span.start])
        text, count = known[units.prompts[place], int(forced.turn[span.start])], span.stop - span.start
        ids, reply = text["ids"], text["prompt_length"]
        found[span] = lookup_accepted(ids, first, count, depth)
        visited[span] = walk(found[span])
        usual[span] = lookup_accepted(ids, first, count, depth, DEFAULT)
        on_usual[span] = walk(usual[span])
        loops[span] = looping(ids, reply, first - reply + count)[first - reply :]
        favourite[span] = np.asarray(ids[first + 1 : first + 1 + count]) == guesses[forced.unit[span.start]]
    calm = forced.on_walk & ~loops
    return {
        "favourite_right": forced.total(favourite),
        "lookup_right": forced.total(found > 0),
        "lookup_rounds": forced.total(visited),
        "lookup_kept": forced.total(found * visited),
        "lookup_default_rounds": forced.total(on_usual),
        "lookup_default_kept": forced.total(usual * on_usual),
        "loops": forced.total(loops),
        "calm_rounds": forced.total(calm),
        "calm_kept": forced.total(forced.accepted * calm),
    }


def _walk_sums(forced: Grid) -> dict[str, Floats]:
    """Counts over all anchors and over the walks, from the forced chain alone."""
    accepted, on_walk, depth = forced.accepted, forced.on_walk, forced.values["match"].shape[1]
    kept_at = accepted[:, None] >= np.arange(1, depth + 1)
    rounds, kept = np.zeros((forced.units.count, depth)), np.zeros((forced.units.count, depth))
    for span in forced.trajectories:
        of_walk = walk_counts(accepted[span], depth)
        rounds[forced.unit[span.start]] += of_walk[0]
        kept[forced.unit[span.start]] += of_walk[1]
    return {
        "anchors": forced.total(np.ones(len(accepted))),
        "accepted": forced.total(accepted),
        "kept_at": forced.total(kept_at),
        "walk_rounds": forced.total(on_walk),
        "walk_kept_at": forced.total(kept_at & on_walk[:, None]),
        "rounds_by_length": rounds,
        "kept_by_length": kept,
    }
