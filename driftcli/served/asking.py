"""Asking a server for the run's replies, wave by wave, and what it counted for each: where texts part, only what lies before counts.

The requests of a wave are sent together and counted together, unless replies carry their own counts. A reply that parts from the run's is
asked for again, for the tokens before, since behind that place the rounds are of another text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic, sleep

from driftcli.errors import ServerError
from driftcli.served.foreseen import Text
from driftcli.served.server import Counts, Reply, Server, Totals

TRIES = 4  # times that a wave is asked for where its replies part (chosen by us)
SETTLED_WITHIN = 10.0  # seconds in which counters follow the replies that they count (chosen by us)
LOOK_AGAIN = 0.03  # seconds between two readings of counters (chosen by us)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a server counted for some replies, and what the run foresees for the same tokens.

    unit: those of one number count as one. emitted: reply tokens behind the first ones.
    """

    unit: int
    emitted: int
    seen: Counts
    foreseen: Counts


@dataclass
class Session:
    """A server that is being asked; parted: of each text whose reply parts from the run's, the place of the first other token.

    unusable: texts whose replies part too early, or anew each time; too_long: those that the server's longest text has no room for.
    """

    server: Server
    concurrency: int = 1
    say: Callable[[str], None] = lambda _: None
    parted: dict[tuple[str, int], int] = field(default_factory=dict)
    unusable: list[tuple[str, int]] = field(default_factory=list)
    too_long: list[tuple[str, int]] = field(default_factory=list)

    @property
    def drafts(self) -> int:
        """Draft tokens a round of the server."""
        return self.server.facts.drafts

    def observe(self, texts: Sequence[Text]) -> list[Observed]:
        """What the server counted for each text, or each wave of them, in the order in which they were asked for."""
        usable, found = [text for text in texts if self._fits(text)], list[Observed]()
        for start in range(0, len(usable), self.concurrency):
            found += self._wave(usable[start : start + self.concurrency], start)
            self._tell(min(start + self.concurrency, len(usable)), len(usable), "replies")
        return found

    def replies(self, asked: Sequence[tuple[Sequence[int], int]], *, greedy: bool = True) -> tuple[list[Reply], Counts | None]:
        """Replies to prompts that are sent together, each of at most so many tokens, and what the server's own counters say of all."""
        before = self.server.totals()
        with ThreadPoolExecutor(max_workers=len(asked)) as pool:
            found = list(pool.map(lambda one: self.server.reply(*one, greedy=greedy), asked))
        if before is None or all(reply.counts is not None for reply in found):
            return found, None
        ended = sum(len(reply.tokens) < most for reply, (_, most) in zip(found, asked, strict=True))
        return found, self._settled(before, sum(len(reply.tokens) for reply in found), ended).counts

    def sampled(self, texts: Sequence[Text]) -> list[Observed]:
        """What it counted for the same prompts as it samples unless told; nothing is foreseen of other texts, so it stands alone."""
        usable, found = [text for text in texts if self._fits(text)], list[Observed]()
        for start in range(0, len(usable), self.concurrency):
            wave = usable[start : start + self.concurrency]
            replies, counts = self.replies([(text.prompt, text.most(self.drafts)) for text in wave], greedy=False)
            emitted = [len(reply.tokens) - 1 for reply in replies]
            if counts is not None:
                unit = wave[0].unit if len(wave) == 1 else -1 - start
                found.append(Observed(unit, sum(emitted), counts, counts))
            else:
                found += [Observed(t.unit, n, own, own) for t, n, one in zip(wave, emitted, replies, strict=True) if (own := one.counts)]
            self._tell(start + len(wave), len(usable), "replies as it samples")
        return [one for one in found if one.seen.rounds]

    def _tell(self, done: int, of: int, what: str) -> None:
        """Say how far it is, about ten times in all."""
        step = max(1, of // 10)
        if done == of or done // step > (done - self.concurrency) // step:
            self.say(f"{done} of {of} {what}")

    def tell_round(self, done: int, of: int) -> None:
        """Say how many single rounds are done."""
        if done % max(1, of // 5) == 0 or done == of:
            self.say(f"{done} of {of} single rounds")

    def _fits(self, text: Text) -> bool:
        longest = self.server.facts.longest
        if longest is not None and text.prompt_length + text.most(self.drafts) + self.drafts >= longest:
            self.too_long.append(text.key)
            return False
        return text.most(self.drafts) > 1

    def _wave(self, texts: Sequence[Text], number: int) -> list[Observed]:
        """What was counted for texts that are asked for together, once their replies are the run's."""
        most = {text.key: text.most(self.drafts) for text in texts}
        left = list(texts)
        for _ in range(TRIES):
            if not left:
                return []
            replies, counts = self.replies([(text.prompt, most[text.key]) for text in left])
            places = {text.key: _parts(text, reply, most[text.key]) for text, reply in zip(left, replies, strict=True)}
            if not any(place is not None for place in places.values()):
                return _observed(left, replies, counts, most, self.drafts, number)
            left = list(self._before_parting(left, places, most))
        self.unusable += [text.key for text in left]
        return []

    def _before_parting(
        self, texts: Sequence[Text], places: dict[tuple[str, int], int | None], most: dict[tuple[str, int], int]
    ) -> Iterator[Text]:
        """The texts to be asked for again, `most` cut to rounds whose guesses all lie before the place where the reply parts."""
        for text in texts:
            if (place := places[text.key]) is not None:
                self.parted[text.key] = min(place, self.parted.get(text.key, place))
                most[text.key] = text.most(self.drafts, place - self.drafts + 1)
            if most[text.key] > 1:
                yield text
            else:
                self.unusable.append(text.key)

    def _settled(self, before: Totals, tokens: int, ended: int) -> Totals:
        """What has been counted since, once the counters have caught up with so many reply tokens and stand still; ended: replies that
        ended by themselves, with a token more, which some servers count and do not send.
        """
        until, last = monotonic() + SETTLED_WITHIN, None
        while True:
            now = self.server.totals()
            assert now is not None
            since = now.since(before)
            if since.tokens > tokens + ended:
                raise ServerError(
                    f"the server counted {since.tokens} reply tokens where {tokens} were sent here: it answers others at the same time, so "
                    "its counters are not of these requests alone; ask one that is idle, or a vLLM that was started with "
                    "--per-request-spec-decode-metrics summary"
                )
            if since.tokens >= tokens and now == last:
                return since
            if monotonic() > until:
                raise ServerError(
                    f"the server counted {since.tokens} reply tokens of {tokens} within {SETTLED_WITHIN:g} s; are its metrics its own?"
                )
            last = now
            sleep(LOOK_AGAIN)


def _parts(text: Text, reply: Reply, most: int) -> int | None:
    """The place of the first token that is not the run's, None where the reply is the run's as far as it was asked for."""
    wanted = text.reply[:most]
    if reply.tokens == wanted:
        return None
    pairs = zip(wanted, reply.tokens, strict=False)
    return next((place for place, (own, its) in enumerate(pairs) if own != its), min(len(wanted), len(reply.tokens)))


def _observed(
    texts: Sequence[Text], replies: Sequence[Reply], counts: Counts | None, most: dict[tuple[str, int], int], drafts: int, number: int
) -> list[Observed]:
    """One for each text whose reply was counted alone, else one for all of a wave; number: of its first request."""
    foreseen = [text.counts(drafts, most[text.key]) for text in texts]
    emitted = [most[text.key] - 1 for text in texts]
    if counts is None:
        own = [reply.counts for reply in replies]
        return [
            Observed(text.unit, count, seen, expected)
            for text, count, seen, expected in zip(texts, emitted, own, foreseen, strict=True)
            if seen is not None
        ]
    if len(texts) == 1:
        return [Observed(texts[0].unit, emitted[0], counts, foreseen[0])]
    return [Observed(-1 - number, sum(emitted), counts, _summed(foreseen))]


def _summed(counts: Sequence[Counts]) -> Counts:
    kept = [one.kept_at for one in counts if one.kept_at is not None]
    total = replace(counts[0], rounds=sum(one.rounds for one in counts), drafted=sum(one.drafted or 0 for one in counts))
    return replace(total, kept_at=tuple(map(sum, zip(*kept, strict=True))))
