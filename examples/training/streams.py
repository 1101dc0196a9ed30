"""What the target computed on every conversation, run once and kept on disk for every head of that target."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor, nn

from driftcli.engine.capture import StreamCapture
from driftcli.loading.target import LanguageModel
from training.replies import Reply

BETWEEN_NOTES = 20  # seconds after which progress is noted, which is what a killed capture loses
LEAST_LAYERS = 7  # of a target, or the three boundaries are not in order


@dataclass(frozen=True)
class Batch:
    """Conversations padded to the longest: ids and replied (conversation, position), streams and tops (conversation, position, width)."""

    ids: Tensor
    streams: Tensor
    tops: Tensor
    replied: Tensor


@dataclass(frozen=True)
class Streams:
    """By row of `offsets`: three streams side by side, and what the target's head reads, both bfloat16 on disk.

    fingerprint: hash of the conversations' ids.
    """

    fingerprint: str
    replies: list[Reply]
    offsets: np.ndarray
    streams: np.ndarray
    tops: np.ndarray

    def batch(self, rows: Sequence[int], device: torch.device) -> Batch:
        """These conversations on `device`."""
        longest = max(len(self.replies[row].ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        replied = torch.zeros(len(rows), longest, dtype=torch.bool)
        streams, tops = (torch.zeros(len(rows), longest, kept.shape[1], dtype=torch.bfloat16) for kept in (self.streams, self.tops))
        for place, row in enumerate(rows):
            reply, kept = self.replies[row], slice(self.offsets[row], self.offsets[row + 1])
            length = len(reply.ids)
            ids[place, :length] = torch.tensor(reply.ids)
            streams[place, :length] = torch.from_numpy(self.streams[kept]).view(torch.bfloat16)
            tops[place, :length] = torch.from_numpy(self.tops[kept]).view(torch.bfloat16)
            for start, end in reply.spans:
                replied[place, start:end] = True
        return Batch(*(part.to(device) for part in (ids, streams, tops, replied)))


@torch.inference_mode()
def capture(target: LanguageModel, replies: list[Reply], cache: Path, tokens_at_once: int = 4096) -> Streams:
    """The target's streams at boundaries 2, L // 2, L - 3 on every conversation; a killed run goes on where it stopped."""
    count, width = len(target.layers), target.config.hidden_size
    if count < LEAST_LAYERS:
        raise typer.BadParameter(f"{target.source.name} has {count} layers, expected at least {LEAST_LAYERS} to take three streams from")
    offsets = np.cumsum([0, *(len(reply.ids) for reply in replies)])
    cache.mkdir(parents=True, exist_ok=True)
    said = hashlib.sha256(json.dumps([reply.ids for reply in replies]).encode()).hexdigest()[:16]
    known = {"replies": said, "target": target.source.name, "dtype": str(target.head.dtype)}
    progress = cache / "progress.json"
    done = json.loads(progress.read_text()) if progress.is_file() else {}
    first = done.pop("conversations", 0)
    first = first if done == known else 0
    mode = "r+" if first else "w+"
    shapes = {"streams": (int(offsets[-1]), 3 * width), "tops": (int(offsets[-1]), width)}
    maps = {name: np.lib.format.open_memmap(cache / f"{name}.npy", mode, np.int16, shape) for name, shape in shapes.items()}
    order, started = sorted(range(len(replies)), key=lambda row: len(replies[row].ids)), time.time()
    start = first
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(replies[order[end]].ids) <= tokens_at_once:
            end += 1
        _capture(target, replies, offsets, order[start:end], maps, (2, count // 2, count - 3))
        start = end
        if start == len(order) or time.time() - started > BETWEEN_NOTES:
            started = time.time()
            for kept in maps.values():
                kept.flush()
            progress.write_text(json.dumps({**known, "conversations": start}))
            typer.echo(f"captured {start} of {len(order)} conversations", err=True)
    return Streams(said, replies, offsets, maps["streams"], maps["tops"])


def _capture(
    target: LanguageModel,
    replies: list[Reply],
    offsets: np.ndarray,
    rows: list[int],
    maps: dict[str, np.ndarray],
    boundaries: Sequence[int],
) -> None:
    tops: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tops.append(args[0])
        return (args[0][:, -1:],)  # a fifth of a small target's time would go into logits that nobody reads

    hook = target.model.get_output_embeddings().register_forward_pre_hook(keep)
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(replies[row].ids) for row in rows], batch_first=True).to(target.device)
    with StreamCapture(target.decoder, target.layers, boundaries, ids.shape[1]) as streams:
        target.model(ids, use_cache=False)
    hook.remove()
    joined = torch.cat([stream.to("cpu") for stream in streams.take().values()], dim=-1)
    for name, found in (("streams", joined), ("tops", tops.pop().to("cpu"))):
        numbers = found.bfloat16().view(torch.int16).numpy()
        for place, row in enumerate(rows):
            maps[name][offsets[row] : offsets[row + 1]] = numbers[place, : len(replies[row].ids)]
