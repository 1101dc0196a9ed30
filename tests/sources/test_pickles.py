"""Numbers that are not in the file: torch's own safe loading would make them up or unfold them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from driftcli.errors import FormatError
from driftcli.sources.pickles import read_pickle
from tests.edits import refused
from tests.families.eagle.mutations import Called, bomb, pickled, rewritten, wider

STATE = {"a": torch.arange(6.0).reshape(2, 3), "ids": torch.tensor([1, 2]), "mask": torch.tensor([True, False])}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    """The bytes as a file."""

    def write(content: bytes) -> Path:
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        return tmp_path / "pytorch_model.bin"

    return write


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", [(2**40, 4), (2**20,), (7,)])
def test_a_view_of_stride_0_is_refused_before_it_unfolds(written: Callable[[bytes], Path], shape: tuple[int, ...], legacy: bool) -> None:
    path = written(pickled({**STATE, "fc.weight": torch.zeros(1).expand(shape)}, legacy=legacy))
    refused(FormatError, lambda: read_pickle(path), str(path), "expected a mapping of names to dense tensors", "save the state dict")


@pytest.mark.parametrize("legacy", [False, True])
def test_many_views_of_one_storage_are_refused_before_they_unfold(written: Callable[[bytes], Path], legacy: bool) -> None:
    one = torch.arange(1000.0)
    path = written(pickled({f"layers.{number}.weight": one for number in range(100)}, legacy=legacy))
    refused(FormatError, lambda: read_pickle(path), str(path), "unfold into 400000 bytes", "save copies")
    assert len(read_pickle(written(pickled({"embed": one, "head": one}, legacy=legacy)))) == 2


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Called(torch.FloatTensor, 48), "torch.FloatTensor"),
        (Called(torch.LongTensor, 2**33), "torch.LongTensor"),
        (Called(torch.UntypedStorage, 48), "torch.storage.UntypedStorage"),
        (Called(bytearray, 2**40), "bytearray"),
        (torch.eye(3).to_sparse(), "torch.Size"),
        (torch.empty(3, device="meta"), "torch.float32"),
        (torch.ones(3).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
    ],
    ids=["numbers never set", "a huge tensor never set", "a storage never set", "a buffer", "sparse", "meta", "8-bit floats"],
)
def test_a_pickle_that_makes_more_than_stored_tensors_is_refused_by_name(
    written: Callable[[bytes], Path], value: object, named: str, legacy: bool
) -> None:
    path = written(pickled({**STATE, "fc.weight": value}, legacy=legacy))
    refused(
        FormatError, lambda: read_pickle(path), str(path), "wants more than tensors need", named, "not opened", "convert it to safetensors"
    )


def test_a_zip_that_unpacks_to_more_than_the_file_is_refused(written: Callable[[bytes], Path]) -> None:
    for content in (bomb(), rewritten(pickled(STATE), lambda held: held, zipfile.ZIP_DEFLATED)):
        path = written(content)
        refused(FormatError, lambda path=path: read_pickle(path), str(path), "compressed members", "not opened")


def test_storages_that_reach_beyond_their_records_are_refused(written: Callable[[bytes], Path]) -> None:
    path = written(rewritten(pickled(STATE), wider))
    refused(FormatError, lambda: read_pickle(path), str(path), "bytes, but the file holds 42", "fetch it again")


def test_storages_that_the_old_format_leaves_unfilled_are_refused(written: Callable[[bytes], Path]) -> None:
    content = pickled(STATE, legacy=True)
    last = content.rindex(b"\x80\x02]q\x00(")
    end = content.index(b"e.", last) + 2
    path = written(content[:last] + pickle.dumps([], protocol=2) + content[end:])
    assert torch.load(path, weights_only=True).keys() == STATE.keys()  # torch itself opens it, and its numbers are whatever was in memory
    refused(FormatError, lambda: read_pickle(path), str(path), "are 3 storages, but the file holds 0", "fetch it again")


@pytest.mark.parametrize("legacy", [False, True])
def test_parameters_views_and_transposes_are_read_as_they_are(written: Callable[[bytes], Path], legacy: bool) -> None:
    whole = torch.arange(12.0)
    kept = {"a": torch.nn.Parameter(whole[:6].view(2, 3)), "b": whole.view(3, 4).T, "c": whole[::2], "empty": whole[:0]}
    read = read_pickle(written(pickled(kept, legacy=legacy)))
    assert all(torch.equal(read[name], tensor) for name, tensor in kept.items())
