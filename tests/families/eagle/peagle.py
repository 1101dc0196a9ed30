"""Tiny P-EAGLE drafters with every switch that is measured: seeded tensors, and what their files declare."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.sources.files import Json
from tests.families.block.cases import QWEN3, SIZE, SLIDING, Case
from tests.layouts import DRAFT, VOCABULARY, Shapes, attention, gains, later_layer, mlp, seeded, vocabulary
from tests.tiny import WIDTH

BOUNDARIES, DEPTHS, MASK = (2, 5, 7), 5, 259


def shapes(*, rows: int, layers: int, normed: bool) -> Shapes:
    """Of a drafter of the tiny target's width; normed: with norms of queries and keys, as Qwen3's layers have."""
    found: Shapes = {
        "fc.weight": (WIDTH, len(BOUNDARIES) * WIDTH),
        **attention("layers.0.self_attn", 2 * WIDTH, WIDTH, SIZE),
        **mlp("layers.0.mlp"),
        **gains("layers.0.", "hidden_norm", "input_layernorm", "post_attention_layernorm"),
        "norm.weight": (WIDTH,),
        "lm_head.weight": (rows, WIDTH),
        "embed_tokens.weight": (VOCABULARY, WIDTH),
        "mask_hidden": (1, 1, len(BOUNDARIES) * WIDTH),
    }
    for number in range(1, layers):
        found |= later_layer(f"layers.{number}", "input_layernorm", "post_attention_layernorm", head_dim=SIZE)
    if normed:
        found |= {f"layers.{number}.self_attn.{part}_norm.weight": (SIZE,) for number in range(layers) for part in "qk"}
    return found


def peagle(
    name: str, inside: Mapping[str, Json] | None = None, *, layers: int = 2, reduced: bool = False, kind: str = "llama", **changes: Json
) -> Case:
    """In speculators' layout; inside: of the config of its layers."""
    rows = DRAFT if reduced else VOCABULARY
    config: dict[str, Json] = {
        "architectures": ["PEagleSpeculator"],
        "speculators_model_type": "peagle",
        "mask_token_id": MASK,
        "eagle_aux_hidden_state_layer_ids": list(BOUNDARIES),
        "draft_vocab_size": rows,
        "norm_before_residual": False,
        "transformer_layer_config": {**QWEN3, "model_type": kind, "num_hidden_layers": layers, **(inside or {})},
        "speculators_config": {
            "algorithm": "peagle",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": DEPTHS}],
            "verifier": {"architectures": ["LlamaForCausalLM"], "name_or_path": None},
        },
        **changes,
    }
    tensors = seeded(shapes(rows=rows, layers=layers, normed=kind == "qwen3"), 41)
    if config.get("norm_before_fc"):
        tensors |= seeded(gains("", "input_norm", width=len(BOUNDARIES) * WIDTH), 42)
    if config.get("fc_norm"):
        tensors |= seeded(gains("fc_norm.", *map(str, range(len(BOUNDARIES)))), 43)
    if reduced:
        tensors |= vocabulary(44)
    return Case(name, config, tensors, BOUNDARIES)


CASES = {
    case.name: case
    for case in (
        peagle("plain"),
        peagle("one-layer", layers=1),
        peagle("qwen3", kind="qwen3"),
        peagle("normed", norm_before_fc=True, norm_before_residual=True, norm_output=True),
        peagle("stream-norms", fc_norm=True),
        peagle("sliding", SLIDING, kind="qwen3"),
        peagle("reduced", reduced=True),
    )
}
