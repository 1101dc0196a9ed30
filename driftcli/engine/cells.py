"""Cells: what conditions on the same texts of one batch give, as the tables that are written of each.

The texts of a batch are written once, with the first cell that holds them; whatever is drafted on them later reads them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.block_chains import draft_blocks
from driftcli.engine.chains import Drafted, draft_chains
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.module_chains import draft_modules
from driftcli.engine.room import Room
from driftcli.engine.rows import cell_rows, find_sink, rounds_to_end, stream_columns, trajectory_columns
from driftcli.engine.texts import Text, lengthened, replay_texts, write_texts
from driftcli.engine.trajectories import Trajectory, read_texts
from driftcli.engine.twin import texts_of, twin_tables, twin_texts
from driftcli.errors import RunError
from driftcli.families.block.drafter import Block
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.mtp.head import MtpModules
from driftcli.loading.pair import LoadedPair
from driftcli.sources.files import reason
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
        first, last = self.before + 1, self.before + len(self.prompts)
        return f"replies {first}-{last} of {self.of}" if first < last else f"reply {first} of {self.of}"


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
    """The tables of conditions that share their texts, text after text, so that one text's streams and chains are in memory at a time.

    Raises PromptError where the prompts cannot be rendered so, and RunError where memory does not suffice.
    """
    if conditions[0].text.twin == "rows":
        return {condition.name: twin_tables(work.held_against, batch.prompts, condition) for condition in conditions}
    tables: Tables = {condition.name: {name: [] for name in tables_of(condition)} for condition in conditions}
    ordered = sorted(conditions, key=lambda one: one.name != holders.sinks)
    try:
        written = 0.0 if folder.is_done(holders.texts, batch.names) else WRITING
        texts = _texts(work, folder, batch, conditions[0].text, holders.texts, say)
        sinks, trajectories = _sinks(folder, batch, holders.sinks), _trajectories(work, texts, conditions)
        for number in range(1, len(texts) + 1):
            say(f"drafting on text {number} of {len(texts)}", written + (1 - written) * (number - 1) / len(texts))
            _draft_text(work, next(trajectories), ordered, holders.sinks, sinks, tables)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"{', '.join(tables)}: no memory is left ({reason(error)}), expected room for one text and its chains; use shorter texts or "
            "another --device"
        ) from error
    return tables


def _texts(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, holder: str, say: Say) -> list[Text]:
    """The batch's texts as the cell of `holder` has them, so that all conditions see the same; before it is written, they are made."""
    if folder.is_done(holder, batch.names):
        return texts_of(folder.written_texts(holder, batch.names), batch.prompts)
    if settings.twin == "replies":
        return twin_texts(work.held_against, batch.prompts)
    target, prompts, most = work.pair.target, batch.prompts, work.spec.max_new_tokens
    own = _texts(work, folder, batch, TextSettings(), BASELINE, say) if settings.length or settings.replayed else []
    if settings.replayed:
        return replay_texts(target, own, settings)
    turns = 1 if own else max(len(prompt.turns) for prompt in prompts)

    def told(turn: int, tokens: int) -> None:
        which = f"turn {turn + 1} of {turns}, " if turns > 1 else ""
        say(f"writing {batch}, {which}{tokens} of up to {most} tokens", WRITING * (turn + tokens / most) / turns)

    continued = lengthened(target, prompts, own, settings.length) if own else prompts
    drawn = replace(settings, temperature=work.spec.temperature_of(settings))
    parts = work.room.in_parts(lambda some: write_texts(target, some, most, drawn, work.spec.seed, told), continued, "writing")
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


def _trajectories(work: Work, texts: Sequence[Text], conditions: Sequence[Condition]) -> Iterator[Trajectory]:
    """The texts as the target reads them, one after the other."""
    temperature = work.spec.temperature_of(conditions[0].text) or 1.0  # of greedy replies the models' own probabilities are told
    return read_texts(work.pair.target, texts, _boundaries(work, conditions), temperature)


def _draft_text(work: Work, trajectory: Trajectory, conditions: Sequence[Condition], finder: str, sinks: Sinks, tables: Tables) -> None:
    """Add one text's rows of every condition to its tables; the condition `finder` finds the sink, if it is among them."""
    offset, drafter = work.pair.card.token_offset, work.pair.drafter
    sink = sinks.get((trajectory.prompt.id, trajectory.turn))
    for condition in conditions:
        into, drafted = tables[condition.name], _drafted(work, trajectory, condition, sink)
        if drafted is not None and drafted.n_anchors:
            if condition.name == finder:
                sink = find_sink(drafted.fresh.masses, trajectory.labels[offset:])
            rows = cell_rows(condition, trajectory, drafted, sink, offset)
            into["steps"] += rows.steps
            into["heads"] += rows.heads
        if "trajectories" in into:
            rounds = rounds_to_end(drafted, trajectory, work.spec.depth) if condition.full else None
            into["trajectories"].append(trajectory_columns(trajectory, work.spec.depth, sink, rounds))
        if "streams" in into and not isinstance(drafter, CausalLm):
            into["streams"].append(stream_columns(trajectory, drafter.wired(condition.settings.wiring), condition))


def _drafted(work: Work, trajectory: Trajectory, condition: Condition, sink: int | None) -> Drafted | None:
    """A condition's chains on a text, None where it has no anchor for them; those of a full one go on to the text's end."""
    settings, horizon = condition.settings, max(work.spec.depth, condition.settings.depth)
    if not trajectory.n_anchors(1 if condition.full else horizon):
        return None
    kept, biased = kept_rows(settings, trajectory.text, sink, work.pair.card.token_offset), sorted({0, sink or 0})
    free, to_end = condition.drafts_free, condition.full
    return draft(work.pair, trajectory, settings, horizon, free=free, to_end=to_end, kept=kept, sinks=biased)


def _boundaries(work: Work, conditions: Sequence[Condition]) -> list[int]:
    drafter = work.pair.drafter
    if isinstance(drafter, CausalLm):
        return []
    return sorted({boundary for condition in conditions for boundary in drafter.wired(condition.settings.wiring).boundaries})


def kept_rows(settings: DraftSettings, text: Text, sink: int | None, token_offset: int) -> list[int]:
    """Rows that a window does not hide: row 0 and the sink, or all whose tokens stand before the first user's words."""
    if settings.kept == "nothing":
        return []
    if settings.kept == "sink":
        return sorted({0, sink or 0})
    return list(range(max(1, text.prefix_length - token_offset)))


def draft(
    pair: LoadedPair,
    trajectory: Trajectory,
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    kept: Sequence[int] = (),
    sinks: Sequence[int] = (0,),
) -> Drafted:
    """All chains of one trajectory, whatever the drafter's family."""
    if isinstance(pair.drafter, CausalLm):
        return draft_lm_chains(pair.drafter, trajectory, settings, horizon, free=free, to_end=to_end)
    if isinstance(pair.drafter, MtpModules):
        return draft_modules(pair.drafter, trajectory, settings, horizon, to_end=to_end, kept=kept)
    if isinstance(pair.drafter, Block):
        return draft_blocks(pair.drafter, trajectory, settings, horizon, free=free, to_end=to_end, kept=kept)
    return draft_chains(pair.drafter, trajectory, settings, horizon, free=free, to_end=to_end, kept=kept, sinks=sinks)
