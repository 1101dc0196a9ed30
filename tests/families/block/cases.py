"""Tiny block drafters in every layout and with every switch that is measured: seeded tensors, and what their files declare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from driftcli.sources.files import Json
from tests.layouts import VOCABULARY, Shapes, attention, seeded
from tests.tiny import WIDTH

SIZE, INNER, LAYERS, ROWS, MASK = 12, 96, 2, 5, 259
IDS = (1, 4, 6)  # layers whose outputs are read: boundaries 2, 5 and 7
REDUCED = 120
QWEN3: dict[str, Json] = {
    "model_type": "qwen3", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": SIZE, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
SLIDING: dict[str, Json] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4, "use_sliding_window": True}


@dataclass(frozen=True)
class Case:
    """A drafter: its config, its tensors, and the boundaries that it reads in the order of its fusion."""

    name: str
    config: dict[str, Json]
    tensors: dict[str, Tensor] = field(repr=False)
    boundaries: tuple[int, ...] = (2, 5, 7)


def shapes() -> Shapes:
    """Of a DFlash drafter of the tiny target's width."""
    found: Shapes = {"fc.weight": (WIDTH, len(IDS) * WIDTH), "hidden_norm.weight": (WIDTH,), "norm.weight": (WIDTH,)}
    for number in range(LAYERS):
        at = f"layers.{number}"
        found = {
            **found,
            **attention(f"{at}.self_attn", WIDTH, head_dim=SIZE),
            **{f"{at}.self_attn.{part}_norm.weight": (SIZE,) for part in "qk"},
            **{f"{at}.mlp.{part}_proj.weight": (INNER, WIDTH) for part in ("gate", "up")},
            f"{at}.mlp.down_proj.weight": (WIDTH, INNER),
            **{f"{at}.{norm}.weight": (WIDTH,) for norm in ("input_layernorm", "post_attention_layernorm")},
        }
    return found


def zlab(name: str, own: Mapping[str, Json] | None = None, **changes: Json) -> Case:
    """In z-lab's layout."""
    inside: dict[str, Json] = {"mask_token_id": MASK, "target_layer_ids": list(IDS), **(own or {})}
    config: dict[str, Json] = {
        **QWEN3,
        "architectures": ["DFlashDraftModel"],
        "block_size": ROWS,
        "num_target_layers": 8,
        "dflash_config": inside,
    }
    return Case(name, {**config, **changes}, seeded(shapes(), 21))


RANK = 6


def correction_shapes(vocabulary: int, kind: str) -> Shapes:
    """Of a bias by the token before."""
    found: Shapes = {"markov_w1.weight": (VOCABULARY, RANK), "markov_w2.weight": (vocabulary, RANK)}
    if kind == "gated":
        found = {**found, "gate_proj.weight": (RANK, WIDTH + RANK), "gate_proj.bias": (RANK,)}
    if kind == "rnn":
        found = {**found, "joint_proj.weight": (3 * RANK, 2 * RANK + WIDTH), "joint_proj.bias": (3 * RANK,)}
    return {f"markov_head.{name}": shape for name, shape in found.items()}


def confidence_shapes(read: int) -> Shapes:
    """Of a confidence head that reads so many numbers."""
    return {"confidence_head.proj.weight": (1, read), "confidence_head.proj.bias": (1,)}


def deepspec(name: str, kind: str, **changes: Json) -> Case:
    """DSpark in DeepSpec's layout, with embeddings and output rows of its own; kind: of the correction, `none` for rank 0."""
    rank = 0 if kind == "none" else RANK
    config: dict[str, Json] = {
        **QWEN3, "architectures": ["Qwen3DSparkModel"], "block_size": ROWS, "num_target_layers": 8, "mask_token_id": MASK,
        "target_layer_ids": list(IDS), "num_anchors": 4, "markov_rank": rank, "enable_confidence_head": rank > 0,
        "confidence_head_with_markov": True, **({"markov_head_type": kind} if rank else {}), **changes,
    }  # fmt: skip
    tensors = seeded(shapes(), 24) | seeded({"embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH)}, 25)
    if rank:
        confidence = confidence_shapes(WIDTH + RANK * bool(config["confidence_head_with_markov"]))
        tensors |= seeded({**correction_shapes(VOCABULARY, kind), **confidence}, 26)
    return Case(name, config, tensors)


ROPES: dict[str, Json] = {
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
GLOBAL = 16  # numbers of a head of Gemma 4


def gemma4(name: str, kind: str, *, separate: bool = False, **changes: Json) -> Case:
    """DSpark of Gemma 4 in DeepSpec's layout; separate: its values are not its keys."""
    base = deepspec(name, kind, **changes)
    ours: dict[str, Json] = {
        "architectures": ["Gemma4DSparkModel"], "model_type": "gemma4_text", "global_head_dim": GLOBAL, "attention_k_eq_v": not separate,
        "num_global_key_value_heads": 2 if separate else 1, "layer_types": ["full_attention"] * LAYERS, "attention_bias": False,
        "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": 2.5, "rope_parameters": ROPES, "sliding_window": 8,
    }  # fmt: skip
    config = {key: value for key, value in base.config.items() if key != "hidden_act"} | ours | changes
    found: Shapes = {}
    for number in range(LAYERS):
        at = f"layers.{number}"
        own = attention(f"{at}.self_attn", WIDTH, head_dim=GLOBAL)
        if not separate:
            del own[f"{at}.self_attn.v_proj.weight"]
            own[f"{at}.self_attn.k_proj.weight"] = (GLOBAL, WIDTH)
        found |= own | {f"{at}.self_attn.{part}_norm.weight": (GLOBAL,) for part in "qk"}
        found |= {f"{at}.{norm}_feedforward_layernorm.weight": (WIDTH,) for norm in ("pre", "post")}
    kept = {name: tensor for name, tensor in base.tensors.items() if ".self_attn." not in name}
    scalars = {f"layers.{number}.layer_scalar": torch.tensor([0.75 + 0.5 * number]) for number in range(LAYERS)}
    return Case(name, config, kept | seeded(found, 30) | scalars)


def speculators(
    name: str, layers: Mapping[str, Json] | None = None, *, reduced: bool = False, dspark: bool = False, **changes: Json
) -> Case:
    """In speculators' layout."""
    config: dict[str, Json] = {
        "architectures": ["DFlashSpeculator"],
        "speculators_model_type": "dflash",
        "block_size": ROWS,
        "mask_token_id": MASK,
        "aux_hidden_state_layer_ids": [layer + 1 for layer in IDS],
        "draft_vocab_size": REDUCED if reduced else VOCABULARY,
        "transformer_layer_config": {**QWEN3, **(layers or {})},
        "speculators_config": {
            "algorithm": "dflash",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": ROWS - 1}],
            "verifier": {"architectures": ["LlamaForCausalLM"], "name_or_path": None},
        },
        **changes,
    }
    tensors = seeded(shapes(), 22)
    if dspark:
        config |= {
            "architectures": ["DSparkDraftModel"],
            "speculators_model_type": "dspark",
            "markov_rank": RANK,
            "markov_head_type": "vanilla",
            "enable_confidence_head": False,
            **changes,
        }
        tensors |= seeded(correction_shapes(REDUCED if reduced else VOCABULARY, "vanilla"), 27)
        if config["enable_confidence_head"]:
            tensors |= seeded(confidence_shapes(WIDTH + RANK), 28)
    if reduced:
        kept = torch.arange(REDUCED) * 2 + 1
        marks = torch.zeros(VOCABULARY, dtype=torch.bool).index_fill(0, kept, True)
        tensors |= {**seeded({"lm_head.weight": (REDUCED, WIDTH)}, 23), "d2t": kept - torch.arange(REDUCED), "t2d": marks}
    return Case(name, config, tensors)


TAPS, GROUP, CANDIDATES = 2, 12, 9


def dflash2(name: str, like: Case) -> Case:
    """The same drafter with convolutions around its attention and MLP, and a selector among the best of each row."""
    inside: dict[str, Json] = {"conv_kernel_size": TAPS, "conv_group_size": GROUP, "selector_rank": RANK, "selector_top_k": CANDIDATES}
    config, own = dict(like.config), like.config.get("dflash_config")
    if isinstance(own, dict):
        config |= {"architectures": ["DFlash2DraftModel"], "dflash_config": {**own, **inside}}
    else:
        config |= {"architectures": ["DFlash2DraftModel"], "speculators_model_type": "dflash2", **inside}
    names = [f"layers.{number}.{around}" for number in range(LAYERS) for around in ("attention_conv", "mlp_conv")]
    found: Shapes = {f"{at}.kernel_projection.weight": (2 * TAPS * WIDTH // GROUP, WIDTH) for at in names}
    selector = "candidate_selector"
    found = {**found, **{f"{selector}.{part}_codebook": (VOCABULARY, RANK) for part in ("predecessor", "successor")}}
    found = {**found, f"{selector}.hidden_projection.weight": (RANK, WIDTH)}
    random = torch.Generator().manual_seed(29)
    bases = {f"{at}.base_kernel": torch.randn(2, TAPS, WIDTH, generator=random) * 0.3 + torch.tensor([1.0, 0.0])[:, None] for at in names}
    return Case(name, config, like.tensors | seeded(found, 28) | bases)


SCALED: dict[str, Json] = {"input_embedding_scale": 1.7, "output_multiplier": 0.6, "final_logit_softcapping": 2.5}
CASES = {
    case.name: case
    for case in (
        zlab("zlab"),
        zlab("zlab-sliding", None, **SLIDING),
        zlab("zlab-sliding-open", None, **SLIDING, is_causal=False),
        zlab("zlab-causal", is_causal=True),
        zlab("zlab-scaled", SCALED),
        speculators("speculators"),
        speculators("speculators-sliding", SLIDING),
        speculators("speculators-sliding-open", SLIDING, sliding_window_non_causal=True),
        speculators("speculators-reduced", reduced=True),
        dflash2("zlab-dflash2", zlab("zlab")),
        dflash2("zlab-dflash2-scaled", zlab("zlab", SCALED, **SLIDING)),
        dflash2("speculators-dflash2", speculators("speculators")),
        dflash2("speculators-dflash2-sliding", speculators("speculators", SLIDING)),
        deepspec("deepspec-vanilla", "vanilla"),
        deepspec("deepspec-gated", "gated"),
        deepspec("deepspec-rnn", "rnn"),
        deepspec("deepspec-none", "none"),
        deepspec("deepspec-output-confidence", "vanilla", confidence_head_with_markov=False),
        gemma4("deepspec-gemma4", "vanilla"),
        gemma4("deepspec-gemma4-gated", "gated", separate=True),
        gemma4("deepspec-gemma4-none", "none", final_logit_softcapping=None),
        speculators("speculators-dspark", dspark=True, sample_from_anchor=True),
        speculators("speculators-dspark-filled", dspark=True, sample_from_anchor=False),
        speculators("speculators-dspark-reduced", dspark=True, reduced=True, sample_from_anchor=True),
        speculators("speculators-dspark-filled-confident", dspark=True, sample_from_anchor=False, enable_confidence_head=True),
    )
}


def write(case: Case, folder: Path) -> Path:
    """The drafter as its producer would save it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.config))
    save_file({name: tensor.contiguous() for name, tensor in case.tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
