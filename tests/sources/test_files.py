from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from driftcli.errors import DriftError, FormatError, SourceError
from driftcli.sources import files
from driftcli.sources.checkpoint import stored_tensors
from driftcli.sources.files import (
    Source,
    read_config,
    resolve,
    weight_files,
)  # fmt: skip
from driftcli.sources.tensors import read_tensors, require_finite
from tests.edits import WEIGHTS, Payload, as_pickle, refused


def tensor_shapes(source: Source) -> dict[str, tuple[int, ...]]:
    return {name: stored.shape for name, stored in stored_tensors(source).items()}


TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "ids": torch.tensor([1, 2]), "mask": torch.tensor([True, False])}
SAFE = save(TENSORS)
HEADER_END = 8 + int.from_bytes(SAFE[:8], "little")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source("some-head", tmp_path)


# --- resolve


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c", "../nowhere@v1"])
def test_a_folder_that_is_not_there_is_refused_without_asking_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    refused(SourceError, lambda: resolve(name), name, "no such folder", "expected a model folder or a hub id", "org/name@revision")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["", "  ", "~nobody-of-that-name/x", "x" * 5000, "nul\0byte", "@main", "or g/name", "ö/ö"])
def test_a_name_that_can_be_neither_folder_nor_id_is_refused(name: str) -> None:
    refused(SourceError, lambda: resolve(name), repr(name) if not name.strip() else repr(name[:200])[1:-1])


def test_a_file_is_refused_with_the_advice_to_name_its_folder(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(SAFE)
    refused(SourceError, lambda: resolve(str(path)), str(path), "this is a file", "expected a model folder", "config.json")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["nope", "org/nope", "org/nope@v2", "org/nope@refs/pr/3"])
def test_an_unknown_id_without_network_is_refused_and_the_network_is_not_touched(name: str) -> None:
    refused(SourceError, lambda: resolve(name), name, "no such folder here", "the model hub gave no answer", "check the network")


def test_a_connection_that_breaks_is_refused_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise HfHubHTTPError.__bases__[0]("peer closed\nconnection")

    monkeypatch.setattr(files, "snapshot_download", broken)
    refused(SourceError, lambda: resolve("org/name"), "org/name", "peer closed connection", "check the network")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (RepositoryNotFoundError, "knows no org/name, or keeps it private; check the name"),
        (GatedRepoError, "behind terms that this login has not accepted"),
        (RevisionNotFoundError, "has no revision v2 of org/name"),
    ],
)
def test_what_the_hub_answers_is_told_apart_from_no_answer(kind: type[HfHubHTTPError], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise kind("404", response=Mock(headers={}))

    monkeypatch.setattr(files, "snapshot_download", refuse)
    refused(SourceError, lambda: resolve("org/name@v2"), "org/name@v2: no such folder here, and the model hub", says)


def test_a_bundled_name_written_wrong_is_suggested() -> None:
    refused(SourceError, lambda: resolve("bundled:prenorm"), "did you mean pre-norm? expected one of bundled:dflash")


@pytest.mark.parametrize(("name", "ref"), [("org/name", "main"), ("org/name@v2", "v2"), ("org/name@refs/pr/3", "refs/pr/3")])
def test_an_id_in_the_cache_is_found_without_network_with_the_revision_it_stands_for(name: str, ref: str, offline: Path) -> None:
    commit = "0123456789012345678901234567890123456789"
    repo = offline / "models--org--name"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (repo / "refs" / ref).write_text(commit)
    assert resolve(name) == Source(name, repo / "snapshots" / commit, commit)


def test_a_folder_is_taken_before_an_id_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name@v1").mkdir(parents=True)
    assert resolve("org/name@v1") == Source("org/name@v1", Path("org/name@v1"), None)


def test_code_of_a_repository_is_fetched_only_when_it_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def fetch(_: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision is None
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(files, "snapshot_download", fetch)
    resolve("org/name")
    resolve("org/name", remote_code=True)
    assert ["*.py" in patterns for patterns in asked] == [False, True]


# --- config.json


def test_a_folder_without_config_is_refused(source: Source) -> None:
    refused(SourceError, lambda: read_config(source), "some-head", "no config.json", str(source.folder), "expected a model folder")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_config_that_is_no_json_is_refused(source: Source, text: bytes) -> None:
    (source.folder / "config.json").write_bytes(text)
    refused(FormatError, lambda: read_config(source), str(source.folder / "config.json"), "not readable as JSON", "expected", "fetch")


@pytest.mark.parametrize(("text", "seen"), [("[]", "list"), ("null", "NoneType"), ('"llama"', "str"), ("3", "int")])
def test_a_config_that_is_no_object_is_refused(source: Source, text: str, seen: str) -> None:
    (source.folder / "config.json").write_text(text)
    refused(FormatError, lambda: read_config(source), str(source.folder / "config.json"), f"a JSON {seen}", "expected an object")


def test_a_config_that_is_a_folder_is_refused(source: Source) -> None:
    (source.folder / "config.json").mkdir()
    refused(SourceError, lambda: read_config(source), str(source.folder / "config.json"), "is no regular file, expected one")


# --- which files hold the weights


def test_a_folder_without_weights_is_refused(source: Source) -> None:
    refused(SourceError, lambda: weight_files(source), "some-head", "no weights", str(source.folder), "expected model.safetensors", ".bin")


def write_shards(folder: Path, **shards: dict[str, torch.Tensor]) -> None:
    for name, tensors in shards.items():
        save_file(tensors, folder / f"{name}.safetensors")
    weight_map = {tensor: f"{name}.safetensors" for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_read_together(source: Source) -> None:
    write_shards(source.folder, one={"a": TENSORS["a"]}, two={"ids": TENSORS["ids"], "mask": TENSORS["mask"]})
    read = read_tensors(source)
    assert {name: tensor.tolist() for name, tensor in read.items()} == {name: tensor.tolist() for name, tensor in TENSORS.items()}


def test_a_missing_shard_is_refused_by_name(source: Source) -> None:
    write_shards(source.folder, one={"a": TENSORS["a"]}, two={"ids": TENSORS["ids"]})
    (source.folder / "two.safetensors").unlink()
    for read in (read_tensors, tensor_shapes):
        refused(SourceError, lambda read=read: read(source), "some-head", "two.safetensors", "named by the index", "fetch it")


@pytest.mark.parametrize(
    "index", ["", "[]", "null", "{}", '{"weight_map": 3}', '{"weight_map": {"a": [1]}}', '{"weight_map": {"a": 3}}', '{"weight_map": {}}',
              '{"weight_map": {"a": "../../secret"}}', '{"weight_map": {"a": "one", "b": null}}', "[" * 100_000],
)  # fmt: skip
def test_an_index_that_names_no_files_beside_it_is_refused(source: Source, index: str) -> None:
    path = source.folder / "model.safetensors.index.json"
    path.write_text(index)
    refused(FormatError, lambda: weight_files(source), str(path), "weight_map", "expected", "fetch the file again")


def test_a_whole_file_is_taken_before_an_index_left_behind_as_transformers_does(source: Source) -> None:
    write_shards(source.folder, gone={"a": TENSORS["a"]})
    (source.folder / "gone.safetensors").unlink()
    (source.folder / WEIGHTS).write_bytes(SAFE)
    (source.folder / "pytorch_model.bin").write_bytes(b"never read")
    assert read_tensors(source).keys() == TENSORS.keys()


def test_shards_without_an_index_are_read_together_but_not_a_tensor_twice(source: Source) -> None:
    save_file({"a": TENSORS["a"]}, source.folder / "one.safetensors")
    save_file({"ids": TENSORS["ids"]}, source.folder / "two.safetensors")
    assert tensor_shapes(source) == {"a": (2, 3), "ids": (2,)}
    save_file({"ids": TENSORS["ids"] + 1}, source.folder / "three.safetensors")
    for read in (read_tensors, tensor_shapes):
        refused(FormatError, lambda read=read: read(source), "two.safetensors", "ids", "expected it once")


# --- safetensors


@pytest.mark.parametrize("cut", [0, 1, 7, 8, HEADER_END // 2, HEADER_END - 1, HEADER_END, HEADER_END + 3, len(SAFE) - 1])
def test_a_truncated_safetensors_file_is_refused_before_anything_is_read(source: Source, cut: int) -> None:
    path = source.folder / WEIGHTS
    path.write_bytes(SAFE[:cut])
    for read in (tensor_shapes, read_tensors):
        refused(FormatError, lambda read=read: read(source), str(path), "not a whole safetensors file", f"{cut} bytes on disk", "fetch it")


@pytest.mark.parametrize("content", [SAFE + b"more", b"<html>404</html>" * 9, (2**62).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_file_is_refused(source: Source, content: bytes) -> None:
    (source.folder / WEIGHTS).write_bytes(content)
    refused(FormatError, lambda: read_tensors(source), str(source.folder / WEIGHTS), "not a whole safetensors file", "fetch it")


def test_shapes_are_those_of_the_tensors_and_stored_types_are_kept(source: Source) -> None:
    (source.folder / WEIGHTS).write_bytes(SAFE)
    read = read_tensors(source)
    assert tensor_shapes(source) == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    assert {name: tensor.dtype for name, tensor in read.items()} == {"a": torch.float32, "ids": torch.int64, "mask": torch.bool}


# --- pickles


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_gives_the_same_tensors_in_either_torch_format(source: Source, legacy: bool) -> None:
    (source.folder / WEIGHTS).write_bytes(SAFE)
    expected = read_tensors(source)
    as_pickle(source.folder, legacy=legacy)
    read = read_tensors(source)
    assert tensor_shapes(source) == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in expected.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_something_is_refused_and_never_runs(source: Source, tmp_path: Path, legacy: bool) -> None:
    (source.folder / WEIGHTS).write_bytes(SAFE)
    ran = tmp_path / "ran"
    as_pickle(source.folder, {**TENSORS, "evil": Payload(ran)}, legacy=legacy)
    for read in (read_tensors, tensor_shapes):
        refused(FormatError, lambda read=read: read(source), "pytorch_model.bin", "eval", "not opened", "convert it to safetensors")
    assert not ran.exists()
    torch.load(source.folder / "pytorch_model.bin", weights_only=False)
    assert ran.exists()  # the payload is live: only the refusal kept it from running


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_is_refused_and_never_runs(source: Source, tmp_path: Path, protocol: int) -> None:
    (source.folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol))
    refused(FormatError, lambda: read_tensors(source), "pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_pickle_is_refused(source: Source, share: float, legacy: bool) -> None:
    (source.folder / WEIGHTS).write_bytes(SAFE)
    path = as_pickle(source.folder, legacy=legacy) / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(FormatError, lambda: read_tensors(source), str(path))


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], {}, {"state_dict": {"a": torch.ones(2)}}, {1: torch.ones(2)}, {"a": 3}],
)
def test_a_pickle_of_anything_but_names_and_dense_tensors_is_refused(source: Source, content: object) -> None:
    torch.save(content, source.folder / "pytorch_model.bin")
    refused(FormatError, lambda: read_tensors(source), "pytorch_model.bin", "expected a mapping of names to dense tensors", "state dict")


def test_parameters_in_a_pickle_come_without_their_gradients(source: Source) -> None:
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, source.folder / "pytorch_model.bin")
    assert not read_tensors(source)["a"].requires_grad


DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["safetensors", "zip", "legacy"]), damage=DAMAGE)
@example(kind="zip", damage=[(0.984375, 1)])  # a zip that says it spans two disks, which zipfile and not torch refuses
def test_a_file_with_any_bytes_changed_is_read_or_refused(kind: str, damage: list[tuple[float, int]], tmp_path: Path) -> None:
    folder = tmp_path / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(SAFE)
    path = folder / WEIGHTS if kind == "safetensors" else as_pickle(folder, legacy=kind == "legacy") / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    for share, byte in damage:
        content[int(share * len(content))] = byte
    path.write_bytes(bytes(content))
    try:
        read = read_tensors(Source("damaged", folder))
    except DriftError:
        return
    assert all(isinstance(name, str) and tensor.device.type == "cpu" for name, tensor in read.items())


# --- numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_refused_by_the_tensors_name(value: float, dtype: torch.dtype) -> None:
    tensors = {"good": torch.ones(3), "bad": torch.tensor([1.0, value]).to(dtype), "ids": torch.tensor([1])}
    message = refused(
        FormatError, lambda: require_finite("here", tensors), "here", "tensor bad holds NaN or infinity", "bad", "expected finite"
    )
    assert "good" not in message


def test_an_8_bit_float_is_checked_too() -> None:
    require_finite("here", {"a": torch.ones(3).to(torch.float8_e4m3fn)})
    refused(FormatError, lambda: require_finite("here", {"a": torch.full((3,), float("nan")).to(torch.float8_e4m3fn)}), "here", "a")


def test_a_tiny_head_is_read_as_it_was_written(copy: Callable[[str], Path]) -> None:
    folder = copy("pre")
    written, read = load_file(folder / WEIGHTS), read_tensors(Source("pre", folder))
    assert written.keys() == read.keys()
    assert all(torch.equal(written[name], read[name]) for name in written)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "pytorch_model.bin"])
def test_a_git_lfs_pointer_is_named_as_one(source: Source, file: str) -> None:
    (source.folder / file).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n")
    refused(SourceError, lambda: read_config(source), str(source.folder / file), "a git-lfs pointer", "git lfs pull")


def test_a_models_folder_in_the_hubs_cache_is_told_by_its_name(tmp_path: Path) -> None:
    root = tmp_path / "models--some-org--some-model"
    root.mkdir()
    refused(SourceError, lambda: resolve(str(root)), "some-org/some-model in the hub's cache", "no snapshot of it was fetched to the end")
    (root / "snapshots" / "abc").mkdir(parents=True)
    refused(SourceError, lambda: resolve(str(root)), "name some-org/some-model, or", str(root / "snapshots" / "abc"))
    (root / "config.json").write_text("{}")
    assert resolve(str(root)).folder == root
