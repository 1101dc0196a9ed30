"""Cells: what conditions on the same texts of one batch give, as the tables that are written of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.engine.batches import WRITING, Batch, Say, Work, numbered, taking, texts_of_batch
from driftcli.engine.block_chains import draft_blocks
from driftcli.engine.chains import Openings, draft_together
from driftcli.engine.drafted import Apart, Drafted
from driftcli.engine.keyless_chains import draft_keyless
from driftcli.engine.lm_chains import draft_lm_chains, kept_numbers
from driftcli.engine.lookup_chains import draft_lookups
from driftcli.engine.module_chains import draft_modules
from driftcli.engine.rows import cell_rows, find_sinks, rounds_to_end, stream_columns, trajectory_columns
from driftcli.engine.stage_chains import draft_stages
from driftcli.engine.texts import Text
from driftcli.engine.trajectories import Trajectory, read_texts
from driftcli.engine.twin import twin_tables
from driftcli.errors import RunError
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.block.drafter import Block
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.lookup.lookup import Lookup
from driftcli.families.mtp.head import MtpModules
from driftcli.loading.pair import LoadedPair, streams_of
from driftcli.sources.files import reason
from driftcli.target.in_process import turns_by_length
from driftcli.target.target import Kept
from driftcli.target.together import room, together
from driftcli.traces.schema import TABLES
from driftcli.traces.writer import Columns, RunFolder

Tables = dict[str, dict[str, list[Columns]]]  # by condition and table
Sinks = dict[tuple[str, int], "int | None"]  # by prompt and turn


@dataclass(frozen=True)
class Holders:
    """Conditions that the others of a group look to: whose cell holds their texts, and which of them finds the texts' sinks."""

    texts: str
    sinks: str


def measure_cells(work: Work, folder: RunFolder, batch: Batch, conditions: Sequence[Condition], holders: Holders, say: Say) -> Tables:
    """The tables of conditions that share their texts, some of these side by side, so that only their streams and chains are in memory.

    Raises PromptError where the prompts cannot be rendered so, and RunError where memory does not suffice.
    """
    if conditions[0].text.twin == "rows":
        return {condition.name: twin_tables(work.held_against, batch.prompts, condition) for condition in conditions}
    ordered = sorted(conditions, key=lambda one: one.name != holders.sinks)
    try:
        written = 0.0 if folder.is_done(holders.texts, batch.names) else WRITING
        kept = taking(work, conditions) if batch.written is None else batch.written.kept
        texts = texts_of_batch(work, folder, batch, conditions[0].text, holders.texts, say, kept)
        known, most = _sinks(folder, batch, holders.sinks), side_by_side(work.pair, max(one.settings.depth for one in conditions))

        def measured(most: int) -> Tables:
            into, sinks, done = _Parts({one.name: tables_of(one) for one in conditions}, len(texts)), dict(known), 0
            for places, trajectories in _read(work, texts, conditions, most, kept):
                say(f"drafting on {numbered('text', done, len(places), len(texts))}", written + (1 - written) * done / len(texts))
                _draft(work, _Some(places, trajectories), ordered, holders.sinks, sinks, into)
                done += len(places)
            return into.tables

        return work.room.within(measured, most, min(most, max(len(text.ids) for text in texts)), "drafting", partial(work.let_go, kept))
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"{', '.join(one.name for one in conditions)}: no memory is left ({reason(error)}), expected room for one text and its "
            "chains; use shorter texts or another --device"
        ) from error


def side_by_side(pair: LoadedPair, depth: int) -> int:
    """Tokens of texts that are drafted on side by side in chains of such a depth."""
    kept = kept_numbers(pair.drafter, depth) if isinstance(pair.drafter, CausalLm) else 0
    return room(pair.target.device, len(pair.target.embedding), kept)


def _sinks(folder: RunFolder, batch: Batch, holder: str) -> Sinks:
    """The sink of each text as the cell of `holder` has it; nothing before that is written."""
    found = folder.written_texts(holder, batch.names) if folder.is_done(holder, batch.names) else []
    return {(row["prompt"], row["turn"]): row["sink_row"] for row in found}


def tables_of(condition: Condition) -> tuple[str, ...]:
    """The tables that a condition fills: all for a full one, and its texts where they are its own."""
    if condition.full:
        return TABLES
    return ("steps", "heads") if condition.text == TextSettings() else ("trajectories", "steps", "heads")


class _Parts:
    """The tables of conditions while they fill up: columns by condition, table and text."""

    def __init__(self, names: Mapping[str, Sequence[str]], texts: int) -> None:
        self._parts = {
            condition: {table: [list[Columns]() for _ in range(texts)] for table in tables} for condition, tables in names.items()
        }

    def add(self, condition: str, table: str, text: int, columns: Sequence[Columns]) -> None:
        """Columns of a text, where the condition has such a table."""
        if table in self._parts[condition]:
            self._parts[condition][table][text] += columns

    def holds(self, condition: str, table: str) -> bool:
        """Whether a condition has such a table."""
        return table in self._parts[condition]

    @property
    def tables(self) -> Tables:
        """All of it, text after text."""
        return {
            condition: {name: [columns for text in texts for columns in text] for name, texts in tables.items()}
            for condition, tables in self._parts.items()
        }


@dataclass(frozen=True)
class _Some:
    """Texts that are drafted on side by side, and their places among all of the batch."""

    places: Sequence[int]
    texts: Sequence[Trajectory]

    def __iter__(self) -> Iterator[tuple[int, Trajectory]]:
        return zip(self.places, self.texts, strict=True)

    def where(self, able: Callable[[Trajectory], int]) -> _Some:
        """Those that something can be done with."""
        pairs = [(place, text) for place, text in self if able(text)]
        return _Some([place for place, _ in pairs], [text for _, text in pairs])


def _read(
    work: Work, texts: Sequence[Text], conditions: Sequence[Condition], most: int, kept: Kept
) -> Iterator[tuple[Sequence[int], list[Trajectory]]]:
    """The texts as the target reads or read them, with their places, as many at once as are drafted on side by side: the shortest first.

    most: their tokens.
    """
    temperature, target = work.spec.temperature_of(conditions[0].text) or 1.0, work.pair.target  # of greedy replies the models' own
    alone = _by_length(work.pair.drafter)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place].ids))
    ordered = [texts[place] for place in order]
    if conditions[0].text == TextSettings():
        read = work.own.read(target, ordered, kept.boundaries, streams_of(work.pair.drafter), temperature, most)
    else:
        read = read_texts(target, ordered, kept.boundaries, temperature, kept, most)
    if alone:
        yield from (([place], [trajectory]) for place, trajectory in zip(order, read, strict=True))
        return
    for some in together([len(texts[place].ids) for place in order], most):
        yield order[some], list(islice(read, some.stop - some.start))


def _by_length(drafter: object) -> bool:
    """Whether a drafter would draft otherwise beside a longer text."""
    return isinstance(drafter, CausalLm) and turns_by_length(drafter.lm.config.to_dict())


def _draft(work: Work, some: _Some, conditions: Sequence[Condition], finder: str, sinks: Sinks, into: _Parts) -> None:
    """Add the rows of some texts, of every condition, to its tables; the condition `finder` finds the sinks, if it is among them."""
    offset, drafter, openings = work.pair.card.token_offset, work.pair.drafter, Openings()
    for condition in conditions:
        on = some.where(lambda text, one=condition: text.n_anchors(1 if one.full else _horizon(work, one)))  # type: ignore[misc]
        drafted = _drafted(work, on.texts, condition, sinks, openings) if on.texts else None
        if drafted is not None and drafted.n_anchors:
            if condition.name == finder:
                found = find_sinks(drafted.fresh.masses, drafted.every, on.texts, offset)
                sinks |= {_key(text): sink for text, sink, n in zip(on.texts, found, drafted.anchors.counts, strict=True) if n}
            rows = cell_rows(condition, on.texts, drafted, [sinks.get(_key(text)) for text in on.texts], offset)
            for place, mine in zip(on.places, rows, strict=True):
                into.add(condition.name, "steps", place, mine.steps)
                into.add(condition.name, "heads", place, mine.heads)
        if into.holds(condition.name, "trajectories"):
            counted = rounds_to_end(drafted, on.texts, work.spec.depth) if drafted is not None and condition.full else []
            rounds = dict(zip(on.places, counted, strict=False))
            for place, text in some:
                ending = rounds.get(place, [0] * work.spec.depth) if condition.full else None
                columns = trajectory_columns(text, work.spec.depth, sinks.get(_key(text)), ending)
                into.add(condition.name, "trajectories", place, [columns])
        if into.holds(condition.name, "streams") and not isinstance(drafter, CausalLm | Lookup):
            for place, columns in zip(
                some.places, stream_columns(some.texts, drafter.wired(condition.settings.wiring), condition), strict=True
            ):
                into.add(condition.name, "streams", place, [columns])


def _key(text: Trajectory) -> tuple[str, int]:
    return text.prompt.id, text.turn


def _horizon(work: Work, condition: Condition) -> int:
    return max(work.spec.depth, condition.settings.depth)


def _drafted(work: Work, texts: Sequence[Trajectory], condition: Condition, sinks: Sinks, openings: Openings) -> Drafted:
    """A condition's chains on texts that have an anchor for them; those of a full one go on to the texts' ends."""
    apart = []
    for text in texts:
        sink = sinks.get(_key(text))
        apart.append(Apart(kept_rows(condition.settings, text.text, sink, work.pair.card.token_offset), sorted({0, sink or 0})))
    free, horizon = condition.drafts_free, _horizon(work, condition)
    return draft(work.pair, texts, condition.settings, horizon, free=free, to_end=condition.full, apart=apart, openings=openings)


def kept_rows(settings: DraftSettings, text: Text, sink: int | None, token_offset: int) -> list[int]:
    """Rows that a window does not hide: row 0 and the sink, or all whose tokens stand before the first user's words."""
    if settings.kept == "nothing":
        return []
    if settings.kept == "sink":
        return sorted({0, sink or 0})
    return list(range(max(1, text.prefix_length - token_offset)))


def draft(
    pair: LoadedPair,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    apart: Sequence[Apart] = (),
    openings: Openings | None = None,
) -> Drafted:
    """All chains of some texts, whatever the drafter's family. openings: of other conditions on them, of a drafter that feeds on itself."""
    if isinstance(pair.drafter, CausalLm | FeedForward | Lookup):
        return _draft_plainly(pair.drafter, texts, settings, horizon, free=free, to_end=to_end)
    if isinstance(pair.drafter, MtpModules):
        return draft_modules(pair.drafter, texts, settings, horizon, to_end=to_end, apart=apart)
    if isinstance(pair.drafter, Block):
        return draft_blocks(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart)
    if isinstance(pair.drafter, Assistant):
        return draft_keyless(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart)
    return draft_together(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart, openings=openings)


def _draft_plainly(
    drafter: CausalLm | FeedForward | Lookup,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool,
) -> Drafted:
    """Chains of a drafter that knows no rows apart."""
    if isinstance(drafter, CausalLm):
        return draft_lm_chains(drafter, texts, settings, horizon, free=free, to_end=to_end)
    if isinstance(drafter, FeedForward):
        return draft_stages(drafter, texts, settings, horizon, free=free, to_end=to_end)
    return draft_lookups(drafter, texts, settings, horizon, free=free, to_end=to_end)
