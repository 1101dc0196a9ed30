"""One tiny seeded checkpoint a layout of the EAGLE family, as its producer writes it, and by hand the formula of each reading of it.

A reading is left out where that system cannot load the file: vLLM and SGLang know no `LlamaEagle3DraftModel`, SGLang no speculators format,
vLLM no `aux_norm_*`. The files go with `write_layout_target`, whose embedding the copied ones equal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reference import Formula, Latent, Rope
from tests.tiny import LAYERS, WIDTH, write_target

TRAINED, VLLM, SGLANG = "as_trained", "as_served:vllm", "as_served:sglang"
VOCABULARY, DRAFT, INNER, OUTPUT = 260, 120, 96, LAYERS + 1
FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """A checkpoint: its tensors, its config.json and the formula of each reading that can load it."""

    name: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, object]
    formulas: Mapping[str, Formula]
    pickle: bool = False


def write_layout(folder: Path, layout: Layout) -> Path:
    """The checkpoint in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout.pickle:
        torch.save(dict(layout.tensors), folder / "pytorch_model.bin")
    else:
        save_file(dict(layout.tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(layout.config, indent=2))
    return folder


def write_layout_target(folder: Path) -> Path:
    """`write_target` with an embedding and a head that no version of transformers changes."""
    weights = write_target(folder) / "model.safetensors"
    save_file({**load_file(weights), "model.embed_tokens.weight": EMBEDDING, "lm_head.weight": HEAD}, weights, metadata={"format": "pt"})
    return folder


def seeded(shapes: Shapes, seed: int, dtype: torch.dtype = FP32, scale: float = 1.5) -> dict[str, Tensor]:
    """Matrices that keep the scale of their input, gains about 1 and biases about 0."""
    random = torch.Generator().manual_seed(seed)

    def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(*shape, generator=random)
        return noise * scale * shape[-1] ** -0.5 if len(shape) > 1 else noise * 0.3 + (not name.endswith(".bias"))

    return {name: drawn(name, shape).to(dtype) for name, shape in shapes.items()}


EMBEDDING, HEAD = (t.half().float() for t in seeded({"embed": (VOCABULARY, WIDTH), "head": (VOCABULARY, WIDTH)}, 100).values())


def attention(at: str, into: int, width: int = WIDTH, head_dim: int = 12) -> Shapes:
    sizes = {"q": 4 * head_dim, "k": 2 * head_dim, "v": 2 * head_dim}
    return {**{f"{at}.{name}_proj.weight": (size, into) for name, size in sizes.items()}, f"{at}.o_proj.weight": (width, 4 * head_dim)}


def latent_attention(at: str) -> Shapes:
    return {
        f"{at}.q_a_proj.weight": (20, 2 * WIDTH), f"{at}.q_a_layernorm.weight": (20,), f"{at}.q_b_proj.weight": (4 * 20, 20),
        f"{at}.kv_a_proj_with_mqa.weight": (16 + 8, 2 * WIDTH), f"{at}.kv_a_layernorm.weight": (16,), f"{at}.kv_b_proj.weight": (4 * 22, 16),
        f"{at}.o_proj.weight": (WIDTH, 4 * 10),
    }  # fmt: skip


def mlp(at: str, width: int = WIDTH) -> Shapes:
    return {f"{at}.gate_proj.weight": (INNER, width), f"{at}.up_proj.weight": (INNER, width), f"{at}.down_proj.weight": (width, INNER)}


def gains(at: str, *names: str, width: int = WIDTH) -> Shapes:
    return {f"{at}{name}.weight": (width,) for name in names}


FIRST = ("hidden_norm", "input_layernorm", "post_attention_layernorm")


def eagle3(at: str, *, prefix: str = "", width: int = WIDTH, head_dim: int = 12, rows: int = DRAFT) -> Shapes:
    """The tensors of a head with one layer, which is called `at`."""
    return {
        f"{prefix}fc.weight": (width, 3 * WIDTH),
        **attention(f"{prefix}{at}.self_attn", 2 * width, width, head_dim),
        **mlp(f"{prefix}{at}.mlp", width),
        **gains(f"{prefix}{at}.", *FIRST, width=width),
        f"{prefix}norm.weight": (width,),
        "lm_head.weight": (rows, width),
    }


def later_layer(at: str, *norms: str, head_dim: int = 12) -> Shapes:
    return {**attention(f"{at}.self_attn", WIDTH, head_dim=head_dim), **mlp(f"{at}.mlp"), **gains(f"{at}.", *norms)}


def vocabulary(seed: int) -> dict[str, Tensor]:
    """`d2t`, the offset of each draft id, and `t2d`, which target ids are drafted."""
    ids = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(seed))[:DRAFT].sort().values
    return {"d2t": ids - torch.arange(DRAFT), "t2d": torch.zeros(VOCABULARY, dtype=torch.bool).index_fill(0, ids, True)}


STREAM_NORMS = gains("fc_norm.", "0", "1", "2")
WHOLE_VOCABULARY = {"d2t": torch.zeros(VOCABULARY, dtype=torch.long), "t2d": torch.ones(VOCABULARY, dtype=torch.bool)}
BIASES = {f"midlayer.self_attn.{name}_proj.bias": (size,) for name, size in (("q", 80), ("k", 40), ("v", 40))}


def everywhere(formula: Formula, **others: Formula) -> dict[str, Formula]:
    """The one formula of all readings, but for `vllm`, `sglang` and `trained`."""
    return {VLLM: others.get("vllm", formula), TRAINED: others.get("trained", formula), SGLANG: others.get("sglang", formula)}


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "hidden_size": WIDTH,
    "initializer_range": 0.02, "intermediate_size": INNER, "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 1, "pad_token_id": 0, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
    "torch_dtype": "float16", "transformers_version": "4.28.1", "use_cache": True, "vocab_size": VOCABULARY, "rope_theta": 5000.0,
}  # fmt: skip

# SafeAILab. The class knows no head_dim, no flag and no theta under a scaled rope.

SAFEAI_TENSORS = {**seeded(eagle3("midlayer"), 1, FP16), **vocabulary(1)}
SAFEAI_CONFIG = {**LLAMA, "draft_vocab_size": DRAFT, "architectures": ["LlamaForCausalLMEagle3"]}  # as both servers want it
PLAIN = Formula()
SAFEAI = Layout("safeai", SAFEAI_TENSORS, SAFEAI_CONFIG, everywhere(PLAIN))
LINEAR = replace(PLAIN, rope=Rope("linear", 5000.0, 2.0))
DYNAMIC = replace(PLAIN, rope=Rope("dynamic", 5000.0, 2.0))
SAFEAI_LAYOUTS = (
    SAFEAI,
    Layout(  # as SafeAILab publishes it: SGLang builds a plain Llama from that name
        "safeai-bin", SAFEAI_TENSORS, {**SAFEAI_CONFIG, "architectures": ["LlamaForCausalLM"]}, {VLLM: PLAIN, TRAINED: PLAIN}, pickle=True
    ),
    Layout(
        "safeai-linear",
        SAFEAI_TENSORS,
        {**SAFEAI_CONFIG, "rope_scaling": {"type": "linear", "factor": 2.0}},
        everywhere(LINEAR, trained=replace(PLAIN, rope=Rope("linear", 10000.0, 2.0))),
    ),
    Layout(  # below max_position_embeddings the class does not scale; vLLM 0.33 stretches from max_position_embeddings to itself: not at all
        "safeai-dynamic",
        SAFEAI_TENSORS,
        {**SAFEAI_CONFIG, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        everywhere(DYNAMIC, trained=replace(PLAIN, rope=Rope("default", 10000.0)), vllm=PLAIN),
    ),
)

# SpecForge 0.2.0. Its yarn needs every key; its class has no biases, feeds back the raw state whatever norm_output says, and with
# norm_output false takes the logits from it too.

SPECFORGE_CONFIG = {
    "architectures": ["LlamaForCausalLMEagle3"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "draft_vocab_size": DRAFT,
    "dtype": "bfloat16", "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3, 4]}, "eos_token_id": 1, "head_dim": 20, "hidden_act": "silu",
    "hidden_size": WIDTH, "initializer_range": 0.02, "intermediate_size": INNER, "max_position_embeddings": 512, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 1, "num_key_value_heads": 2, "pad_token_id": 1, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}, "rope_theta": 5000.0,
    "target_hidden_size": WIDTH, "tie_word_embeddings": False, "transformers_version": "5.8.1", "use_cache": True, "vocab_size": VOCABULARY,
}  # fmt: skip
SPECFORGE_SHAPES = eagle3("midlayer", head_dim=20)
SPECFORGE_TENSORS = {**seeded(SPECFORGE_SHAPES, 2, BF16), **vocabulary(2)}
PER_STREAM = replace(PLAIN, stream_norm="per-stream")
LLAMA3_KEYS = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN_KEYS = {
    "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0
}  # fmt: skip


def both_spellings(kind: str, keys: Mapping[str, object]) -> dict[str, object]:
    modern = {**keys, "rope_theta": 5000.0, "rope_type": kind}
    return {**SPECFORGE_CONFIG, "rope_parameters": modern, "rope_scaling": {**keys, "rope_type": kind}}


SPECFORGE_LAYOUTS = (
    Layout("specforge", SPECFORGE_TENSORS, SPECFORGE_CONFIG, everywhere(PLAIN)),
    Layout(  # vLLM's default runner does not look into eagle_config
        "specforge-custom-ids",
        SPECFORGE_TENSORS,
        {**SPECFORGE_CONFIG, "eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 4, 6]}},
        everywhere(replace(PLAIN, boundaries=(1, 5, 7)), vllm=PLAIN),
    ),
    Layout(
        "specforge-3.1",
        {**seeded({**SPECFORGE_SHAPES, **STREAM_NORMS}, 3, BF16), **vocabulary(3)},
        {**SPECFORGE_CONFIG, "fc_norm": True, "norm_output": True},
        everywhere(replace(PER_STREAM, feedback="normed"), trained=PER_STREAM),
    ),
    Layout(
        "specforge-raw-logits",
        SPECFORGE_TENSORS,
        {**SPECFORGE_CONFIG, "norm_output": False},
        everywhere(PLAIN, trained=replace(PLAIN, logits_from="raw")),
    ),
    Layout(  # as `to_hf` writes it, with the embedding, which SGLang overwrites by the target's, and a map that vLLM has no place for
        "specforge-full",
        {
            **seeded({**eagle3("midlayer", head_dim=20, rows=VOCABULARY), "embed_tokens.weight": (VOCABULARY, WIDTH)}, 4, BF16),
            **WHOLE_VOCABULARY,
        },
        {**SPECFORGE_CONFIG, "draft_vocab_size": VOCABULARY},
        {TRAINED: replace(PLAIN, embedding="own"), SGLANG: PLAIN},
    ),
    Layout(
        "specforge-llama3",
        SPECFORGE_TENSORS,
        both_spellings("llama3", LLAMA3_KEYS),
        everywhere(replace(PLAIN, rope=Rope("llama3", 5000.0, 4.0, 64, slow=1.0, fast=4.0))),
    ),
    Layout(
        "specforge-yarn",
        SPECFORGE_TENSORS,
        both_spellings("yarn", YARN_KEYS),
        everywhere(replace(PLAIN, rope=Rope("yarn", 5000.0, 4.0, 64, slow=1.0, fast=32.0, amplitude=0.1 * math.log(4.0) + 1))),
    ),
    Layout(
        "specforge-biased",
        {**seeded({**SPECFORGE_SHAPES, **BIASES}, 5, BF16), **vocabulary(5)},
        {**SPECFORGE_CONFIG, "attention_bias": True},
        everywhere(PLAIN, vllm=replace(PLAIN, attention_bias=True)),
    ),
    Layout(
        "sglang-legacy-norms",
        {**seeded({**SPECFORGE_SHAPES, **gains("aux_norm_", "low", "mid", "high")}, 6, BF16), **vocabulary(6)},
        {**SPECFORGE_CONFIG, "use_aux_norm": True},
        {TRAINED: PER_STREAM, SGLANG: PER_STREAM},
    ),
    Layout(
        "wide",
        {
            **seeded({**eagle3("midlayer", width=64, head_dim=16), "embed_tokens.weight": (VOCABULARY, 64)}, 7, BF16),
            **vocabulary(7),
        },
        {**SPECFORGE_CONFIG, "hidden_size": 64, "head_dim": 16},
        everywhere(replace(PLAIN, embedding="own")),
    ),
)

# speculators 0.9.0. The nested config is a diff to the class's defaults, Qwen3's where it names no model_type.

SPECULATORS_CONFIG = {
    "architectures": ["Eagle3DraftModel"], "draft_vocab_size": DRAFT, "dtype": "float32", "embed_requires_grad": True, "fc_norm": False,
    "speculators_config": {
        "algorithm": "eagle3",
        "default_proposal_method": "greedy",
        "proposal_methods": [{"accept_tolerance": 0.0, "proposal_type": "greedy", "speculative_tokens": 3, "verifier_accept_k": 1}],
        "verifier": {"architectures": ["LlamaForCausalLM"], "name_or_path": None},
    },
    "speculators_model_type": "eagle3", "speculators_version": "0.9.0", "target_hidden_size": None, "tie_word_embeddings": False,
    "transformers_version": "5.8.1",
}  # fmt: skip
NESTED = {
    "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY
}  # fmt: skip
QWEN3_NESTED = {
    **NESTED, "num_hidden_layers": 2, "head_dim": 16, "layer_types": ["sliding_attention", "sliding_attention"], "max_window_layers": 0,
    "sliding_window": 6, "use_sliding_window": True,
}  # fmt: skip
JOINT = replace(PLAIN, boundaries=(1, 4, 8), stream_norm="joint", residual="normed", feedback="normed", embedding="own")
QWEN3 = replace(PER_STREAM, embedding="own", rope=Rope(theta=10000.0), eps=1e-6, windows=(6, 6))


def qwen3_shapes() -> Shapes:
    per_head = {f"layers.{layer}.self_attn.{name}.weight": (16,) for layer in range(2) for name in ("q_norm", "k_norm")}
    second = later_layer("layers.1", "input_layernorm", "post_attention_layernorm", head_dim=16)
    return {**eagle3("layers.0", head_dim=16, rows=VOCABULARY), **second, **per_head, **STREAM_NORMS}


SPECULATORS_LAYOUTS = (
    Layout(
        "speculators-llama",
        {
            **seeded({**eagle3("layers.0"), "input_norm.weight": (3 * WIDTH,), "embed_tokens.weight": (VOCABULARY, WIDTH)}, 8),
            **vocabulary(8),
        },
        {
            **SPECULATORS_CONFIG,
            "eagle_aux_hidden_state_layer_ids": [1, 4, 8],
            "norm_before_fc": True,
            "norm_before_residual": True,
            "norm_output": True,
            "transformer_layer_config": {
                **NESTED,
                "model_type": "llama",
                "num_hidden_layers": 1,
                "max_position_embeddings": 512,
                "rms_norm_eps": 1e-05,
                "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
            },
        },
        {VLLM: JOINT, TRAINED: JOINT},
    ),
    Layout(  # vLLM takes a missing norm_before_residual for true; the trainer's window ends at the row from which a chain starts
        "speculators-qwen3",
        {**seeded(qwen3_shapes(), 9), "embed_tokens.weight": EMBEDDING},
        {
            **SPECULATORS_CONFIG,
            "draft_vocab_size": VOCABULARY,
            "embed_requires_grad": False,
            "fc_norm": True,
            "transformer_layer_config": {
                **QWEN3_NESTED,
                "model_type": "qwen3",
            },
        },
        {VLLM: replace(QWEN3, residual="normed"), TRAINED: replace(QWEN3, window_from="anchor")},
    ),
    Layout(  # a config written by hand: without a model_type speculators takes Qwen3, and vLLM a Llama, which has no place for q_norm
        "speculators-silent",
        {**seeded(qwen3_shapes(), 9), "embed_tokens.weight": EMBEDDING},
        {**SPECULATORS_CONFIG, "draft_vocab_size": VOCABULARY, "fc_norm": True, "transformer_layer_config": QWEN3_NESTED},
        {TRAINED: replace(QWEN3, window_from="anchor")},
    ),
)

# NVIDIA ModelOpt. Trained with the hidden stream through both norms and a plain rope; the yarn is put in at export.

MODELOPT_FLAGS = {
    "eagle_aux_hidden_state_layer_ids": [1, 3, 4], "use_aux_hidden_state": True, "use_input_layernorm_in_first_layer": True,
    "use_last_layernorm": True, "use_mtp_layernorm": False, "next_layer_regular": True, "parallel_draft_step": 1,
    "parallel_draft_heads_num_layers": 1,
}  # fmt: skip
MODELOPT_CONFIG = {
    "architectures": ["LlamaForCausalLMEagle3"], "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "hidden_size": WIDTH,
    "initializer_range": 0.01, "intermediate_size": INNER, "max_position_embeddings": 512, "model_type": "llama", "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 1, "pad_token_id": 1, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "5.5.0", "use_cache": True, "vocab_size": VOCABULARY, "draft_vocab_size": DRAFT,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 2048}, "attention_bias": False,
    "attention_dropout": 0.0, "head_dim": 12, "mlp_bias": False, "pretraining_tp": 1, "rope_theta": 10000, "eagle_config": MODELOPT_FLAGS,
}  # fmt: skip
EXPORTED = replace(PLAIN, rope=Rope("yarn", 10000.0, 32.0, 2048, slow=1.0, fast=32.0, amplitude=0.1 * math.log(32.0) + 1))
FINAL_HIDDEN = replace(EXPORTED, boundaries=(OUTPUT,), hidden_norm="ones")
INPUT_NORM = replace(PLAIN, stream_norm="joint", rope=Rope(theta=10000.0))


def without(tensors: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


MODELOPT_LAYOUTS = (
    Layout(
        "modelopt",
        without({**seeded(eagle3("layers.0"), 10, BF16), **vocabulary(10)}, "t2d"),
        MODELOPT_CONFIG,
        everywhere(EXPORTED, trained=replace(PLAIN, hidden_norm="twice", rope=Rope(theta=10000.0))),
    ),
    Layout(  # as nvidia/gpt-oss-120b-Eagle3-v3, which the public code does not write: neither its flags nor its double norm are assumed
        "modelopt-input-norm",
        without({**seeded({**eagle3("layers.0"), "input_norm.weight": (3 * WIDTH,)}, 11, BF16), **vocabulary(11)}, "t2d"),
        {
            **{key: value for key, value in MODELOPT_CONFIG.items() if key != "rope_scaling"},
            "eagle_config": {"eagle_aux_hidden_state_layer_ids": [4, 6, 8], "use_aux_hidden_state": True, "norm_before_fc": True},
        },
        {VLLM: INPUT_NORM, TRAINED: replace(INPUT_NORM, boundaries=(4, 6, 8))},
    ),
    Layout(  # both servers build a hidden_norm that stays at 1; what trains a 2H attention without one is not public, so no as_trained
        "modelopt-final-hidden",
        without({**seeded(eagle3("layers.0"), 12, BF16), **vocabulary(12)}, "t2d", "fc.weight", "layers.0.hidden_norm.weight"),
        {**MODELOPT_CONFIG, "eagle_config": {**MODELOPT_FLAGS, "use_aux_hidden_state": False, "eagle_aux_hidden_state_layer_ids": []}},
        {VLLM: FINAL_HIDDEN, SGLANG: FINAL_HIDDEN},
    ),
)

# NeMo Automodel: the target's config with the drafter's keys on top.

NEMO_CONFIG = {
    "architectures": ["LlamaEagle3DraftModel"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "draft_vocab_size": DRAFT,
    "dtype": "bfloat16", "eos_token_id": 1, "fc_norm": True, "head_dim": 12, "hidden_act": "silu", "hidden_size": WIDTH, "initializer_range": 0.12,
    "intermediate_size": INNER, "max_position_embeddings": 512, "mlp_bias": False, "model_type": "llama", "norm_output": True,
    "num_attention_heads": 4, "num_hidden_layers": LAYERS, "num_key_value_heads": 2, "pad_token_id": 1, "pretraining_tp": 1,
    "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}, "target_hidden_size": WIDTH,
    "tie_word_embeddings": False, "transformers_version": "5.8.1", "use_cache": True, "vocab_size": VOCABULARY,
}  # fmt: skip
NEMO_SHAPES = {
    **eagle3("layers.0", prefix="model."), **gains("model.fc_norm.", "0", "1", "2"), "model.embed_tokens.weight": (VOCABULARY, WIDTH)
}  # fmt: skip
NEMO_LAYOUTS = (
    Layout(
        "nemo",
        {**seeded(NEMO_SHAPES, 13, BF16), **vocabulary(13)},
        NEMO_CONFIG,
        {TRAINED: replace(PER_STREAM, feedback="normed", embedding="own", eps=1e-6)},
    ),
)

# Multi-head latent attention: transformers' q_a and kv_a norms have an eps of 1e-6 of their own, so the config says the same here.

LATENT_CONFIG = {
    "architectures": ["Eagle3DeepseekV2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
    "draft_vocab_size": VOCABULARY, "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3, 4]}, "eos_token_id": 1, "first_k_dense_replace": 1,
    "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": INNER, "kv_lora_rank": 16, "max_position_embeddings": 4096,
    "model_type": "deepseek_v3", "num_attention_heads": 4, "num_hidden_layers": 1, "num_key_value_heads": 4, "pad_token_id": 1,
    "q_lora_rank": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.57.1", "v_head_dim": 10, "vocab_size": VOCABULARY,
}  # fmt: skip
LATENT = replace(PLAIN, kv_heads=4, latent=Latent(nope=12, rope=8, value=10), eps=1e-6, rope=Rope(theta=10000.0, interleaved=True))
KIMI_YARN = {
    "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
    "mscale_all_dim": 0.8,
}  # fmt: skip
ALL_DIM, PAIRS = 0.1 * 0.8 * math.log(8.0) + 1, 0.1 * 1.0 * math.log(8.0) + 1
LATENT_YARN = replace(
    LATENT,
    stream_norm="per-stream",
    feedback="normed",
    score_scale=ALL_DIM**2,
    rope=Rope("yarn", 50000.0, 8.0, 256, slow=1.0, fast=32.0, amplitude=PAIRS / ALL_DIM, interleaved=True),
)


def latent_shapes(at: str) -> Shapes:
    plain = {name: shape for name, shape in eagle3(at, rows=VOCABULARY).items() if "self_attn" not in name}
    return {**plain, **latent_attention(f"{at}.self_attn")}


LATENT_LAYOUTS = (
    Layout(  # of a type that vLLM takes for an MTP head
        "mla", seeded(latent_shapes("layers.0"), 14, BF16), LATENT_CONFIG, {TRAINED: LATENT, SGLANG: LATENT}
    ),
    Layout(
        "mla-yarn",
        seeded({**latent_shapes("midlayer"), **STREAM_NORMS}, 15, BF16),
        {
            **LATENT_CONFIG,
            "architectures": ["Eagle3DeepseekV2ForCausalLM"],
            "model_type": "kimi_k2",
            "fc_norm": True,
            "norm_output": True,
            "rope_scaling": KIMI_YARN,
            "rope_theta": 50000.0,
        },
        everywhere(LATENT_YARN),
    ),
)

# The Dogacel fork: always feeds back the normed state and says so nowhere. `fork` as formats.md describes it; `fork-as-saved` as its class
# at ec16d72c has it: `t2d_indices` is an attribute and never saved, and every layer has an input_layernorm, at 1 where none is used.

FORK_CONFIG = {**SPECFORGE_CONFIG, "num_hidden_layers": 3, "head_dim": 12}
del FORK_CONFIG["eagle_config"]
FORK_LAYERS = {
    **eagle3("layers.0"), **later_layer("layers.1", "hidden_norm", FIRST[2]), **later_layer("layers.2", "hidden_norm", FIRST[2])
}  # fmt: skip
FORK_TENSORS = {**seeded(FORK_LAYERS, 16, BF16), **vocabulary(16)}
FORK = replace(PLAIN, later_norm="hidden_norm")
FORK_FORMULAS = everywhere(FORK, trained=replace(FORK, feedback="normed"), vllm=replace(PLAIN, later_norm=None))
FORK_LAYOUTS = (
    Layout("fork", {**FORK_TENSORS, "t2d_indices": FORK_TENSORS["t2d"].nonzero().flatten()}, FORK_CONFIG, FORK_FORMULAS),
    Layout(
        "fork-as-saved",
        {**FORK_TENSORS, **{f"layers.{layer}.input_layernorm.weight": torch.ones(WIDTH, dtype=BF16) for layer in (1, 2)}},
        FORK_CONFIG,
        FORK_FORMULAS,
    ),
)

# EAGLE-1, whose states no norm holds: smaller matrices keep a chain from growing until float32 tells two orders of adding apart.
# vLLM has no fc.bias and reads qkv_bias; SGLang's Llama head has an fc.bias and reads no qkv_bias.

EAGLE1_CONFIG = {**LLAMA, "bias": False}
EAGLE1_SHAPES = {
    "fc.weight": (WIDTH, 2 * WIDTH), **later_layer("layers.0", "post_attention_layernorm")
}  # fmt: skip
EAGLE1_BIASES = {
    "fc.bias": (WIDTH,),
    **{f"layers.0.self_attn.{name}_proj.bias": (size,) for name, size in (("q", 48), ("k", 24), ("v", 24))},
}
EAGLE1 = replace(PLAIN, boundaries=(OUTPUT,), entry="eagle1", logits_from="raw", head="target")
CALM = 0.8
BIASED = replace(EAGLE1, fc_bias=True, attention_bias=True)
EAGLE1_TENSORS = {**seeded(EAGLE1_SHAPES, 17, FP16, CALM), "embed_tokens.weight": EMBEDDING.half()}
BIASED_TENSORS = seeded({**EAGLE1_SHAPES, **EAGLE1_BIASES}, 18, FP16, CALM)
FOR_SGLANG = {"architectures": ["LlamaForCausalLMEagle"]}  # a name that vLLM does not know, as SGLang builds a plain Llama from the other
OWN_EAGLE1 = replace(EAGLE1, embedding="own")
WRAPPED = {name if name.startswith("fc.") else f"model.model.{name}": tensor for name, tensor in EAGLE1_TENSORS.items()}
EAGLE1_LAYOUTS = (
    Layout("eagle1", EAGLE1_TENSORS, EAGLE1_CONFIG, {VLLM: OWN_EAGLE1, TRAINED: OWN_EAGLE1}),
    Layout("eagle1-sglang", EAGLE1_TENSORS, {**EAGLE1_CONFIG, **FOR_SGLANG}, {SGLANG: EAGLE1, TRAINED: OWN_EAGLE1}),
    Layout("eagle1-bias", BIASED_TENSORS, {**LLAMA, "qkv_bias": True}, {VLLM: replace(BIASED, fc_bias=False), TRAINED: BIASED}),
    Layout(
        "eagle1-bias-sglang",
        BIASED_TENSORS,
        {**LLAMA, **FOR_SGLANG, "qkv_bias": True},
        {SGLANG: replace(BIASED, attention_bias=False), TRAINED: BIASED},
    ),
    Layout(
        "hass-two-layers",
        seeded({**EAGLE1_SHAPES, **later_layer("layers.1", "input_layernorm", "post_attention_layernorm")}, 19, FP16, CALM),
        {**EAGLE1_CONFIG, "num_hidden_layers": 2},
        {VLLM: EAGLE1, TRAINED: EAGLE1},
    ),
    Layout(  # converted for vLLM's first EAGLE class, which is gone: a model of a model, and the target's head copied
        "eagle1-converted",
        {**WRAPPED, "model.lm_head.weight": HEAD.half()},
        {"architectures": ["EAGLEModel"], "model_type": "eagle", "model": {**EAGLE1_CONFIG, "eagle_fc_bias": False}},
        {TRAINED: replace(OWN_EAGLE1, head="own")},
    ),
)

# DeepSpec, which trains on five streams and names their layers by what they put out; vLLM and SGLang know neither of its classes. Its Gemma
# head has keys for values, heads of another size than the target's sliding ones, and a norm on both sides of attention and MLP.

FIVE = (1, 3, 4, 6, 8)
DEEPSPEC_CONFIG = {
    "architectures": ["Qwen3Eagle3Model"], "attention_bias": False, "attention_dropout": 0.0, "dtype": "bfloat16", "head_dim": 12,
    "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": INNER, "layer_types": ["full_attention"],
    "max_position_embeddings": 2048, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 1, "num_key_value_heads": 2,
    "num_target_layers": LAYERS, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 20000.0, "sliding_window": None,
    "step_loss_decay": 0.8, "target_layer_ids": [boundary - 1 for boundary in FIVE], "tie_word_embeddings": False, "ttt_length": 7,
    "use_sliding_window": False, "vocab_size": VOCABULARY,
}  # fmt: skip
DEEPSPEC_SHAPES = {
    **eagle3("layers.0", rows=VOCABULARY), "fc.weight": (WIDTH, 5 * WIDTH), "layers.0.self_attn.q_norm.weight": (12,),
    "layers.0.self_attn.k_norm.weight": (12,),
}  # fmt: skip
GEMMA_CONFIG = {
    **{key: DEEPSPEC_CONFIG[key] for key in DEEPSPEC_CONFIG if key not in ("rope_theta", "rope_scaling", "head_dim", "hidden_act")},
    "architectures": ["Gemma4Eagle3Model"], "model_type": "gemma4_text", "attention_k_eq_v": True, "final_logit_softcapping": 3.0,
    "global_head_dim": 16, "head_dim": 12, "hidden_activation": "gelu_pytorch_tanh", "num_global_key_value_heads": 1,
    "sliding_window": 1024,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip
GEMMA_SHAPES = {
    **{name: shape for name, shape in DEEPSPEC_SHAPES.items() if "self_attn" not in name},
    "layers.0.self_attn.q_proj.weight": (64, 2 * WIDTH), "layers.0.self_attn.k_proj.weight": (16, 2 * WIDTH),
    "layers.0.self_attn.o_proj.weight": (WIDTH, 64), "layers.0.self_attn.q_norm.weight": (16,), "layers.0.self_attn.k_norm.weight": (16,),
    **gains("layers.0.", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
}  # fmt: skip
DEEPSPEC = replace(PLAIN, boundaries=FIVE, embedding="own", rope=Rope(theta=20000.0), eps=1e-6)
GEMMA = replace(
    DEEPSPEC, gemma=True, kv_heads=1, softcap=3.0, score_scale=4.0, rope=Rope("proportional", 1000000.0, turned=0.25)
)  # fmt: skip
DEEPSPEC_LAYOUTS = (
    Layout("deepspec-qwen3", {**seeded(DEEPSPEC_SHAPES, 20, BF16), "embed_tokens.weight": EMBEDDING}, DEEPSPEC_CONFIG, {TRAINED: DEEPSPEC}),
    Layout(
        "deepspec-gemma4",
        {**seeded(GEMMA_SHAPES, 21, BF16), "embed_tokens.weight": EMBEDDING, "layers.0.layer_scalar": torch.tensor([0.75])},
        GEMMA_CONFIG,
        {TRAINED: GEMMA},
    ),
)

LAYOUTS: tuple[Layout, ...] = (
    *SAFEAI_LAYOUTS,
    *SPECFORGE_LAYOUTS,
    *SPECULATORS_LAYOUTS,
    *MODELOPT_LAYOUTS,
    *NEMO_LAYOUTS,
    *LATENT_LAYOUTS,
    *FORK_LAYOUTS,
    *EAGLE1_LAYOUTS,
    *DEEPSPEC_LAYOUTS,
)


def layout(name: str) -> Layout:
    """The layout of that name."""
    return next(each for each in LAYOUTS if each.name == name)
