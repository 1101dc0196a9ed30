"""Conversations that a target writes itself: it continues its template's user turn, or is given one, then answers, several times over.

A head learns from what its target says, so the data come from nowhere else. Many are written side by side, wave after wave, by
transformers from one growing cache, by another engine each turn as a request of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
import typer

from driftcli.domain import Prompt
from driftcli.errors import PromptError, RunError, SourceError
from driftcli.sources.fingerprint import fingerprint
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Target, end_tokens
from driftcli.texts.prompts import read_prompts
from driftcli.traces.writer import write_json
from driftcli.training.conversations import Conversation, digest, read_conversations, write_conversations
from driftcli.training.sheet import Sheet
from driftcli.training.transcripts import Transcripts

# Turns of the conversations of one wave after the other, and again. Even waves answer greedily, odd ones at a temperature; the one that
# fills the context is odd: greedily a small model would only repeat its first answer.
TURNS = (1, 1, 3, 1, 1, 8, 1, 3, 1, 1)
DRAWN_AT = 0.8
MARKS = ("\u2063", "\u2064", "\u2062")  # invisible characters, which no template writes


@dataclass(frozen=True)
class Request:
    """What is asked of the target: replies in all, replies a wave, longest user turn, reply and conversation in tokens; drawn: every
    reply at a temperature, not every other wave greedily.
    """

    replies: int
    wave: int
    user: int
    reply: int
    length: int
    seed: int
    drawn: bool = False


@dataclass(frozen=True)
class Wave:
    """Conversations written side by side: how many, of how many turns, and the user's words where they are given."""

    rows: int
    turns: int
    given: Sequence[Sequence[str]] = ()


def user_turns(path: Path) -> list[list[str]]:
    """What the user says in each conversation of a prompt file; PromptError where anybody else speaks: the target fills the gaps."""
    prompts = read_prompts(path)
    if strange := [prompt.id for prompt in prompts if not user_words(prompt)]:
        raise PromptError(f"{path}: prompt {strange[0]} holds something else than user messages, expected those alone; take it out")
    return [user_words(prompt) for prompt in prompts]


def user_words(prompt: Prompt) -> list[str]:
    """What the user says in a prompt, turn by turn; nothing of one where anybody else speaks."""
    return [message.content for message in prompt.messages] if {message.role for message in prompt.messages} == {"user"} else []


def waves(request: Request, given: Sequence[Sequence[str]]) -> list[Wave]:
    """What to write: whole waves until there are enough replies; given user turns in waves of equally many, the shortest first."""
    if not given:
        counts = [TURNS[number % len(TURNS)] for number in range(-(-request.replies // request.wave))]
        return [Wave(max(1, request.wave // count), count) for count in counts]
    found = []
    for turns, same in groupby(sorted(given, key=lambda said: (len(said), sum(map(len, said)))), key=len):
        talks, rows = list(same), max(1, request.wave // turns)
        parts = [talks[start : start + rows] for start in range(0, len(talks), rows)]
        found += [Wave(len(part), turns, part) for part in parts]
    return found


def write_replies(target: Target, request: Request, path: Path, given: Sequence[Sequence[str]] = ()) -> None:
    """Let the target write `path`. Each wave is kept beside it, so a killed run goes on with the next wave, and a larger one too.

    given: what the user says, turn by turn, in each conversation; nothing lets the target write that too.
    """
    pieces, parts = Pieces.of(target), path.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    said = digest(list(given)) if given else "its own"
    how = {key: value for key, value in vars(request).items() if key != "drawn" or value}
    asked = {**how, "replies": "any", "user_turns": said, "target": fingerprint(target.source)}
    if target.served is not None:
        asked["engine"] = f"{target.served.engine} {target.served.version} {json.dumps(target.served.args, sort_keys=True)}"
    known = parts / "request.json"
    if known.is_file() and (held := json.loads(known.read_text())) != asked:
        raise RunError(f"{parts}: holds waves of {held}, expected {asked}; name other --replies, or remove it")
    write_json(known, asked)
    planned, written = waves(request, given), []
    for number, wave in enumerate(planned):
        part = parts / f"{number:05d}.jsonl"
        if not part.is_file():
            torch.manual_seed(request.seed + number)
            conversations = write_wave(target, pieces, request, wave, greedy=number % 2 == 0 and not request.drawn)
            write_conversations(part, conversations)
            tokens = sum(len(conversation.ids) for conversation in conversations)
            typer.echo(f"wave {number + 1} of {len(planned)}: {tokens} tokens in {wave.turns}-turn conversations", err=True)
        written += read_conversations(part, target.config.vocab_size)
    write_conversations(path, written)


def write_wave(target: Target, pieces: Pieces, request: Request, wave: Wave, *, greedy: bool) -> list[Conversation]:
    """The conversations of a wave: user as given or at temperature 1, replies greedy or drawn; those cut before a reply are left out."""
    sheet = _opened(target, wave.rows, request.length)
    sheet.add(pieces.opening)
    for turn in range(wave.turns):
        if wave.given:
            sheet.give([target.tokenizer(said[turn], add_special_tokens=False).input_ids for said in wave.given])
        else:
            sheet.write("user", request.user, 1.0, pieces.answer[:1])
        sheet.add(pieces.answer)
        sheet.write("reply", request.reply, 0.0 if greedy else DRAWN_AT)
        if turn + 1 < wave.turns:
            sheet.add(pieces.further)
    return [conversation for conversation in sheet.conversations() if conversation.spans]


def _opened(target: Target, rows: int, length: int) -> Sheet | Transcripts:
    """Conversations that are to be written; SourceError for a target that would never end a turn."""
    ends = end_tokens(target.generation_config, target.tokenizer)
    if not ends:
        raise SourceError(f"{target.source.name}: names no end token, expected one; bring --replies of your own")
    return Sheet(target, rows, ends, length) if isinstance(target, LanguageModel) else Transcripts(target, rows, ends, length)


@dataclass(frozen=True)
class Pieces:
    """What the template writes before the first user turn, between it and the reply, and between that and the next user turn; token ids."""

    opening: list[int]
    answer: list[int]
    further: list[int]

    @classmethod
    def of(cls, target: Target) -> Pieces:
        """Of the target's own template; SourceError where it has none, or one whose turns cannot be written one after the other."""
        name, tokenizer = target.source.name, target.tokenizer
        if not tokenizer.chat_template:
            raise SourceError(f"{name}: has no chat template to write in, expected one; bring --replies of your own")
        messages = [{"role": role, "content": mark} for role, mark in zip(("user", "assistant", "user"), MARKS, strict=True)]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        parts = [text]
        for mark in MARKS:
            parts[-1:] = parts[-1].split(mark)
        ids = [tokenizer(part, add_special_tokens=False).input_ids for part in parts]
        marks = [tokenizer(mark, add_special_tokens=False).input_ids for mark in MARKS]
        whole = [token for pair in zip(ids, [*marks, []], strict=False) for piece in pair for token in piece]
        if len(ids) != 4 or not all(ids) or whole != tokenizer(text, add_special_tokens=False).input_ids or ids[1] != ids[3]:
            raise SourceError(
                f"{name}: its chat template does not show turns one after the other, each between tokens of its own, as is needed here; "
                "bring --replies of your own"
            )
        ends = {tokenizer.eos_token_id, *tokenizer.all_special_ids}
        if ids[1][0] not in ends:
            raise SourceError(
                f"{name}: its chat template ends a user turn with plain text, expected a special token; bring --replies of your own"
            )
        return cls(ids[0], ids[1], ids[2])
