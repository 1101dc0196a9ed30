"""The tensors of a checkpoint, read safely: safetensors, or a pickle that holds tensors and nothing to run."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.loading.files import Source, broken_safetensors, joined, reason, weight_files

# What torch raises on a damaged pickle besides UnpicklingError: its unpickler follows the bytes wherever they lead.
DAMAGED = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError,
    struct.error, BadZipFile,
)  # fmt: skip
SPELLED = {  # as safetensors spells them
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.bool: "BOOL",
}  # fmt: skip


def read_tensors(source: Source) -> dict[str, Tensor]:
    """Every tensor of the checkpoint on the CPU in its stored dtype (integers and booleans stay what they are)."""
    return joined(source, lambda path: _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path))


def check_weights(source: Source) -> None:
    """Raise FormatError unless every weight file is whole, and a pickle holds tensors and nothing to run."""
    for path in weight_files(source):
        if path.suffix != ".safetensors":
            read_pickle(path)
            continue
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise broken_safetensors(path, error) from error


def pickled_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype, in safetensors' spelling, of every tensor of a pickle by name."""
    return {name: (tuple(tensor.shape), SPELLED.get(tensor.dtype, str(tensor.dtype))) for name, tensor in read_pickle(path).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise broken_safetensors(path, error) from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle by name, mapped rather than copied where its layout allows; raises FormatError for anything else in it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError as error:
        said = re.search(r"GLOBAL (\S+)", str(error)) or re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        raise FormatError(
            f"{path}: this pickle wants more than tensors need ({said[1] if said else reason(error)}), so it was not opened; "
            "convert it to safetensors"
        ) from error
    except DAMAGED as error:
        raise FormatError(
            f"{path}: not a whole torch file ({reason(error)}; {path.stat().st_size} bytes on disk); fetch it again"
        ) from error
    tensors = content.items() if isinstance(content, Mapping) else ()
    if not tensors or not all(isinstance(name, str) and _is_plain(tensor) for name, tensor in tensors):
        raise FormatError(
            f"{path}: holds a {type(content).__name__}, expected a mapping of names to dense tensors; save the state dict alone"
        )
    return {name: tensor.detach() for name, tensor in tensors}


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor that is as large as its storage says: a view with stride 0 could unfold into any amount of memory."""
    strided = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return strided and value.numel() * value.itemsize <= value.untyped_storage().nbytes()  # type: ignore[attr-defined]


def require_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError naming the first tensors that hold NaN or infinity."""
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if broken:
        raise FormatError(
            f"{where}: {len(broken)} tensors hold NaN or infinity ({', '.join(broken[:3])}), expected finite weights; export it again"
        )


def _is_finite(tensor: Tensor) -> bool:
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch has no isfinite for 8-bit floats
    return bool(torch.isfinite(wide).all())
