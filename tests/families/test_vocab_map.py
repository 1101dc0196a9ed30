from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.families.record import Record
from driftcli.families.vocab_map import target_ids
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from tests.edits import refused

Read = Callable[..., tuple[list[int], object]]
IDS = [1, 2, 5, 9]  # of a target with 10 tokens
OFFSETS = [1, 1, 3, 6]


def marks(ids: Sequence[int], vocabulary: int = 10) -> Tensor:
    return torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, torch.tensor(ids), True)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Ids and record of a checkpoint that holds these maps."""

    def from_file(d2t: Tensor | None, t2d: Tensor | None = None) -> tuple[list[int], object]:
        tensors = {name: tensor for name, tensor in (("d2t", d2t), ("t2d", t2d), ("norm", torch.ones(1))) if tensor is not None}
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{}")
        record = Record("head", {})
        found = target_ids(open_checkpoint(Source("head", tmp_path)), 10 if d2t is None else len(d2t), 10, record)
        return found.tolist(), record.fields["vocab_map"]

    return from_file


@pytest.mark.parametrize("t2d", [None, marks(IDS), marks(IDS).long()])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_offsets_are_added_to_the_row(read: Read, dtype: torch.dtype, t2d: Tensor | None) -> None:
    assert read(torch.tensor(OFFSETS).to(dtype), t2d) == (IDS, Sourced("offset", "tensor"))


@pytest.mark.parametrize("t2d", [None, marks(IDS)])
def test_target_ids_that_cannot_be_offsets_are_taken_as_they_are(read: Read, t2d: Tensor | None) -> None:
    assert read(torch.tensor(IDS), t2d) == (IDS, Sourced("absolute", "tensor"))


def test_t2d_decides_where_both_readings_are_possible(read: Read) -> None:
    d2t = torch.tensor([0, 1, 4])
    assert read(d2t, marks([0, 1, 4])) == ([0, 1, 4], Sourced("absolute", "tensor"))
    assert read(d2t, marks([0, 2, 6])) == ([0, 2, 6], Sourced("offset", "tensor"))
    assert read(d2t) == ([0, 2, 6], Sourced("offset", "tensor"))  # as every server reads it


def test_a_full_draft_vocabulary_needs_no_map_and_zero_offsets_are_one(read: Read) -> None:
    assert read(None) == (list(range(10)), Sourced("none", "tensor"))
    assert read(torch.zeros(10, dtype=torch.int64)) == (list(range(10)), Sourced("offset", "tensor"))


@pytest.mark.parametrize(
    ("dtype", "spelled"), [(torch.float32, "F32"), (torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.bool, "BOOL")]
)
def test_a_map_stored_as_anything_but_whole_numbers_is_refused(read: Read, dtype: torch.dtype, spelled: str) -> None:
    refused(FormatError, lambda: read(torch.tensor(OFFSETS).to(dtype)), "head", "d2t", spelled, "expected whole numbers", "export it again")


BROKEN: list[tuple[list[int], Tensor | None]] = [
    ([1, 1, 3, 7], None),  # 10 is outside
    ([-1, 1, 3, 6], None),  # -1 is outside
    ([2, 1, 3, 6], None),  # 2 twice; as ids not ascending
    ([5, 2, 1, 9], None),  # 9 + 3 is outside; as ids sound, but nothing proves them
    ([1, 1, 3, 6], marks([0, 2, 5, 9])),  # t2d marks others
    ([1, 2, 5, 5], marks([1, 2, 5])),  # 5 twice
    ([2**62, 2**62, 2**62, 2**63 - 1], None),  # sums that overflow
]


@pytest.mark.parametrize(("d2t", "t2d"), BROKEN)
def test_a_map_that_leaves_the_vocabulary_repeats_or_stands_against_t2d_is_refused(read: Read, d2t: list[int], t2d: Tensor | None) -> None:
    refused(
        FormatError, lambda: read(torch.tensor(d2t), t2d), "head", "d2t", "outside the target's 10 tokens", "expected offsets", "export"
    )


def test_a_map_of_zeros_is_read_from_t2d_and_refused_where_that_cannot_be(read: Read) -> None:
    zeros = torch.zeros(4, dtype=torch.int64)
    assert read(zeros) == ([0, 1, 2, 3], Sourced("zeros", "tensor"))
    assert read(zeros, marks([0, 1, 2, 3])) == ([0, 1, 2, 3], Sourced("zeros", "tensor"))
    assert read(zeros, marks(IDS)) == (IDS, Sourced("from t2d", "tensor"))
    refused(
        FormatError, lambda: read(zeros, marks([1, 2, 5])), "head", "d2t holds zeros alone", "against t2d", "expected offsets", "export"
    )


def test_ids_in_any_order_are_taken_where_t2d_proves_them(read: Read) -> None:
    assert read(torch.tensor([5, 2, 1, 9]), marks(IDS)) == ([5, 2, 1, 9], Sourced("absolute", "tensor"))
