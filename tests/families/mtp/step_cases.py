"""Step-3.5 and 3.7: several modules, each with an output head of its own.

transformers has these as a model of text and images alone, so that `AutoModelForCausalLM` does not load the target.
"""

from __future__ import annotations

from transformers import PreTrainedConfig

from tests.families.mtp.cases import Case, made, sizes

AT = "model.layers.{row}."
NAMES = {
    "embedding_norm": AT + "enorm.weight",
    "hidden_norm": AT + "hnorm.weight",
    "fusion": AT + "eh_proj.weight",
    "final_norm": AT + "shared_head.norm.weight",
}
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
PUBLISHED = {
    "num_nextn_predict_layers": 2, "num_attention_groups": 2, "layer_types": ["full_attention"] + ["sliding_attention"] * 3,
    "moe_layers_enum": "1", "rope_theta": [5000000.0, 10000.0, 10000.0, 10000.0], "partial_rotary_factors": [0.5, 1.0, 1.0, 1.0],
    "attention_other_setting": {"num_attention_heads": 2, "num_attention_groups": 2, "head_dim": 16},
}  # fmt: skip
DERIVED = (
    "mlp_layer_types",
    "rope_parameters",
    "per_layer_config",
    "num_sliding_attention_heads",
    "mtp_layer_types",
    "mtp_mlp_layer_types",
)


def target() -> PreTrainedConfig:
    text = sizes(head_dim=16, sliding_window=5, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, share_expert_dim=24)
    return made("step3p7", text_config={**text, **PUBLISHED}, vision_config=VISION, image_token_id=3)


def local(config: PreTrainedConfig) -> PreTrainedConfig:
    """A dense layer with a window, and with the heads and the rotation of such."""
    values = {
        key: value for key, value in config.to_dict().items() if key not in ("per_layer_config", "mtp_layer_types", "mtp_mlp_layer_types")
    }
    one = {"num_hidden_layers": 1, "layer_types": ["sliding_attention"], "mlp_layer_types": ["dense"], "num_nextn_predict_layers": 0}
    return type(config).from_dict({**values, **one})


CASES = (
    Case(
        "step3p7",
        target,
        local,
        AT,
        NAMES,
        {**PUBLISHED, **dict.fromkeys(DERIVED)},
        modules=2,
        own_head=AT + "shared_head.output.weight",
        copies={AT + "embed_tokens.weight": "model.embed_tokens.weight"},
        one_plus=True,
    ),
)
