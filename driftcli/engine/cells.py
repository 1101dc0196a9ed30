"""Cells: what conditions on the same texts of one batch give, as the tables that are written of each.

The texts of a batch are written once, with the first cell that holds them; whatever is drafted on them later reads them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import torch

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.block_chains import draft_blocks
from driftcli.engine.chains import draft_together
from driftcli.engine.drafted import Apart, Drafted
from driftcli.engine.keyless_chains import draft_keyless
from driftcli.engine.lm_chains import draft_lm_chains, kept_numbers
from driftcli.engine.lookup_chains import draft_lookups
from driftcli.engine.module_chains import draft_modules
from driftcli.engine.room import Room
from driftcli.engine.rows import cell_rows, find_sinks, rounds_to_end, stream_columns, trajectory_columns
from driftcli.engine.stage_chains import draft_stages
from driftcli.engine.texts import Text, is_kept, lengthened, replay_texts, write_texts
from driftcli.engine.trajectories import Trajectory, read_texts
from driftcli.engine.twin import texts_of, twin_tables, twin_texts
from driftcli.errors import RunError
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.block.drafter import Block
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.lookup.lookup import Lookup
from driftcli.families.mtp.head import MtpModules
from driftcli.loading.pair import LoadedPair, streams_of
from driftcli.sources.files import reason
from driftcli.target.decoding import KEPT
from driftcli.target.in_process import turns_by_length
from driftcli.target.target import Kept
from driftcli.target.together import room, together
from driftcli.traces.reader import Run
from driftcli.traces.schema import TABLES
from driftcli.traces.writer import Columns, RunFolder

Tables = dict[str, dict[str, list[Columns]]]  # by condition and table
Sinks = dict[tuple[str, int], "int | None"]  # by prompt and turn
Say = Callable[[str, float], None]  # what is done now, and the share of all that is to be done which lies behind
WRITING = 0.5  # share of the work on a batch that writing its texts is taken for (chosen by us)


@dataclass(frozen=True)
class Batch:
    """Prompts that the target continues together, and the hashes of their content.

    before: how many prompts there are in the batches before this one; of: in all of them.
    """

    names: Sequence[str]
    prompts: Sequence[Prompt]
    before: int
    of: int

    def __str__(self) -> str:
        """Its replies by their places in the run."""
        return _numbered("reply", self.before, len(self.prompts), self.of)


def _numbered(what: str, before: int, count: int, of: int) -> str:
    """Things by their places among all, some being before them."""
    many = {"reply": "replies", "text": "texts"}[what]
    return f"{many} {before + 1}-{before + count} of {of}" if count > 1 else f"{what} {before + 1} of {of}"


@dataclass(frozen=True)
class Holders:
    """Conditions that the others of a group look to: whose cell holds their texts, and which of them finds the texts' sinks."""

    texts: str
    sinks: str


@dataclass(frozen=True)
class Work:
    """The pair that drafts, what was asked of the run, how much there is room for at once, and the run of the target's twin that it is held
    against, None for none.
    """

    pair: LoadedPair
    spec: RunSpec
    room: Room = field(default_factory=Room)
    twin: Run | None = None

    @property
    def held_against(self) -> Run:
        """The twin's run, where there is one."""
        assert self.twin is not None, "conditions of a twin are asked for where there is one"
        return self.twin


def measure_cells(work: Work, folder: RunFolder, batch: Batch, conditions: Sequence[Condition], holders: Holders, say: Say) -> Tables:
    """The tables of conditions that share their texts, some of these side by side, so that only their streams and chains are in memory.

    Raises PromptError where the prompts cannot be rendered so, and RunError where memory does not suffice.
    """
    if conditions[0].text.twin == "rows":
        return {condition.name: twin_tables(work.held_against, batch.prompts, condition) for condition in conditions}
    ordered = sorted(conditions, key=lambda one: one.name != holders.sinks)
    try:
        written = 0.0 if folder.is_done(holders.texts, batch.names) else WRITING
        kept = Kept(_boundaries(work, conditions), KEPT if is_kept(conditions[0].text) and work.room.keeps else 0)
        texts = _texts(work, folder, batch, conditions[0].text, holders.texts, say, kept)
        known, most = _sinks(folder, batch, holders.sinks), _most(work, conditions)

        def measured(most: int) -> Tables:
            into, sinks, done = _Parts({one.name: tables_of(one) for one in conditions}, len(texts)), dict(known), 0
            for places, trajectories in _read(work, texts, conditions, most, kept):
                say(f"drafting on {_numbered('text', done, len(places), len(texts))}", written + (1 - written) * done / len(texts))
                _draft(work, _Some(places, trajectories), ordered, holders.sinks, sinks, into)
                done += len(places)
            return into.tables

        return work.room.within(measured, most, min(most, max(len(text.ids) for text in texts)), "drafting", kept.let_go)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"{', '.join(one.name for one in conditions)}: no memory is left ({reason(error)}), expected room for one text and its "
            "chains; use shorter texts or another --device"
        ) from error


def _most(work: Work, conditions: Sequence[Condition]) -> int:
    """Tokens of texts that are drafted on side by side."""
    drafter, deepest = work.pair.drafter, max(one.settings.depth for one in conditions)
    kept = kept_numbers(drafter, deepest) if isinstance(drafter, CausalLm) else 0
    return room(work.pair.target.device, len(work.pair.target.embedding), kept)


def _texts(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, holder: str, say: Say, kept: Kept) -> list[Text]:
    """The batch's texts as the cell of `holder` has them, so that all conditions see the same; before it is written, they are made, and
    `kept` takes what the target computes meanwhile.
    """
    if folder.is_done(holder, batch.names):
        return texts_of(folder.written_texts(holder, batch.names), batch.prompts)
    if settings.twin == "replies":
        return twin_texts(work.held_against, batch.prompts)
    target, prompts, most = work.pair.target, batch.prompts, work.spec.max_new_tokens
    own = _texts(work, folder, batch, TextSettings(), BASELINE, say, Kept((), 0)) if settings.length or settings.replayed else []
    if settings.replayed:
        return replay_texts(target, own, settings)
    turns = 1 if own else max(len(prompt.turns) for prompt in prompts)

    def told(turn: int, tokens: int) -> None:
        which = f"turn {turn + 1} of {turns}, " if turns > 1 else ""
        say(f"writing {batch}, {which}{tokens} of up to {most} tokens", WRITING * (turn + tokens / most) / turns)

    continued = lengthened(target, prompts, own, settings.length) if own else prompts
    drawn = replace(settings, temperature=work.spec.temperature_of(settings))
    parts = work.room.in_parts(
        lambda some: write_texts(target, some, most, drawn, work.spec.seed, told, kept), continued, "writing", kept.let_go
    )
    return parts[0] if len(parts) == 1 else sorted(chain.from_iterable(parts), key=lambda text: text.turn)


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
    read = read_texts(target, [texts[place] for place in order], kept.boundaries, temperature, kept, most)
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
    offset, drafter = work.pair.card.token_offset, work.pair.drafter
    for condition in conditions:
        on = some.where(lambda text, one=condition: text.n_anchors(1 if one.full else _horizon(work, one)))  # type: ignore[misc]
        drafted = _drafted(work, on.texts, condition, sinks) if on.texts else None
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


def _drafted(work: Work, texts: Sequence[Trajectory], condition: Condition, sinks: Sinks) -> Drafted:
    """A condition's chains on texts that have an anchor for them; those of a full one go on to the texts' ends."""
    apart = []
    for text in texts:
        sink = sinks.get(_key(text))
        apart.append(Apart(kept_rows(condition.settings, text.text, sink, work.pair.card.token_offset), sorted({0, sink or 0})))
    free, horizon = condition.drafts_free, _horizon(work, condition)
    return draft(work.pair, texts, condition.settings, horizon, free=free, to_end=condition.full, apart=apart)


def _boundaries(work: Work, conditions: Sequence[Condition]) -> list[int]:
    drafter = work.pair.drafter
    if isinstance(drafter, CausalLm | Lookup):
        return []
    return sorted({one for condition in conditions for one in streams_of(drafter.wired(condition.settings.wiring))})


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
) -> Drafted:
    """All chains of some texts, whatever the drafter's family."""
    if isinstance(pair.drafter, CausalLm | FeedForward | Lookup):
        return _draft_plainly(pair.drafter, texts, settings, horizon, free=free, to_end=to_end)
    if isinstance(pair.drafter, MtpModules):
        return draft_modules(pair.drafter, texts, settings, horizon, to_end=to_end, apart=apart)
    if isinstance(pair.drafter, Block):
        return draft_blocks(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart)
    if isinstance(pair.drafter, Assistant):
        return draft_keyless(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart)
    return draft_together(pair.drafter, texts, settings, horizon, free=free, to_end=to_end, apart=apart)


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
