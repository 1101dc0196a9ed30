"""Writes the golden steps of heads without attention: what the producers' own classes compute for the tiny ones of `tests.families.feed_forward`.

Run once, from the repository root, with ibm-fms 0.0.4, a checkout of foundation-model-stack/fms-extras (16339f7c) and one of
FasterDecoding/Medusa (e2a5d20c), whose own Llama and Mistral, made for an older transformers, are left out:

    PYTHONPATH=.:../fms-extras:../Medusa python -m tests.golden.steps.make_feed_forward_steps

A file holds `logits` (head, row, vocabulary), on the seeded text: row `r` reads the target's state of position `r`, the tokens behind it as
they stand there. A Medusa head is one block and a matrix, as its class puts them together; of more blocks that class makes one and the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.families.feed_forward.cases import CASES, HEADS, INNER, VOCABULARY
from tests.golden.steps.seeds import AFTER_NORM, WIDTH, seeded_ids, seeded_stream

for left_out, name in (("modeling_llama_kv", "LlamaForCausalLM"), ("modeling_mistral_kv", "MistralForCausalLM")):
    module = ModuleType(f"medusa.model.{left_out}")
    setattr(module, name, type(name, (), {}))
    sys.modules[module.__name__] = module

from fms_extras.models.speculator import MLPSpeculator  # noqa: E402
from medusa.model.medusa_model import ResBlock  # noqa: E402

HERE = Path(__file__).parent / "feed-forward"


def medusa(tensors: Mapping[str, Tensor], states: Tensor, _: Tensor) -> Tensor:
    """FasterDecoding's block in front of a matrix, a head a depth."""
    head = nn.ModuleList(nn.Sequential(ResBlock(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)) for _ in range(HEADS))
    head.load_state_dict(dict(tensors))
    return torch.stack([one(states) for one in head])


def speculator(tensors: Mapping[str, Tensor], states: Tensor, tokens: Tensor) -> Tensor:
    """IBM's class, its weights tied where the file has those of one step alone."""
    tied = "speculator.emb.1.weight" not in tensors
    model = MLPSpeculator(WIDTH, INNER, VOCABULARY, HEADS, tie_weights=tied, scale_input=tied)
    missing, unexpected = model.load_state_dict(
        {name.removeprefix("speculator."): tensor for name, tensor in tensors.items()}, strict=False
    )
    assert not unexpected and bool(missing) is tied, (missing, unexpected)
    return model(states[None], tokens[None])[:, 0]


MADE = {"medusa": medusa, "speculator": speculator, "speculator-tied": speculator}

if __name__ == "__main__":
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    for case, made in MADE.items():
        with torch.no_grad():
            logits = made(CASES[case].tensors, seeded_stream(AFTER_NORM), seeded_ids()[1:])
        save_file({"logits": logits.contiguous()}, HERE / f"{case}.safetensors")
        (HERE / f"{case}.safetensors").chmod(0o644)
        print(case, tuple(logits.shape), round(logits.std().item(), 3))
