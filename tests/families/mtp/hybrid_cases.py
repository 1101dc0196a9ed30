"""Targets whose head has a layer of another kind: Nemotron-H, MiMo-V2, LongCat, Ling, GLM-4.7-Flash, DeepSeek-V3.2, GLM-5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedConfig

from tests.families.mtp import float8
from tests.families.mtp.cases import Case, changed, made, sizes
from tests.families.mtp.deepseek_cases import EXPERTS, LATENT, NAMES, TRUNK, V3, neox, stored_behind

ONE = {"num_nextn_predict_layers": 1}


def nemotron() -> Case:
    """Two blocks, attention without rotary positions and experts without a gate; published with patterns of letters."""
    first, last = "mtp.layers.0.", "mtp.layers.1."
    names = {
        "embedding_norm": first + "enorm.weight",
        "hidden_norm": first + "hnorm.weight",
        "fusion": first + "eh_proj.weight",
        "final_norm": last + "final_layernorm.weight",
    }
    values = {
        "layers_block_type": ["linear_attention", "full_attention", "moe"], "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 8,
        "ssm_state_size": 8, "chunk_size": 16, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 32,
        "n_routed_experts": 4, "routed_scaling_factor": 2.5, "num_hidden_layers": 3, "n_groups": 1,
    }  # fmt: skip
    keys = {
        **ONE, "hybrid_override_pattern": "M*E", "mtp_hybrid_override_pattern": "*E", "layers_block_type": None, "layer_types": None,
        "mtp_layers_block_type": None,
    }  # fmt: skip

    def blocks(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, layers_block_type=["full_attention", "moe"])

    return Case("nemotron_h", lambda: made("nemotron_h", **sizes(**values)), blocks, "mtp.layers.{module}.", names, keys)


def mimo_v2(name: str, modules: int) -> Case:
    at = "model.mtp.layers.{module}."
    names = {
        "embedding_norm": at + "enorm.weight",
        "hidden_norm": at + "hnorm.weight",
        "fusion": at + "eh_proj.weight",
        "final_norm": at + "final_layernorm.weight",
    }
    values = {
        "num_key_value_heads": 1, "head_dim": 24, "v_head_dim": 8, "sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"],
        "mlp_layer_types": ["dense", "sparse"], "moe_intermediate_size": 24, "n_routed_experts": 4, "num_experts_per_tok": 2,
    }  # fmt: skip
    keys = {
        "layernorm_epsilon": 1e-5, "rope_theta": 5000000, "swa_rope_theta": 10000, "partial_rotary_factor": 0.334, "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2, "swa_head_dim": 24, "swa_v_head_dim": 8, "sliding_window_size": 4, "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False, "hybrid_layer_pattern": [0, 1],
    }  # fmt: skip

    def local(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, layer_types=["sliding_attention"], mlp_layer_types=["dense"])

    renames = {"post_attention_layernorm.": "pre_mlp_layernorm."}
    return Case(name, lambda: made("mimo_v2_flash", **sizes(**values)), local, at, names, keys, renames, modules=modules)


def fused(name: str, ranks: int) -> Case:
    """A MiMo-V2 head with queries, keys and values in one matrix; in float8 for two ranks, the last block of either cut off."""
    case = mimo_v2(name, 1)
    target, keys = case.target, {**case.keys, "swa_num_key_value_heads": 4, "swa_v_head_dim": 12}
    rows = (96 // ranks, 96 // ranks, 48 // ranks)
    eight = {"float8": "head", "keys": {**keys, "quantization_config": {**float8.CONFIG, "modules_to_not_convert": TRUNK}}}
    more = eight if ranks > 1 else {"keys": keys}
    return replace(
        case,
        target=lambda: changed(target(), num_key_value_heads=2, v_head_dim=12),
        fused=(ranks, *rows),
        **more,  # type: ignore[arg-type]
    )


def longcat() -> Case:
    """A plain layer of latent attention where the trunk's are double; both servers scale its two inner norms as the trunk's are."""
    at = "model.mtp.layers.0."
    names = {
        "embedding_norm": at + "enorm.m.weight",
        "hidden_norm": at + "hnorm.m.weight",
        "fusion": at + "eh_proj.weight",
        "final_norm": "model.mtp.norm.weight",
    }
    values = {
        **LATENT, "num_layers": 1, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 24, "n_routed_experts": 4, "zero_expert_num": 2,
        "moe_topk": 2, "head_dim": 8,
    }  # fmt: skip
    keys = {"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "num_hidden_layers": None}

    def dense(config: PreTrainedConfig) -> PreTrainedConfig:
        kept = (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            "rms_norm_eps",
            "rope_parameters",
            "pad_token_id",
        )
        same = {name: getattr(config, name) for name in (*kept, *LATENT)}
        return made("deepseek_v3", **same, num_hidden_layers=1, first_k_dense_replace=1, intermediate_size=config.ffn_hidden_size)

    def scales(config: PreTrainedConfig) -> Mapping[str, float]:
        return {
            "self_attn.q_a_layernorm.weight": (config.hidden_size / config.q_lora_rank) ** 0.5,
            "self_attn.kv_a_layernorm.weight": (config.hidden_size / config.kv_lora_rank) ** 0.5,
        }

    case = Case(
        "longcat_flash", lambda: made("longcat_flash", **sizes(**values)), dense, at, names, keys, {"mlp.": "transformer_layer.mlp."}
    )
    return replace(case, scales=scales, copies={"model.mtp.embed_tokens.weight": "model.embed_tokens.weight"})


def ling() -> Case:
    at = "model.layers.{row}."
    names = {**NAMES, "final_norm": at + "final_layernorm.weight"}
    values = {
        **LATENT, **EXPERTS, "first_k_dense_replace": 1, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8,
        "num_experts": 8, "routed_scaling_factor": 2.5,
    }  # fmt: skip

    def full(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, layer_types=["full_attention"], mlp_layer_types=["sparse"])

    return Case("bailing_hybrid", lambda: made("bailing_hybrid", **sizes(**values)), full, at, names, ONE)


def sparse(config: PreTrainedConfig) -> PreTrainedConfig:
    return changed(config, num_hidden_layers=1, mlp_layer_types=["sparse"])


def indexed(config: PreTrainedConfig) -> PreTrainedConfig:
    full = {"indexer_types": ["full"]} if config.model_type == "glm_moe_dsa" else {}
    return changed(config, num_hidden_layers=1, mlp_layer_types=["sparse"], layer_types=["indexed_attention"], **full)


INDEX = {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 64}
LITE = {**V3, "n_group": 1, "mlp_layer_types": ["dense", "sparse"]}
CASES = (
    nemotron(),
    mimo_v2("mimo_v2_flash", 1),
    mimo_v2("mimo_v2_flash-2", 2),
    fused("mimo_v2_flash-fused", 1),
    fused("mimo_v2_flash-fused-fp8", 2),
    longcat(),
    ling(),
    stored_behind("glm4_moe_lite", "glm4_moe_lite", LITE, layer=sparse, turned=neox),
    stored_behind("deepseek_v32", "deepseek_v32", {**V3, **INDEX}, layer=indexed),
    stored_behind("glm_moe_dsa", "glm_moe_dsa", {**V3, "n_group": 1, **INDEX}, layer=indexed),
)
