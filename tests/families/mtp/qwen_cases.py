"""Targets whose head is named as Qwen3-Next names it."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedConfig

from tests.families.mtp.cases import Case, changed, made, sizes

NAMES = {
    "embedding_norm": "mtp.pre_fc_norm_embedding.weight",
    "hidden_norm": "mtp.pre_fc_norm_hidden.weight",
    "fusion": "mtp.fc.weight",
    "final_norm": "mtp.norm.weight",
}
LINEAR = {
    "head_dim": 16, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}


def one(config: PreTrainedConfig) -> PreTrainedConfig:
    return changed(config, num_hidden_layers=1, layer_types=["full_attention"])


def qwen(name: str, model_type: str, count: str, *, experts: bool = False, fused: bool = False, tied: bool = False) -> Case:
    def target() -> PreTrainedConfig:
        return made(model_type, **{**sizes(**LINEAR, **(EXPERTS if experts else {})), "tie_word_embeddings": tied})

    return Case(name, target, one, "mtp.layers.{module}.", NAMES, {count: 1}, one_plus=True, fused_experts=fused)


def with_images(architecture: str, model_type: str, *, tied: bool) -> dict[str, object]:
    """As all of Qwen3.5 are published: the text model's config inside another. The tower of images is left out, which no text needs."""
    return {"architectures": [architecture], "model_type": model_type, "vision_config": {"depth": 1}, "tie_word_embeddings": tied}


CASES = (
    replace(
        qwen("qwen3_5-published", "qwen3_5_text", "mtp_num_hidden_layers", tied=True),
        outer=with_images("Qwen3_5ForConditionalGeneration", "qwen3_5", tied=True),
    ),
    replace(
        qwen("qwen3_5_moe-published", "qwen3_5_moe_text", "mtp_num_hidden_layers", experts=True),
        outer=with_images("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", tied=False),
    ),
    qwen("qwen3_5", "qwen3_5_text", "mtp_num_hidden_layers"),
    qwen("qwen3_5_moe", "qwen3_5_moe_text", "mtp_num_hidden_layers", experts=True),
    qwen("qwen3_5_moe-fused", "qwen3_5_moe_text", "mtp_num_hidden_layers", experts=True, fused=True),
    qwen("qwen3_next", "qwen3_next", "num_nextn_predict_layers", experts=True),
)
