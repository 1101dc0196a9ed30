"""Ways to break a tiny model on disk, and the one way to look at a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.domain import DraftSettings
from driftcli.drafters.eagle3 import Eagle3
from driftcli.errors import DriftError
from driftcli.loading.eagle3 import read_eagle3
from driftcli.loading.files import Json, Source, read_config
from driftcli.loading.record import Record
from driftcli.loading.target import LanguageModel
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


def read_head(folder: Path, target: LanguageModel) -> tuple[Eagle3, Record]:
    """The head in `folder` as `load_pair` reads it, and its record."""
    source = Source(folder.name, folder)
    record = Record(source.name, read_config(source))
    return read_eagle3(source, target, record), record


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
    settings = DraftSettings()
    fused = head.fuse(streams, settings)
    projected = head.project(torch.tensor([5, 6, 7, 8]), fused, torch.arange(4), head.rope(4), settings)
    groups = projected.query.shape[0] // projected.value.shape[0]
    attended = projected.value.repeat_interleave(groups, dim=0).transpose(0, 1).flatten(1)
    finished = head.finish(projected.residual, attended, settings)
    return head.logits(finished.output), finished.state
