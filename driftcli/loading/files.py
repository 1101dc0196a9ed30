"""Where a model's files are, and what they say before any weight is loaded.

Only two kinds of weight file are opened: safetensors, and pickles through `torch.load(weights_only=True)`. A tensor file is first checked
against its own header, so a truncated download is named as such and never reaches a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeAlias

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from driftcli.errors import FormatError, SourceError

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model.bin")
SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")


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
    path = Path(name).expanduser()
    if path.is_dir():
        return Source(name, path)
    if path.exists():
        raise SourceError(f"{name}: this is a file, expected a model folder or a hub id; name the folder that holds config.json")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SourceError(f"{name}: no such folder; expected a model folder or a hub id such as org/name or org/name@revision")
    repo, _, revision = name.partition("@")
    patterns = [*WEIGHT_FILES, *SMALL_FILES, *(["*.py"] if remote_code else [])]
    try:
        folder = snapshot_download(repo, revision=revision or None, allow_patterns=patterns)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".: ") if str(error).strip() else type(error).__name__
        raise SourceError(
            f"{name}: no such folder here, and the model hub gave no such id ({reason}); check the name and the network"
        ) from error
    return Source(name, Path(folder), Path(folder).name)


def read_config(source: Source) -> dict[str, Json]:
    """The checkpoint's `config.json` as written, without any library's defaults; raises FormatError when missing or no JSON object."""
    path = source.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{source.name}: no config.json in {source.folder}, expected a model folder in transformers layout") from None
    except (ValueError, OSError) as error:
        raise FormatError(f"{path}: not readable as JSON ({error}); fetch the file again") from error
    if not isinstance(config, dict):
        raise FormatError(f"{path}: holds a JSON {type(config).__name__}, expected an object with the model's settings")
    return config


def weight_files(source: Source) -> list[Path]:
    """The files that hold the weights: safetensors (single or as their index lists them), else `pytorch_model.bin`; raises SourceError when
    none.
    """
    index = source.folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{index}: not a safetensors index ({error!r}), expected a weight_map; fetch the file again") from error
        if missing := [name for name in names if not (source.folder / name).is_file()]:
            raise SourceError(f"{source.name}: shard {missing[0]} is named by the index but is not in {source.folder}; fetch it")
        return [source.folder / name for name in names]
    if found := sorted(source.folder.glob("*.safetensors")):
        return found
    pickle = source.folder / "pytorch_model.bin"
    if pickle.is_file():
        return [pickle]
    raise SourceError(f"{source.name}: no weights in {source.folder}, expected model.safetensors, its shards, or pytorch_model.bin")


def check_safetensors(path: Path) -> None:
    """Raise FormatError unless the file is as long as its header says and the header can be read."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise FormatError(f"{path}: not a whole safetensors file ({error}; {size} bytes on disk); fetch it again") from error


def tensor_shapes(source: Source) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the checkpoint by name; of safetensors only the headers are read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(source):
        if path.suffix == ".safetensors":
            check_safetensors(path)
            with safe_open(path, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in _read_pickle(path).items()}
    return shapes


def read_tensors(source: Source) -> dict[str, Tensor]:
    """Every tensor of the checkpoint on the CPU in its stored dtype (integers and booleans stay what they are)."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(source):
        if path.suffix == ".safetensors":
            check_safetensors(path)
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            tensors |= _read_pickle(path)
    return tensors


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        wanted = str(error).strip().splitlines()[0]
        raise FormatError(
            f"{path}: this pickle wants to run more than tensors need and was not opened ({wanted}); convert it to safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise FormatError(f"{path}: not a readable torch file ({str(error).splitlines()[0]}); fetch it again") from error
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise FormatError(f"{path}: expected a mapping of names to tensors; save the state dict alone")
    return content


def require_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError naming the first tensors that hold NaN or infinity."""
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise FormatError(
            f"{where}: {len(broken)} tensors hold NaN or infinity ({', '.join(broken[:3])}), expected finite weights; export it again"
        )
