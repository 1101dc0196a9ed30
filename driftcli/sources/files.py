"""Where a model's files are, and what they say before any weight is loaded; torch is not needed for that.

Only three kinds of weight file are opened: safetensors, GGUF, and pickles through `torch.load(weights_only=True)`. A tensor file is first
checked against its own header, so a truncated download is named as such and never reaches a model. Where a folder holds several kinds, the
one that transformers would load is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from huggingface_hub import list_repo_files, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open

from driftcli.domain import BUNDLED
from driftcli.errors import FormatError, SourceError
from driftcli.printable import one_line
from driftcli.sources.bounds import LARGEST_SMALL_FILE, require_plain
from driftcli.sources.gguf import gguf_config
from driftcli.suggestions import meant

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
PICKLES = ("pytorch_model.bin", "medusa_lm_head.pt", "hydra_lm_head.pt")  # by the names that transformers and authors of heads give
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", *PICKLES)
SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
# A broken connection is raised as httpx's own class (httpx 1 or 2, as the hub's release has it), which only the hub's errors lead to.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (HfHubHTTPError.__bases__[0], OSError, ValueError, RuntimeError)
POINTER, LONGEST_POINTER = b"version https://git-lfs", 1024  # how a git-lfs pointer begins, and its longest by git-lfs's specification
GGUF, SPLIT = ".gguf", re.compile(r"-\d{5}-of-\d{5}\.gguf$")  # of llama.cpp's files, and how it numbers the parts of one model
CACHE_ROOT = "models--"  # begins the name of a model's folder in the hub's cache, which holds snapshots and no model
LONGEST_REASON = 240  # characters of a foreign message that are repeated (chosen by us)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was named and the folder that holds its files; gguf: the name of the one file that is all of it, where it is one."""

    name: str
    folder: Path
    revision: str | None = None
    gguf: str | None = None


def resolve(name: str, *, remote_code: bool = False, weights: bool = True) -> Source:
    """The files of a local folder, a GGUF file, a hub id, `id@revision` or `bundled:<name>`; hub files are fetched into the hub's own
    cache, without its weights where they are not asked for.

    Raises SourceError when there is no such folder or id, or when the hub cannot be reached.
    """
    if name.startswith(BUNDLED):
        return _bundled(name)
    if (local := _local(name)) is not None:
        return local
    repo, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repo.count("/") > 1:
        raise SourceError(f"{name}: no such folder; expected a model folder or a hub id such as org/name or org/name@revision")
    patterns = [*(WEIGHT_FILES if weights else ()), *SMALL_FILES, *(["*.py"] if remote_code else [])]
    try:
        fetched = Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
    except CONNECTION_ERRORS as error:
        raise SourceError(f"{name}: no such folder here, and {_not_had(repo, revision, error)}") from error
    return Source(name, fetched, fetched.name)


def _not_had(repo: str, revision: str, error: Exception) -> str:
    """Why the hub gave nothing, and what to do: nobody can tell a wrong name from a broken line unless the hub answered."""
    if isinstance(error, GatedRepoError):
        return f"the model hub keeps {repo} behind terms that this login has not accepted; accept them on its page and run `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"the model hub has no revision {revision} of {repo}; name a branch, a tag or a whole commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"the model hub knows no {repo}, or keeps it private; check the name, or log in with `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"it is no hub id ({reason(error)}); expected org/name or org/name@revision"
    return f"the model hub gave no answer ({reason(error)}); check the network, or name a folder that holds the model"


def bundled_models() -> list[str]:
    """Names of the models that ship: a chat target and drafters for it."""
    return sorted(f"{BUNDLED}{folder.name}" for folder in _shipped().iterdir() if (folder / "config.json").is_file())


def _bundled(name: str) -> Source:
    if name not in (known := bundled_models()):
        close = meant(name.removeprefix(BUNDLED), [one.removeprefix(BUNDLED) for one in known])
        raise SourceError(f"{name}: no such model ships with driftcli; {close}expected one of {', '.join(known)}")
    return Source(name, _shipped() / name.removeprefix(BUNDLED))


def _shipped() -> Path:
    return Path(str(files("driftcli") / "bundled"))


def _local(name: str) -> Source | None:
    """What lies here under a name: a folder, or a GGUF file, also one that is alone in its folder; None for nothing."""
    if not name.strip():
        raise SourceError(f"{name!r}: an empty name, expected a model folder or a hub id such as org/name")
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            _require_model(name, path)
            return Source(name, path, gguf=_only_gguf(name, path))
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, or the home of nobody
        raise SourceError(f"{name[:LONGEST_REASON]}: no such folder ({reason(error)}); expected a model folder or a hub id") from error
    if path.suffix == GGUF and is_file:
        return Source(name, path.parent, gguf=_whole_gguf(path))
    if is_file:
        raise SourceError(f"{name}: this is a file, expected a model folder or a hub id; name the folder that holds config.json")
    return None


def _only_gguf(name: str, folder: Path) -> str | None:
    """The GGUF file of a folder that holds no weights but in GGUF; SourceError for one of several."""
    found = sorted(folder.glob(f"*{GGUF}"))
    if not found or holds_weights(Source(name, folder)):
        return None
    if len(found) > 1 and not SPLIT.search(found[0].name):
        raise SourceError(f"{name}: holds {len(found)} GGUF files, {found[0].name} among them, expected one; name the one that is meant")
    return _whole_gguf(found[0])


def _whole_gguf(path: Path) -> str:
    if SPLIT.search(path.name):
        raise SourceError(
            f"{path}: one part of a model in several GGUF files, expected one; put them together with llama-gguf-split --merge"
        )
    return path.name


def _require_model(name: str, folder: Path) -> None:
    """Raise SourceError for a model's folder in the hub's cache, whose files lie deeper."""
    if not folder.name.startswith(CACHE_ROOT) or (folder / "config.json").exists():
        return
    repo, snapshots = folder.name.removeprefix(CACHE_ROOT).replace("--", "/"), sorted((folder / "snapshots").glob("*"))
    deeper = f", or {snapshots[-1]}" if snapshots else "; no snapshot of it was fetched to the end"
    raise SourceError(f"{name}: the folder of {repo} in the hub's cache, expected a model folder or a hub id; name {repo}{deeper}")


def reason(error: BaseException) -> str:
    """What a foreign error says, in one line of bounded length, with the name of its class."""
    said = one_line(str(error).rstrip(".: \t\r\n"), LONGEST_REASON)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def read_config(source: Source) -> dict[str, Json]:
    """The checkpoint's `config.json` as written, without any library's defaults; raises FormatError when missing or no JSON object, and
    SourceError where a file of the checkpoint is none, or larger than such files are: nothing of it is read before.
    """
    if source.gguf is not None:
        return _config_of_gguf(source.folder / source.gguf)
    path = source.folder / "config.json"
    for patterns, largest in ((SMALL_FILES, LARGEST_SMALL_FILE), (WEIGHT_FILES, None)):
        for file in chain.from_iterable(map(source.folder.glob, patterns)):
            require_plain(file, largest)
            _require_fetched(file)
    try:
        config: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{source.name}: no config.json in {source.folder}, expected a model folder in transformers layout") from None
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path}: not readable as JSON ({reason(error)}), expected the model's settings; fetch the file again") from error
    if not isinstance(config, dict):
        raise FormatError(f"{path}: holds a JSON {type(config).__name__}, expected an object with the model's settings")
    return config


def _config_of_gguf(path: Path) -> dict[str, Json]:
    require_plain(path, None)
    _require_fetched(path)
    return dict(gguf_config(path))


def _require_fetched(file: Path) -> None:
    """Raise SourceError for what git leaves in the place of a large file that it did not fetch."""
    if file.stat().st_size <= LONGEST_POINTER and file.read_bytes().startswith(POINTER):
        raise SourceError(f"{file}: a git-lfs pointer, expected the file itself; run `git lfs pull`, or `hf download`")


def weight_files(source: Source) -> list[Path]:
    """The files that hold the weights: a GGUF file that is all, `model.safetensors`, else the shards of its index, else any safetensors,
    else the first of `PICKLES`.

    Raises SourceError when there are none or a shard is missing, and FormatError when the index cannot be read.
    """
    if source.gguf is not None:
        return [source.folder / source.gguf]
    single, index = source.folder / "model.safetensors", source.folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.is_file():
        return _shards(source, index)
    if found := sorted(source.folder.glob("*.safetensors")):
        return found
    if pickle := next((path for name in PICKLES if (path := source.folder / name).is_file()), None):
        return [pickle]
    raise SourceError(f"{source.name}: no weights in {source.folder}, expected model.safetensors, its shards, or pytorch_model.bin")


def holds_weights(source: Source) -> bool:
    """Whether there are weights of a kind that is read."""
    return source.gguf is not None or any(next(source.folder.glob(pattern), None) for pattern in WEIGHT_FILES)


def file_names(source: Source) -> list[str]:
    """Names of a model's files, on the hub those that were not fetched too, where it answers."""
    fetched = [source.gguf] if source.gguf is not None else [path.name for path in source.folder.iterdir()]
    if source.revision is None:
        return fetched
    try:
        return list_repo_files(source.name.partition("@")[0], revision=source.revision)
    except CONNECTION_ERRORS:
        return fetched


def _shards(source: Source, index: Path) -> list[Path]:
    names = sorted(set(weight_map(index).values()))
    if missing := [name for name in names if not (source.folder / name).is_file()]:
        raise SourceError(f"{source.name}: shard {missing[0]} is named by the index but is not in {source.folder}; fetch it")
    return [source.folder / name for name in names]


def weight_map(index: Path) -> dict[str, str]:
    """The shard of each tensor by an index; raises FormatError for what is none."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(found.values()))
    except (ValueError, OSError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{index}: not a safetensors index ({reason(error)}), expected a weight_map; fetch the file again") from error
    if strange := [name for name in names if not isinstance(name, str) or Path(name).name != name] or not names:
        raise FormatError(
            f"{index}: its weight_map names {strange if names else 'no shard'}, expected files beside it; fetch the file again"
        )
    return dict(found)


def joined(source: Source, read: Callable[[Path], Mapping[str, T]]) -> dict[str, T]:
    """What `read` finds in each weight file, put together; raises FormatError when two files hold one tensor."""
    found: dict[str, T] = {}
    for path in weight_files(source):
        more = read(path)
        if twice := sorted(found.keys() & more.keys()):
            raise FormatError(
                f"{path}: tensor {twice[0]} is in another weight file too, expected it once; remove the file that is of another model"
            )
        found |= more
    return found


@contextmanager
def opened(path: Path, framework: Literal["np", "pt"]) -> Iterator[Any]:  # safetensors types nothing of what it opens
    """A safetensors file, its header read and checked; raises FormatError when it is not whole."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise FormatError(f"{path}: not a whole safetensors file ({reason(error)}; {size} bytes on disk); fetch it again") from error
