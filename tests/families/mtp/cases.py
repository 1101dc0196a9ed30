"""A tiny target of every family with its MTP head, in the published layout: everything seeded, and every path moving the output.

Target and head are transformers' own classes: the head's decoder layer is the one layer of the family's base model, saved by transformers
under the names that are published. What stands around that layer is named here by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.models.step3p7.modeling_step3p7 import Step3p7TextModel

from tests.families.mtp import float8
from tests.tiny import tokenizer

LEGACY = ("deepseek_v3", "glm4_moe", "qwen2")  # published with rope_theta and rope_scaling, not with rope_parameters


@dataclass(frozen=True)
class Case:
    """A family's checkpoint.

    target: the config of the whole model. layer: the config of a model whose only layers are the head's. at: what the names of the head's
    layer begin with; {row} is the layer's number counted on from the target's, {module} from 0. names: of the parts around it. renames:
    from what transformers' names inside the layer begin with to the stored. keys: what the published config says beside; None for what it
    does not say.
    """

    name: str
    target: Callable[[], PreTrainedConfig]
    layer: Callable[[PreTrainedConfig], PreTrainedConfig]
    at: str
    names: Mapping[str, str]
    keys: Mapping[str, object]
    renames: Mapping[str, str] = field(default_factory=dict)
    modules: int = 1
    own_head: str | None = None  # names an output head that is not the target's
    copies: Mapping[str, str] = field(default_factory=dict)  # stored name: the target's tensor that is stored a second time
    one_plus: bool = False
    hidden_first: bool = False
    fused_experts: bool = False
    outer: Mapping[str, object] | None = None  # the config around the text model's, where that is a part of a larger model
    float8: Literal["all", "head"] | None = None  # which matrices are stored in float8
    fused: tuple[int, ...] | None = None  # ranks that one matrix of queries, keys and values is cut for, and each rank's rows of the three
    turned: Callable[[PreTrainedConfig], PreTrainedConfig] | None = None  # the layer with the other kind of rotary pairs
    scales: Callable[[PreTrainedConfig], Mapping[str, float]] = lambda _: {}  # what servers multiply the layer's tensors with

    def place(self, text: str, target: PreTrainedConfig, module: int) -> str:
        """A name of one of the head's modules."""
        return text.format(row=target.num_hidden_layers + module, module=module)


def shuffle(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Matrices drawn anew, vectors moved from what they begin with: gains of either kind, biases, decays."""
    random = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=random)
            tensor.copy_(noise * 1.2 * tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else tensor + noise * 0.3)
    return model.eval()


def write(case: Case, folder: Path) -> Path:
    """The target, its tokenizer and its head."""
    torch.manual_seed(0)
    config = case.target()
    model = shuffle(whole_class(config).from_config(config), 0)
    model.save_pretrained(folder)
    config = config.get_text_config()
    tokenizer().save_pretrained(folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if case.outer:
        tensors = {re.sub(r"^model\.", "model.language_model.", name): tensor for name, tensor in tensors.items()}
    for module in range(case.modules):
        tensors |= head_tensors(case, config, module)
        tensors |= {case.place(name, config, module): tensors[source].clone() for name, source in case.copies.items()}
    fused = one_matrix(case, tensors, config) if case.fused else {}
    if case.float8:
        tensors = in_float8(case, tensors, config.num_hidden_layers)
    tensors |= fused
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    write_config(case, folder / "config.json")
    return folder


def one_matrix(case: Case, tensors: dict[str, Tensor], config: PreTrainedConfig) -> dict[str, Tensor]:
    """Each module's queries, keys and values, taken from the tensors, in one matrix."""
    assert case.fused
    found: dict[str, Tensor] = {}
    for module in range(case.modules):
        at = case.place(case.at, config, module) + "self_attn."
        parts = [tensors.pop(f"{at}{name}_proj.weight") for name in "qkv"]
        found |= float8.fused(f"{at}qkv_proj.weight", parts, case.fused[0], scaled=case.float8 is not None)
    return {name: tensor.view(torch.float8_e4m3fn) if tensor.dtype == torch.uint8 else tensor for name, tensor in found.items()}


def apart(case: Case, tensors: dict[str, Tensor], config: PreTrainedConfig) -> dict[str, Tensor]:
    """What is stored with queries, keys and values in matrices of their own."""
    for module in range(case.modules if case.fused else 0):
        assert case.fused
        at = case.place(case.at, config, module) + "self_attn."
        matrix, scales = tensors.pop(f"{at}qkv_proj.weight"), tensors.pop(f"{at}qkv_proj.weight_scale_inv", None)
        parts = float8.unfused(matrix, scales, case.fused[0], list(case.fused[1:]))
        tensors |= {f"{at}{name}_proj.weight": part for name, part in zip("qkv", parts, strict=True)}
    return tensors


def in_float8(case: Case, tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The matrices of all layers, or of those behind the trunk's, in float8."""
    trunk = () if case.float8 == "all" else tuple(f"model.layers.{row}." for row in range(layers))
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found |= float8.stored(name, tensor) if float8.is_linear(name) and not name.startswith(trunk) else {name: tensor}
    return found


def head_tensors(case: Case, target: PreTrainedConfig, module: int) -> dict[str, Tensor]:
    """One module of the head under its stored names."""
    random = torch.Generator().manual_seed(30 + module)
    width = target.hidden_size
    shapes = {case.names[part]: (width,) for part in case.names if part != "fusion"} | {case.names["fusion"]: (width, 2 * width)}
    if case.own_head:
        shapes[case.own_head] = (target.vocab_size, width)
    drawn = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    around = {
        name: noise * 1.2 * noise.shape[-1] ** -0.5 if noise.dim() > 1 else noise * 0.3 + (not case.one_plus)
        for name, noise in drawn.items()
    }
    return {case.place(name, target, module): tensor for name, tensor in around.items()} | layer_tensors(case, target, module)


def layer_tensors(case: Case, target: PreTrainedConfig, module: int) -> dict[str, Tensor]:
    """The decoder layer of one module under its stored names."""
    model = shuffle(bare_model(case.layer(target)), 60 + module)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = model.state_dict() if case.fused_experts else load_file(Path(folder) / "model.safetensors")
    found = {}
    for name, tensor in saved.items():
        if inside := re.fullmatch(r"layers\.(\d+)\.(.+)", name):
            found[case.place(case.at, target, module + int(inside[1])) + renamed(inside[2], case.renames)] = tensor.clone()
    return found


def renamed(name: str, renames: Mapping[str, str]) -> str:
    """The name with another beginning."""
    return next((theirs + name.removeprefix(ours) for ours, theirs in renames.items() if name.startswith(ours)), name)


def write_config(case: Case, path: Path) -> None:
    """The config with the published keys."""
    whole = json.loads(path.read_text())
    held = whole.pop("text_config", whole)
    held.pop("num_mtp_layers", None)
    if held["model_type"] in LEGACY:
        rope = held.pop("rope_parameters")
        held |= {key: rope.pop(key) for key in ("rope_theta", "partial_rotary_factor") if key in rope}
        held["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else {"type": rope.pop("rope_type"), **rope}
    held |= case.keys
    text = {key: value for key, value in held.items() if case.keys.get(key, key) is not None}
    outer = {**case.outer, "text_config": text} if case.outer else text
    path.write_text(json.dumps(outer if held is whole else {**whole, "text_config": text}, indent=2))


def changed(config: PreTrainedConfig, **changes: object) -> PreTrainedConfig:
    """A config of the same class with other values."""
    return type(config).from_dict({**config.to_dict(), **changes})


def sizes(**more: object) -> dict[str, object]:
    """What all targets share."""
    return {
        "vocab_size": len(tokenizer()), "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 1, **more,
    }  # fmt: skip


def whole_class(config: PreTrainedConfig) -> type:
    """What loads the target."""
    return AutoModelForImageTextToText if config.model_type == "step3p7" else AutoModelForCausalLM


def bare_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model without an output head."""
    return Step3p7TextModel(config) if config.model_type == "step3p5" else AutoModel.from_config(config)


def made(model_type: str, **values: object) -> PreTrainedConfig:
    """A family's config."""
    return AutoConfig.for_model(model_type, **values)


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of the text model as it is stored."""
    return AutoConfig.from_pretrained(folder).get_text_config()
