from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from driftcli.errors import FormatError
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, outline_language_model
from driftcli.target.parts import Parts, read_parts
from tests.edits import edit_config, edit_tensors, refused

CPU = torch.device("cpu")


def parts(folder: Path, dtype: torch.dtype = torch.float32) -> Parts:
    return read_parts(outline_language_model(Source(folder.name, folder)), CPU, dtype)


@torch.inference_mode()
def test_parts_are_those_of_the_loaded_model(models: Path, target: LanguageModel) -> None:
    found = parts(models / "target")
    assert torch.equal(found.embedding, target.embedding)
    assert torch.equal(found.head, target.head)
    stream = torch.randn(5, target.config.hidden_size)
    assert found.final_norm is not None
    assert torch.equal(found.final_norm(stream), target.decoder.norm(stream))  # type: ignore[operator]


def test_parts_are_in_the_dtype_that_the_target_is_served_in(models: Path) -> None:
    found = parts(models / "target", torch.bfloat16)
    assert {found.embedding.dtype, found.head.dtype} == {torch.bfloat16}
    assert found.final_norm is not None
    assert {parameter.dtype for parameter in found.final_norm.parameters()} == {torch.bfloat16}


def test_a_head_that_is_tied_is_the_embedding(copy: Callable[[str], Path]) -> None:
    folder = edit_config(edit_tensors(copy("target"), {"lm_head.weight": None}), tie_word_embeddings=True)
    found = parts(folder)
    assert found.head is found.embedding


def test_a_part_by_another_name_in_front_is_found_and_one_that_is_not_there_is_refused(
    copy: Callable[[str], Path], target: LanguageModel
) -> None:
    own = target.embedding.clone()
    folder = edit_tensors(copy("target"), {"model.embed_tokens.weight": None, "model.language_model.embed_tokens.weight": own})
    assert torch.equal(parts(folder).embedding, own)
    edit_tensors(folder, {"draft.embed_tokens.weight": own})
    refused(FormatError, lambda: parts(folder), "model.embed_tokens.weight", "not told apart", "expected it there for a drafter")
    edit_tensors(folder, {"draft.embed_tokens.weight": None, "model.language_model.embed_tokens.weight": None})
    refused(FormatError, lambda: parts(folder), "model.embed_tokens.weight", "not among its files")


def test_a_quantised_head_is_refused_by_name(copy: Callable[[str], Path], target: LanguageModel) -> None:
    folder = edit_tensors(copy("target"), {"lm_head.weight": torch.zeros(target.head.shape, dtype=torch.int8)})
    refused(FormatError, lambda: parts(folder), "lm_head.weight", "stored as I8", "plain numbers")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parts_that_are_not_finite_are_refused(copy: Callable[[str], Path], target: LanguageModel, value: float) -> None:
    folder = edit_tensors(copy("target"), {"lm_head.weight": torch.full(target.head.shape, value)})
    refused(FormatError, lambda: parts(folder), "lm_head.weight", "NaN or infinity")
