"""Targets whose head has a layer of plain grouped attention under names of its own: MiMo-7B, ERNIE 4.5, EXAONE, Hunyuan V3."""

from __future__ import annotations

from transformers import LlamaConfig, PreTrainedConfig

from tests.families.mtp.cases import Case, changed, made, sizes
from tests.families.mtp.qwen_cases import NAMES as QWEN_NAMES

ONE = {"num_nextn_predict_layers": 1}
EXAONE = {"head_dim": 16, "num_hidden_layers": 4, "sliding_window": 5, "sliding_window_pattern": "LLLG"}
LOCAL = ["sliding_attention"] * 3 + ["full_attention"]
EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1}


def mimo() -> Case:
    """Published as `mimo`, which transformers has no class for: here a Qwen2, which MiMo's trunk is."""
    at = "model.mtp_layers.{module}."
    names = {
        "embedding_norm": at + "token_layernorm.weight",
        "hidden_norm": at + "hidden_layernorm.weight",
        "fusion": at + "input_proj.weight",
        "final_norm": at + "final_layernorm.weight",
    }

    def layer(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, layer_types=["full_attention"])

    keys = {**ONE, "architectures": ["MiMoForCausalLM"], "attention_bias": True}
    return Case("mimo", lambda: made("qwen2", **sizes()), layer, at, names, keys, hidden_first=True)


def ernie() -> Case:
    """A dense layer beside a trunk of experts, and no norm in front of the output head."""
    names = {
        "embedding_norm": "model.mtp_emb_norm.{module}.weight",
        "hidden_norm": "model.mtp_hidden_norm.{module}.weight",
        "fusion": "model.mtp_linear_proj.{module}.weight",
    }

    def target() -> PreTrainedConfig:
        return made(
            "ernie4_5_moe", **sizes(moe_intermediate_size=24, moe_num_experts=4, moe_k=2, moe_num_shared_experts=1, num_hidden_layers=2)
        )

    def dense(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, moe_layer_start_index=5)

    def llama(config: PreTrainedConfig) -> PreTrainedConfig:
        kept = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings")
        values = {name: getattr(config, name) for name in (*kept, "rms_norm_eps", "rope_parameters", "pad_token_id")}
        return LlamaConfig(num_hidden_layers=1, **values)

    return Case("ernie4_5_moe", target, dense, "model.mtp_block.{module}.", names, ONE, turned=llama)


def exaone_moe(*, sliding: bool) -> Case:
    def target() -> PreTrainedConfig:
        return made("exaone_moe", **sizes(**EXAONE, **EXPERTS, layer_types=LOCAL, first_k_dense_replace=1))

    def local(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, layer_types=["sliding_attention"], mlp_layer_types=["dense"])

    def full(config: PreTrainedConfig) -> PreTrainedConfig:
        """The class turns queries and keys under a window alone, the head's layer always: a window over all rows."""
        return changed(local(config), sliding_window=config.max_position_embeddings)

    keys = ONE if sliding else {**ONE, "mtp_layer_types": ["full_attention"]}
    name, layer = ("exaone_moe-sliding", local) if sliding else ("exaone_moe", full)
    return Case(name, target, layer, "mtp.layers.{module}.", QWEN_NAMES, keys)


def exaone4() -> Case:
    """EXAONE 4.5's text model, which transformers knows alone as EXAONE 4."""

    def target() -> PreTrainedConfig:
        return made("exaone4", **sizes(**EXAONE, layer_types=LOCAL))

    def full(config: PreTrainedConfig) -> PreTrainedConfig:
        """Without a window anywhere, as the class then turns queries and keys, which the head's layer always does."""
        return changed(config, num_hidden_layers=1, layer_types=["full_attention"], sliding_window=None)

    return Case("exaone4", target, full, "mtp.layers.{module}.", QWEN_NAMES, {**ONE, "mtp_layer_types": ["full_attention"]})


def hunyuan() -> Case:
    at = "model.layers.{row}."
    names = {
        "embedding_norm": at + "enorm.weight",
        "hidden_norm": at + "hnorm.weight",
        "fusion": at + "eh_proj.weight",
        "final_norm": at + "final_layernorm.weight",
    }

    def target() -> PreTrainedConfig:
        return made("hy_v3", **sizes(**EXPERTS, head_dim=16, router_scaling_factor=2.5))

    def sparse(config: PreTrainedConfig) -> PreTrainedConfig:
        return changed(config, num_hidden_layers=1, mlp_layer_types=["sparse"])

    return Case("hy_v3", target, sparse, at, names, ONE)


CASES = (mimo(), ernie(), exaone_moe(sliding=False), exaone_moe(sliding=True), exaone4(), hunyuan())
