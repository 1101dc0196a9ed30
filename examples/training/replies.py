"""Conversations that a target writes itself: it continues its template's user turn, or is given one, then answers, several times over.

A head learns from what its target says, so the data come from nowhere else. One file, JSON Lines: `ids`, the whole conversation as token
ids, and `spans`, where each reply begins and ends in it (half-open, its end token included).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
import typer
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from driftcli.loading.prompts import read_prompts
from driftcli.loading.target import LanguageModel

TURNS = (
    1,
    1,
    3,
    1,
    1,
    8,
    1,
    3,
    1,
    1,
)  # of the conversations of one wave after the other, and again: even waves answer greedily, odd ones do not
MARKS = ("\u2063", "\u2064", "\u2062")  # invisible characters, which no template writes
UNFINISHED = 0.15  # user turns end once no more than this share of them is still being written: waiting for the last costs most of a wave


@dataclass(frozen=True)
class Reply:
    """Token ids of a conversation, and the half-open spans of them that the target wrote as replies."""

    ids: list[int]
    spans: list[tuple[int, int]]


def read_replies(path: Path) -> list[Reply]:
    """Conversations from JSON Lines, gzipped or not: `ids` with `spans`, or with `prompt_length` where all that follows is one reply."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Reply(row["ids"], [(a, b) for a, b in row.get("spans", [(row.get("prompt_length"), len(row["ids"]))])]) for row in rows]


@dataclass(frozen=True)
class Plan:
    """What is asked of the target: replies in all, replies a wave, longest user turn, reply and conversation in tokens."""

    replies: int
    wave: int
    user: int
    reply: int
    length: int
    seed: int

    def waves(self) -> Iterator[tuple[int, int]]:
        """Conversations and turns of each wave."""
        for number in range(-(-self.replies // self.wave)):
            turns = TURNS[number % len(TURNS)]
            yield max(1, self.wave // turns), turns


def user_turns(path: Path) -> list[list[str]]:
    """What the user says in each conversation of a prompt file; BadParameter where anybody else speaks: the target fills the gaps."""
    prompts = read_prompts(path)
    if strange := [prompt.id for prompt in prompts if not prompt.messages or {message.role for message in prompt.messages} != {"user"}]:
        raise typer.BadParameter(f"{path}: {strange[0]} holds something else than user messages, which is all that can be answered here")
    return [[message.content for message in prompt.messages] for prompt in prompts]


def waves_of(plan: Plan, given: Sequence[Sequence[str]]) -> list[tuple[int, int, list[Sequence[str]]]]:
    """Conversations, turns and, where they are given, the user's words of each wave; given ones in waves of equally many turns."""
    if not given:
        return [(rows, turns, []) for rows, turns in plan.waves()]
    order, found = sorted(given, key=lambda said: (len(said), sum(map(len, said)))), []
    for turns, same in groupby(order, key=len):
        talks, rows = list(same), max(1, plan.wave // turns)
        found += [(len(part := talks[start : start + rows]), turns, part) for start in range(0, len(talks), rows)]
    return found


def write_replies(target: LanguageModel, plan: Plan, path: Path, given: Sequence[Sequence[str]] = ()) -> None:
    """Let the target write `path`. Each wave is kept beside it until all are there, so a killed run goes on with the next wave.

    given: what the user says, turn by turn, in each conversation; nothing lets the target write that too.
    """
    pieces, parts = Pieces.of(target), path.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    said = hashlib.sha256(json.dumps(list(given)).encode()).hexdigest()[:16] if given else "its own"
    asked, known = json.dumps({**vars(plan), "replies": "any", "user_turns": said}), parts / "plan.json"
    if known.is_file() and known.read_text() != asked:
        raise typer.BadParameter(f"{parts} holds waves of {known.read_text()}, now {asked}; name other --replies, or remove it")
    known.write_text(asked)
    waves = waves_of(plan, given)
    for number, (rows, turns, words) in enumerate(waves):
        part = parts / f"{number:05d}.jsonl"
        if not part.is_file():
            torch.manual_seed(plan.seed + number)
            conversations = write_wave(target, pieces, plan, rows, turns, words, greedy=number % 2 == 0)
            aside = part.with_suffix(".tmp")
            aside.write_text("".join(json.dumps(vars(reply)) + "\n" for reply in conversations))
            aside.rename(part)
            typer.echo(
                f"wave {number + 1} of {len(waves)}: {sum(len(r.ids) for r in conversations)} tokens in {turns}-turn talks", err=True
            )
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as out:
        out.writelines((parts / f"{number:05d}.jsonl").read_text() for number in range(len(waves)))


@torch.inference_mode()
def write_wave(
    target: LanguageModel, pieces: Pieces, plan: Plan, rows: int, turns: int, given: Sequence[Sequence[str]] = (), *, greedy: bool
) -> list[Reply]:
    """`rows` conversations of `turns` turns, written side by side: the user's at temperature 1 or as given, replies greedy or at 0.8."""
    wave = Wave(target, rows)
    wave.add(pieces.opening)
    for turn in range(turns):
        if given:
            wave.give([target.tokenizer(said[turn], add_special_tokens=False).input_ids for said in given])
        else:
            wave.write("user", plan.user, 1.0)
        wave.add(pieces.answer)
        wave.write("reply", plan.reply, 0.0 if greedy else 0.8)
        if turn + 1 < turns:
            wave.add(pieces.further)
    return wave.conversations(plan.length)


@dataclass(frozen=True)
class Pieces:
    """What the template writes before the first user turn, between it and the reply, and between that and the next user turn; token ids."""

    opening: list[int]
    answer: list[int]
    further: list[int]

    @classmethod
    def of(cls, target: LanguageModel) -> Pieces:
        """Of the target's own template; BadParameter where it has none, or shows a conversation otherwise than message by message."""
        if not target.tokenizer.chat_template:
            raise typer.BadParameter(f"{target.source.name} has no chat template to write in; bring --replies of your own")
        messages = [{"role": role, "content": mark} for role, mark in zip(("user", "assistant", "user"), MARKS, strict=True)]
        text = str(target.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        if [mark for mark in text if mark in MARKS] != list(MARKS):
            raise typer.BadParameter(
                f"{target.source.name}: its chat template does not show each message once; bring --replies of your own"
            )
        for mark in MARKS[1:]:
            text = text.replace(mark, MARKS[0])
        opening, answer, further, _ = (target.tokenizer(piece, add_special_tokens=False).input_ids for piece in text.split(MARKS[0]))
        if not (opening and answer and further):
            raise typer.BadParameter(f"{target.source.name}: its chat template writes nothing between turns; bring --replies of your own")
        return cls(opening, answer, further)


class Wave:
    """Conversations as rows of one matrix; what a row did not write while another still did is a hole, which nothing attends to.

    ids, kept (written, no hole), replied (part of a reply): (row, column) each.
    """

    def __init__(self, target: LanguageModel, rows: int) -> None:
        self._target, self._cache = target, DynamicCache(config=target.config)
        ends = target.model.generation_config.eos_token_id  # type: ignore[union-attr]
        self._ends = torch.tensor([ends] if isinstance(ends, int) else ends or [target.tokenizer.eos_token_id], device=target.device)
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

    def write(self, what: Literal["user", "reply"], limit: int, temperature: float) -> None:
        """Let the target write a turn in every row, at most `limit` tokens; a user turn loses its end token, which the template brings."""
        stop = StoppingCriteriaList([MostlyEnded(self.ids.shape[1], self._ends)] if what == "user" else [])
        choice = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        ids = self._target.model.generate(
            self.ids, attention_mask=self.kept.long(), past_key_values=self._cache, max_new_tokens=limit, stopping_criteria=stop,
            eos_token_id=self._ends.tolist(), pad_token_id=int(self._ends[0]), repetition_penalty=1.0, **choice,
        )[:, self.ids.shape[1] :]  # fmt: skip
        ends = torch.isin(ids, self._ends)
        past = ends.cumsum(-1) - ends.long() > 0
        kept = ~past if what == "reply" else ~past & ~ends
        self._ended = ends.any(-1) if what == "reply" else torch.zeros_like(self._ended)
        self._grow(ids, kept, kept if what == "reply" else torch.zeros_like(kept))

    def _grow(self, ids: Tensor, kept: Tensor, replied: Tensor) -> None:
        self.ids, self.kept = torch.cat([self.ids, ids], dim=1), torch.cat([self.kept, kept], dim=1)
        self.replied = torch.cat([self.replied, replied], dim=1)

    def conversations(self, length: int) -> list[Reply]:
        """The rows without their holes, none longer than `length`."""
        found = []
        for ids, kept, replied in zip(self.ids, self.kept, self.replied, strict=True):
            said = torch.nn.functional.pad(replied[kept][:length].int(), (1, 1)).diff()
            spans = zip((said == 1).nonzero()[:, 0].tolist(), (said == -1).nonzero()[:, 0].tolist(), strict=True)
            found.append(Reply(ids[kept][:length].tolist(), list(spans)))
        return found


class MostlyEnded(StoppingCriteria):
    """Stops every row once no more than `UNFINISHED` of them have written no end token behind column `start`."""

    def __init__(self, start: int, ends: Tensor) -> None:
        self._start, self._ends = start, ends

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """True for all rows or for none."""
        unfinished = ~torch.isin(input_ids[:, self._start :], self._ends).any(-1)
        return torch.full_like(unfinished, bool(unfinished.float().mean() <= UNFINISHED))
