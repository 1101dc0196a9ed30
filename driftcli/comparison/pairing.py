"""Runs brought onto the same prompts: rows summed over the same units, the same depths and, where replies are alike, the same anchors.

A prompt is shared where its first turn is rendered to the same text in every run, or, where a comparison is forced, by its id. Replies of
one target to it are mostly the same tokens; then the runs drafted from the same anchors, and only those count that all of them have. Where
replies differ, each is summed in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from driftcli.domain import Feed
from driftcli.errors import RunError
from driftcli.statistics.intervals import Bootstrap, Mapped
from driftcli.statistics.payoff import at_length
from driftcli.statistics.walks import MINIMAL_PROMPTS, Sums, walk
from driftcli.traces.parquet import holding
from driftcli.traces.plans import plan_sums
from driftcli.traces.reader import Run
from driftcli.traces.sums import Grid, condition_sums, ending_sums, grids, of_units, read_table
from driftcli.traces.units import Units, with_anchors

COLUMNS = [
    *("prompt", "turn", "category", "group", "rendered_sha256", "prompt_length", "length", "anchors", "rounds_to_end", "ids"),
]
PLACES = ("prompt_length", "anchors")
Key = tuple[str, int]  # prompt and turn


@dataclass(frozen=True)
class Pairing:
    """Runs on the prompts that they share. Sums are (unit, ...), all over the same units, which all have an anchor in every run.

    alike: replies that are the same tokens in all, of so many; rendered: prompts that are rendered to the same text.
    """

    runs: tuple[Run, ...]
    texts: tuple[pa.Table, ...]
    units: Units
    depth: int
    alike: int
    replies: int
    rendered: int

    @property
    def shared(self) -> int:
        """Prompts that are compared."""
        return len(self.units.prompts)

    @property
    def draws(self) -> Bootstrap:
        """Draws of the shared units."""
        return self.drawn(self.units.count)

    def drawn(self, count: int) -> Bootstrap:
        """Draws of so many units, whatever the order of the runs."""
        return Bootstrap.of(count, min(run.spec.seed for run in self.runs))

    @property
    def by_category(self) -> Mapping[str, np.ndarray]:
        """For each category of the shared prompts, sorted, which units are of it, as all their prompts are; (unit,)."""
        known = dict(zip(self.texts[0]["prompt"].to_pylist(), self.texts[0]["category"].to_pylist(), strict=True))
        names = sorted({known[prompt] for prompt in self.units.prompts} - {None})
        return {name: np.array([all(known[one] == name for one in unit) for unit in self.units.members]) for name in names}

    @cached_property
    def grids(self) -> tuple[dict[Feed, Grid | None], ...]:
        """The rows of each run's reference, by feed, on the anchors and depths that all runs have."""
        return tuple(self._drafting(run, self.depth, ends) for run, ends in zip(self.runs, self._ends, strict=True))

    def lengths(self, place: int) -> list[int]:
        """The draft lengths of one run that its chains tell, up to the depth that all runs have."""
        run = self.runs[place]
        return [drafts for drafts in range(1, self.depth + 1) if at_length(run, drafts).condition in (run.reference, *run.measured)]

    @cached_property
    def sums(self) -> tuple[Sums, ...]:
        """Sums over anchors of each run's reference."""
        sampled = [run.is_sampled(run.reference) for run in self.runs]
        return tuple(condition_sums(feeds, self.units, self.depth, sampled=one) for feeds, one in zip(self.grids, sampled, strict=True))

    def condition(self, place: int, name: str) -> Sums:
        """The same of another condition of one run."""
        return condition_sums(self._cut(self.runs[place], name, {}), self.units, self.depth)

    def plan(self, place: int, drafts: int) -> Sums:
        """Sums of one run's decoding with chains of so many draft tokens."""
        run = self.runs[place]
        forced = (self._drafting(run, drafts, self._ends[place]) if run.pair.lengths_apart else self.grids[place])["forced"]
        assert forced is not None
        return plan_sums(forced, None, at_length(run, drafts))

    @cached_property
    def endings(self) -> tuple[Units, tuple[Sums, ...]] | None:
        """Units of all prompts that the runs share, those too short for a chain among them, and for each run the tokens and rounds of whole
        replies; None where a run did not count them.
        """
        if any(texts["rounds_to_end"].null_count for texts in self.texts):
            return None
        units = Units.of(_marks(self.texts))
        return units, tuple(Mapped(ending_sums(texts, units), self._shallow) for texts in self.texts)

    def same_guesses(self, first: int, second: int) -> bool:
        """Whether two runs drafted the very same tokens from every anchor, right and wrong ones: then they ran one drafter, or one that was
        saved again.
        """
        return bool(self._drafted(first).equals(self._drafted(second)))

    def other_guesses(self) -> tuple[int, int]:
        """How many draft tokens of the first two runs differ, of how many from the same anchors of the same replies."""
        keys = ["prompt", "turn", "anchor", "depth"]
        one, two = (self._drafted(place).to_pydict() for place in range(2))
        ours, theirs = (dict(zip(zip(*(table[key] for key in keys), strict=True), table["drafted"], strict=True)) for table in (one, two))
        same = _alike(self.texts)
        shared = [key for key in ours.keys() & theirs.keys() if key[:2] in same]
        return sum(ours[key] != theirs[key] for key in shared), len(shared)

    def _drafted(self, place: int) -> pa.Table:
        run, keys = self.runs[place], ["prompt", "turn", "anchor", "depth"]
        table = of_units(read_table(run.path / "steps", [*keys, "feed", "drafted"], run.reference), self.units)
        table = holding(table, {"feed": ["forced"], "depth": range(1, self.depth + 1)}).select([*keys, "drafted"])
        return table.set_column(0, "prompt", table["prompt"].cast(pa.string())).sort_by([(key, "ascending") for key in keys])

    @cached_property
    def tokens(self) -> tuple[Mapping[Key, Sequence[int]], ...]:
        """For each run its texts as token ids, prompt and reply."""
        return tuple({key: row["ids"] for key, row in _by_key(texts, "ids").items()} for texts in self.texts)

    def _shallow(self, values: np.ndarray) -> np.ndarray:
        return values[:, : self.depth] if values.ndim > 1 else values

    @cached_property
    def _ends(self) -> list[Mapping[Key, int]]:
        """For each run the position behind the last anchor of a text that all have."""
        own = [{key: row["prompt_length"] + row["anchors"] for key, row in _by_key(texts, *PLACES).items()} for texts in self.texts]
        same = _alike(self.texts)
        return [{key: min(one[key] for one in own) if key in same else end for key, end in ends.items()} for ends in own]

    def _drafting(self, run: Run, drafts: int, ends: Mapping[Key, int]) -> dict[Feed, Grid | None]:
        """The rows of a run's chains of so many draft tokens or more; RunError where these were not drafted and no others begin so."""
        name = at_length(run, drafts).condition
        if name not in (run.reference, *run.measured):
            raise RunError(
                f"{run.path}: blocks of {drafts} draft tokens are none of its conditions, and those of {run.spec.depth} do not begin so; "
                f"diagnose with --depth {drafts}, or with --probe mitigations"
            )
        return self._cut(run, name, ends)

    def _cut(self, run: Run, condition: str, ends: Mapping[Key, int]) -> dict[Feed, Grid | None]:
        feeds = grids(run.path, condition, self.units)
        return {feed: None if grid is None else cut(grid, self.depth, ends) for feed, grid in feeds.items()}


def cut(grid: Grid, depth: int, ends: Mapping[Key, int]) -> Grid:
    """Rows up to a depth, of the anchors before the end of their text, with the walk that decoding to this depth would take."""
    names = grid.units.prompts
    keys = zip(grid.prompt.tolist(), grid.turn.tolist(), grid.anchor.tolist(), strict=True)
    some = np.array([at < ends.get((names[prompt], turn), at + 1) for prompt, turn, at in keys], dtype=bool)
    if some.all() and grid.values["match"].shape[1] == depth:
        return grid
    values = {name: numbers[some, :depth] for name, numbers in grid.values.items()}
    short = Grid(values, grid.turn[some], grid.anchor[some], grid.prompt[some], grid.units)
    visited = np.zeros(len(short.anchor))
    for span in short.trajectories:
        visited[span] = walk(short.accepted[span])
    return replace(short, values={**values, "on_walk": np.repeat(visited[:, None], depth, axis=1)})


def paired(runs: Sequence[Run], *, force: bool = False) -> Pairing:
    """Runs on the prompts that all of them have, force: however they are rendered; raises RunError where too few are shared."""
    texts = [read_table(run.path / "trajectories", COLUMNS, run.reference) for run in runs]
    rendered = _rendered(texts)
    shared = set.intersection(*(set(table["prompt"].to_pylist()) for table in texts)) if force else rendered
    _check_shared(runs, texts, shared)
    own = [_of_prompts(table, shared) for table in texts]
    usable = set.intersection(*(set(with_anchors(table)["prompt"].to_pylist()) for table in own))
    if not usable:
        raise RunError(f"{_names(runs)}: no prompt has a reply long enough for a chain in each; ask for longer replies (--max-new-tokens)")
    units = Units.of(_marks([_of_prompts(table, usable) for table in own]))
    counted = [_by_key(of_units(table, units)).keys() for table in own]
    same = _alike(own)
    every = set.intersection(*map(set, counted))
    return Pairing(
        tuple(runs),
        tuple(own),
        units,
        min(run.spec.depth for run in runs),
        len(every & same),
        len(every),
        len(rendered & set(units.prompts)),
    )


def _rendered(texts: Sequence[pa.Table]) -> set[str]:
    """Prompts whose first turn is rendered to the same text everywhere."""
    rendered = [{key: row["rendered_sha256"] for key, row in _by_key(table, "rendered_sha256").items()} for table in texts]
    return {key[0] for key, mark in rendered[0].items() if key[1] == 0 and all(one.get(key) == mark for one in rendered)}


def _check_shared(runs: Sequence[Run], texts: Sequence[pa.Table], shared: set[str]) -> None:
    """RunError where no prompt is shared, or some but too few for an interval."""
    own = [set(table["prompt"].to_pylist()) for table in texts]
    named = set.intersection(*own)
    if not shared:
        other = f"{len(named)} ids are shared, but rendered to other texts" if named else "no prompt id is shared"
        raise RunError(f"{_names(runs)}: {other}, expected runs on the same prompts; measure both on one prompt file")
    partly = any(one != shared for one in own)
    if partly and len(shared) < MINIMAL_PROMPTS:
        counts = " / ".join(str(len(one)) for one in own)
        raise RunError(
            f"{_names(runs)}: only {len(shared)} of {counts} prompts are shared, expected at least {MINIMAL_PROMPTS}; measure both on one "
            "prompt file"
        )


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.path) for run in runs)


def _alike(texts: Sequence[pa.Table]) -> set[Key]:
    """Texts that are the same tokens in every run."""
    ids = [{key: row["ids"] for key, row in _by_key(table, "ids").items()} for table in texts]
    return {key for key, tokens in ids[0].items() if all(one.get(key) == tokens for one in ids)}


def _by_key(texts: pa.Table, *columns: str) -> dict[Key, dict[str, Any]]:
    rows = texts.select(["prompt", "turn", *columns]).to_pylist()
    return {(row["prompt"], row["turn"]): row for row in rows}


def _marks(texts: Sequence[pa.Table]) -> pa.Table:
    columns = ["prompt", "rendered_sha256", "group"]
    return pa.concat_tables([table.select(columns).cast(_TEXT) for table in texts])


_TEXT = pa.schema([(name, pa.string()) for name in ("prompt", "rendered_sha256", "group")])


def _of_prompts(texts: pa.Table, prompts: set[str]) -> pa.Table:
    return holding(texts, {"prompt": sorted(prompts)})
