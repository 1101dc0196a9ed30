"""Ways to break a tiny model on disk, and the one way to look at a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.domain import Sourced
from driftcli.errors import DriftError
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint
from driftcli.sources.files import Json, Source
from driftcli.target.language_model import LanguageModel
from tests.tiny import WIDTH

WEIGHTS, CONFIG = "model.safetensors", "config.json"
VOCABULARY = 260  # of the tiny tokenizer
PROVENANCE = re.compile(r"tensor|config:.+|default:.+|assumed:.+")


def refused(kind: type[DriftError], call: Callable[[], object], *says: str) -> str:
    """The message of the refusal by `call`: of exactly this class, one line, with all of `says` in it."""
    with pytest.raises(DriftError) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert "\n" not in message
    assert len(message) < 1000, message
    for word in says:
        assert word in message, f"{word!r} is not said in: {message}"
    return message


def edit_config(folder: Path, **changes: Json) -> Path:
    """Set these keys in the folder's config."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))
    return folder


def drop_config(folder: Path, *keys: str) -> Path:
    """Take these keys out of the folder's config."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if key not in keys}))
    return folder


def edit_tensors(folder: Path, changes: Mapping[str, Tensor | None]) -> Path:
    """Set these tensors in the folder's weights; None takes one out."""
    tensors = {**load_file(folder / WEIGHTS), **changes}
    kept = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def as_pickle(folder: Path, content: object = None, *, legacy: bool = False) -> Path:
    """Replace the folder's weights by `pytorch_model.bin`, which holds `content` or else the same tensors."""
    held = load_file(folder / WEIGHTS) if content is None else content
    (folder / WEIGHTS).unlink()
    torch.save(held, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    return folder


def open_folder(folder: Path) -> Checkpoint:
    """The checkpoint in a folder, under the folder's own name."""
    return open_checkpoint(Source(folder.name, folder))


def declared(folder: Path, target: LanguageModel) -> Declaration:
    """What the head in `folder` declares for the target."""
    checkpoint = open_folder(folder)
    return declare(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)


def read_head(folder: Path, target: LanguageModel) -> tuple[Eagle3, dict[str, Sourced]]:
    """The EAGLE-3 head in `folder` as `load_pair` reads it, and its record."""
    head, record = read_eagle(declared(folder, target), target)
    assert isinstance(head, Eagle3)
    return head, record


def tensors_of(part: object) -> list[Tensor]:
    """Every tensor in a drafter, in the order of its fields."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, tuple):
        return [tensor for each in part for tensor in tensors_of(each)]
    return [t for field in fields(part) for t in tensors_of(getattr(part, field.name))] if is_dataclass(part) else []


class Payload:
    """A value that, when unpickled, writes the file `ran`."""

    def __init__(self, ran: Path) -> None:
        self._ran = ran

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, (f"open({str(self._ran)!r}, 'w').close()",)


def one_step(head: Eagle3) -> tuple[Tensor, Tensor]:
    """Logits and state of four rows whose attention is their own value alone: every weight but q and k takes part."""
    random = torch.Generator().manual_seed(3)
    streams = {boundary: torch.randn(4, WIDTH, generator=random) for boundary in head.boundaries}
    rows = torch.arange(4)
    fused = head.fuse(streams)
    flow, stream = head.begin(head.embed(torch.tensor([5, 6, 7, 8]), torch.arange(4)), fused), fused
    for number, layer in enumerate(head.layers):
        flow = flow if number == 0 else layer.enter(stream)
        projected = layer.project(flow.inputs, rows, head.rope(4))
        groups = projected.query.shape[0] // projected.value.shape[0]
        stream = layer.leave(flow.residual, projected.value.repeat_interleave(groups, dim=0).transpose(0, 1).flatten(1))
    finished = head.finish(stream)
    return head.logits(finished.output), finished.state
