from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from driftcli.errors import FormatError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.others import Others
from driftcli.sources.files import Json
from driftcli.target.language_model import LanguageModel
from tests.edits import (
    PROVENANCE,
    VOCABULARY,
    WEIGHTS,
    as_pickle,
    drop_config,
    edit_config,
    edit_tensors,
    one_step,
    read_head,
    refused,
    tensors_of,
)  # fmt: skip
from tests.tiny import WIDTH, HeadSpec, write_head


@pytest.fixture
def record(target: LanguageModel) -> Callable[[Path], dict[str, tuple[Any, str]]]:
    """The record of the head in a folder: by field, its value and its source."""
    return lambda folder: {name: (field.value, field.source) for name, field in read_head(folder, target)[1].items()}


def same(one: Eagle3, other: Eagle3) -> bool:
    pairs = zip(tensors_of(one), tensors_of(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and (one.boundaries, one.feedback) == (other.boundaries, other.feedback)


# --- what must load


@pytest.mark.parametrize("name", ["pre", "post"])
@pytest.mark.parametrize("legacy", [False, True])
def test_safetensors_and_a_pickle_give_equal_heads(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str, legacy: bool
) -> None:
    folder = copy(name)
    before = read(folder)
    assert same(before, read(as_pickle(folder, legacy=legacy)))


def test_the_layer_may_be_called_layers_0_but_not_by_both_names(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = copy("pre")
    before, tensors = read(folder), load_file(folder / WEIGHTS)
    save_file({name.replace("midlayer.", "layers.0."): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    assert same(before, read(folder))
    edit_tensors(folder, {"midlayer.hidden_norm.weight": torch.ones(WIDTH)})
    refused(FormatError, lambda: read(folder), "pre", "midlayer.hidden_norm.weight", "expected one layer under one name")


def test_every_tensor_of_the_file_lands_in_the_head(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = write_head(copy("pre") / "own", HeadSpec(post_norm=True, own_embedding=True))
    held = [tensor for tensor in tensors_of(replace(read(folder), others=Others())) if tensor.is_floating_point()]
    for name, tensor in load_file(folder / WEIGHTS).items():
        if tensor.is_floating_point():
            assert sum(tensor.shape == other.shape and torch.equal(tensor, other) for other in held) == 1, name
    assert len(held) == 17


def test_an_absent_embedding_and_head_are_the_targets_rows(copy: Callable[[str], Path], target: LanguageModel) -> None:
    head, record = read_head(edit_tensors(copy("pre"), {"lm_head.weight": None}), target)
    ids = head.vocabulary.to_target
    assert torch.equal(head.embedding, target.embedding)
    assert torch.equal(head.head, target.head[ids])
    for field in ("embedding", "head"):
        assert record[field].value == "target's"
        assert record[field].source.startswith("default:vLLM")


def test_an_own_embedding_and_head_are_kept_and_told_from_copies_of_the_targets(copy: Callable[[str], Path], target: LanguageModel) -> None:
    folder = copy("pre")
    own = torch.randn(VOCABULARY, WIDTH)
    head, record = read_head(edit_tensors(folder, {"embed_tokens.weight": own}), target)
    assert torch.equal(head.embedding, own)
    assert torch.equal(head.head, load_file(folder / WEIGHTS)["lm_head.weight"])
    assert [(record[field].value, record[field].source) for field in ("embedding", "head")] == [("own", "tensor")] * 2
    copied = {"embed_tokens.weight": target.embedding.clone(), "lm_head.weight": target.head[head.vocabulary.to_target]}
    fields = read_head(edit_tensors(folder, copied), target)[1]
    assert [fields[field].value for field in ("embedding", "head")] == ["own, equal to the target's"] * 2


def test_a_tied_head_is_its_own_embeddings_rows_and_without_one_the_targets_head(
    copy: Callable[[str], Path], target: LanguageModel
) -> None:
    own = torch.randn(VOCABULARY, WIDTH)
    folder = edit_config(edit_tensors(copy("pre"), {"lm_head.weight": None, "embed_tokens.weight": own}), tie_word_embeddings=True)
    head, record = read_head(folder, target)
    assert torch.equal(head.head, own[head.vocabulary.to_target])
    assert (record["head"].value, record["head"].source) == ("own embedding", "config:tie_word_embeddings")
    head, record = read_head(edit_tensors(folder, {"embed_tokens.weight": None}), target)
    assert torch.equal(head.head, target.head[head.vocabulary.to_target])
    assert record["head"].value == "target's"


def test_draft_ids_go_to_the_target_and_back(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = copy("pre")
    head, tensors = read(folder), load_file(folder / WEIGHTS)
    ids = torch.arange(120) + tensors["d2t"]
    assert torch.equal(head.to_target(torch.arange(120)), ids)
    assert torch.equal(head.to_draft(ids), torch.arange(120))
    assert bool((head.to_draft(torch.nonzero(~tensors["t2d"])[:, 0]) == -1).all())


def test_absolute_ids_proven_by_t2d_give_the_same_head(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = copy("pre")
    before = read(folder)
    d2t = load_file(folder / WEIGHTS)["d2t"]
    assert same(before, read(edit_tensors(folder, {"d2t": d2t + torch.arange(120)})))


@pytest.mark.parametrize("zeros", [False, True])
def test_a_full_draft_vocabulary_proposes_every_token_by_its_own_id(
    tmp_path: Path, read: Callable[[Path], Eagle3], record: Callable[[Path], dict[str, tuple[Any, str]]], zeros: bool
) -> None:
    folder = write_head(tmp_path / "full", HeadSpec(draft_vocabulary=VOCABULARY))
    if zeros:  # as SpecForge writes it
        edit_tensors(folder, {"d2t": torch.zeros(VOCABULARY, dtype=torch.int64), "t2d": torch.ones(VOCABULARY, dtype=torch.bool)})
    assert torch.equal(read(folder).vocabulary.to_target, torch.arange(VOCABULARY))
    assert record(folder)["vocab_map"] == ("offset" if zeros else "none", "tensor")
    assert record(drop_config(folder, "draft_vocab_size"))["draft_vocabulary"] == (VOCABULARY, "tensor")


def test_the_flags_are_raw_where_they_are_absent_and_each_switches_its_own(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], record: Callable[[Path], dict[str, tuple[Any, str]]]
) -> None:
    folder = copy("pre")
    raw = read(folder)
    assert (raw.residual, raw.feedback) == ("raw", "raw")
    assert record(folder)["residual"] == record(folder)["feedback"] == ("raw", "default:vLLM")
    edit_config(folder, norm_before_residual=True, norm_output=False)
    normed = read(folder)
    assert (normed.residual, normed.feedback) == ("normed", "raw")
    assert record(folder)["residual"] == ("normed", "config:norm_before_residual")
    assert record(folder)["feedback"] == ("raw", "config:norm_output")
    assert not torch.allclose(one_step(raw)[0], one_step(normed)[0])
    fed = read(edit_config(folder, norm_before_residual=False, norm_output=True))
    assert (fed.residual, fed.feedback) == ("raw", "normed")
    assert torch.equal(one_step(raw)[0], one_step(fed)[0])
    assert not torch.allclose(one_step(raw)[1], one_step(fed)[1])


def test_stream_norms_are_read_where_the_tensors_are_in_their_order(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], record: Callable[[Path], dict[str, tuple[Any, str]]]
) -> None:
    folder = copy("post")
    tensors, head = load_file(folder / WEIGHTS), read(folder)
    assert [torch.equal(norm, tensors[f"fc_norm.{number}.weight"]) for number, norm in enumerate(head.fusion.stream_norms)] == [True] * 3
    assert record(folder)["pre_fc_norm"] == ("per stream", "tensor")
    assert record(copy("pre"))["pre_fc_norm"] == ("none", "default:vLLM and SGLang")


def test_nine_stream_norms_keep_the_order_of_their_numbers(tmp_path: Path, read: Callable[[Path], Eagle3]) -> None:
    folder = write_head(tmp_path / "wide")
    norms = {f"fc_norm.{number}.weight": torch.full((WIDTH,), float(number)) for number in range(9)}
    edit_tensors(folder, {"fc.weight": torch.randn(WIDTH, 9 * WIDTH), **norms})
    edit_config(folder, eagle_aux_hidden_state_layer_ids=list(range(9)))
    assert [norm[0].item() for norm in read(folder).fusion.stream_norms] == list(range(9))


@pytest.mark.parametrize(
    ("config", "boundaries"),
    [
        ({}, (2, 4, 5)),
        ({"eagle_aux_hidden_state_layer_ids": [1, 3, 4]}, (1, 3, 4)),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3, 4]}}, (2, 4, 5)),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 3, 8]}}, (2, 4, 5)),  # where vLLM does not look
    ],
)
def test_the_capture_layers_are_those_of_the_config_and_of_this_target(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], config: dict[str, Json], boundaries: tuple[int, ...]
) -> None:
    assert read(edit_config(copy("pre"), **config)).boundaries == boundaries


def test_both_spellings_of_rope_give_the_same_head(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    scaling: dict[str, Json] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    folder = edit_config(copy("pre"), rope_theta=700.0, rope_scaling=scaling)
    old = read(folder).rope(50)
    new = read(edit_config(drop_config(folder, "rope_theta", "rope_scaling"), rope_parameters={**scaling, "rope_theta": 700.0})).rope(50)
    assert torch.equal(old.cos, new.cos)
    assert torch.equal(old.sin, new.sin)
    assert old.cos.shape == (50, WIDTH // 4)
    assert not torch.equal(old.cos, read(copy("post")).rope(50).cos)


def test_missing_keys_take_the_classes_defaults_and_never_the_targets_values(copy: Callable[[str], Path], target: LanguageModel) -> None:
    keys = ("rope_theta", "rms_norm_eps", "max_position_embeddings", "hidden_size", "intermediate_size", "draft_vocab_size")
    head, record = read_head(drop_config(copy("pre"), *keys), target)
    assert head.eps == 1e-6
    assert head.rope_config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert record["max_position_embeddings"].value == 2048
    assert all(record[name].source.startswith("default:transformers LlamaConfig") for name in ("rms_norm_eps", "rope"))


@pytest.mark.parametrize("name", ["pre", "post"])
def test_every_field_of_the_record_says_where_it_comes_from(
    copy: Callable[[str], Path], record: Callable[[Path], dict[str, tuple[Any, str]]], name: str
) -> None:
    fields = record(copy(name))
    assert {"width", "target_width", "streams", "heads", "kv_heads", "head_dim", "capture", "rope", "residual", "feedback", "pre_fc_norm",
            "embedding", "head", "vocab_map", "draft_vocabulary", "vocabulary", "rms_norm_eps"} <= fields.keys()  # fmt: skip
    assert {field: source for field, (_, source) in fields.items() if not PROVENANCE.fullmatch(source)} == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_take_the_targets_type_and_ids_keep_theirs(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], dtype: torch.dtype
) -> None:
    folder = copy("post")
    before = read(folder)
    tensors = load_file(folder / WEIGHTS)
    head = read(edit_tensors(folder, {name: tensor.to(dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}))
    assert {tensor.dtype for tensor in tensors_of(head)} == {torch.float32, torch.int64}
    assert torch.equal(head.vocabulary.to_target, before.vocabulary.to_target)
    torch.testing.assert_close(one_step(head), one_step(before), rtol=0.2, atol=0.2)
