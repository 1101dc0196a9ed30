"""The speed of a pair that is not loaded, by random products of its sizes on this machine, in a second or two.

What is timed: the products of a step, for a few rows and for many; one small operation, since of small models most time goes into calling;
a pass over numbers, for softmax and attention; and a file of random rows. How many small operations and passes a step has was counted on
the pairs that ship (chosen by us), so the seconds are rough: within about a third on the pairs of `tests/benchmarks/plan.py`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from driftcli.engine.amounts import FORCED_IS_FRESH, Line, Speed
from driftcli.engine.load import own_seconds
from driftcli.loading.outline import Network, Outline, Shape
from driftcli.target.in_process import CHUNK
from driftcli.traces.schema import COLUMNS
from driftcli.traces.writer import Columns, write_parquet

LARGEST = 1 << 23  # numbers of weights that are timed at once: larger ones in part, smaller ones several times (chosen by us: past a cache)
FEW, MANY = 8, 96  # rows of products for texts and chains (chosen by us)
SMALL, NUMBERS = 200, 1 << 19  # small operations, and numbers of one pass, that are timed (chosen by us)
LAYER, LINK, BLOCK, STEP = 380, 900, 430, 150  # small operations of a target's layer, a drafter's, a block's columns, and around a step
PASSES = 9  # over the scores of a vocabulary, and over those of attention
KEYS = 128  # that a query attends to, in a usual text
BEHIND = 4 * CHUNK  # tokens of a long one that a chunk of it attends to (chosen by us)
CPU = torch.device("cpu")
ROWS = (500, 3000)  # of files that are timed


@dataclass(frozen=True)
class _Machine:
    """What this machine takes: for products by shape and rows, a small operation, a number passed over."""

    device: torch.device
    pool: torch.Tensor
    small: float
    number: float

    @classmethod
    def timed(cls, device: torch.device, dtype: torch.dtype) -> _Machine:
        """Measured now."""
        one, many = torch.ones(1, 64, device=device, dtype=dtype), torch.rand(NUMBERS, device=device)

        def small() -> None:
            for _ in range(SMALL):
                torch.add(one, one)

        took = own_seconds(small, device, 3), own_seconds(lambda: many.exp().sum(), device, 3)
        return cls(device, torch.rand(LARGEST, device=device).to(dtype), took[0] / SMALL, took[1] / NUMBERS)

    def products(self, shapes: Sequence[Shape], rows: int) -> float:
        """Seconds of these products for so many rows, one after the other: weights that fit a cache together are found there."""
        whole = sum(map(prod, shapes))
        return sum(self._product(shape, rows, whole) * count for shape, count in Counter(shapes).items() if prod(shape))

    def attended(self, network: Network, batch: int) -> float:
        """Seconds in which a layer attends from a row of each sequence to its cache, from all heads that share keys at once."""
        past = torch.rand(batch, network.keys, KEYS, network.size, device=self.device).to(self.pool.dtype)
        seen = torch.ones(batch, 1, 1, KEYS, dtype=torch.bool, device=self.device)
        query = past[:, :, : network.heads // network.keys]
        return own_seconds(lambda: F.scaled_dot_product_attention(query, past, past, attn_mask=seen), self.device, 3)

    def line(self, shapes: Sequence[Shape], few: int = FEW, many: int = MANY) -> Line:
        """Seconds of these products by their rows."""
        return Line.through((1, few, self.products(shapes, few)), (1, many, self.products(shapes, many)))

    def _product(self, shape: Shape, rows: int, whole: int) -> float:
        """Seconds of one product, by several in a row over weights that are as many as those of all together, up to the pool's."""
        outputs, inputs = shape
        part = max(1, min(outputs, LARGEST // inputs))
        copies = max(1, min(LARGEST, whole) // (part * inputs))
        weights = self.pool[: copies * part * inputs].view(copies, part, inputs)
        x = torch.rand(rows, inputs, device=self.device).to(self.pool.dtype)

        def multiply() -> None:
            for weight in weights:
                F.linear(x, weight)

        return own_seconds(multiply, self.device) / copies * outputs / part


def checking(weights: int) -> float:
    """Seconds in which weights of so many bytes are hashed and looked through before anything is measured, by a few MiB of noise."""
    noise = torch.rand(NUMBERS)
    data = noise.numpy().tobytes()
    hashed = own_seconds(lambda: hashlib.sha256(data), CPU, 3)
    looked = own_seconds(lambda: torch.isfinite(noise).all(), CPU, 3)
    return weights * (2 * hashed + looked) / len(data)  # for each file, and for all of them


@torch.inference_mode()
def attended_pair(heads: int, keys: int, size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds in which a layer attends from a token of a long text to one before it, by a chunk of it that follows some others."""
    query, key = (torch.rand(1, count, rows, size, device=device).to(dtype) for count, rows in ((heads, CHUNK), (keys, BEHIND)))
    seen = torch.ones(CHUNK, BEHIND, dtype=torch.bool, device=device)

    def attend() -> None:
        every = key.repeat_interleave(heads // keys, dim=1)
        F.scaled_dot_product_attention(query, every, every, attn_mask=seen)

    return own_seconds(attend, device) / (CHUNK * BEHIND)


@torch.inference_mode()
def calibrated(outline: Outline, device: torch.device, dtype: torch.dtype, batch: int) -> Speed:
    """The speed of a pair by its sizes, on a device in a dtype; batch: sequences that the target answers together."""
    machine, target, drafter = _Machine.timed(device, dtype), outline.target, outline.drafter
    lm = outline.card.family in (*FORCED_IS_FRESH, "pard")
    link = _step(machine, drafter, machine.line((*drafter.products, drafter.head)), LINK)
    fresh = machine.line((*drafter.products, *drafter.first, drafter.head))
    rows, file = _writing(machine)
    return Speed(
        read=_step(machine, target, machine.line((*target.products, target.head)), LAYER),
        step=_decoding(machine, target, batch),
        fresh=_step(machine, drafter, fresh, LAYER if lm else LINK),
        link=_decoding(machine, drafter, batch) if lm else link,
        rows=rows,
        file=file,
        pair=target.layers * attended_pair(target.heads, target.keys, target.size, device, dtype),
    )


def _step(machine: _Machine, network: Network, products: Line, small: int) -> Line:
    """A forward over many rows: products, calls, and passes over scores."""
    scores = network.head[0] + network.layers * network.heads * KEYS
    return Line(products.call + (network.layers * small + STEP) * machine.small, products.each + PASSES * scores * machine.number)


def _decoding(machine: _Machine, network: Network, batch: int) -> Line:
    """A forward over one row of each sequence."""
    shapes = (*network.products, network.head)
    products = machine.line(shapes, 1, batch) if batch > 1 else Line(machine.products(shapes, 1), 0.0)
    attended = network.layers * machine.attended(network, batch) / batch
    each = products.each + network.head[0] * machine.number + attended
    return Line(products.call + (network.layers * LAYER + STEP) * machine.small, each)


def _writing(machine: _Machine) -> tuple[Line, float]:
    """Seconds of columns, and of a file."""
    few, many = (own_seconds(lambda count=count: _write(_random_rows(count)), CPU) for count in ROWS)  # type: ignore[misc]
    each = max(0.0, many - few) / (ROWS[1] - ROWS[0])
    return Line(BLOCK * machine.small, each), max(0.0, few - each * ROWS[0])


def _write(rows: Columns) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "steps.parquet", "steps", [rows])


def _random_rows(count: int) -> dict[str, Sequence[object] | np.ndarray | None]:
    """Rows of `steps` of random numbers."""
    return {column.name: _random(column.type, count) for column in COLUMNS["steps"]}


def _random(kind: pa.DataType, count: int) -> Sequence[object] | np.ndarray:
    random = np.random.default_rng(0)
    if pa.types.is_dictionary(kind):
        return ["name"] * count
    if pa.types.is_floating(kind):
        return random.random(count, dtype=np.float32)
    return random.random(count) < 0.5 if pa.types.is_boolean(kind) else np.arange(count) % 100
