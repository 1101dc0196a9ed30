"""Targets whose head is stored as a layer behind the last, under DeepSeek-V3's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from transformers import PreTrainedConfig

from tests.families.mtp import float8
from tests.families.mtp.cases import Case, changed, made, sizes

AT = "model.layers.{row}."
NAMES = {
    "embedding_norm": AT + "enorm.weight",
    "hidden_norm": AT + "hnorm.weight",
    "fusion": AT + "eh_proj.weight",
    "final_norm": AT + "shared_head.norm.weight",
}
COPIES = {AT + "embed_tokens.weight": "model.embed_tokens.weight", AT + "shared_head.head.weight": "lm_head.weight"}
EXPERTS = {
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
}
ROUTER = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}  # published, and not read by transformers
LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 6,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip


def first_of_experts(config: PreTrainedConfig) -> PreTrainedConfig:
    return changed(config, num_hidden_layers=1, first_k_dense_replace=0)


def one_layer(config: PreTrainedConfig) -> PreTrainedConfig:
    return changed(config, num_hidden_layers=1)


def neox(config: PreTrainedConfig) -> PreTrainedConfig:
    return changed(config, rope_interleave=False)


def stored_behind(
    name: str,
    model_type: str,
    values: Mapping[str, object],
    *,
    layer: Callable[[PreTrainedConfig], PreTrainedConfig] = first_of_experts,
    turned: Callable[[PreTrainedConfig], PreTrainedConfig] | None = None,
    modules: int = 1,
) -> Case:
    def target() -> PreTrainedConfig:
        return made(model_type, **sizes(**values))

    keys = {"num_nextn_predict_layers": modules, **(ROUTER if model_type == "deepseek_v3" else {})}
    return Case(name, target, layer, AT, NAMES, keys, modules=modules, copies=COPIES, turned=turned)


TRUNK = [
    "model.layers.0",
    "model.layers.1",
    "lm_head",
]  # whose blocks transformers refuses where the last is cut off, as the head's are here
V3 = {**LATENT, **EXPERTS, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": True}
GLM = {**EXPERTS, "head_dim": 16, "first_k_dense_replace": 1, "use_qk_norm": True, "attention_bias": True, "routed_scaling_factor": 2.5}
GLM_FP8 = stored_behind("glm4_moe-fp8", "glm4_moe", {**GLM, "moe_intermediate_size": 32})
V3_FP8 = stored_behind("deepseek_v3-fp8", "deepseek_v3", V3)
CASES = (
    replace(GLM_FP8, float8="all", keys={**GLM_FP8.keys, "quantization_config": float8.CONFIG}),
    replace(V3_FP8, float8="head", keys={**V3_FP8.keys, "quantization_config": {**float8.CONFIG, "modules_to_not_convert": TRUNK}}),
    stored_behind("deepseek_v3", "deepseek_v3", V3, turned=neox),
    stored_behind("deepseek_v3-yarn", "deepseek_v3", {**V3, "rope_parameters": YARN}, turned=neox),
    stored_behind("deepseek_v3-plain-query", "deepseek_v3", {**V3, "q_lora_rank": None}),
    stored_behind("deepseek_v3-2", "deepseek_v3", V3, modules=2),
    stored_behind("deepseek_v3-3", "deepseek_v3", V3, modules=3),
    stored_behind("glm4_moe", "glm4_moe", GLM),
    stored_behind("glm4_moe-plain", "glm4_moe", {**GLM, "use_qk_norm": False, "attention_bias": False}),
    stored_behind("glm4_moe-2", "glm4_moe", GLM, modules=2),
    stored_behind("llama", "llama", {}, layer=one_layer),
)
