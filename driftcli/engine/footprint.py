"""Memory and disk of a run to come, by the sizes of its models and what is measured; in bytes, rough.

What a row takes on disk was measured on runs of the pairs that ship, zstd included; a file has a footer with every column's meaning.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from driftcli.conditions import Condition
from driftcli.engine.agenda import Agenda, sharing_texts
from driftcli.engine.amounts import Amounts, Texts, amounts
from driftcli.loading.outline import Network, Outline
from driftcli.target.in_process import CHUNK
from driftcli.target.together import at_once, room

STEP_ROW, STEP_FILE = 43.2, 24_000  # bytes on disk of a row of `steps` and of a file beside its rows
HEAD_ROW, HEAD_FILE = 35.6, 1_000  # the same of `heads`
TOKEN, OTHER_FILE = 3.5, 12_000  # of a token of `trajectories`, and of its files and those of `streams`
PIECE = 10  # of a token of the vocabulary, in `pieces`
HELD_ROW = 260  # bytes of a row of `steps` before it is written, its part of `heads` included
COPIES = 3  # of the scores of a vocabulary that are there at once
PASSING = 3  # numbers of a token that are there at once while a prompt is read, in widths of a layer's input and of its widest step
HOLES = 1.5  # times what the heap takes for them, of blocks of many sizes (glibc, on SmolLM2 and the bundled pair: within 10% of both)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes where the models run: weights, keys and values while replies are written and what passes through a layer meanwhile, streams and
    scores of the texts that are drafted on side by side.
    """

    target: int
    drafter: int
    cache: int
    passing: int
    text: int

    def by_part(self, program: int, rows: float) -> dict[str, int]:
        """Bytes by part, and their peak: of writing and drafting the larger. program: of the host, 0 where models run elsewhere; rows: of
        `steps` that wait to be written.
        """
        waiting = round(rows * HELD_ROW) if program else 0
        writing = self.cache + round(self.passing * (HOLES if program else 1))
        parts = {"program": program, "target": self.target, "drafter": self.drafter, "writing": writing, "texts": self.text}
        peak = program + self.target + self.drafter + max(writing, self.text) + waiting
        return {**parts, "rows": waiting, "peak": peak}


def memory(outline: Outline, texts: Texts, conditions: Sequence[Condition], itemsize: int, device: torch.device) -> Memory:
    """What models take. itemsize: bytes of a number; device: where they run."""
    target, drafter = outline.target, outline.drafter
    batch = min(texts.prompts, texts.batch)
    prompts = [(batch, max(turn.prompt + turn.before * texts.most for turn in texts.turns))]
    prompts += [(min(one.prompts or batch, batch), one.text.length) for one in conditions if one.text.length]
    longest = max(texts.longest, *(length + texts.most for _, length in prompts))
    written = max(count * (length + texts.most) for count, length in prompts)
    beside = max(1, min(batch, room(device, target.head[0]) // longest))  # texts that are computed side by side
    scores = COPIES * 4 * min(at_once(device), beside * texts.most * drafter.head[0])
    scores += beside * target.head[0] * min(texts.most + 1, CHUNK) * itemsize
    streams = outline.streams * beside * longest * target.head[1] * itemsize
    return Memory(
        target=target.parameters * itemsize,
        drafter=drafter.parameters * itemsize,
        cache=written * _of_a_token(target) * itemsize + COPIES * target.head[0] * batch * 4,
        passing=max(count * min(length, CHUNK) for count, length in prompts) * _passing(target) * itemsize,
        text=streams + scores + beside * longest * _of_a_token(drafter) * itemsize,
    )


def held_rows(agenda: Agenda, conditions: Sequence[Condition], texts: Texts) -> float:
    """Rows of `steps` that wait at once: of the conditions that share their texts, on one batch."""
    share = min(1.0, texts.batch / texts.prompts)
    return max(share * amounts(agenda, group, texts, texts.usual).rows for group in sharing_texts(conditions).values())


def program_size() -> int:
    """Bytes that this program takes before it loads a model, as it does when it diagnoses; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def _of_a_token(network: Network) -> int:
    """Numbers that a network keeps of a token: keys and values."""
    return 2 * network.layers * network.keys * network.size


def _passing(network: Network) -> int:
    """Numbers that a token has in a layer while it is read."""
    return PASSING * (network.head[1] + max(outputs for outputs, _ in network.products))


def disk(outline: Outline, found: Amounts) -> int:
    """Bytes of the Parquet of a run."""
    heads = found.blocks * outline.drafter.layers * outline.drafter.heads
    rows = found.rows * STEP_ROW + heads * HEAD_ROW + found.held * TOKEN + outline.target.head[0] * PIECE
    return round(rows + found.cells * (STEP_FILE + HEAD_FILE) + max(0.0, found.files - 2 * found.cells) * OTHER_FILE)
