"""How much a run is, counted before it starts: texts, tokens, steps, chains, rows; and the seconds that they take at a given speed.

What is counted stands here once for all who ask ahead: `plan`, which times random products of the models' sizes, and the forecast of
`diagnose`, which times the loaded pair. How long a reply becomes is not known before it is written: counts are for a given length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import ceil

from driftcli.conditions import Condition, TextSettings, Wiring
from driftcli.domain import PairCard, RunSpec
from driftcli.engine.agenda import Agenda, sharing_texts
from driftcli.engine.shares import Company, Unit, companies, rows_asked
from driftcli.engine.texts import is_kept
from driftcli.target.in_process import CHUNK
from driftcli.traces.schema import TABLES

FORCED_IS_FRESH = ("causal-lm", "early-exit")  # families that read the text in one pass for all depths
SELF_FEEDING = ("eagle", "eagle3", "peagle", "mtp")  # families whose conditions share what is made of all rows before any attention
LONGEST = 2.0  # times the mean length of a batch's replies that its longest has, where they end by themselves (chosen by us)
BUNDLED_TARGET, BUNDLED_REPLY = "bundled:target", 32  # measured: 31.6 tokens over its own prompts, of up to 128


@dataclass(frozen=True, slots=True)
class Turn:
    """A text to come: tokens of its prompt as rendered, without the replies before it; how many of these there are, and the tokens of its
    own reply where that is given.
    """

    prompt: int
    before: int = 0
    given: int | None = None


@dataclass(frozen=True)
class Texts:
    """The texts of a run to come. prompts: how many there are, of one turn or more; usual, most: tokens of a reply that the target writes,
    as expected and at most. batch: prompts that are answered together. kept: tokens that the texts of a batch may have in all to be kept
    as they are written and not read again, 0 where none are. alike: tokens that all prompts begin with, None where these are not read once.
    at_once: tokens of texts that are read, and drafted on, side by side.
    """

    turns: Sequence[Turn]
    prompts: int
    usual: int
    most: int
    batch: int = 1
    kept: int = 0
    alike: int | None = None
    at_once: int = 1

    @property
    def sizes(self) -> list[int]:
        """Prompts of each batch."""
        return [min(self.batch, self.prompts - before) for before in range(0, self.prompts, self.batch)]

    def rows_of(self, unit: Unit) -> int:
        """Prompts of a unit."""
        before = unit.batch * self.batch
        return rows_asked(unit.limit, min(self.batch, self.prompts - before), before)

    def under(self, settings: TextSettings, reply: int) -> list[tuple[Turn, int]]:
        """The texts that settings make, a long conversation having one turn, and the tokens of their prompts. reply: of each before it."""
        turns = [turn for turn in self.turns if not (settings.length and turn.before)]
        return [(turn, max(settings.length, settings.system_tokens + turn.prompt + turn.before * reply)) for turn in turns]

    def kept_of(self, company: Company) -> int:
        """Tokens that are kept of texts which are written together or read beside, at most: of all turns of their prompts."""
        kept = [unit for unit in company if is_kept(unit.text) or (unit.text.replayed and len(company) > 1)]
        rows = [1 if unit.text.alone else self.rows_of(unit) for unit in kept]
        tokens = [sum(prompt + self.most for _, prompt in self.under(unit.text, self.most)) for unit in kept]
        return ceil(sum(count * each for count, each in zip(rows, tokens, strict=True)) / self.prompts)

    @property
    def longest(self) -> int:
        """Tokens of the longest text, at most."""
        return max(turn.prompt + turn.before * self.most + (turn.given or self.most) for turn in self.turns)

    def some(self, prompts: int) -> Texts:
        """As many texts of these as belong to so many prompts, taken evenly."""
        share = min(prompts, self.prompts) / self.prompts
        count = max(1, round(share * len(self.turns)))
        return replace(self, turns=[self.turns[int(place / share)] for place in range(count)], prompts=min(prompts, self.prompts))


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is done, each number a count of one thing; sums of texts and conditions.

    texts, written: replies that the target writes, and their tokens. steps, stepped: of decoding, and sequences in them. reads, read:
    passes over texts that the target reads, and tokens it reads, prompts to answer among them. pairs: of a token that the target reads or
    writes and one before it, which its attention goes through. passes, fresh: the drafter's passes over texts, and their rows. links,
    chained: its forwards behind those, each over all anchors of some texts, and queries in them. drafted: tokens that it proposes in
    forced chains. blocks, rows: columns made for a feed at a depth, and rows of `steps` in them; tails: the same of each text, as `heads`
    has them. cells, files: of Parquet. held: tokens of the texts that are kept.
    """

    texts: float = 0
    written: float = 0
    steps: float = 0
    stepped: float = 0
    reads: float = 0
    read: float = 0
    pairs: float = 0
    passes: float = 0
    fresh: float = 0
    links: float = 0
    chained: float = 0
    drafted: float = 0
    blocks: float = 0
    rows: float = 0
    tails: float = 0
    cells: float = 0
    files: float = 0
    held: float = 0

    def __add__(self, other: Amounts) -> Amounts:
        """Both."""
        return Amounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of a call and of each thing in it."""

    call: float
    each: float

    @classmethod
    def through(cls, few: tuple[float, float, float], many: tuple[float, float, float]) -> Line:
        """From two timings, each of calls, things in all and seconds; what noise makes negative is 0."""
        (calls, less, quick), (others, more, slow) = few, many
        each = max(0.0, slow / others - quick / calls) / max(1e-9, more / others - less / calls)
        return cls(max(0.0, quick - each * less) / calls, each)

    def of(self, calls: float, things: float) -> float:
        """Seconds of so many calls with so many things in all."""
        return self.call * calls + self.each * things


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of what a run does: the target reads tokens, attends to a further pair of them, and takes a decoding step for sequences, the
    drafter reads rows and drafts queries on, columns are made of rows, and a file is written.
    """

    read: Line
    step: Line
    fresh: Line
    link: Line
    rows: Line
    file: float
    pair: float

    def slowed(self, share: float) -> Speed:
        """The same where only a share of a core is to be had."""
        lines = (self.read, self.step, self.fresh, self.link, self.rows)
        read, step, fresh, link, rows = (Line(line.call / share, line.each / share) for line in lines)
        return Speed(read, step, fresh, link, rows, self.file / share, self.pair / share)

    def parts(self, amounts: Amounts) -> dict[str, float]:
        """What so much takes, by who does it."""
        a = amounts
        return {
            "writing replies": self.step.of(a.steps, a.stepped),
            "reading texts": self.read.of(a.reads, a.read) + self.pair * a.pairs,
            "drafting": self.fresh.of(a.passes, a.fresh) + self.link.of(a.links, a.chained),
            "keeping rows": self.rows.of(a.blocks, a.rows) + self.file * a.files,
        }

    def seconds(self, amounts: Amounts) -> float:
        """What so much takes in all."""
        return sum(self.parts(amounts).values())


def amounts(agenda: Agenda, conditions: Sequence[Condition], texts: Texts, reply: int) -> Amounts:
    """What these conditions come to where replies that the target writes are `reply` tokens long."""
    found, written = Amounts(), _written(conditions, texts, agenda.spec)
    for (settings, some), group in sharing_texts(conditions).items():
        share = min(some or texts.prompts, texts.prompts) / texts.prompts
        counted = _Counted(texts, reply, settings, share, written[settings, some])
        found += counted.texts()
        opened = set[Wiring]()
        for condition in group:
            shared = agenda.card.family in SELF_FEEDING and condition.settings.wiring in opened and condition.settings.noise is None
            found += counted.condition(agenda.card, agenda.spec, condition, shared=shared)
            opened.add(condition.settings.wiring)
    return found


@dataclass
class _Written:
    """How texts are written. calls: how many times, where those of other conditions share one a part of it; tokens: that are kept of all
    of a call, at most; shorter: tokens of shorter conversations in it; beside: whether none is written, but read behind a prompt of one.
    """

    calls: float = 0.0
    tokens: int = 0
    shorter: int = 0
    beside: bool = False


def _written(conditions: Sequence[Condition], texts: Texts, spec: RunSpec) -> Mapping[tuple[TextSettings, int], _Written]:
    """How the texts of conditions are written, by their settings and of how many prompts they are asked."""
    found: dict[tuple[TextSettings, int], _Written] = defaultdict(_Written)
    for company, times in companies(conditions, texts.sizes, spec):
        written = [unit for unit in company if not unit.text.replayed]
        lengths = [unit.text.length for unit in written]
        for unit in company:
            mine = found[unit.text, unit.limit]
            mine.calls += times / max(1, len(written))
            beside = unit.text.replayed and len(company) > 1
            mine.beside |= beside
            mine.tokens = max(mine.tokens, texts.kept_of(company if beside else written))
            mine.shorter = max((length for length in lengths if length < unit.text.length), default=mine.shorter)
    return found


@dataclass(frozen=True)
class _Counted:
    """The texts that a group of conditions shares. share: of the run's prompts."""

    run: Texts
    reply: int
    settings: TextSettings
    share: float
    written: _Written

    @cached_property
    def _texts(self) -> list[tuple[Turn, int]]:
        return self.run.under(self.settings, self.reply)

    @property
    def _turns(self) -> list[Turn]:
        return [turn for turn, _ in self._texts]

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Tokens of each text's prompt, and of its reply."""
        return [(prompt, self.reply if turn.given is None else turn.given) for turn, prompt in self._texts]

    @property
    def batches(self) -> int:
        """How many times texts are written together."""
        return ceil(self.run.prompts * self.share / self.run.batch)

    def _passes(self, texts: int) -> float:
        """Passes over so many texts, as many of a batch side by side as there is room for."""
        mean = sum(map(sum, self.sizes)) / len(self.sizes)
        return self.share * texts / max(1.0, min(self.share * len(self.sizes) / self.batches, self.run.at_once / mean))

    def texts(self) -> Amounts:
        """What making and reading them takes."""
        if self.settings.twin == "rows":
            return Amounts()
        lengths = [prompt + reply for prompt, reply in self.sizes]
        if self.written.beside and self.written.tokens <= self.run.kept and self.run.alike is not None:
            return self._beside() + Amounts(held=self.share * sum(lengths))
        kept = is_kept(self.settings) and self.written.tokens <= self.run.kept
        unread = [length for length, turn in zip(lengths, self._turns, strict=True) if not (kept and self._asked(turn))]
        found = Amounts(reads=self._passes(len(unread)), read=self.share * sum(unread), pairs=self.share * sum(map(_pairs, unread)))
        found += self._spared(self.share * len(unread), self.batches)
        read = found + Amounts(held=self.share * sum(lengths))
        return read if self.settings.replayed or self.settings.twin == "replies" else read + self._writing()

    def _beside(self) -> Amounts:
        """Reading behind prompts that are read already: replies, and of later turns all behind the first question, as replies differ."""
        read, pairs, first = 0, 0, 0
        for turn, (prompt, reply) in zip(self._turns, self.sizes, strict=True):
            first = first if turn.before else prompt
            read += prompt - first + reply
            pairs += (prompt - first + reply) * (prompt + reply)
        return Amounts(reads=self._passes(len(self.sizes)), read=self.share * read, pairs=self.share * pairs)

    def _spared(self, texts: float, calls: float) -> Amounts:
        """What is less to read of so many texts, since what they begin with is read once a call, as it is of prompts and of texts."""
        if self.run.alike is None:
            return Amounts()
        own = self.run.alike if self.settings.template == "own" and self.settings.system == "own" else 0
        count, tokens = max(0.0, texts - calls), self.settings.system_tokens or own
        return Amounts(read=-count * tokens, pairs=-count * _pairs(tokens))

    def _asked(self, turn: Turn) -> bool:
        """Whether the target writes the reply of a text."""
        return turn.given is None or self.settings.length > 0

    def _writing(self) -> Amounts:
        asked = [pair for pair in zip(self._turns, self.sizes, strict=True) if self._asked(pair[0])]
        found = Amounts(texts=self.share * len(asked), written=self.share * len(asked) * self.reply)
        pairs = self.share * sum(_pairs(prompt) + self.reply * prompt for _, (prompt, _) in asked)
        found += Amounts(read=self.share * sum(prompt for _, (prompt, _) in asked), pairs=pairs)
        for count in Counter(turn.before for turn, _ in asked).values():  # prompts are answered together, one turn after the other
            texts = self.share * count
            calls = texts if self.settings.alone else min(ceil(texts), self.written.calls)
            longest = self._longest(texts / calls)
            found += Amounts(steps=calls * longest, stepped=texts * longest)
            found += self._spared(texts, texts if self.settings.alone else min(ceil(texts), self.batches))
        return found + self._gone_on()

    def _gone_on(self) -> Amounts:
        """What is not read of long conversations: what shorter ones that are written with them have too, all but their last question."""
        if self.run.alike is None or not self.written.shorter:
            return Amounts()
        tokens = [max(0, self.written.shorter - turn.prompt) for turn in self._turns]
        return Amounts(read=-self.share * sum(tokens), pairs=-self.share * sum(map(_pairs, tokens)))

    def _longest(self, together: float) -> float:
        """Tokens of the longest of some replies that are written together."""
        return self.reply if together <= 1 or self.reply >= self.run.most else min(self.run.most, LONGEST * self.reply)

    def condition(self, card: PairCard, spec: RunSpec, condition: Condition, *, shared: bool) -> Amounts:
        """What drafting on them takes, nothing where rows are taken over. shared: prompts' rows are taken over from another condition."""
        if self.settings.twin == "rows":
            return Amounts(cells=self.batches, files=3 * self.batches)
        depth, free, feeds = condition.settings.depth, condition.drafts_free, 1 + condition.controls + condition.drafts_free
        horizon = max(spec.depth, depth)
        anchors = [max(0, reply - horizon) for _, reply in self.sizes]
        drafting = sum(bool(count) for count in anchors)
        chains = (
            0 if card.copies else free if card.family in FORCED_IS_FRESH else 1 if card.guesses_side_by_side else 1 + free
        )  # whose forced chain is the pass itself; a lookup takes no step for any token
        full = condition.full and not card.copies
        behind = full * min(depth, spec.depth) * drafting  # anchors of a text whose chains reach past its end
        tables = len(TABLES) if condition.full else 2 + (condition.text != TextSettings())
        passes = self._passes(drafting)
        return Amounts(
            passes=passes,
            fresh=self.share * sum(reply + prompt * (not shared) for prompt, reply in self.sizes if reply > horizon),
            links=passes * (depth - 1) * (chains + full),
            chained=self.share * (sum(anchors) * (depth - 1) * chains + behind * (depth - 1)),
            drafted=self.share * sum(reply for _, reply in self.sizes) * depth,
            blocks=passes * feeds * depth,
            rows=self.share * sum(anchors) * feeds * depth,
            tails=self.share * drafting * feeds * depth,
            cells=self.batches,
            files=self.batches * tables,
        )


def _pairs(tokens: float) -> float:
    """Pairs of a text, of whose chunks all tokens go through all of them."""
    return tokens * (tokens + min(tokens, CHUNK)) / 2


def usual_reply(target: str, most: int) -> int:
    """Tokens of a reply that is to be expected: as many as it may have, but for the bundled target, which answers its tasks briefly."""
    return min(most, BUNDLED_REPLY) if target == BUNDLED_TARGET else most
