"""A torch pickle, opened only where it holds tensors whose numbers are all in the file, and nothing to run.

torch's own safe loading runs no code, but it makes tensors of uninitialised memory and buffers of any size when a pickle says so, leaves
storages of its old format unfilled when a list at the end is short, and unpacks compressed members. So the pickle's instructions are looked
through first, which costs little: the numbers lie outside of them.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.sources.files import reason

NEEDED = re.compile(r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch [A-Z]\w*Storage")
SHARED = 2  # times the file's size that its tensors may take: some store an embedding and a head as one (chosen by us)
# What torch raises on a damaged pickle besides UnpicklingError: its unpickler follows the bytes wherever they lead.
DAMAGED = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError,
    struct.error, BadZipFile,
)  # fmt: skip


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle by name, mapped rather than copied where its layout allows; raises FormatError for anything else in it."""
    try:
        zipped = is_zipfile(path)
        room = _zipped_bytes(path) if zipped else _filled_storages(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        said = re.search(r"GLOBAL (\S+)", str(error)) or re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        raise _beyond_tensors(path, said[1] if said else reason(error)) from error
    except DAMAGED as error:
        raise FormatError(
            f"{path}: not a whole torch file ({reason(error)}; {path.stat().st_size} bytes on disk); fetch it again"
        ) from error
    tensors = content.items() if isinstance(content, Mapping) else ()
    if not tensors or not all(isinstance(name, str) and _is_plain(tensor) for name, tensor in tensors):
        raise FormatError(
            f"{path}: holds a {type(content).__name__}, expected a mapping of names to dense tensors; save the state dict alone"
        )
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for _, tensor in tensors if tensor.numel()}
    if (needed := sum(held.values()) if zipped else len(held)) > room:
        raise FormatError(
            f"{path}: its tensors are {needed} {'bytes' if zipped else 'storages'}, but the file holds {room}; fetch it again"
        )
    if (taken := sum(tensor.nbytes for _, tensor in tensors)) > SHARED * path.stat().st_size:
        raise FormatError(f"{path}: its tensors share storages and unfold into {taken} bytes, expected about the file's size; save copies")
    return {name: tensor.detach() for name, tensor in tensors}


def _beyond_tensors(path: Path, what: str) -> FormatError:
    return FormatError(f"{path}: this pickle wants more than tensors need ({what}), so it was not opened; convert it to safetensors")


def _zipped_bytes(path: Path) -> int:
    """Bytes of numbers in a zip; raises FormatError where it is compressed or its pickle makes more than stored tensors."""
    with ZipFile(path) as packed:
        members = packed.infolist()
        if any(member.compress_type != ZIP_STORED or member.compress_size != member.file_size for member in members):
            raise _beyond_tensors(path, "compressed members")
        for member in members:
            if member.filename.endswith("data.pkl"):
                _require_needed(path, _texts(BytesIO(packed.read(member)), "GLOBAL"))
    return sum(member.file_size for member in members if "/data/" in member.filename)


def _filled_storages(path: Path) -> int:
    """How many storages torch's old format fills, as its last pickle lists them; raises FormatError like `_zipped_bytes`."""
    with path.open("rb") as file:
        for _ in range(4):  # a mark, a version, the system, the tensors
            _require_needed(path, _texts(file, "GLOBAL"))
        return len(_texts(file, "BINUNICODE"))


def _texts(file: IO[bytes], opcode: str) -> set[str]:
    """The arguments of one instruction in the pickle that starts here, of which nothing is run."""
    return {str(argument) for instruction, argument, _ in pickletools.genops(file) if instruction.name == opcode}


def _require_needed(path: Path, wanted: set[str]) -> None:
    if beyond := sorted(name for name in wanted if not NEEDED.fullmatch(name)):
        raise _beyond_tensors(path, beyond[0].replace(" ", "."))


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor that is as large as its storage says: a view with stride 0 could unfold into any amount of memory."""
    strided = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return strided and value.numel() * value.itemsize <= value.untyped_storage().nbytes()  # type: ignore[attr-defined]
