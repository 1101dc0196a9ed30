"""Writes the golden steps of `tests.layouts`: what the producers' own classes compute for the tiny checkpoints.

Run once, from the repository root, in an environment of its own (torch 2.13 CPU, transformers 5.23.0, speculators 0.9.0 with hs-connectors,
datasets, loguru and openai, specforge 0.2.0 without its dependencies):

    PYTHONPATH=. python -m tests.golden.steps.make_steps

speculators and SpecForge run their own classes with their own training unroll, in which row ROWS - 1 is a forced chain. MLA runs
transformers' DeepseekV3Attention. What is on no package index (SafeAILab, ModelOpt, NeMo, the fork, both servers) is written here from
formats.md 0.3 and 1.4 in matrix form: a chain of depth d is one causal pass over all its rows. Nothing comes from `tests.reference`.

Each file holds `ids`, `stream.<boundary>` of the rows, and the state fed on and the logits of the rows (`fresh`) and of the chain from the
last row by depth (`chain`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # SpecForge compiles its norms and rotary angles

import torch
from specforge.modeling.draft.llama3_eagle import LlamaForCausalLMEagle3
from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from transformers import DeepseekV3Config, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

from tests.golden.steps.seeds import AFTER_NORM, DEPTH, ROWS, WIDTH, Steps, write_steps
from tests.layouts import EMBEDDING, HEAD, Layout, write_layout, write_layout_target


def padded(streams: Tensor) -> Tensor:
    """The rows' streams and zeros for the later rows that only carry a trainer's tokens: (1, ROWS + DEPTH - 1, width)."""
    return torch.cat([streams, torch.zeros(DEPTH - 1, streams.shape[1])])[None]


def from_unroll(states: list[Tensor], logits: list[Tensor]) -> Steps:
    """A trainer's unroll, (1, row, width) a step, as passes: all rows of the first step, then the last row alone."""
    return tuple([passes[0][0, :ROWS], *(step[0, ROWS - 1 : ROWS] for step in passes[1:])] for passes in (states, logits))  # type: ignore[return-value]


def speculators_steps(made: Layout, ids: Tensor, streams: Tensor) -> Steps:
    """One step more than asked, for the state that it is fed."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(Path(folder), made)
        config = Eagle3SpeculatorConfig.from_pretrained(folder)
        config.transformer_layer_config._attn_implementation = "eager"
        config.speculators_config.verifier.name_or_path = str(write_layout_target(Path(folder) / "target"))
        model = Eagle3DraftModel.from_pretrained(folder, config=config).eval()
    fed: list[Tensor] = []
    logits: list[Tensor] = []
    model.layers[0].register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0][..., WIDTH:]))
    model.lm_head.register_forward_hook(lambda _, __, output: logits.append(output))
    rows = ROWS + DEPTH - 1
    model(padded(streams), ids[None, 1:], torch.zeros(1, rows, dtype=torch.long), ttt_steps=DEPTH + 1)
    return from_unroll(fed[1:], logits[:DEPTH])


def specforge_steps(made: Layout, ids: Tensor, streams: Tensor) -> Steps:
    model = LlamaForCausalLMEagle3(LlamaConfig(**made.config)).eval()
    missing, unexpected = model.load_state_dict({name: tensor.clone() for name, tensor in made.tensors.items()}, strict=False)
    assert not [name for name in unexpected if not name.endswith(".bias")]
    if missing:
        assert missing == ["embed_tokens.weight"]
        model.embed_tokens.weight.data = EMBEDDING.clone()
    hidden, tokens, held = model.project_hidden_states(padded(streams)), ids[None, 1:], [[], []]
    positions = torch.arange(hidden.shape[1])[None]
    mask = model.prepare_decoder_attention_mask(torch.ones_like(positions), hidden, 1, hidden.shape[1], 0)
    states, logits = [], []
    for step in range(DEPTH):
        shifted = torch.cat([tokens[:, step:], tokens.new_zeros(1, step)], 1)
        hidden = model.backbone(model.embed_input_ids(shifted), hidden, held, mask, positions)
        states, logits = [*states, hidden], [*logits, model.compute_logits(hidden)]
    return from_unroll(states, logits)


@dataclass(frozen=True)
class Matrix:
    """The formula of 0.3 over whole sequences, (row, width)."""

    at: str = "midlayer"
    joint_norm: bool = False
    stream_norms: bool = False
    double_norm: bool = False
    unit_hidden_norm: bool = False
    normed_residual: bool = False
    normed_feedback: bool = False
    biased: bool = False
    own_embedding: bool = False
    later_norm: str | None = None
    window: int | None = None
    eps: float = 1e-5
    rope: Mapping[str, object] | None = None
    theta: float = 5000.0
    head_dim: int = 12
    prefix: str = ""

    def __call__(self, made: Layout, ids: Tensor, streams: Tensor) -> Steps:
        held = {name: tensor.float() for name, tensor in made.tensors.items()}
        return chained(
            self.fused(held, streams), ids, lambda tokens, states: self.passed(held, tokens, states), normed=self.normed_feedback
        )

    def norm(self, x: Tensor, gain: Tensor | None) -> Tensor:
        return rms_norm(x, x.shape[-1:], gain, self.eps)

    def fused(self, held: Mapping[str, Tensor], streams: Tensor) -> Tensor:
        if f"{self.prefix}fc.weight" not in held:
            return streams
        if self.joint_norm:
            streams = self.norm(streams, held["input_norm.weight"])
        if self.stream_norms:
            gains = [held[f"{self.prefix}fc_norm.{number}.weight"] for number in range(3)]
            streams = torch.cat([self.norm(chunk, gain) for chunk, gain in zip(streams.chunk(3, -1), gains, strict=True)], -1)
        return linear(streams, held[f"{self.prefix}fc.weight"])

    def entered(self, held: Mapping[str, Tensor], tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        first = f"{self.prefix}{self.at}."
        embedding = held[f"{self.prefix}embed_tokens.weight"] if self.own_embedding else EMBEDDING
        hidden = self.norm(states, held[f"{first}input_layernorm.weight"]) if self.double_norm else states
        hidden = self.norm(hidden, None if self.unit_hidden_norm else held[f"{first}hidden_norm.weight"])
        entry = torch.cat([self.norm(embedding[tokens], held[f"{first}input_layernorm.weight"]), hidden], -1)
        return entry, hidden if self.normed_residual else states

    def passed(self, held: Mapping[str, Tensor], tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        entry, stream = self.entered(held, tokens, states)
        for layer in range(layers(held)):
            at = f"{self.prefix}{self.at}" if layer == 0 else f"{self.prefix}layers.{layer}"
            if layer > 0:
                entry = self.norm(stream, held[f"{at}.{self.later_norm}.weight"] if self.later_norm else None)
            stream = stream + self.attended(held, f"{at}.self_attn", entry)
            stream = stream + gated(held, f"{at}.mlp", self.norm(stream, held[f"{at}.post_attention_layernorm.weight"]))
        normed = self.norm(stream, held[f"{self.prefix}norm.weight"])
        return stream, normed, linear(normed, held["lm_head.weight"])

    def attended(self, held: Mapping[str, Tensor], at: str, x: Tensor) -> Tensor:
        parts = {}
        for name in "qkv":
            part = linear(x, held[f"{at}.{name}_proj.weight"], held[f"{at}.{name}_proj.bias"] if self.biased else None)
            parts[name] = part.unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
            if f"{at}.{name}_norm.weight" in held:
                parts[name] = self.norm(parts[name], held[f"{at}.{name}_norm.weight"])
        query, key = (turned(parts[name], *self.angles(x.shape[0])) for name in "qk")
        age = torch.arange(x.shape[0])[:, None] - torch.arange(x.shape[0])
        mask = (age >= 0) & (age < (self.window or x.shape[0]))
        out = scaled_dot_product_attention(query[None], key[None], parts["v"][None], attn_mask=mask, enable_gqa=True)[0]
        return linear(out.transpose(0, 1).flatten(1), held[f"{at}.o_proj.weight"])

    def angles(self, rows: int) -> tuple[Tensor, float]:
        """(row, pair) in radians, and what multiplies cos and sin."""
        positions = torch.arange(rows)[:, None]
        if self.rope is None:
            return positions * self.theta ** (-torch.arange(0, self.head_dim, 2) / self.head_dim), 1.0
        parameters = {"rope_theta": self.theta, **self.rope}
        config = LlamaConfig(head_dim=self.head_dim, rope_parameters=parameters, max_position_embeddings=512)
        frequencies, amplitude = ROPE_INIT_FUNCTIONS[self.rope["rope_type"]](config, "cpu")
        return positions * frequencies, amplitude


@dataclass(frozen=True)
class Regressed(Matrix):
    """EAGLE-1: fc in front of the first layer, no first norm, no final norm, the target's head."""

    fc_bias: bool = False

    def fused(self, held: Mapping[str, Tensor], streams: Tensor) -> Tensor:
        return streams

    def entered(self, held: Mapping[str, Tensor], tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        fused = linear(torch.cat([EMBEDDING[tokens], states], -1), held["fc.weight"], held["fc.bias"] if self.fc_bias else None)
        return fused, fused

    def passed(self, held: Mapping[str, Tensor], tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stream, _, _ = super().passed({**held, "norm.weight": torch.ones(WIDTH), "lm_head.weight": HEAD}, tokens, states)
        return stream, stream, linear(stream, HEAD)


@dataclass(frozen=True)
class LatentMatrix(Matrix):
    """With transformers' DeepseekV3Attention, its two first projections widened as ModelOpt does."""

    def attended(self, held: Mapping[str, Tensor], at: str, x: Tensor) -> Tensor:
        config = DeepseekV3Config(
            hidden_size=WIDTH, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=20, kv_lora_rank=16, qk_nope_head_dim=12,
            qk_rope_head_dim=8, v_head_dim=10, max_position_embeddings=2048, rope_interleave=True,
            rope_parameters={"rope_type": "default", "rope_theta": self.theta, **(self.rope or {})},
        )  # fmt: skip
        config._attn_implementation = "eager"
        module, rows = DeepseekV3Attention(config, 0).eval(), x.shape[0]
        for name in ("q_a_proj", "kv_a_proj_with_mqa"):
            setattr(module, name, nn.Linear(2 * WIDTH, getattr(module, name).out_features, bias=False))
        module.load_state_dict({name.removeprefix(f"{at}."): tensor for name, tensor in held.items() if name.startswith(f"{at}.")})
        positions = DeepseekV3RotaryEmbedding(config)(x[None], torch.arange(rows)[None])
        mask = torch.full((rows, rows), float("-inf")).triu(1)[None, None]
        return module(x[None], positions, mask)[0][0]


def stretched(theta: float, factor: float, longest_trained: int, head_dim: int) -> float:
    """The one base of SGLang's dynamic rope, for the longest length that it serves."""
    longest = longest_trained * factor
    return theta * ((factor * longest / longest_trained) - (factor - 1)) ** (head_dim / (head_dim - 2))


def layers(held: Mapping[str, Tensor]) -> int:
    return sum("self_attn.o_proj.weight" in name for name in held)


def gated(held: Mapping[str, Tensor], at: str, x: Tensor) -> Tensor:
    inner = silu(linear(x, held[f"{at}.gate_proj.weight"])) * linear(x, held[f"{at}.up_proj.weight"])
    return linear(inner, held[f"{at}.down_proj.weight"])


def turned(x: Tensor, angles: Tensor, amplitude: float) -> Tensor:
    """x: (head, row, size), whose halves are the real and the imaginary part."""
    real, imaginary = x.chunk(2, -1)
    out = torch.complex(real, imaginary) * torch.polar(torch.full_like(angles, amplitude), angles)
    return torch.cat([out.real, out.imag], -1)


def chained(states: Tensor, ids: Tensor, passed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], *, normed: bool) -> Steps:
    """Each depth is one more causal pass over all rows, the last of which is fed what the row before it gave."""
    fed, logits = [], []
    for depth in range(1, DEPTH + 1):
        raw, after_norm, scores = passed(ids[1 : ROWS + depth], states)
        state = after_norm if normed else raw
        fed, logits = [*fed, state if depth == 1 else state[-1:]], [*logits, scores if depth == 1 else scores[-1:]]
        states = torch.cat([states, state[-1:]])
    return fed, logits


DEFAULT = (2, 4, 5)
SPECFORGE = Matrix(head_dim=20)
MODELOPT = Matrix(at="layers.0", theta=10000.0)
EXPORTED = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 2048}
KIMI = {
    "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
    "mscale_all_dim": 0.8,
}  # fmt: skip
FORK = Matrix(at="layers.0", later_norm="hidden_norm")
EAGLE1 = Regressed(at="layers.0", later_norm="input_layernorm")
QWEN3 = Matrix(
    at="layers.0", stream_norms=True, later_norm="input_layernorm", normed_residual=True, window=6, eps=1e-6, theta=10000.0, head_dim=16
)  # fmt: skip
CASES: tuple[tuple[str, str, tuple[int, ...], Callable[[Layout, Tensor, Tensor], Steps]], ...] = (
    ("safeai", "as_trained", DEFAULT, Matrix()),
    ("safeai-linear", "as_trained", DEFAULT, Matrix(theta=10000.0, rope={"rope_type": "linear", "factor": 2.0})),
    ("safeai-linear", "as_served:vllm", DEFAULT, Matrix(rope={"rope_type": "linear", "factor": 2.0})),
    ("safeai-dynamic", "as_trained", DEFAULT, Matrix(theta=10000.0)),
    ("safeai-dynamic", "as_served:vllm", DEFAULT, Matrix()),
    ("safeai-dynamic", "as_served:sglang", DEFAULT, Matrix(theta=stretched(5000.0, 2.0, 2048, 12))),
    ("specforge", "as_trained", DEFAULT, specforge_steps),
    ("specforge-custom-ids", "as_trained", (1, 5, 7), specforge_steps),
    ("specforge-3.1", "as_trained", DEFAULT, specforge_steps),
    ("specforge-3.1", "as_served:vllm", DEFAULT, replace(SPECFORGE, stream_norms=True, normed_feedback=True)),
    ("specforge-raw-logits", "as_trained", DEFAULT, specforge_steps),
    ("specforge-raw-logits", "as_served:vllm", DEFAULT, SPECFORGE),
    ("specforge-full", "as_trained", DEFAULT, specforge_steps),
    ("specforge-full", "as_served:sglang", DEFAULT, SPECFORGE),
    ("specforge-llama3", "as_trained", DEFAULT, specforge_steps),
    ("specforge-yarn", "as_trained", DEFAULT, specforge_steps),
    ("specforge-biased", "as_trained", DEFAULT, specforge_steps),
    ("specforge-biased", "as_served:vllm", DEFAULT, replace(SPECFORGE, biased=True)),
    ("specforge-biased", "as_served:sglang", DEFAULT, SPECFORGE),
    ("wide", "as_trained", DEFAULT, specforge_steps),
    ("speculators-llama", "as_trained", (1, 4, 8), speculators_steps),
    ("speculators-qwen3", "as_trained", DEFAULT, speculators_steps),
    ("speculators-qwen3", "as_served:vllm", DEFAULT, QWEN3),
    ("speculators-silent", "as_trained", DEFAULT, speculators_steps),
    ("modelopt", "as_trained", DEFAULT, replace(MODELOPT, double_norm=True)),
    ("modelopt", "as_served:vllm", DEFAULT, replace(MODELOPT, rope=EXPORTED)),
    ("modelopt-input-norm", "as_trained", (4, 6, 8), replace(MODELOPT, joint_norm=True)),
    ("modelopt-final-hidden", "as_served:vllm", (AFTER_NORM,), replace(MODELOPT, unit_hidden_norm=True, rope=EXPORTED)),
    (
        "nemo",
        "as_trained",
        DEFAULT,
        Matrix(at="layers.0", prefix="model.", stream_norms=True, normed_feedback=True, own_embedding=True, eps=1e-6),
    ),
    ("mla", "as_trained", DEFAULT, LatentMatrix(at="layers.0", eps=1e-6, theta=10000.0)),
    ("mla-yarn", "as_trained", DEFAULT, LatentMatrix(eps=1e-6, theta=50000.0, rope=KIMI, stream_norms=True, normed_feedback=True)),
    ("fork", "as_trained", DEFAULT, replace(FORK, normed_feedback=True)),
    ("fork", "as_served:vllm", DEFAULT, replace(FORK, later_norm=None)),
    ("fork", "as_served:sglang", DEFAULT, FORK),
    ("eagle1", "as_trained", (AFTER_NORM,), EAGLE1),
    ("eagle1-bias", "as_trained", (AFTER_NORM,), replace(EAGLE1, fc_bias=True, biased=True)),
    ("eagle1-bias", "as_served:vllm", (AFTER_NORM,), replace(EAGLE1, biased=True)),
    ("eagle1-bias-sglang", "as_served:sglang", (AFTER_NORM,), replace(EAGLE1, fc_bias=True)),
    ("hass-two-layers", "as_trained", (AFTER_NORM,), EAGLE1),
)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    for name, reading, boundaries, produced in CASES:
        write_steps(name, reading, boundaries, produced)


if __name__ == "__main__":
    main()
