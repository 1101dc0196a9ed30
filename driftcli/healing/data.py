"""What a head is healed on: conversations of the run, others to prompts that went wrong, and those that are given or written now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from driftcli.domain import Prompt
from driftcli.errors import UsageError
from driftcli.healing.rendered import answer, prompts, renderings, user_turns
from driftcli.healing.split import own_replies
from driftcli.mitigations.treatment import OTHER_TEXTS, Treatment
from driftcli.target.target import Target
from driftcli.traces.reader import Run
from driftcli.training.conversations import Conversation, read_conversations
from driftcli.training.replies import Request, user_words, write_replies

SHARE = 1 / 3  # of what is learned from, where the run has texts of what is treated, at least (chosen by us)
MIXED = 2  # others for each that is answered behind another template: of both together these are a third
WAVE, USER, REPLY, LONGEST = 96, 64, 160, 1024  # replies written side by side, and tokens of a user turn, a reply and a conversation


@dataclass(frozen=True)
class Gathering:
    """How conversations are gathered: seconds for writing, 0 where the run's own are enough, replies that are given, the seed of what is
    drawn, where all is kept. vocabulary: token ids; writer: the target that writes, which is asked for when there is something to write.
    """

    seconds: float
    replies: Path | None
    seed: int
    work: Path
    vocabulary: int
    writer: Callable[[], Target]


@dataclass(frozen=True)
class Gathered:
    """Conversations; apart: those that tell the best head, of which nothing is learned; again: those that are learned from that often
    besides, since what is treated would be lost among the others. rendered: how many were written behind other templates.
    """

    conversations: list[Conversation]
    apart: range
    again: Sequence[int]
    rendered: int


def gather(how: Gathering, run: Run, taught: Sequence[Prompt], treatments: Sequence[Treatment], anew: Sequence[Prompt]) -> Gathered:
    """What there is to learn from; kept apart are the run's own replies of these prompts, if there are enough others.

    anew: prompts that are to be answered again, by replies that are drawn. Raises UsageError where a treatment has nothing to learn from.
    """
    how.work.mkdir(parents=True, exist_ok=True)
    own = own_replies(run, taught)
    treated, others, rendered = _behind_others(run, taught, treatments, own), list[Conversation](), list[Conversation]()
    if how.seconds:
        mixed = "templates" in treatments
        seconds = how.seconds / max(1 / MIXED, bool(anew) + (how.replies is None) + mixed / MIXED)  # for as many as the others are
        treated += _drawn(how, anew, seconds)
        others = _more(how, seconds)
        rendered = _rendered(how, run, others, len(others) // MIXED, seconds / MIXED) if mixed else []
        treated += rendered
    times = max(1, round(len(others) * SHARE / (1 - SHARE) / len(treated))) if treated else 1
    again = [*range(len(own), len(own) + len(treated))] * (times - 1)
    return Gathered([*own, *treated, *others], range(len(own) if len(others) >= len(own) else 0), again, len(rendered))


def _behind_others(run: Run, taught: Sequence[Prompt], treatments: Sequence[Treatment], own: Sequence[Conversation]) -> list[Conversation]:
    """What the run has of the prompts behind other templates or contexts, where that is treated."""
    found: dict[tuple[int, ...], Conversation] = {}
    for treatment, probes in OTHER_TEXTS.items():
        if treatment in treatments:
            more = own_replies(run, taught, probes)[len(own) :]
            if not more:
                what = " or ".join(probes)
                raise UsageError(f"--treatment {treatment}: the run has no texts of the {what} probe to learn from; diagnose with it first")
            found |= {tuple(talk.ids): talk for talk in more}
    return list(found.values())


def _more(how: Gathering, seconds: float) -> list[Conversation]:
    """Replies that are given, else written for so long, wave by wave; those of a killed attempt are kept."""
    if how.replies is not None:
        return read_conversations(how.replies, how.vocabulary)
    path = how.work / "replies.jsonl"
    for target, waves in _in_time(how, seconds, begun=path.exists()):
        write_replies(target, Request(WAVE * waves, WAVE, USER, REPLY, LONGEST, how.seed), path)
    return read_conversations(path, how.vocabulary)


def _drawn(how: Gathering, prompts: Sequence[Prompt], seconds: float) -> list[Conversation]:
    """Other replies to these prompts, drawn at a temperature, round by round; those of a killed attempt are kept."""
    said = [words for prompt in prompts if (words := user_words(prompt))]
    for target, number in _in_time(how, seconds, begun=not said or (how.work / "drawn-1.jsonl").exists()):
        asked = Request(len(said), WAVE, USER, REPLY, LONGEST, how.seed + number, drawn=True)
        write_replies(target, asked, how.work / f"drawn-{number}.jsonl", said)
    return [talk for path in sorted(how.work.glob("drawn-*.jsonl")) for talk in read_conversations(path, how.vocabulary)]


def _rendered(how: Gathering, run: Run, others: Sequence[Conversation], most: int, seconds: float) -> list[Conversation]:
    """At most so many replies to user turns of others behind the other templates and system prompts of a run, batch by batch; those of a
    killed attempt are kept.
    """
    if most > 0 and not (how.work / "rendered-1.jsonl").exists():
        target = how.writer()
        longest = min(LONGEST, target.room or LONGEST) - REPLY
        left = prompts(target.tokenizer, user_turns(target, others), renderings(run), longest)
        for _, number in _in_time(how, seconds, begun=False):
            if not (asked := list(islice(left, max(0, min(WAVE, most - WAVE * (number - 1)))))):
                break
            answer(target, asked, how.work / f"rendered-{number}.jsonl", REPLY, how.seed + number, greedy=number % 2 == 1)
    return [talk for path in sorted(how.work.glob("rendered-*.jsonl")) for talk in read_conversations(path, how.vocabulary)]


def _in_time(how: Gathering, seconds: float, *, begun: bool) -> Iterator[tuple[Target, int]]:
    """The target that writes, with 1, 2 and so on, while there is time for one more at the pace of those before; nothing of what an earlier
    attempt has begun.
    """
    if begun:
        return
    target, done = how.writer(), 0
    started = time.monotonic()
    while not done or time.monotonic() - started < seconds * done / (done + 1):
        done += 1
        yield target, done
