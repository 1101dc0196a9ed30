"""First user turns of conversations, rendered by the other templates and system prompts of a run and answered again, one reply each, by
the target itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import typer
from transformers import PreTrainedTokenizerBase

from driftcli.conditions import Condition, TextSettings
from driftcli.domain import Message
from driftcli.errors import SourceError
from driftcli.target.target import Target, Writing
from driftcli.texts.rendering import render
from driftcli.traces.reader import Run
from driftcli.training.conversations import Conversation, write_conversations
from driftcli.training.replies import DRAWN_AT, Pieces
from probes.system_prompt import SystemPrompt
from probes.template import TemplateChanges

PROBES = (TemplateChanges(), SystemPrompt())


def renderings(run: Run) -> list[TextSettings]:
    """The renderings in which the target answered anew in a run, as the probes of templates and system prompts make them."""
    measured = {name for _, name in run.conditions}
    conditions: Iterator[Condition] = (one for probe in PROBES for one in probe.conditions(run.pair, run.spec))
    return [one.text for one in conditions if one.name in measured and not one.text.replayed]


def user_turns(target: Target, conversations: Sequence[Conversation]) -> list[str]:
    """The words of the first user turn of each conversation in the target's own template, where its tokens are those of its words; the
    others are left out, and how many is said, with why.
    """
    try:
        pieces = Pieces.of(target)
    except SourceError as error:
        typer.echo(f"no user turn is rendered by other templates: {error}", err=True)
        return []
    found = [words for talk in conversations if (words := _words(target.tokenizer, pieces, talk))]
    if left := len(conversations) - len(found):
        typer.echo(
            f"{left} of {len(conversations)} conversations stay in their own rendering: no words give exactly the tokens of their user",
            err=True,
        )
    return found


def _words(tokenizer: PreTrainedTokenizerBase, pieces: Pieces, talk: Conversation) -> str:
    """What the user says first, empty where tokens between the template's are none, or not those that its words are given."""
    begins, ends = len(pieces.opening), talk.spans[0][0] - len(pieces.answer)
    if talk.ids[:begins] != pieces.opening or talk.ids[ends : talk.spans[0][0]] != pieces.answer:
        return ""
    ids = talk.ids[begins:ends]
    words = str(tokenizer.decode(ids))
    return words if list(tokenizer(words, add_special_tokens=False).input_ids) == ids else ""


def prompts(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[str], settings: Sequence[TextSettings], longest: int
) -> Iterator[list[int]]:
    """User turns, each in the next of some renderings, and then each in another, but for those that are longer than so many tokens."""
    for first in range(len(settings)):
        for number, said in enumerate(words, first):
            ids = list(render(tokenizer, said, [Message("user", said)], None, settings[number % len(settings)]).ids)
            if len(ids) <= longest:
                yield ids


def answer(target: Target, asked: Sequence[Sequence[int]], path: Path, most: int, seed: int, *, greedy: bool) -> None:
    """Let the target write one reply of at most so many tokens behind each prompt, into a file."""
    torch.manual_seed(seed)
    replies = target.write(asked, Writing(most, 0.0 if greedy else DRAWN_AT))
    write_conversations(
        path, [Conversation([*ids, *reply], [(len(ids), len(ids) + len(reply))]) for ids, reply in zip(asked, replies, strict=True)]
    )
