from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from driftcli.errors import DriftError, FormatError, PairError
from driftcli.families.eagle.declaration import declare
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.formats import detect
from driftcli.sources.files import Json
from driftcli.target.facts import NO_TARGET
from tests.edits import (
    VOCABULARY,
    WEIGHTS,
    Payload,
    as_pickle,
    drop_config,
    edit_config,
    edit_tensors,
    open_folder,
    refused,
)  # fmt: skip
from tests.tiny import WIDTH, HeadSpec, head_tensors, write_head

# --- what must be refused

EVERY = [name for name in head_tensors(HeadSpec(), VOCABULARY) if name not in ("lm_head.weight", "t2d")]


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_tensor_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str) -> None:
    folder = edit_tensors(copy("pre"), {name: None})
    shown = name.replace("midlayer.", "layers.0.")
    expected = "which of the target's tokens the rows of lm_head stand for" if name == "d2t" else "expected a whole EAGLE head"
    refused(FormatError, lambda: read(folder), f"pre: tensor {shown} is missing, ", expected, "export it again")


def test_one_missing_stream_norm_of_three_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("post"), {"fc_norm.1.weight": None})
    refused(FormatError, lambda: read(folder), "post", "tensor fc_norm.1.weight is missing", "fc_norm.1.weight", "export it again")


@pytest.mark.parametrize(
    "name", ["fc.bias", "midlayer.mlp.gate_proj.bias", "midlayer.self_attn.q_proj.weight_scale", "layers.12345.hidden_norm.weight",
             "input_norm.bias", "xmidlayer.norm.weight", "embed_tokens", "model.norm.weight"],
)  # fmt: skip
def test_a_left_over_tensor_is_refused_by_name(copy: Callable[[str], Path], read: Callable[[Path], Eagle3], name: str) -> None:
    folder = edit_tensors(copy("pre"), {name: torch.ones(WIDTH)})
    shown = name.replace("midlayer.", "layers.0.") if name.startswith("midlayer.") else name
    refused(FormatError, lambda: read(folder), "pre", " has no place in an EAGLE head", shown, "it is not run")


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


@pytest.mark.parametrize("value", [1e30, -3e38, 65600.0])
def test_weights_beyond_float16_are_refused_since_a_step_would_overflow(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], value: float
) -> None:
    folder = copy("pre")
    tensor = load_file(folder / WEIGHTS)["midlayer.hidden_norm.weight"]
    tensor[3] = value
    edit_tensors(folder, {"midlayer.hidden_norm.weight": tensor})
    refused(FormatError, lambda: read(folder), "pre", "numbers beyond 65504", "layers.0.hidden_norm.weight", "export it again")


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


@pytest.mark.parametrize("value", [1.5, 1e30, 1e300, 1e-31, 1e-320])
def test_an_epsilon_that_float32_norms_cannot_use_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], value: float
) -> None:
    refused(
        FormatError, lambda: read(edit_config(copy("pre"), rms_norm_eps=value)), "rms_norm_eps is", "expected a number from 1e-30 to 1.0"
    )


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, list(range(3000)), {"a": ["b" * 2000]}, "a\nb\x1b[2J", "\u202e", "\ud800"],
    ids=["text", "list", "object", "escape", "turn", "half"],
)
@pytest.mark.parametrize("key", ["vocab_size", "hidden_act", "head_dim", "norm_output"])
def test_a_refusal_quotes_no_more_than_a_line_can_hold(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], key: str, value: Json
) -> None:
    with pytest.raises(DriftError) as caught:
        read(edit_config(copy("pre"), **{key: value}))
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 1000
    assert "pre/config.json" in said
    assert "expected" in said


def test_a_tensors_name_cannot_drive_the_terminal(copy: Callable[[str], Path], read: Callable[[Path], Eagle3]) -> None:
    folder = edit_tensors(copy("pre"), {"a\nb\x1b[2J": torch.ones(2), "x" * 3000: torch.ones(2)})
    refused(FormatError, lambda: read(folder), "2 tensors have no place", "a\\nb\\x1b[2J", "it is not run")


def test_a_vocabulary_that_only_the_config_claims_makes_no_map_of_that_size(copy: Callable[[str], Path]) -> None:
    folder = edit_tensors(copy("pre"), {"d2t": None, "t2d": None, "lm_head.weight": None})
    for claimed in (10**9, 10**30):
        checkpoint = open_folder(drop_config(edit_config(folder, vocab_size=claimed), "draft_vocab_size"))
        format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
        refused(FormatError, lambda: declare(checkpoint, format, NO_TARGET), f"vocab_size is {claimed}", "at most 4194304 tokens")  # noqa: B023


@pytest.mark.parametrize("window", [2**31, 2**63, 10**30])
def test_a_window_of_more_rows_than_can_be_counted_is_refused(
    copy: Callable[[str], Path], read: Callable[[Path], Eagle3], window: int
) -> None:
    folder = edit_config(copy("pre"), sliding_window=window, layer_types=["sliding_attention"])
    refused(FormatError, lambda: read(folder), f"sliding_window is {window}", "expected a number of rows")


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
        refused(FormatError, lambda lacking=lacking: read(lacking), "is missing", name)


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
