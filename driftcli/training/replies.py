"""Conversations that a target writes itself: it continues its template's user turn, or is given one, then answers, several times over.

A head learns from what its target says, so the data come from nowhere else. Many are written side by side, wave after wave, each from one
growing cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
import typer
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from driftcli.domain import Prompt
from driftcli.errors import PromptError, RunError, SourceError
from driftcli.families.causal_lm.loading import sliding_window
from driftcli.sources.fingerprint import fingerprint
from driftcli.target.in_process import choosing, plain_decoding
from driftcli.target.language_model import LanguageModel
from driftcli.texts.prompts import read_prompts
from driftcli.traces.writer import write_json
from driftcli.training.conversations import Conversation, digest, read_conversations, write_conversations

# Turns of the conversations of one wave after the other, and again. Even waves answer greedily, odd ones at temperature 0.8; the one that
# fills the context is odd: greedily a small model would only repeat its first answer.
TURNS = (1, 1, 3, 1, 1, 8, 1, 3, 1, 1)
MARKS = ("\u2063", "\u2064", "\u2062")  # invisible characters, which no template writes
UNFINISHED = 0.15  # user turns end once no more than this share of them is still being written: waiting for the last costs most of a wave


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


def write_replies(target: LanguageModel, request: Request, path: Path, given: Sequence[Sequence[str]] = ()) -> None:
    """Let the target write `path`. Each wave is kept beside it, so a killed run goes on with the next wave, and a larger one too.

    given: what the user says, turn by turn, in each conversation; nothing lets the target write that too.
    """
    pieces, parts = Pieces.of(target), path.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    said = digest(list(given)) if given else "its own"
    how = {key: value for key, value in vars(request).items() if key != "drawn" or value}
    asked = {**how, "replies": "any", "user_turns": said, "target": fingerprint(target.source)}
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


@torch.inference_mode()
def write_wave(target: LanguageModel, pieces: Pieces, request: Request, wave: Wave, *, greedy: bool) -> list[Conversation]:
    """The conversations of a wave: user at temperature 1 or as given, replies greedy or at 0.8; those cut before a reply are left out."""
    sheet = Sheet(target, wave.rows)
    sheet.add(pieces.opening)
    for turn in range(wave.turns):
        if wave.given:
            sheet.give([target.tokenizer(said[turn], add_special_tokens=False).input_ids for said in wave.given])
        else:
            sheet.write("user", request.user, 1.0, pieces.answer[0])
        sheet.add(pieces.answer)
        sheet.write("reply", request.reply, 0.0 if greedy else 0.8)
        if turn + 1 < wave.turns:
            sheet.add(pieces.further)
    return [conversation for conversation in sheet.conversations(request.length) if conversation.spans]


@dataclass(frozen=True)
class Pieces:
    """What the template writes before the first user turn, between it and the reply, and between that and the next user turn; token ids."""

    opening: list[int]
    answer: list[int]
    further: list[int]

    @classmethod
    def of(cls, target: LanguageModel) -> Pieces:
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


class Sheet:
    """Conversations as rows of one matrix; what a row did not write while another still did is a hole, which nothing attends to.

    ids, kept (written, no hole), replied (part of a reply): (row, column) each. Layers that count columns or remember what they have seen
    would not pass over holes: for such a target the rows are closed up and read anew before each turn.
    """

    def __init__(self, target: LanguageModel, rows: int) -> None:
        kinds = set(getattr(target.config, "layer_types", None) or ["full_attention"])
        self._target, self._passes_over = target, kinds == {"full_attention"} and sliding_window(target) is None
        self._cache = DynamicCache(config=target.config)
        with plain_decoding(target) as settings:
            ends = settings.eos_token_id
        if ends is None:
            raise SourceError(f"{target.source.name}: names no end token, expected one; bring --replies of your own")
        self._ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=target.device)
        self.ids = torch.zeros(rows, 0, dtype=torch.long, device=target.device)
        self.kept, self.replied = self.ids.bool(), self.ids.bool()
        self._ended = torch.zeros(rows, dtype=torch.bool, device=target.device)

    def add(self, ids: Sequence[int]) -> None:
        """Put the template's tokens behind every row; an end token that a reply has already written is not repeated."""
        piece = torch.tensor(ids, device=self.ids.device).expand(len(self.ids), -1)
        kept = torch.ones_like(piece, dtype=torch.bool)
        kept[:, 0] = ~(self._ended & torch.isin(piece[:, 0], self._ends))
        self._grow(piece, kept, torch.zeros_like(kept))

    def give(self, turns: Sequence[Sequence[int]]) -> None:
        """Put a user turn of its own behind each row."""
        rows = [torch.tensor(ids, dtype=torch.long, device=self.ids.device) for ids in turns]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=int(self._ends[0]))
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        kept = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        self._ended = torch.zeros_like(self._ended)
        self._grow(ids, kept, torch.zeros_like(kept))

    def write(self, what: Literal["user", "reply"], limit: int, temperature: float, also_ends: int | None = None) -> None:
        """Let the target write a turn in every row, at most `limit` tokens; a user turn loses its end token, which the template brings."""
        if not self._passes_over:
            self._close_up()
        ends = self._ends if also_ends is None else torch.cat([self._ends, self._ends.new_tensor([also_ends])])
        stop = StoppingCriteriaList([MostlyEnded(self.ids.shape[1], ends)] if what == "user" else [])
        with plain_decoding(self._target):
            ids = self._target.model.generate(  # type: ignore[operator]
                self.ids, attention_mask=self.kept.long(), max_new_tokens=limit, stopping_criteria=stop, eos_token_id=ends.tolist(),
                pad_token_id=int(ends[0]), **choosing(temperature), **self._target.continuing(self._cache),
            )[:, self.ids.shape[1] :]  # fmt: skip
        ended = torch.isin(ids, ends)
        past = ended.cumsum(-1) - ended.long() > 0
        kept = ~past if what == "reply" else ~past & ~ended
        self._ended = ended.any(-1) if what == "reply" else torch.zeros_like(self._ended)
        self._grow(ids, kept, kept if what == "reply" else torch.zeros_like(kept))

    def _grow(self, ids: Tensor, kept: Tensor, replied: Tensor) -> None:
        self.ids, self.kept = torch.cat([self.ids, ids], dim=1), torch.cat([self.kept, kept], dim=1)
        self.replied = torch.cat([self.replied, replied], dim=1)

    def _close_up(self) -> None:
        """Move every hole to the left of its row, and forget what was read."""
        order = self.kept.to(torch.uint8).argsort(dim=1, stable=True)[:, int((~self.kept).sum(1).min()) :]
        self.ids, self.kept, self.replied = (part.gather(1, order) for part in (self.ids, self.kept, self.replied))
        self._cache = DynamicCache(config=self._target.config)

    def conversations(self, length: int) -> list[Conversation]:
        """The rows without their holes, none longer than `length`."""
        found = []
        for ids, kept, replied in zip(self.ids, self.kept, self.replied, strict=True):
            said = torch.nn.functional.pad(replied[kept][:length].int(), (1, 1)).diff()
            spans = zip((said == 1).nonzero()[:, 0].tolist(), (said == -1).nonzero()[:, 0].tolist(), strict=True)
            found.append(Conversation(ids[kept][:length].tolist(), list(spans)))
        return found


class MostlyEnded(StoppingCriteria):
    """Stops every row once no more than `UNFINISHED` of them have written no end token behind column `start`."""

    def __init__(self, start: int, ends: Tensor) -> None:
        self._start, self._ends = start, ends

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """True for all rows or for none."""
        unfinished = ~torch.isin(input_ids[:, self._start :], self._ends).any(-1)
        return torch.full_like(unfinished, bool(unfinished.float().mean() <= UNFINISHED))
