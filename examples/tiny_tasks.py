"""Write more tasks for the pair that ships, on lines that its prompts do not hold: heads that look things up in the prompt need many.

    python examples/tiny_tasks.py --replies replies_large.jsonl.gz --written-by .cache/smollm2 --out tiny/tasks.jsonl

All kinds that `bundled:target` was taught, and echoes: tokens drawn at random, to be said again, which nothing but copying can answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from driftcli.errors import FormatError
from driftcli.sources.files import resolve
from driftcli.texts.prompts import bundled_prompts
from driftcli.training.conversations import read_conversations
from train_tiny_target import LEAST_LINES, SPECIAL, ask, write_prompts
from training.command import run
from training.tiny_corpus import AGAIN, TASKS, Message, Talk, sentences, turns

SHORTEST, LONGEST = 6, 40  # tokens of an echo


def unasked(lines: Sequence[str]) -> list[str]:
    """The lines that stand in none of the prompts that `bundled:target` is measured on."""
    asked = "\n".join(message.content for prompt in bundled_prompts() for message in prompt.messages)
    return [line for line in lines if line not in asked]


def echoes(tokenizer: PreTrainedTokenizerBase, count: int, seed: int) -> list[tuple[str, Talk]]:
    """So many tasks to repeat tokens drawn at random."""
    draw = random.Random(seed)

    def said() -> str:
        ids = [draw.randrange(len(SPECIAL), len(tokenizer)) for _ in range(draw.randint(SHORTEST, LONGEST))]
        return str(tokenizer.decode(ids)).replace("\ufffd", "").strip()

    return [("echo", [Message(role="user", content=f"{draw.choice(AGAIN)}: {said()}")]) for _ in range(count)]


def main(
    replies: Annotated[Path, typer.Option(help="Conversations in ChatML to take lines from, as train_eagle3.py writes them.")],
    written_by: Annotated[str, typer.Option(help="The model that wrote them, for its tokenizer.")],
    out: Annotated[Path, typer.Option(help="File to write, JSON Lines as driftcli reads them.")],
    each: Annotated[int, typer.Option(min=1, help="Tasks of each kind.")] = 2400,
    count: Annotated[int, typer.Option("--echoes", min=0, help="Echoes besides.")] = 2400,
    seed: Annotated[int, typer.Option()] = 2,
) -> None:
    """Write the tasks."""
    reader = AutoTokenizer.from_pretrained(written_by)
    talks = [talk for written in read_conversations(replies, len(reader)) if (talk := turns(reader.decode(written.ids)))]
    lines = unasked(sentences(talks))
    if len(lines) < LEAST_LINES:
        raise FormatError(f"{replies}: {len(talks)} conversations in ChatML give {len(lines)} lines, expected {LEAST_LINES}; write more")
    own = AutoTokenizer.from_pretrained(resolve("bundled:target").folder)
    write_prompts(out, [*ask(lines, TASKS, each, seed), *echoes(own, count, seed)])


if __name__ == "__main__":
    run(main)
