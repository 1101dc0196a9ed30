"""Memory and disk of a run to come, by the sizes of its models and what is measured; in bytes, rough.

What a row takes on disk was measured on runs of the pairs that ship, zstd included; a file has a footer with every column's meaning.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch

from driftcli.conditions import Condition, TextSettings
from driftcli.domain import RunSpec
from driftcli.engine.agenda import Agenda, sharing_texts
from driftcli.engine.amounts import FORCED_IS_FRESH, Amounts, Texts, Turn, amounts
from driftcli.engine.attention import BLOCK, BLOCK_ON_CPU, FEWEST, LABELS, kept_of_chains
from driftcli.engine.shares import Company, companies
from driftcli.loading.outline import Network, Outline
from driftcli.target.decoding import KEPT
from driftcli.target.growing import AT_ONCE, ELSEWHERE
from driftcli.target.in_process import CHUNK
from driftcli.target.target import kept_bytes
from driftcli.target.together import at_once, room

STEP_ROW, STEP_FILE = 43.2, 24_000  # bytes on disk of a row of `steps` and of a file beside its rows
HEAD_ROW, HEAD_FILE = 35.6, 1_000  # the same of `heads`
TOKEN, OTHER_FILE = 3.5, 12_000  # of a token of `trajectories`, and of its files and those of `streams`
PIECE = 10  # of a token of the vocabulary, in `pieces`
HELD_ROW = 260  # bytes of a row of `steps` before it is written, its part of `heads` included
COPIES = 3  # of scores, of a vocabulary or of keys, that are there at once
PASSING = 3  # numbers of a token that are there at once while a prompt is read, in widths of a layer's input and of its widest step


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes where the models run: weights, keys and values while replies are written and what passes through a layer meanwhile, streams and
    scores of the texts that are drafted on side by side, streams that are kept from when replies are written until they are drafted on, and
    those of the run's own texts.
    """

    target: int
    drafter: int
    cache: int
    passing: int
    text: int
    kept: int

    def by_part(self, program: int, rows: float) -> dict[str, int]:
        """Bytes by part, and their peak: of writing and drafting the larger. program: of the host, 0 where models run elsewhere; rows: of
        `steps` that wait to be written.
        """
        waiting = round(rows * HELD_ROW) if program else 0
        writing = self.cache + self.passing
        parts = {"program": program, "target": self.target, "drafter": self.drafter, "writing": writing, "texts": self.text}
        peak = program + self.target + self.drafter + max(writing, self.text) + self.kept + waiting
        return {**parts, "kept": self.kept, "rows": waiting, "peak": peak}


def memory(outline: Outline, texts: Texts, conditions: Sequence[Condition], spec: RunSpec, itemsize: int, device: torch.device) -> Memory:
    """What models take. itemsize: bytes of a number; device: where they run."""
    target, drafter = outline.target, outline.drafter
    batch = min(texts.prompts, texts.batch)
    side_by = room(device, target.head[0])
    written = [_together(company, texts, device, side_by) for company, _ in companies(conditions, texts.sizes, spec)]
    own = sum(tokens + texts.most for _, tokens in texts.under(TextSettings(), texts.most))
    longest = max(texts.longest, *(one.longest + texts.most for one in written))
    depth, at_once = max(one.settings.depth for one in conditions), AT_ONCE.get(device.type, ELSEWHERE)
    kept = kept_of_chains(drafter.layers, drafter.heads, depth)
    beside = max(1, min(batch, side_by_side(outline, depth, device) // longest))  # texts that are computed side by side
    drafting = 4 * beside * texts.most * kept + _drafted(outline, beside, longest, texts.most, itemsize, device)
    return Memory(
        target=target.parameters * itemsize,
        drafter=drafter.parameters * itemsize,
        cache=max(one.columns for one in written) * _of_a_token(target) * itemsize,
        passing=max(
            max(
                _written(target, one.rows, one.longest, texts.most, itemsize, device),
                _replied(target, one.beside, min(texts.most, max(1, at_once // max(1, one.beside))), one.longest + texts.most, itemsize),
            )
            for one in written
        ),
        text=beside * longest * outline.streams * target.head[1] * itemsize
        + max(_read(target, beside, longest, texts.most, itemsize), drafting),
        kept=kept_bytes(max(one.kept for one in written), outline.streams, target.head[1])
        + min(KEPT, own * outline.streams * target.head[1] * itemsize),
    )


def side_by_side(outline: Outline, depth: int, device: torch.device) -> int:
    """Tokens of texts that are drafted on side by side in chains of such a depth."""
    drafter = outline.drafter
    kept = kept_of_chains(drafter.layers, drafter.heads, depth) if outline.card.family in FORCED_IS_FRESH else 0
    return room(device, outline.target.head[0], kept)


@dataclass(frozen=True)
class _Written:
    """Texts that are written together. columns: places of a cache that they take up; longest: tokens of a prompt; kept: of all texts;
    beside: replayed ones that are read at once, whose places are counted too.
    """

    rows: int
    columns: int
    longest: int
    kept: int
    beside: int


def _together(company: Company, texts: Texts, device: torch.device, most: int) -> _Written:
    """The texts of units that are written together: on a CPU those of about one length are side by side, elsewhere all of them. most:
    tokens of such as are read beside them at once.
    """
    units = [unit for unit in company if not unit.text.replayed] or company
    rows = [texts.rows_of(unit) for unit in units]
    turns = [texts.under(unit.text, texts.most) for unit in units]
    longest = max(tokens for some in turns for _, tokens in some)
    columns = sum(rows) * (longest + texts.most)
    if device.type == "cpu" and len(units) > 1:
        columns = max(_columns(turn, rows, turns, texts) for turn in {turn.before for some in turns for turn, _ in some})
    fit = max(1, most // (longest + texts.most))
    beside = min(sum(rows), fit) if texts.kept and len(units) < len(company) else 0
    kept = [texts.kept_of(some) for some in (company, units)]  # where there is no room for what is read beside, only what is written
    whole = columns + beside * (longest + texts.most)
    return _Written(sum(rows), whole, longest, next((tokens for tokens in kept if tokens <= texts.kept), 0), beside)


def _columns(number: int, rows: Sequence[int], turns: Sequence[Sequence[tuple[Turn, int]]], texts: Texts) -> int:
    """Tokens of all texts of a turn, each with a reply. turns: of each unit its texts and the tokens of their prompts."""
    each = [sum(tokens + texts.most for turn, tokens in some if turn.before == number) for some in turns]
    return ceil(sum(count * tokens for count, tokens in zip(rows, each, strict=True)) / texts.prompts)


def _written(target: Network, count: int, length: int, most: int, itemsize: int, device: torch.device) -> int:
    """What passes through a layer while prompts of a length are read, so many tokens at once, or while all replies take a step."""
    together = max(1, min(count, AT_ONCE.get(device.type, ELSEWHERE) // length))
    scores = COPIES * 4 * count * target.head[0]
    reading = _passing(target, together, min(length, CHUNK), length, itemsize)
    return max(reading, _passing(target, count, 1, length + most, itemsize)) + scores


def _read(target: Network, beside: int, longest: int, most: int, itemsize: int) -> int:
    """What reading texts side by side takes: what passes through a layer, scores of their replies, and keys of those read in chunks."""
    found = _replied(target, beside, min(longest, CHUNK), longest, itemsize, most + 1)
    return found + beside * longest * _of_a_token(target) * itemsize * (longest > CHUNK)


def _replied(target: Network, texts: int, tokens: int, columns: int, itemsize: int, asked: int | None = None) -> int:
    """What a pass over so many tokens of each text takes of which some are asked about, all unless said: numbers and their scores."""
    scores = texts * target.head[0] * min(tokens if asked is None else asked, CHUNK)
    return _passing(target, texts, tokens, columns, itemsize) + scores * itemsize


def _drafted(outline: Outline, beside: int, longest: int, most: int, itemsize: int, device: torch.device) -> int:
    """What drafting on texts side by side takes: all rows in their widest step, scores of the vocabulary, and of a block of attention."""
    drafter, streams = outline.drafter, outline.streams * outline.target.head[1]
    rows = max(2 * streams + drafter.head[1], _through(drafter))
    if outline.card.family in FORCED_IS_FRESH:  # which keeps keys of every layer, in float32 with their labels
        rows = PASSING * (drafter.head[1] + _widest(drafter)) + drafter.layers * drafter.keys * (2 * drafter.size + len(LABELS))
    block = max(BLOCK_ON_CPU if device.type == "cpu" else BLOCK, FEWEST * drafter.heads * longest)
    scores = min(at_once(device), beside * most * drafter.head[0])
    return beside * longest * rows * itemsize + COPIES * 4 * (scores + block)


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


def _passing(network: Network, texts: int, tokens: int, columns: int, itemsize: int) -> int:
    """Bytes that pass through a layer while it reads so many tokens of each text: their numbers, keys and values of all columns once more
    for every query head that shares them, and a mask, of bits in bytes and as it is added to scores.
    """
    numbers = PASSING * (network.head[1] + _widest(network))
    spread = 2 * network.heads * network.size * columns if network.heads != network.keys else 0
    return texts * ((tokens * numbers + spread) * itemsize + tokens * columns * (1 + itemsize))


def _widest(network: Network) -> int:
    """Numbers of the widest step."""
    return max((outputs for outputs, _ in network.products), default=0)


def _through(network: Network) -> int:
    """Numbers of a row in a self-feeding drafter's pass over all rows: its state and embedding, what its first layer is given, normed and
    joined, its query while it is turned, and its key and value as they are made and as they are laid out.
    """
    given = max((inputs for _, inputs in network.products if inputs != _widest(network)), default=network.head[1])
    return 2 * network.head[1] + 2 * given + 3 * network.heads * network.size + 4 * network.keys * network.size


def disk(outline: Outline, found: Amounts) -> int:
    """Bytes of the Parquet of a run."""
    heads = found.tails * outline.drafter.layers * outline.drafter.heads
    rows = found.rows * STEP_ROW + heads * HEAD_ROW + found.held * TOKEN + outline.target.head[0] * PIECE
    return round(rows + found.cells * (STEP_FILE + HEAD_FILE) + max(0.0, found.files - 2 * found.cells) * OTHER_FILE)
