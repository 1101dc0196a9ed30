"""What transformers' own speculative loop drafts with a target's MTP head, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation.candidate_generator import MTPCandidateGenerator


@dataclass(frozen=True)
class Round:
    """One verification: the tokens so far, what is drafted behind them and how many of that are accepted."""

    ids: tuple[int, ...]
    drafted: tuple[int, ...]
    accepted: int


def rounds_by_transformers(model: PreTrainedModel, ids: Tensor, n: int) -> list[Round]:
    """Rounds of `generate(use_mtp=True)` for n greedy tokens behind `ids`, without the first, in which nothing is drafted."""
    layers = model.config.num_hidden_layers
    modules = range(layers, layers + model.config.num_mtp_layers)
    model._keys_to_ignore_on_load_unexpected = [
        rf"model\.layers\.{row}\..*" for row in modules
    ]  # the class names the published depth alone
    seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    candidates = MTPCandidateGenerator.get_candidates

    def watched(self: MTPCandidateGenerator, input_ids: Tensor, *args: object, **settings: object) -> tuple[Tensor, Tensor | None]:
        found, logits = candidates(self, input_ids, *args, **settings)
        so_far, whole = input_ids[0].tolist(), found[0].tolist()
        if len(whole) > len(so_far):
            seen.append((tuple(so_far), tuple(whole[len(so_far) :])))
        return found, logits

    with patch.object(MTPCandidateGenerator, "get_candidates", watched):
        text = model.generate(ids[None], max_new_tokens=n, do_sample=False, eos_token_id=None, pad_token_id=0, use_mtp=True)[0].tolist()
    return [Round(before, drafted, alike(drafted, text[len(before) :])) for before, drafted in seen]


def alike(drafted: tuple[int, ...], written: list[int]) -> int:
    """How many tokens the two share from their first on."""
    return next(
        (place for place, (one, other) in enumerate(zip(drafted, written, strict=False)) if one != other), min(len(drafted), len(written))
    )


def favour(folder: Path, tokens: int = 2, by: float = 30.0) -> None:
    """Makes two tokens likely everywhere, so that a random head is often right."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["lm_head.weight"][4 : 4 + tokens] *= by
    save_file(tensors, weights, metadata={"format": "pt"})
