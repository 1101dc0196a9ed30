"""A checkpoint seen without its weights: config, the names, shapes and dtypes of its tensors, and its small integer tensors.

Headers of safetensors are read without torch, which alone takes seconds to import; a pickle needs torch to be read safely at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from driftcli.sources.files import GGUF, Json, Source, holds_weights, joined, opened, read_config, weight_map
from driftcli.sources.gguf import gguf_headers

WHOLE_NUMBERS = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as its file holds it: shape, and dtype in safetensors' spelling (`F32`, `BF16`, `I64`, `BOOL` ...)."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantised matrix: by what scheme, the names of its stored parts by their role, the shape that it stands for, and bits of a number.

    Roles: weight, scale, zero (what is taken off), groups (of each input), shape. less: by how much zero points are stored less.
    """

    scheme: Literal["float8", "int8", "mxfp4", "pack-quantized", "awq", "gptq"]
    parts: Mapping[str, str]
    shape: tuple[int, int]
    bits: int
    less: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint is, its `config.json` as written, and its tensors by the names in its files.

    packed: quantised matrices among these that are named as the one that they stand for.
    """

    source: Source
    config: Mapping[str, Json]
    tensors: Mapping[str, Stored]
    packed: Mapping[str, Packed] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by name."""
        return {name: stored.shape for name, stored in self.tensors.items()}

    def numbers(self, name: str) -> np.ndarray:
        """The values of one tensor of whole numbers or marks; nothing else of its file is read."""
        return self.several((name,))[name]

    def several(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The same of some tensors by name, for which each file is opened once."""
        assert all(self.tensors[name].dtype in (*WHOLE_NUMBERS, "BOOL") for name in names)
        return joined(self.source, lambda path: _values(path, names)) if names else {}


def open_checkpoint(source: Source) -> Checkpoint:
    """The checkpoint in a folder; raises SourceError for what is not there and FormatError for files that are not whole or not safe."""
    return Checkpoint(source, read_config(source), stored_tensors(source))


def stored_tensors(source: Source) -> dict[str, Stored]:
    """Every tensor of the checkpoint by name; of safetensors only the headers are read."""
    return joined(source, _headers)


def tensor_names(source: Source) -> list[str]:
    """Names of a model's tensors, by an index where there is one, so that no weights need be there; none where nothing tells."""
    index = source.folder / "model.safetensors.index.json"
    if source.gguf is None and index.is_file():
        return list(weight_map(index))
    return list(stored_tensors(source)) if holds_weights(source) else []


def _headers(path: Path) -> dict[str, Stored]:
    if path.suffix == GGUF:
        return {name: Stored(shape, dtype) for name, (shape, dtype) in gguf_headers(path).items()}
    if path.suffix != ".safetensors":
        from driftcli.sources.tensors import pickled_headers

        return {name: Stored(shape, dtype) for name, (shape, dtype) in pickled_headers(path).items()}
    with opened(path, "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: Stored(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}


def _values(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        from driftcli.sources.pickles import read_pickle

        pickled = read_pickle(path)
        return {name: pickled[name].numpy() for name in names if name in pickled}
    with opened(path, "np") as file:
        here = set(file.keys())
        return {name: file.get_tensor(name) for name in names if name in here}
