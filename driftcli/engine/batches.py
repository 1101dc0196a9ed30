"""How the texts of a batch come about: written by the target, alone or together with those of other conditions, or known already.

They are written once, with the first cell that holds them; whatever is drafted on them later reads them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice

from driftcli.conditions import BASELINE, Condition, TextSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.room import Room, out_of_memory
from driftcli.engine.texts import Continued, Text, by_turn, foreseen, is_kept, lengthened, replay_texts, write_texts, write_together
from driftcli.engine.trajectories import Readings
from driftcli.engine.twin import texts_of, twin_texts
from driftcli.errors import PromptError, RunError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.lookup.lookup import Lookup
from driftcli.loading.pair import LoadedPair, streams_of
from driftcli.target.decoding import KEPT
from driftcli.target.target import Kept, Writing
from driftcli.traces.reader import Run
from driftcli.traces.writer import RunFolder

Say = Callable[[str, float], None]  # what is done now, and the share of all that is to be done which lies behind
WRITING = 0.5  # share of the work on a batch that writing its texts is taken for (chosen by us)


@dataclass(frozen=True)
class Written:
    """Texts that were written together with those of other conditions, or known before, and what the target computed of all meanwhile."""

    texts: Sequence[Text]
    kept: Kept


@dataclass(frozen=True)
class Batch:
    """Prompts that the target continues together, and the hashes of their content.

    before: how many prompts there are in the batches before this one; of: in all of them. written: their texts, where these are written
    already and in no cell yet.
    """

    names: Sequence[str]
    prompts: Sequence[Prompt]
    before: int
    of: int
    written: Written | None = None

    def __str__(self) -> str:
        """Its replies by their places in the run."""
        return numbered("reply", self.before, len(self.prompts), self.of)


def numbered(what: str, before: int, count: int, of: int) -> str:
    """Things by their places among all, some being before them."""
    many = {"reply": "replies", "text": "texts"}[what]
    return f"{many} {before + 1}-{before + count} of {of}" if count > 1 else f"{what} {before + 1} of {of}"


@dataclass(frozen=True)
class Work:
    """The pair that drafts, what was asked of the run, how much there is room for at once, the run of the target's twin that it is held
    against, None for none, and what the target said of the run's own texts.
    """

    pair: LoadedPair
    spec: RunSpec
    room: Room = field(default_factory=Room)
    twin: Run | None = None
    own: Readings = field(default_factory=partial(Readings, KEPT))

    @property
    def held_against(self) -> Run:
        """The twin's run, where there is one."""
        assert self.twin is not None, "conditions of a twin are asked for where there is one"
        return self.twin

    def let_go(self, kept: Kept) -> bool:
        """Give up streams that can be computed again, also those of the run's own texts; whether there were any."""
        return kept.let_go() | self.own.let_go()


def texts_of_batch(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, holder: str, say: Say, kept: Kept) -> list[Text]:
    """The batch's texts as the cell of `holder` has them, so that all conditions see the same; before it is written, they are made, and
    `kept` takes what the target computes meanwhile.
    """
    if folder.is_done(holder, batch.names):
        return texts_of(folder.written_texts(holder, batch.names), batch.prompts)
    if batch.written is not None:
        return list(batch.written.texts)
    if settings.twin == "replies":
        return twin_texts(work.held_against, batch.prompts)
    target, most = work.pair.target, work.spec.max_new_tokens
    if settings.replayed:
        return replay_texts(target, _own(work, folder, batch, say), settings)
    continued = _continued(work, folder, batch, settings, say)
    drawn, told = replace(settings, temperature=work.spec.temperature_of(settings)), _told(say, str(batch), continued, most)
    parts = work.room.in_parts(
        lambda some: write_texts(target, some, most, drawn, work.spec.seed, told, kept), continued, "writing", partial(work.let_go, kept)
    )
    return parts[0] if len(parts) == 1 else by_turn(parts)


def _own(work: Work, folder: RunFolder, batch: Batch, say: Say) -> list[Text]:
    """The run's own texts of a batch."""
    return texts_of_batch(work, folder, replace(batch, written=None), TextSettings(), BASELINE, say, Kept((), 0))


def _continued(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, say: Say) -> Sequence[Prompt]:
    """What the target continues in texts of a batch that it writes."""
    if not settings.length:
        return batch.prompts
    return lengthened(work.pair.target, batch.prompts, _own(work, folder, batch, say), settings.length)


def _told(say: Say, what: str, prompts: Sequence[Prompt], most: int) -> Callable[[int, int], None]:
    """Tells how far replies are, by the turn and the tokens of each."""
    turns = max(len(prompt.turns) for prompt in prompts)

    def told(turn: int, tokens: int) -> None:
        which = f"turn {turn + 1} of {turns}, " if turns > 1 else ""
        say(f"writing {what}, {which}{tokens} of up to {most} tokens", WRITING * (turn + tokens / most) / turns)

    return told


def taking(work: Work, conditions: Sequence[Condition]) -> Kept:
    """Takes what the target computes while it writes the texts of conditions, where some of these are kept and there is room."""
    return Kept(boundaries(work, conditions), KEPT if any(is_kept(one.text) for one in conditions) and work.room.keeps else 0)


def write_ahead(work: Work, folder: RunFolder, groups: Sequence[tuple[Batch, Sequence[Condition]]], say: Say) -> list[Written | None]:
    """The texts of several groups of conditions, each on a batch, written together, greedily, or replayed, which are read beside those that
    are rendered as they are; None for one whose prompts cannot be rendered so, and for all where they cannot be written together: each by
    itself then tells why it fails, if it does.
    """
    target, most = work.pair.target, work.spec.max_new_tokens
    replayed = [_replayable(work, folder, batch, group[0].text, say) for batch, group in groups]
    continued = [_renderable(work, folder, batch, group[0].text, say) for batch, group in groups]
    if not any(continued):
        return [None for _ in groups]
    kept = taking(work, [condition for _, conditions in groups for condition in conditions])
    tokens = sum(most for prompts in continued for _, most in prompts) + sum(len(text.ids) for texts in replayed for text in texts)
    fit = kept.size(tokens, int(target.config.hidden_size)) <= kept.room  # else what is written is to have all the room there is
    asked = _asked([group[0].text for _, group in groups], continued, replayed if fit else [[] for _ in groups])
    several = [batch for (batch, _), prompts in zip(groups, continued, strict=True) if prompts]
    what = f"replies under {len(several)} conditions" if len(several) > 1 else str(several[0])
    writing, told = Writing(most, kept=kept), _told(say, what, [one.prompt for one in asked], most)
    try:
        parts = work.room.in_parts(
            lambda some: write_together(target, some, writing, work.spec.seed, told), asked, "writing", partial(work.let_go, kept)
        )
    except (PromptError, RunError):
        return [None for _ in groups]
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return [None for _ in groups]
    made = chain.from_iterable(parts)
    written = [by_turn(list(islice(made, len(prompts)))) or known for prompts, known in zip(continued, replayed, strict=True)]
    return [Written(texts, kept) if texts else None for texts in written]


def _asked(
    groups: Sequence[TextSettings], continued: Sequence[Sequence[tuple[Prompt, int]]], replayed: Sequence[Sequence[Text]]
) -> list[Continued]:
    """The prompts of all groups, each with its replayed texts that are rendered as it is."""

    def beside(prompt: Prompt, own: TextSettings) -> list[Text]:
        alike = (texts for texts, settings in zip(replayed, groups, strict=True) if replace(settings, replayed=False) == own)
        return [text for texts in alike for text in texts if text.prompt.id == prompt.id]

    asked = zip(groups, continued, strict=True)
    return [Continued(prompt, own, beside(prompt, own)) for own, prompts in asked for prompt, _ in prompts]


def _replayable(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, say: Say) -> Sequence[Text]:
    """The run's own replies behind prompts that are rendered as settings want them, nothing where that is not asked, or there is no way."""
    if not settings.replayed:
        return []
    try:
        return replay_texts(work.pair.target, _own(work, folder, batch, say), settings)
    except (PromptError, RunError):
        return []


def _renderable(work: Work, folder: RunFolder, batch: Batch, settings: TextSettings, say: Say) -> Sequence[tuple[Prompt, int]]:
    """What the target continues in such texts, and how many tokens its turns have at most; nothing where it writes none, or has no way to
    render one of them so.
    """
    if settings.replayed:
        return []
    tokenizer, most = work.pair.target.tokenizer, work.spec.max_new_tokens
    try:
        prompts = _continued(work, folder, batch, settings, say)
        lengths = [[len(foreseen(tokenizer, prompt, turn, settings).ids) for turn in range(len(prompt.turns))] for prompt in prompts]
    except (PromptError, RunError):
        return []
    return [
        (prompt, sum(length + (turn + 1) * most for turn, length in enumerate(turns)))
        for prompt, turns in zip(prompts, lengths, strict=True)
    ]


def boundaries(work: Work, conditions: Sequence[Condition]) -> list[int]:
    """Those of the target's streams that conditions draft from."""
    drafter = work.pair.drafter
    if isinstance(drafter, CausalLm | Lookup):
        return []
    return sorted({one for condition in conditions for one in streams_of(drafter.wired(condition.settings.wiring))})
