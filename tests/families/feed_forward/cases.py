"""Tiny seeded heads without attention, as their authors' files hold them, for the target of `tests.tiny`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.layouts import Shapes, seeded
from tests.tiny import WIDTH

VOCABULARY, HEADS, INNER = 260, 4, 40


@dataclass(frozen=True)
class Case:
    """A checkpoint: its tensors, its config, and the name of its file."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, object]
    file: str = "model.safetensors"


def linear(at: str, outputs: int, inputs: int, *, bias: bool = True) -> Shapes:
    return {f"{at}.weight": (outputs, inputs), **({f"{at}.bias": (outputs,)} if bias else {})}


def medusa(prefix: str = "", layers: int = 1) -> Shapes:
    found: Shapes = {}
    for head in range(HEADS):
        for layer in range(layers):
            found |= linear(f"{prefix}{head}.{layer}.linear", WIDTH, WIDTH)
        found |= linear(f"{prefix}{head}.{layers}", VOCABULARY, WIDTH, bias=False)
    return found


def medusa_of_vllm() -> Shapes:
    found: Shapes = {}
    for head in range(HEADS):
        found |= linear(f"blocks.{head}.layers.0", WIDTH, WIDTH, bias=False) | linear(f"lm_heads.{head}", VOCABULARY, WIDTH, bias=False)
    return found


def hydra(*, grounded: bool) -> Shapes:
    found: Shapes = {}
    for head in range(HEADS):
        into = WIDTH * (head + 2 if grounded else 1)
        found |= linear(f"hydra_mlp.{head}.0.linear", WIDTH, into) | linear(f"hydra_mlp.{head}.1.linear", WIDTH, WIDTH)
        if grounded:
            found |= linear(f"hydra_mlp.{head}.0.res_connection", WIDTH, into)
        found |= linear(f"hydra_lm_head.{head}", VOCABULARY, WIDTH)
    return found


def speculator(numbers: range, parts: tuple[str, ...] = ("emb", "proj", "head", "ln")) -> Shapes:
    found: Shapes = {}
    for head in numbers:
        sizes = {"emb": (VOCABULARY, INNER), "proj": (INNER, INNER if head else WIDTH), "head": (VOCABULARY, INNER), "ln": (INNER,)}
        found |= {f"speculator.{part}.{head}.weight": sizes[part] for part in parts}
        found |= {f"speculator.ln.{head}.bias": (INNER,)} if "ln" in parts else {}
    return found


OF_MEDUSA = {"medusa_num_heads": HEADS, "medusa_num_layers": 1, "base_model_name_or_path": "some/target"}
OF_HYDRA = {"hydra_num_heads": HEADS, "hydra_num_layers": 2, "hydra_head_arch": "mlp"}
OF_SPECULATOR = {
    "architectures": ["MLPSpeculatorPreTrainedModel"], "model_type": "mlp_speculator", "emb_dim": WIDTH, "inner_dim": INNER,
    "n_predict": HEADS, "vocab_size": VOCABULARY, "top_k_tokens_per_head": [1] * HEADS, "n_candidates": 1,
}  # fmt: skip
TIED = {**speculator(range(2), ("proj",)), **speculator(range(1), ("emb", "head", "ln"))}  # as safetensors leaves shared tensors
CASES = {
    "medusa": Case(seeded(medusa(), 1), OF_MEDUSA, "medusa_lm_head.pt"),
    "medusa-deep": Case(seeded(medusa("medusa_head.", 2), 2), {**OF_MEDUSA, "medusa_num_layers": 2}),
    "medusa-vllm": Case(seeded(medusa_of_vllm(), 3), {"model_type": "medusa", "num_heads": HEADS, "num_hidden_layers": 1}),
    "hydra": Case(seeded(hydra(grounded=True), 4), {**OF_HYDRA, "grounded_heads": True}, "hydra_lm_head.pt"),
    "hydra-ungrounded": Case(seeded(hydra(grounded=False), 5), {**OF_HYDRA, "grounded_heads": False}),
    "speculator": Case(seeded(speculator(range(HEADS)), 6), OF_SPECULATOR),
    "speculator-tied": Case(seeded(TIED, 7), {**OF_SPECULATOR, "tie_weights": True, "scale_input": True}),
}


def write(case: Case, folder: Path) -> Path:
    """The checkpoint in a folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(case.config))
    if case.file.endswith(".pt"):
        torch.save(dict(case.tensors), folder / case.file)
    else:
        save_file(dict(case.tensors), folder / case.file)
    return folder
