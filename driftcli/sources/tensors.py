"""The tensors of a checkpoint, read whole or refused, and held to be numbers that can be computed with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.printable import counted_names
from driftcli.sources.files import Source, joined, opened
from driftcli.sources.pickles import read_pickle

LARGEST = 65504.0  # of float16, in which heads are stored and served; products of larger numbers overflow float32 within a step
SPELLED = {  # as safetensors spells them
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.bool: "BOOL",
}  # fmt: skip


def read_tensors(source: Source) -> dict[str, Tensor]:
    """Every tensor of the checkpoint on the CPU in its stored dtype (integers and booleans stay what they are)."""
    return joined(source, lambda path: _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path))


def pickled_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype, in safetensors' spelling, of every tensor of a pickle by name."""
    return {name: (tuple(tensor.shape), SPELLED.get(tensor.dtype, str(tensor.dtype))) for name, tensor in read_pickle(path).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with opened(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_some(source: Source, wanted: Collection[str]) -> dict[str, Tensor]:
    """Some tensors of a checkpoint by name, of safetensors without reading the others; raises as `read_tensors` does."""
    return joined(source, lambda path: _some(path, wanted))


def _some(path: Path, wanted: Collection[str]) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return {name: tensor for name, tensor in read_pickle(path).items() if name in wanted}
    with opened(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name in wanted}  # noqa: SIM118


def require_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError naming the first tensors that hold NaN or infinity."""
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if broken:
        raise FormatError(
            f"{where}: {counted_names(broken, 'holds NaN or infinity', 'hold NaN or infinity')}, expected finite weights; export it again"
        )


def require_bounded(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError naming the first tensors with numbers that a step cannot compute with: NaN, infinity, or beyond float16's range."""
    require_finite(where, tensors)
    far = [name for name, tensor in tensors.items() if tensor.numel() and float(tensor.abs().max()) > LARGEST]
    if far:
        raise FormatError(
            f"{where}: numbers beyond {LARGEST:.0f} in {', '.join(far[:3])}, expected weights that float16 holds; export it again"
        )


def _is_finite(tensor: Tensor) -> bool:
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch has no isfinite for 8-bit floats
    return bool(torch.isfinite(wide).all())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
