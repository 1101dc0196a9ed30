"""Where a model's files are, and what they say before any weight is loaded.

Only two kinds of weight file are opened: safetensors, and pickles through `torch.load(weights_only=True)`. A tensor file is first checked
against its own header, so a truncated download is named as such and never reaches a model. Where a folder holds several kinds, the one
that transformers would load is taken.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeAlias, TypeVar
from zipfile import BadZipFile, is_zipfile

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from driftcli.errors import FormatError, SourceError

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model.bin")
SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
# A broken connection is raised as httpx's own class (httpx 1 or 2, as the hub's release has it), which only the hub's errors lead to.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (HfHubHTTPError.__bases__[0], OSError, ValueError, RuntimeError)
# What torch raises on a damaged pickle besides UnpicklingError: its unpickler follows the bytes wherever they lead.
DAMAGED = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError,
    struct.error, BadZipFile,
)  # fmt: skip
LONGEST_REASON = 240  # characters of a foreign message that are repeated (chosen by us)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was named and the folder that holds its files."""

    name: str
    folder: Path
    revision: str | None = None


def resolve(name: str, *, remote_code: bool = False) -> Source:
    """The files of a local folder, a hub id or `id@revision`; hub files are fetched into the hub's own cache.

    Raises SourceError when there is no such folder or id, or when the hub cannot be reached.
    """
    if (folder := _local_folder(name)) is not None:
        return Source(name, folder)
    repo, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repo.count("/") > 1:
        raise SourceError(f"{name}: no such folder; expected a model folder or a hub id such as org/name or org/name@revision")
    patterns = [*WEIGHT_FILES, *SMALL_FILES, *(["*.py"] if remote_code else [])]
    try:
        fetched = Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
    except CONNECTION_ERRORS as error:
        raise SourceError(
            f"{name}: no such folder here, and the model hub gave no such id ({reason(error)}); check the name and the network"
        ) from error
    return Source(name, fetched, fetched.name)


def _local_folder(name: str) -> Path | None:
    if not name.strip():
        raise SourceError(f"{name!r}: an empty name, expected a model folder or a hub id such as org/name")
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, or the home of nobody
        raise SourceError(f"{name[:LONGEST_REASON]}: no such folder ({reason(error)}); expected a model folder or a hub id") from error
    if is_file:
        raise SourceError(f"{name}: this is a file, expected a model folder or a hub id; name the folder that holds config.json")
    return None


def reason(error: BaseException) -> str:
    """What a foreign error says, in one line of bounded length, with the name of its class."""
    said = " ".join(str(error).split()).rstrip(".: ")
    return f"{type(error).__name__}: {said[:LONGEST_REASON]}{'...' if len(said) > LONGEST_REASON else ''}" if said else type(error).__name__


def read_config(source: Source) -> dict[str, Json]:
    """The checkpoint's `config.json` as written, without any library's defaults; raises FormatError when missing or no JSON object."""
    path = source.folder / "config.json"
    try:
        config: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{source.name}: no config.json in {source.folder}, expected a model folder in transformers layout") from None
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path}: not readable as JSON ({reason(error)}), expected the model's settings; fetch the file again") from error
    if not isinstance(config, dict):
        raise FormatError(f"{path}: holds a JSON {type(config).__name__}, expected an object with the model's settings")
    return config


def weight_files(source: Source) -> list[Path]:
    """The files that hold the weights: `model.safetensors`, else the shards of its index, else any safetensors, else `pytorch_model.bin`.

    Raises SourceError when there are none or a shard is missing, and FormatError when the index cannot be read.
    """
    single, index = source.folder / "model.safetensors", source.folder / "model.safetensors.index.json"
    pickle = source.folder / "pytorch_model.bin"
    if single.exists():
        return [single]
    if index.is_file():
        return _shards(source, index)
    if found := sorted(source.folder.glob("*.safetensors")):
        return found
    if pickle.is_file():
        return [pickle]
    raise SourceError(f"{source.name}: no weights in {source.folder}, expected model.safetensors, its shards, or pytorch_model.bin")


def _shards(source: Source, index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, OSError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{index}: not a safetensors index ({reason(error)}), expected a weight_map; fetch the file again") from error
    if strange := [name for name in names if not isinstance(name, str) or Path(name).name != name] or not names:
        raise FormatError(
            f"{index}: its weight_map names {strange if names else 'no shard'}, expected files beside it; fetch the file again"
        )
    if missing := [name for name in names if not (source.folder / name).is_file()]:
        raise SourceError(f"{source.name}: shard {missing[0]} is named by the index but is not in {source.folder}; fetch it")
    return [source.folder / name for name in names]


def check_weights(source: Source) -> None:
    """Raise FormatError unless every weight file is whole, and a pickle holds tensors and nothing to run."""
    for path in weight_files(source):
        _ = _read_header(path) if path.suffix == ".safetensors" else _read_pickle(path)


def tensor_shapes(source: Source) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the checkpoint by name; of safetensors only the headers are read."""

    def shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
        return (
            _read_header(path)
            if path.suffix == ".safetensors"
            else {name: tuple(tensor.shape) for name, tensor in _read_pickle(path).items()}
        )

    return _joined(source, shapes)


def read_tensors(source: Source) -> dict[str, Tensor]:
    """Every tensor of the checkpoint on the CPU in its stored dtype (integers and booleans stay what they are)."""
    return _joined(source, lambda path: _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path))


def _joined(source: Source, read: Callable[[Path], Mapping[str, T]]) -> dict[str, T]:
    joined: dict[str, T] = {}
    for path in weight_files(source):
        found = read(path)
        if twice := sorted(joined.keys() & found.keys()):
            raise FormatError(
                f"{path}: tensor {twice[0]} is in another weight file too, expected it once; remove the file that is of another model"
            )
        joined |= found
    return joined


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _broken_safetensors(path, error) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _broken_safetensors(path, error) from error


def _broken_safetensors(path: Path, error: Exception) -> FormatError:
    size = path.stat().st_size
    return FormatError(f"{path}: not a whole safetensors file ({reason(error)}; {size} bytes on disk); fetch it again")


def _read_pickle(path: Path) -> dict[str, Tensor]:
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
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


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
