"""Writes the golden steps of MTP heads: what speculators' own class computes for the tiny Qwen targets of `tests.families.mtp`.

Run once, from the repository root: first where driftcli runs, then in an environment of its own (torch 2.13 CPU, speculators 0.9.0 with
transformers 5.19.0):

    PYTHONPATH=. python -m tests.families.mtp.all_cases FOLDER qwen3_5 qwen3_5_moe qwen3_next
    PYTHONPATH=. python -m tests.golden.steps.make_mtp_steps FOLDER qwen3_5 qwen3_5_moe qwen3_next

Each file holds `ids`, the `stream` handed in for every row, and `state` and `logits` of every step of the training unroll (step, row, ..): all
rows one token on, fed with the states of the step before. Step 0 is the fresh rows; a later step is no chain beside the rows, as at decoding.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
from safetensors.torch import load_file, save_file
from speculators import SpeculatorsConfig, VerifierConfig
from speculators.convert.mtp.converter import MTPConverter
from speculators.models.mtp.config import MTPSpeculatorConfig
from speculators.models.mtp.core import MTPDraftModel
from speculators.proposals.greedy import GreedyTokenProposalConfig
from torch import Tensor
from transformers import AutoConfig

from tests.golden.steps.seeds import ROWS, seeded_ids, seeded_stream

STEPS, HERE = 3, Path(__file__).parent / "mtp"


def read_model(folder: Path) -> MTPDraftModel:
    """The head as speculators converts it, with the target's embedding and output head."""
    proposal = GreedyTokenProposalConfig(speculative_tokens=STEPS)
    verifier = VerifierConfig(name_or_path=None, architectures=["none"])
    named = SpeculatorsConfig(algorithm="mtp", proposal_methods=[proposal], default_proposal_method="greedy", verifier=verifier)
    config = MTPSpeculatorConfig(transformer_layer_config=AutoConfig.from_pretrained(folder), speculators_config=named)
    config.transformer_layer_config._attn_implementation = "eager"
    model, held = MTPDraftModel(config).eval(), load_file(folder / "model.safetensors")
    converted = MTPConverter().convert_to_state_dict(folder)
    shared = {"embed_tokens.weight": held["model.embed_tokens.weight"], "lm_head.weight": held["lm_head.weight"]}
    missing, unexpected = model.load_state_dict({**converted, **shared}, strict=False)
    assert not unexpected and set(missing) <= {"verifier_lm_head.weight", "t2d", "d2t"}, (missing, unexpected)
    return model


@torch.no_grad()
def steps(folder: Path) -> dict[str, Tensor]:
    """What stands in a file."""
    model, ids, stream = read_model(folder), seeded_ids(), seeded_stream(0)
    states: list[Tensor] = []
    model.mtp_layers[0].register_forward_hook(lambda _, __, output: states.append(output[0]))
    text = ids[: ROWS + STEPS + 1]
    padded = torch.cat([stream, torch.zeros(len(text) - ROWS, stream.shape[1])])
    logits, _, _ = model(input_ids=text[None], hidden_states=padded[None])
    assert logits[0].shape[1] == ROWS
    return {"ids": ids, "stream": stream.half(), "state": torch.stack(states), "logits": torch.cat(logits)}


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[2:]:
        save_file({key: tensor.contiguous() for key, tensor in steps(Path(sys.argv[1]) / name).items()}, HERE / f"{name}.safetensors")
        (HERE / f"{name}.safetensors").chmod(0o644)
