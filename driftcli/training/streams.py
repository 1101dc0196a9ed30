"""What the target computed on every conversation, run once and kept on disk for every head of that target."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from driftcli.errors import RunError
from driftcli.sources.fingerprint import fingerprint
from driftcli.target.capture import StreamCapture
from driftcli.target.language_model import LanguageModel
from driftcli.traces.writer import write_json
from driftcli.training.conversations import Conversation, digest, packed

BETWEEN_NOTES = 20  # seconds after which progress is noted, which is what a killed capture loses


@dataclass(frozen=True)
class Batch:
    """Conversations padded to the longest: ids and replied (conversation, position), streams and tops (conversation, position, width)."""

    ids: Tensor
    streams: Tensor
    tops: Tensor
    replied: Tensor


@dataclass(frozen=True)
class Streams:
    """By row of `offsets`: streams at `boundaries` side by side, and what the target's head reads, both bfloat16 on disk.

    held: what they are of, the hashes of conversations and target, and the target's dtype.
    """

    held: dict[str, str]
    boundaries: tuple[int, ...]
    conversations: list[Conversation]
    offsets: np.ndarray
    streams: np.ndarray
    tops: np.ndarray

    def batch(self, rows: Sequence[int], device: torch.device) -> Batch:
        """These conversations on `device`."""
        longest = max(len(self.conversations[row].ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        replied = torch.zeros(len(rows), longest, dtype=torch.bool)
        streams, tops = (torch.zeros(len(rows), longest, kept.shape[1], dtype=torch.bfloat16) for kept in (self.streams, self.tops))
        for place, row in enumerate(rows):
            conversation, kept = self.conversations[row], slice(self.offsets[row], self.offsets[row + 1])
            length = len(conversation.ids)
            ids[place, :length] = torch.tensor(conversation.ids)
            streams[place, :length] = torch.from_numpy(self.streams[kept]).view(torch.bfloat16)
            tops[place, :length] = torch.from_numpy(self.tops[kept]).view(torch.bfloat16)
            for start, end in conversation.spans:
                replied[place, start:end] = True
        return Batch(*(part.to(device) for part in (ids, streams, tops, replied)))

    def frequent(self, size: int, vocabulary: int) -> Tensor:
        """The `size` most frequent ids of all replies, ascending; unseen ids fill up from the lowest."""
        return self.counts(vocabulary).argsort(descending=True, stable=True)[:size].sort().values

    def counts(self, vocabulary: int) -> Tensor:
        """How often each id stands in the replies, (vocabulary,)."""
        said = np.concatenate([np.array(talk.ids[start:end]) for talk in self.conversations for start, end in talk.spans])
        return torch.from_numpy(np.bincount(said, minlength=vocabulary))


@torch.inference_mode()
def usual_boundaries(target: LanguageModel) -> tuple[int, ...]:
    """2, L // 2 and L - 3, which SafeAILab's EAGLE-3 heads read."""
    count = len(target.layers)
    return 2, count // 2, count - 3


def capture(
    target: LanguageModel, conversations: list[Conversation], cache: Path, boundaries: Sequence[int], tokens_at_once: int = 4096
) -> Streams:
    """The target's streams at boundaries, ascending, on every conversation; a killed run goes on where it stopped.

    Raises RunError for a cache that holds something else.
    """
    offsets = np.cumsum([0, *(len(conversation.ids) for conversation in conversations)])
    cache.mkdir(parents=True, exist_ok=True)
    known = {
        "conversations": digest([vars(talk) for talk in conversations]),
        "target": fingerprint(target.source),
        "dtype": str(target.head.dtype),
        "boundaries": ", ".join(map(str, boundaries)),
    }
    progress = cache / "progress.json"
    said: dict[str, Any] = json.loads(progress.read_text()) if progress.is_file() else {**known, "done": 0}
    start = int(said.pop("done"))
    if said != known:
        raise RunError(f"{cache}: holds streams of {said}, expected {known}; name another --cache, or remove it")
    width, order = target.config.hidden_size, sorted(range(len(conversations)), key=lambda row: len(conversations[row].ids))
    maps = {
        name: np.lib.format.open_memmap(cache / f"{name}.npy", "r+" if start else "w+", np.int16, (int(offsets[-1]), streams * width))
        for name, streams in (("streams", len(boundaries)), ("tops", 1))
    }
    noted = time.time()
    for rows in packed(order[start:], lambda row: len(conversations[row].ids), tokens_at_once):
        _capture(target, conversations, offsets, rows, maps, boundaries)
        start += len(rows)
        if start == len(order) or time.time() - noted > BETWEEN_NOTES:
            noted = time.time()
            for kept in maps.values():
                kept.flush()
            write_json(progress, {**known, "done": start})
            typer.echo(f"captured {start} of {len(order)} conversations", err=True)
    return Streams(known, tuple(boundaries), conversations, offsets, maps["streams"], maps["tops"])


def _capture(
    target: LanguageModel,
    conversations: list[Conversation],
    offsets: np.ndarray,
    rows: list[int],
    maps: Mapping[str, np.ndarray],
    boundaries: Sequence[int],
) -> None:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(conversations[row].ids) for row in rows], batch_first=True).to(target.device)
    with HeadInputs(target) as tops, StreamCapture(target.decoder, target.layers, boundaries, ids.shape[1]) as streams:
        target.model(ids, attention_mask=torch.ones_like(ids), use_cache=False)
    joined = torch.cat([stream.to("cpu") for stream in streams.take().values()], dim=-1)
    for name, found in (("streams", joined), ("tops", tops.found[0].to("cpu"))):
        numbers = found.bfloat16().view(torch.int16).numpy()
        for place, row in enumerate(rows):
            maps[name][offsets[row] : offsets[row + 1]] = numbers[place, : len(conversations[row].ids)]


class HeadInputs:
    """Context in which `found` takes what the target's output head is given in each pass, and only the last position goes through it: a
    fifth of a small target's time would go into logits that nobody reads.
    """

    def __init__(self, target: LanguageModel) -> None:
        self._head = target.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.found: list[Tensor] = []

    def __enter__(self) -> HeadInputs:
        self._hook = self._head.register_forward_pre_hook(self._keep)
        return self

    def _keep(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.found.append(args[0])
        return (args[0][:, -1:],)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
