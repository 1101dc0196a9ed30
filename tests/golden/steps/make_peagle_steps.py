"""Writes the golden steps of P-EAGLE: what speculators' own class computes for the tiny drafters of `tests.families.eagle.peagle`.

Run once, from the repository root, with transformers 5.19 and speculators 0.9.0:

    PYTHONPATH=. python -m tests.golden.steps.make_peagle_steps

A file holds `logits` (anchor, depth, vocabulary): what the rows of a chain from each anchor guess, all of one pass. The anchor `a` is the
place of the last token that is known; row `a - 1` of the class reads it, beside the target's streams at `a - 1`.
"""

from __future__ import annotations

from pathlib import Path

import speculators.models.peagle.core as core
import torch
from safetensors.torch import save_file
from speculators.models.peagle.config import PEagleSpeculatorConfig
from torch import Tensor

from tests.families.block.cases import Case
from tests.families.eagle.peagle import CASES, DEPTHS
from tests.golden.steps.seeds import seeded_ids, seeded_stream

HERE = Path(__file__).parent / "peagle"
ANCHORS = range(4, 10)


def model_of(case: Case) -> core.PEagleDraftModel:
    """The class with a case's tensors."""
    config = PEagleSpeculatorConfig(**case.config)
    config.transformer_layer_config._attn_implementation = "eager"
    model = core.PEagleDraftModel(config).eval()
    missing, unexpected = model.load_state_dict(case.tensors, strict=False)
    assert not unexpected and all("verifier" in name or "rotary" in name or name in ("t2d", "d2t") for name in missing), (
        missing,
        unexpected,
    )
    return model


@torch.no_grad()
def chain(model: core.PEagleDraftModel, ids: Tensor, streams: Tensor, anchor: int) -> Tensor:
    """Logits of every row of the chain from an anchor; the class is given rows and chain in place of those that it would draw."""
    rows = anchor
    places = torch.cat([torch.arange(rows), torch.full((DEPTHS - 1,), rows - 1)])
    depths = torch.cat([torch.zeros(rows, dtype=torch.long), torch.arange(1, DEPTHS)])
    core.generate_cod_sample_indices = lambda **_: (places, depths)
    core.compute_metrics = lambda **told: (told["logits"], {})
    length = rows + DEPTHS
    hidden, tokens = torch.zeros(1, length, streams.shape[1]), torch.zeros(1, length, dtype=torch.long)
    hidden[0, :rows], tokens[0, :rows] = streams[:rows], ids[1 : rows + 1]
    documents, last = torch.zeros(1, length, dtype=torch.long), torch.zeros(1, length, model.hidden_size)
    _, logits, _ = model(hidden_states=hidden, input_ids=tokens, document_ids=documents, verifier_last_hidden_states=last)
    return logits[0, rows - 1 :]


if __name__ == "__main__":
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    for name, case in CASES.items():
        ids, streams = seeded_ids(), torch.cat([seeded_stream(boundary) for boundary in case.boundaries], dim=-1)
        model = model_of(case)
        found = torch.stack([chain(model, ids, streams, anchor) for anchor in ANCHORS]).contiguous()
        save_file({"logits": found}, HERE / f"{name}.safetensors")
        (HERE / f"{name}.safetensors").chmod(0o644)
        print(name, tuple(found.shape), round(found.std().item(), 3))
