"""What all golden steps are made from, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.layouts import Layout, layout

ROWS, DEPTH, WIDTH, VOCABULARY, AFTER_NORM = 9, 5, 48, 260, 9
HERE = Path(__file__).parent
Steps = tuple[list[Tensor], list[Tensor]]  # states and logits by pass, (row, width) each, of which the first is the rows' own


def seeded_ids() -> Tensor:
    """The text: one token more than the rows and the chain read."""
    return torch.randint(2, VOCABULARY, (ROWS + DEPTH,), generator=torch.Generator().manual_seed(7))


def seeded_stream(boundary: int) -> Tensor:
    """Values that float16 holds; the stream grows with depth as a real one, and is normed after the last layer."""
    scale = 1.5 if boundary == AFTER_NORM else 1.0 + boundary / 2
    return (torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1000 + boundary)) * scale).half().float()


def write_steps(name: str, reading: str, boundaries: tuple[int, ...], produced: Callable[[Layout, Tensor, Tensor], Steps]) -> None:
    """The steps of one layout in one reading as a file."""
    ids, streams = seeded_ids(), [seeded_stream(boundary) for boundary in boundaries]
    states, logits = produced(layout(name), ids, torch.cat(streams, -1))
    steps = {
        "ids": ids,
        **{f"stream.{boundary}": stream.half() for boundary, stream in zip(boundaries, streams, strict=True)},
        **{f"fresh.{what}": passes[0] for what, passes in (("state", states), ("logits", logits))},
        **{f"chain.{what}": torch.stack([each[-1] for each in passes]) for what, passes in (("state", states), ("logits", logits))},
    }
    path = HERE / f"{name}.{reading.replace(':', '-')}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in steps.items()}, path)
    path.chmod(0o644)
