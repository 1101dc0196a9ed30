from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.formats import open_drafter
from driftcli.families.unpacking import read_whole
from driftcli.loading.pair import load_pair
from driftcli.scanned import Unread
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source, opened, resolve
from driftcli.sources.packed import described, unpacked
from tests.conftest import GOLDEN
from tests.edits import edit_config, refused
from tests.families import packing

CPU = torch.device("cpu")
BLOCKS = {"quant_method": "fp8", "weight_block_size": [16, 16]}
SECOND = {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}
CASES: dict[str, tuple[Callable[[int, int], packing.Packed], dict[str, object], str]] = {
    "awq": (packing.awq, {}, "awq"),
    "gptq": (packing.gptq, {"quant_method": "gptq"}, "gptq"),
    "gptq-8": (lambda rows, columns: packing.gptq(rows, columns, 8), {}, "gptq"),
    "gptq-2": (lambda rows, columns: packing.gptq(rows, columns, 2), {}, "gptq"),
    "gptq-second": (lambda rows, columns: packing.gptq(rows, columns, second=True), SECOND, "gptq"),
    "gptq-shuffled": (lambda rows, columns: packing.gptq(rows, columns, shuffled=True), {}, "gptq"),
    "pack-quantized": (packing.pack_quantized, {}, "pack-quantized"),
    "mxfp4": (packing.mxfp4, {}, "mxfp4"),
    "mxfp4-exponents": (lambda rows, columns: packing.mxfp4(rows, columns, exponents=True), {}, "mxfp4"),
    "blocks": (lambda rows, columns: packing.float8(rows, columns, 16), BLOCKS, "float8"),
    "blocks-named-scale": (lambda rows, columns: packing.float8(rows, columns, 16, "scale"), BLOCKS, "float8"),
    "blocks-of-mistral": (lambda rows, columns: packing.float8(rows, columns, 16, "qscale_weight"), BLOCKS, "float8"),
    "channels": (lambda rows, columns: packing.float8(rows, columns, None, "weight_scale"), {}, "float8"),
    "one-scale": (lambda rows, columns: packing.float8(rows, columns, 0, "weight_scale"), {}, "float8"),
    "int8": (packing.int8, {}, "int8"),
}


def written(folder: Path, parts: dict[str, Tensor], quantisation: dict[str, object]) -> Source:
    """A checkpoint with one quantised matrix, `a.fc`, beside a plain one."""
    folder.mkdir(exist_ok=True)
    stored = {f"a.fc.{end}": part.contiguous() for end, part in parts.items()}
    save_file({**stored, "a.norm.weight": torch.ones(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantisation} if quantisation else {}))
    return Source("packed", folder)


def test_shapes_of_many_packed_matrices_are_read_from_each_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, _ = packing.pack_quantized(32, 64)
    source, reads = written(tmp_path, parts, {}), []
    for shard in "bc":
        save_file({f"{shard}.fc.{end}": part.contiguous() for end, part in parts.items()}, tmp_path / f"{shard}.safetensors")
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    checkpoint = open_checkpoint(source)
    monkeypatch.setattr("driftcli.sources.checkpoint.opened", lambda *opening: reads.append(opening[0].stem) or opened(*opening))
    assert {name: one.shape for name, one in unpacked(checkpoint).packed.items()} == {f"{one}.fc.weight": (32, 64) for one in "abc"}
    assert reads == ["a", "b", "c"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_quantised_matrix_is_the_one_that_was_packed_number_by_number(name: str, tmp_path: Path) -> None:
    pack, quantisation, scheme = CASES[name]
    parts, whole = pack(32, 64)
    checkpoint = unpacked(open_checkpoint(written(tmp_path, parts, quantisation)))
    assert set(checkpoint.tensors) == {"a.fc.weight", "a.norm.weight"}
    assert checkpoint.tensors["a.fc.weight"].shape == (32, 64)
    assert (checkpoint.packed["a.fc.weight"].scheme, described(checkpoint)) == (scheme, f"1 as {scheme}")
    found = read_whole(checkpoint, ["a.fc.weight", "a.norm.weight"])
    torch.testing.assert_close(found["a.fc.weight"], whole, rtol=1e-6, atol=1e-7)
    assert found["a.norm.weight"].tolist() == [1, 1, 1]


def test_blocks_that_are_cut_off_are_multiplied_out_by_their_own_scales(tmp_path: Path) -> None:
    parts, whole = packing.float8(40, 24, 16)
    assert parts["weight_scale_inv"].shape == (3, 2)
    found = read_whole(unpacked(open_checkpoint(written(tmp_path, parts, BLOCKS))), ["a.fc.weight"])
    torch.testing.assert_close(found["a.fc.weight"], whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(path.stem for path in (GOLDEN / "packed").glob("*.safetensors")))
def test_what_compressed_tensors_packs_is_unpacked_as_it_unpacks_it(name: str, tmp_path: Path) -> None:
    parts = load_file(GOLDEN / "packed" / f"{name}.safetensors")
    whole = parts.pop("whole")
    source = written(tmp_path, {key.removeprefix("fc."): part for key, part in parts.items()}, {})
    found = read_whole(unpacked(open_checkpoint(source)), ["a.fc.weight"])
    torch.testing.assert_close(found["a.fc.weight"], whole, rtol=1e-6, atol=1e-7)


def test_plain_matrices_and_blocks_that_are_asked_to_stay_stay_as_they_are(tmp_path: Path) -> None:
    parts, _ = packing.float8(24, 64, 16)
    checkpoint = open_checkpoint(written(tmp_path, parts, BLOCKS))
    assert unpacked(checkpoint, blocks=False) is checkpoint
    floats = {"weight": torch.ones(4, 4), "weight_scale": torch.ones(4, 1)}
    plain = open_checkpoint(written(tmp_path, floats, {}))
    assert unpacked(plain) is plain


def test_parts_that_are_missing_or_of_no_known_packing_are_refused(tmp_path: Path) -> None:
    parts, _ = packing.gptq(24, 64)
    del parts["qzeros"]
    says = ("packed: a.fc is quantised, but a.fc.qzeros is missing", "export it again")
    refused(FormatError, lambda: unpacked(open_checkpoint(written(tmp_path, parts, {}))), *says)
    odd = packing.gptq(24, 64)[0] | {"qzeros": torch.zeros(4, 5, dtype=torch.int32)}
    refused(FormatError, lambda: unpacked(open_checkpoint(written(tmp_path, odd, {}))), "a.fc have shapes of no 2, 4 or 8-bit packing")


def test_bytes_that_hold_something_else_are_left_as_they_are(tmp_path: Path) -> None:
    nvfp4 = {"weight": torch.zeros(24, 32, dtype=torch.uint8), "weight_scale": torch.ones(24, 4).to(torch.float8_e4m3fn)}
    checkpoint = open_checkpoint(written(tmp_path, nvfp4, {}))
    assert unpacked(checkpoint) is checkpoint


MATRICES = ("fc", "midlayer.self_attn.q_proj", "midlayer.mlp.down_proj", "midlayer.mlp.up_proj")


@pytest.mark.parametrize("name", ["awq", "gptq", "pack-quantized", "channels", "blocks", "int8"])
def test_a_quantised_head_drafts_as_the_head_of_its_floats(name: str, models: Path, tmp_path: Path) -> None:
    pack, quantisation, scheme = CASES[name]
    tensors = load_file(models / "pre" / "model.safetensors")
    stored, floats = dict(tensors), dict(tensors)
    for matrix in MATRICES:
        own = stored.pop(f"{matrix}.weight")
        parts, whole = pack(*own.shape)
        stored |= {f"{matrix}.{end}": part.contiguous() for end, part in parts.items()}
        floats[f"{matrix}.weight"] = whole
    drafters = []
    for kind, held in (("quantised", stored), ("floats", floats)):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.json").write_text((models / "pre" / "config.json").read_text())
        save_file(held, folder / "model.safetensors")
        if kind == "quantised":
            edit_config(folder, quantization_config={"quant_method": "of some kind", **quantisation})  # type: ignore[dict-item]
        drafters.append(load_pair(str(models / "target"), str(folder), CPU, "float32"))
    (note,) = [note for note in drafters[0].card.notes if "quantised" in note]
    assert (
        note == f"{tmp_path / 'quantised'}: 4 matrices of the drafter are quantised (4 as {scheme}); they are multiplied out to floats here"
    )
    assert not any("quantised" in note for note in drafters[1].card.notes)
    one, other = (pair.drafter for pair in drafters)
    torch.testing.assert_close(one.fusion.weight, other.fusion.weight, rtol=1e-6, atol=1e-7)  # type: ignore[union-attr]
    states = torch.randn(5, other.fusion.weight.shape[1], generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    torch.testing.assert_close(states @ one.fusion.weight.T, states @ other.fusion.weight.T, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]


def test_a_quantised_language_model_is_told_by_its_tensors_as_they_are_stored(models: Path, tmp_path: Path) -> None:
    tensors = load_file(models / "lm" / "model.safetensors")
    for name in [one for one in tensors if one.endswith("mlp.up_proj.weight")]:
        parts, _ = packing.gptq(*tensors.pop(name).shape)
        tensors |= {f"{name.removesuffix('.weight')}.{end}": part.contiguous() for end, part in parts.items()}
    folder = tmp_path / "lm"
    folder.mkdir()
    (folder / "config.json").write_text((models / "lm" / "config.json").read_text())
    save_file(tensors, folder / "model.safetensors")
    opened = open_drafter(resolve(str(folder)))
    assert not isinstance(opened, Unread)
    assert (opened[1].family, dict(opened[0].packed)) == ("causal-lm", {})
    assert any(name.endswith("qweight") for name in opened[0].tensors)
