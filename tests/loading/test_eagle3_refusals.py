from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.drafters.eagle3 import Eagle3
from driftcli.errors import DriftError, FormatError, PairError
from driftcli.loading.files import Json
from driftcli.loading.target import LanguageModel
from tests.loading.edits import (
    CONFIG,
    PROVENANCE,
    VOCABULARY,
    WEIGHTS,
    Payload,
    as_pickle,
    drop_config,
    edit_config,
    edit_tensors,
    one_step,
    read_head,
    refused,
)  # fmt: skip
from tests.tiny import WIDTH, HeadSpec, head_config, head_tensors, write_head

# --- what must be refused

EVERY = [name for name in head_tensors(HeadSpec(), VOCABULARY) if name not in ("lm_head.weight", "t2d")]


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_tensor_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str) -> None:
    folder = edit_tensors(copy("pre"), {name: None})
    shown = name.replace("midlayer.", "layers.0.")
    refused(FormatError, lambda: read(folder), "pre", "1 tensors are missing", shown, "expected a whole EAGLE head", "export it again")


def test_one_missing_stream_norm_of_three_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("post"), {"fc_norm.1.weight": None})
    refused(FormatError, lambda: read(folder), "post", "1 tensors are missing", "fc_norm.1.weight", "export it again")


@pytest.mark.parametrize(
    "name", ["fc.bias", "midlayer.mlp.gate_proj.bias", "midlayer.self_attn.q_proj.weight_scale", "layers.12345.hidden_norm.weight",
             "input_norm.bias", "xmidlayer.norm.weight", "embed_tokens", "model.norm.weight"],
)  # fmt: skip
def test_a_left_over_tensor_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str) -> None:
    folder = edit_tensors(copy("pre"), {name: torch.ones(WIDTH)})
    shown = name.replace("midlayer.", "layers.0.") if name.startswith("midlayer.") else name
    refused(FormatError, lambda: read(folder), "pre", "1 tensors have no place in an EAGLE head", shown, "it is not run")


def test_a_fourth_stream_norm_is_refused_beside_three_streams(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("post"), {"fc_norm.3.weight": torch.ones(WIDTH)})
    refused(FormatError, lambda: read(folder), "post", "fc_norm.3.weight", "no place")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layers.1.hidden_norm.weight", ("tensors are missing", "layers.1.mlp.down_proj.weight")),
        ("layers.2.hidden_norm.weight", ("decoder layers [0, 2]", "without gaps")),
        ("aux_norm_low.weight", ("2 tensors are missing", "fc_norm.1.weight")),
        ("midlayer.self_attn.q_norm.weight", ("q_norm.weight has shape (48,), expected (12,)",)),
        ("input_norm.weight", ("input_norm.weight has shape (48,), expected (144,)",)),
    ],
)
def test_part_of_what_another_layout_holds_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str, says: tuple[str, ...]
) -> None:
    folder = edit_tensors(copy("pre"), {name: torch.ones(WIDTH)})
    refused(FormatError, lambda: read(folder), "pre", *says)


def test_one_head_norm_of_two_is_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"midlayer.self_attn.k_norm.weight": torch.ones(WIDTH // 4)})
    refused(FormatError, lambda: read(folder), "pre", "one of q_norm and k_norm", "expected both or none")


@pytest.mark.parametrize("name", sorted(head_tensors(HeadSpec(post_norm=True, own_embedding=True), VOCABULARY)))
@pytest.mark.parametrize("change", ["longer", "flat", "deeper", "scalar", "empty"])
def test_a_tensor_of_another_shape_is_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str, change: str) -> None:
    folder = write_head(copy("pre") / "own", HeadSpec(post_norm=True, own_embedding=True))
    tensor = load_file(folder / WEIGHTS)[name]
    changed = {
        "longer": torch.cat([tensor, tensor[:1]]),
        "flat": tensor.flatten()[:-1],
        "deeper": tensor[None],
        "scalar": tensor.flatten()[0],
        "empty": tensor[:0],
    }[change]
    refused(FormatError, lambda: read(edit_tensors(folder, {name: changed})), "own")


def test_a_wrong_shape_is_told_with_the_right_one(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"midlayer.self_attn.k_proj.weight": torch.ones(24, 95)})
    refused(FormatError, lambda: read(folder), "pre", "layers.0.self_attn.k_proj.weight has shape (24, 95), expected (24, 96)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["fc.weight", "midlayer.hidden_norm.weight", "lm_head.weight"])
def test_weights_that_are_not_finite_are_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str, value: float
) -> None:
    folder = copy("pre")
    tensor = load_file(folder / WEIGHTS)[name]
    tensor.view(-1)[3] = value
    shown = name.replace("midlayer.", "layers.0.")
    refused(FormatError, lambda: read(edit_tensors(folder, {name: tensor})), "pre", "NaN or infinity", shown, "expected finite weights")


@pytest.mark.parametrize(
    ("dtype", "spelled"),
    [(torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8"), (torch.uint16, "U16"), (torch.bool, "BOOL"), (torch.complex64, "C64")],
)
@pytest.mark.parametrize("name", ["fc.weight", "norm.weight", "lm_head.weight"])
def test_quantised_weights_are_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str, dtype: torch.dtype, spelled: str
) -> None:
    folder = copy("pre")
    tensor = load_file(folder / WEIGHTS)[name].to(dtype)
    refused(
        FormatError,
        lambda: read(edit_tensors(folder, {name: tensor})),
        "pre",
        f"{name} is stored as {spelled}",
        "expected 16, 32 or 64-bit",
    )


def test_weights_that_overflow_in_the_targets_type_are_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"norm.weight": torch.full((WIDTH,), 1e200, dtype=torch.float64)})
    refused(FormatError, lambda: read(folder), "pre as torch.float32", "NaN or infinity", "norm.weight")


WRONG: list[Json] = [0, -4, "4", 4.0, 4.5, [4], {"n": 4}, True, False]
COUNTS = ("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "draft_vocab_size", "hidden_size", "intermediate_size",
          "target_hidden_size", "max_position_embeddings")  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("key", COUNTS)
def test_a_count_that_is_no_positive_whole_number_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], key: str, value: Json
) -> None:
    folder = edit_config(copy("pre"), **{key: value})
    refused(FormatError, lambda: read(folder), "pre/config.json", f"{key} is {value!r}", "expected a positive whole number")


@pytest.mark.parametrize("key", ["num_attention_heads", "vocab_size"])
def test_a_count_that_nothing_else_tells_must_be_there(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], key: str) -> None:
    folder = drop_config(edit_tensors(copy("pre"), {"t2d": None}), key)
    refused(FormatError, lambda: read(folder), "pre/config.json", f"{key} is missing", "add it as it was in training")
    refused(FormatError, lambda: read(edit_config(folder, **{key: None})), "pre/config.json", f"{key} is missing")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_attention_heads": 5}, ("5 heads", "48, 24 and 24 projected rows", "expected heads of one even size")),
        ({"num_attention_heads": 7, "head_dim": 12}, ("7 heads and 2 key heads", "expected heads of one even size")),
        ({"num_key_value_heads": 3}, ("4 heads and 3 key heads", "expected heads of one even size")),
        ({"num_key_value_heads": 8}, ("4 heads and 8 key heads", "expected heads of one even size")),
        ({"num_attention_heads": 48, "num_key_value_heads": 24}, ("48 heads and 24 key heads", "expected heads of one even size")),
        ({"num_attention_heads": 8}, ("8 heads and 2 key heads", "expected heads of one even size")),
        ({"num_key_value_heads": None}, ("4 heads and 4 key heads", "expected heads of one even size")),
        ({"head_dim": 16}, ("head_dim is 16 in config.json, but 12 in its tensors",)),
    ],
)
def test_head_counts_that_do_not_divide_or_are_not_those_of_the_tensors_are_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], changes: dict[str, Json], says: tuple[str, ...]
) -> None:
    folder = edit_config(copy("pre"), **changes)
    refused(FormatError, lambda: read(folder), "pre", *says)


@pytest.mark.parametrize(
    ("key", "value", "found"), [("hidden_size", 64, 48), ("intermediate_size", 95, 96), ("draft_vocab_size", 119, 120)]
)
def test_a_config_that_stands_against_the_tensors_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], key: str, value: int, found: int
) -> None:
    folder = edit_config(copy("pre"), **{key: value})
    refused(FormatError, lambda: read(folder), "pre", f"{key} is {value} in config.json, but {found} in its tensors", "of another head")


def test_head_rows_and_map_of_different_lengths_are_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"lm_head.weight": torch.ones(100, WIDTH)})
    refused(FormatError, lambda: read(folder), "pre", "lm_head and d2t must agree", "100", "120", "export it again")


@pytest.mark.parametrize("key", ["norm_output", "norm_before_residual", "fc_norm", "norm_before_fc", "tie_word_embeddings"])
@pytest.mark.parametrize("value", [1, 0, "true", [], {}])
def test_a_flag_that_is_neither_true_nor_false_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], key: str, value: Json
) -> None:
    folder = edit_config(copy("pre"), **{key: value})
    refused(FormatError, lambda: read(folder), "pre/config.json", f"{key} is {value!r}", "expected true or false")


@pytest.mark.parametrize("value", [0, -1e-5, "1e-5", [], True, float("nan"), float("inf"), 10**400])
def test_an_epsilon_that_is_no_positive_number_is_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], value: Json) -> None:
    folder = edit_config(copy("pre"), rms_norm_eps=value)
    refused(FormatError, lambda: read(folder), "pre/config.json", "rms_norm_eps is", "expected a positive number")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_act": "gelu"}, ("hidden_act is 'gelu'", "expected silu")),
        ({"hidden_act": ["silu"]}, ("hidden_act is ['silu']", "expected text")),
        ({"norm_before_fc": True}, ("norm_before_fc is true", "no input_norm.weight")),
        ({"eagle_config": {"norm_before_fc": True}}, ("norm_before_fc is true", "no input_norm.weight")),
        ({"eagle_config": {"norm_before_fc": "yes"}}, ("norm_before_fc is 'yes'", "expected true or false")),
        ({"eagle_config": "none"}, ("eagle_config is 'none'", "expected an object")),
    ],
)
def test_what_this_reading_would_pass_over_in_silence_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], changes: dict[str, Json], says: tuple[str, ...]
) -> None:
    folder = edit_config(copy("pre"), **changes)
    refused(FormatError, lambda: read(folder), "pre/config.json", *says)


def test_a_map_cast_to_floats_is_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = copy("pre")
    d2t = load_file(folder / WEIGHTS)["d2t"]
    refused(FormatError, lambda: read(edit_tensors(folder, {"d2t": d2t.to(torch.bfloat16)})), "pre", "d2t", "BF16", "whole numbers")


def test_a_map_against_t2d_is_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = copy("pre")
    t2d = load_file(folder / WEIGHTS)["t2d"]
    refused(FormatError, lambda: read(edit_tensors(folder, {"t2d": ~t2d})), "pre", "d2t", "against t2d", "expected offsets")


def test_a_head_for_another_vocabulary_is_refused_with_both_sizes(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_config(copy("pre"), vocab_size=300)
    refused(PairError, lambda: read(folder), "pre", "vocabulary of 300", "target has 260", "name the target it was trained for")


def write_wide_head(folder: Path, fused: int) -> Path:
    """A head of twice the target's width, with an embedding and an output head of its own, that reads `fused` inputs."""
    write_head(folder, HeadSpec(own_embedding=True))
    random = torch.Generator().manual_seed(5)
    tensors = {name: tensor for name, tensor in load_file(folder / WEIGHTS).items() if tensor.is_floating_point()}
    shapes = {name: [2 * size if size in (24, 48, 96) else size for size in tensor.shape] for name, tensor in tensors.items()}
    shapes["fc.weight"] = [2 * WIDTH, fused]
    edit_tensors(folder, {name: torch.randn(shape, generator=random) for name, shape in shapes.items()})
    return edit_config(folder, hidden_size=2 * WIDTH, intermediate_size=192)


def test_a_head_for_another_hidden_size_is_refused_with_both_sizes(tmp_path: Path, read: Callable[[Path], Eagle3]) -> None:
    folder = write_wide_head(tmp_path / "wide", fused=6 * WIDTH)
    refused(PairError, lambda: read(folder), "wide", "target width of 96", "target has 48", "name the target it was trained for")


def test_a_wider_head_that_was_made_for_this_target_loads_if_it_need_not_share(tmp_path: Path, read: Callable[[Path], Eagle3]) -> None:
    folder = edit_config(write_wide_head(tmp_path / "wide", fused=3 * WIDTH), target_hidden_size=WIDTH)
    assert read(folder).fusion.weight.shape == (2 * WIDTH, 3 * WIDTH)
    for name in ("embed_tokens.weight", "lm_head.weight"):
        lacking = edit_tensors(shutil.copytree(folder, tmp_path / name), {name: None})
        refused(FormatError, lambda lacking=lacking: read(lacking), "1 tensors are missing", name)


def test_inputs_of_fc_that_are_no_whole_number_of_streams_are_refused(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"fc.weight": torch.ones(WIDTH, 100)})
    refused(FormatError, lambda: read(folder), "pre", "fc.weight reads 100 inputs", "expected a multiple of the target's width 48")


def test_a_pickle_that_runs_something_is_refused_and_never_runs(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], tmp_path: Path
) -> None:
    folder = copy("pre")
    as_pickle(folder, {**load_file(folder / WEIGHTS), "evil": Payload(tmp_path / "ran")})
    refused(FormatError, lambda: read(folder), "pytorch_model.bin", "eval", "not opened", "convert it to safetensors")
    assert not (tmp_path / "ran").exists()


# --- whatever a head holds, it is read or refused

NAMES = sorted(head_tensors(HeadSpec(post_norm=True, own_embedding=True), VOCABULARY))
KEYS = sorted({*head_config(HeadSpec(post_norm=True), VOCABULARY), "head_dim", "target_hidden_size", "norm_before_residual",
               "norm_before_fc", "eagle_config", "eagle_aux_hidden_state_layer_ids", "rope_scaling", "rope_parameters",
               "tie_word_embeddings", "hidden_act", "partial_rotary_factor"})  # fmt: skip
ROPES = st.fixed_dictionaries(
    {"rope_type": st.sampled_from(["default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional", "nope"])},
    optional={
        **{
            key: st.sampled_from([0, 1, 2.0, -1, "2", None, True, 1e300])
            for key in ("factor", "rope_theta", "low_freq_factor", "high_freq_factor")
        },
        "original_max_position_embeddings": st.sampled_from([0, 64, -1, "64", None]),
        "short_factor": st.sampled_from([[1.0] * 6, [1.0], 3, None]),
        "long_factor": st.sampled_from([[2.0] * 6, [], "x", None]),
        "partial_rotary_factor": st.sampled_from([1, 0.5, 0, "x"]),
        "attention_factor": st.sampled_from([0.5, -1, "x", None]),
    },
)
VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, 2, 3, 4, 6, 8, 12, 24, 48, 96, 120, 144, 260, -1, 0.5, 1e300, 10**30, 10**400, "", "4", "silu"]
    ),
    st.floats(),
    st.lists(st.one_of(st.integers(-1, 9), st.text(max_size=2)), max_size=4),
    st.dictionaries(st.sampled_from(["eagle_aux_hidden_state_layer_ids", "norm_before_fc", "type", "factor"]), st.integers(-1, 9)),
    ROPES,
)
SHAPE = st.lists(st.sampled_from([0, 1, 3, 24, 48, 96, 120, 144, 260]), max_size=3)
DTYPE = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool,
                         torch.float8_e5m2, torch.uint32, torch.complex64])  # fmt: skip
TENSOR = st.one_of(
    st.none(),
    st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), SHAPE, DTYPE),
    st.builds(lambda fill: ("fill", fill), st.sampled_from([float("nan"), float("inf"), 1e38, 0.0, -300.0])),
    st.builds(lambda dtype: ("cast", dtype), DTYPE),
    st.builds(lambda axis, size: ("cut", axis, size), st.integers(0, 1), st.integers(0, 130)),
)
NEW_NAMES = st.sampled_from(
    ["fc.bias", "layers.0.norm.weight", "midlayer.", "fc_norm.x.weight", "fc_norm.7.weight", "", "t2d.x", "layers.0.hidden_norm.weight"]
)


def changed(tensor: Tensor, change: Any) -> Tensor | None:
    match change:
        case ("fill", value):
            return torch.full(tensor.shape, value).to(tensor.dtype)
        case ("cast", dtype):
            return tensor.to(dtype)
        case ("cut", axis, size):
            return tensor.narrow(axis, 0, min(size, tensor.shape[axis])) if axis < tensor.dim() else tensor
        case _:
            return change


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=st.builds(
        HeadSpec,
        post_norm=st.booleans(),
        own_embedding=st.booleans(),
        own_head=st.booleans(),
        draft_vocabulary=st.sampled_from([120, VOCABULARY]),
    ),
    config=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    dropped=st.lists(st.sampled_from(KEYS), max_size=2),
    tensors=st.dictionaries(st.one_of(st.sampled_from(NAMES), NEW_NAMES), TENSOR, max_size=2),
)
def test_a_head_with_anything_changed_is_read_and_drafts_or_is_refused(
    spec: HeadSpec, config: dict[str, Json], dropped: list[str], tensors: dict[str, Any], tmp_path: Path, target: LanguageModel
) -> None:
    folder = tmp_path / "head"
    shutil.rmtree(folder, ignore_errors=True)
    written = head_tensors(spec, VOCABULARY)
    edits = {name: changed(written.get(name, torch.ones(WIDTH)), change) for name, change in tensors.items()}
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in {**written, **edits}.items() if tensor is not None}, folder / WEIGHTS)
    whole = {**head_config(spec, VOCABULARY), **config}
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in whole.items() if key not in dropped}))
    try:
        head, record = read_head(folder, target)
    except DriftError:
        return
    logits, state = one_step(head)
    assert logits.shape == (4, len(head.vocabulary.to_target))
    assert state.shape == (4, WIDTH)
    assert bool((head.vocabulary.to_target >= 0).all() and (head.vocabulary.to_target < VOCABULARY).all())
    assert all(PROVENANCE.fullmatch(field.source) for field in record.values())
