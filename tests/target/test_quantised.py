from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from driftcli.engine.run import quantised_as
from driftcli.errors import FormatError, SourceError
from driftcli.loading.pair import load_pair
from driftcli.sources.files import Json, resolve
from driftcli.target import quantised
from driftcli.target.language_model import LanguageModel, load_language_model, outline_language_model
from driftcli.target.quantised import require_packages
from tests.edits import edit_config, refused
from tests.families.mtp.float8 import BLOCK, CONFIG, is_linear, read_whole, stored
from tests.gguf_files import write_gguf
from tests.tiny import write_target

CPU = torch.device("cpu")
IDS = torch.arange(4, 60)[None]


def write_float8(folder: Path, width: int) -> tuple[Path, Path]:
    """A tiny target with its linear weights in FP8 blocks, and one with the numbers that these stand for."""
    plain = write_target(folder / "plain", width=width, layers=2)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(plain / "model.safetensors").items():
        tensors |= stored(name, weight) if is_linear(name) else {name: weight}
    packed = shutil.copytree(plain, folder / "packed")
    save_file(tensors, packed / "model.safetensors", metadata={"format": "pt"})
    edit_config(packed, quantization_config=CONFIG)  # type: ignore[arg-type]
    save_file({name: one.contiguous() for name, one in read_whole(tensors).items()}, plain / "model.safetensors", metadata={"format": "pt"})
    return packed, plain


def load(name: Path) -> LanguageModel:
    return load_language_model(resolve(str(name)), CPU, "float32")


@torch.inference_mode()
def test_a_target_in_whole_fp8_blocks_computes_as_the_floats_that_they_stand_for(tmp_path: Path) -> None:
    packed, plain = map(load, write_float8(tmp_path, 4 * BLOCK))
    assert torch.equal(packed.model(IDS).logits, plain.model(IDS).logits)
    assert (quantised_as(packed), quantised_as(plain)) == ("fp8 e4m3, dequantised to float32", None)


def test_fp8_blocks_that_are_cut_off_are_refused_before_transformers_takes_others(tmp_path: Path) -> None:
    packed, _ = write_float8(tmp_path, 4 * BLOCK + 8)
    said = refused(FormatError, lambda: load(packed), str(packed), "in FP8 blocks of 16, the last of which is cut off", "--engine vllm")
    assert "has 72 " in said


def test_matrices_of_one_block_and_of_layers_that_are_not_loaded_are_no_matter(tmp_path: Path) -> None:
    packed, _ = write_float8(tmp_path, 4 * BLOCK)
    tensors = load_file(packed / "model.safetensors")
    beyond = {
        "model.layers.2.a_proj.weight": torch.zeros(72, 40).to(torch.float8_e4m3fn),
        "model.layers.2.a_proj.weight_scale_inv": torch.ones(5, 3),
    }
    save_file({**tensors, **beyond}, packed / "model.safetensors", metadata={"format": "pt"})
    assert load(packed).unread == ("model.layers.2.a_proj.weight",)


@pytest.mark.parametrize(
    ("method", "package"),
    [("compressed-tensors", "compressed-tensors"), ("awq", "gptqmodel"), ("gptq", "optimum"), ("bitsandbytes", "bitsandbytes")],
)
def test_a_method_whose_package_is_missing_is_refused_with_the_command(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)
    config: dict[str, Json] = {"quantization_config": {"quant_method": method}}
    says = (f"quantised as {method}", f"the package {package}", f"pip install 'driftcli[{method}]'", "--engine vllm")
    refused(SourceError, lambda: require_packages("t", config), *says)
    gguf: dict[str, Json] = {"quantization_config": {"quant_method": "gguf"}}
    assert "--engine" not in refused(SourceError, lambda: require_packages("t", gguf), "pip install 'driftcli[gguf]'")
    monkeypatch.setattr(quantised, "find_spec", lambda _: object())
    require_packages("t", config)
    require_packages("t", {})


def test_what_needs_a_package_is_an_extra_of_ours() -> None:
    extras = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    assert all(f"\n{method} = [" in extras for method in quantised.NEEDED)


@torch.inference_mode()
def test_a_gguf_target_computes_as_the_floats_that_its_blocks_stand_for(tmp_path: Path) -> None:
    file, folder = write_gguf(tmp_path)
    packed, whole = load(file), load(folder)
    torch.testing.assert_close(packed.model(IDS).logits, whole.model(IDS).logits, rtol=0, atol=1e-5)
    assert packed.tokenizer.get_vocab() == whole.tokenizer.get_vocab()
    assert packed.tokenizer.chat_template == whole.tokenizer.chat_template
    assert quantised_as(packed) == "gguf Q8_0, dequantised to float32"
    sizes = [(one.width, one.layers, one.vocabulary, one.positions) for one in (packed.facts, whole.facts)]
    assert sizes[0] == sizes[1]
    outline = outline_language_model(resolve(str(file)))
    assert {name: tuple(one.shape) for name, one in outline.model.named_parameters()} == {
        name: tuple(one.shape) for name, one in AutoModelForCausalLM.from_pretrained(folder).named_parameters()
    }


def test_a_gguf_language_model_drafts_for_one_in_another_layout(tmp_path: Path) -> None:
    file, folder = write_gguf(tmp_path)
    pair = load_pair(str(folder), str(file), CPU, "float32")
    assert (pair.card.family, pair.card.drafter.model_type) == ("causal-lm", "qwen2")
    assert json.loads(json.dumps(pair.card.record["vocabulary"].value)) == 300
