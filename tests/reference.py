"""An EAGLE step written a second time, from the published formulas and the raw checkpoint: one chain, one query, one key at a time.

Nothing here comes from driftcli: what the engine does for all anchors at once must equal what this does for each anchor alone. Which
formula a checkpoint has is never read from its config but spelled by hand (`Formula`), except for the tiny heads of `tests.tiny`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

LEGACY = {"midlayer.": "layers.0.", "aux_norm_low.": "fc_norm.0.", "aux_norm_mid.": "fc_norm.1.", "aux_norm_high.": "fc_norm.2."}


@dataclass(frozen=True)
class Rope:
    """Rotary angles. `slow` and `fast` are llama3's low and high frequency factors, or yarn's rotations; `amplitude` multiplies cos and sin.

    `dynamic` is the one base for all lengths that SGLang computes; the unscaled base of other readers is `default`.
    """

    kind: Literal["default", "linear", "dynamic", "llama3", "yarn", "proportional"] = "default"
    theta: float = 10000.0
    factor: float = 1.0
    original: int = 0
    slow: float = 1.0
    fast: float = 32.0
    amplitude: float = 1.0
    interleaved: bool = False
    turned: float = 1.0  # share of a head that a proportional type turns; its first pairs, at the speed that they have in the whole


@dataclass(frozen=True)
class Latent:
    """Sizes of multi-head latent attention, per head."""

    nope: int
    rope: int
    value: int


@dataclass(frozen=True)
class Formula:
    """The switches of one reading of one checkpoint.

    boundaries: target boundary ids in the order of the columns of fc; L + 1 is the stream after the target's final norm.
    hidden_norm: `ones` normalises without a gain, `twice` passes the hidden stream through input_layernorm first.
    later_norm: the norm in front of the attention of layers >= 1; None normalises without a gain.
    windows: rows that a query of a layer sees, its own included; empty for no window. Counted from the query's own row, or in a chain
        from the anchor's last trunk row, with all chain rows seen in addition.
    """

    boundaries: tuple[int, ...] = (2, 4, 5)
    entry: Literal["eagle3", "eagle1"] = "eagle3"
    stream_norm: Literal["none", "joint", "per-stream"] = "none"
    hidden_norm: Literal["gain", "ones", "twice"] = "gain"
    residual: Literal["raw", "normed"] = "raw"
    later_norm: str | None = "input_layernorm"
    logits_from: Literal["raw", "normed"] = "normed"
    feedback: Literal["raw", "normed"] = "raw"
    attention_bias: bool = False
    fc_bias: bool = False
    embedding: Literal["own", "target"] = "target"
    head: Literal["own", "target"] = "own"
    rope: Rope = Rope(theta=5000.0)
    windows: tuple[int | None, ...] = ()
    window_from: Literal["query", "anchor"] = "query"
    kept: tuple[int, ...] = ()  # rows that no window hides
    row_bias: float = 0.0  # of rows `sinks`, in a chain beyond its first step, as are the two below
    sinks: tuple[int, ...] = (0,)
    chain_bias: float = 0.0  # of the rows behind the trunk
    warming: float = 0.0  # scores over 1 + this for each row behind the trunk
    heads: int = 4
    kv_heads: int = 2
    latent: Latent | None = None
    score_scale: float = 1.0
    eps: float = 1e-5
    gemma: bool = False  # keys for values, norms on both sides, a scaled embedding and bounded scores, as in Gemma 4
    softcap: float | None = None


@dataclass
class Step:
    """One query: logits over the draft vocabulary, state fed on, and per layer the attention over its keys (head, key) and their rows."""

    logits: Tensor
    state: Tensor
    attention: list[Tensor]
    rows: list[list[int]]


@dataclass
class Lone:
    """A head that drafts one chain alone with a growing cache: per layer the rows, keys and values so far."""

    tensors: dict[str, Tensor]
    formula: Formula
    embedding: Tensor
    head: Tensor
    swap_halves: bool = False
    trunk: int = 0
    cache: list[list[tuple[int, Tensor, Tensor]]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        folder: Path,
        target: Path,
        formula: Formula | None = None,
        *,
        post_norm: bool | None = None,
        normed_residual: bool = False,
        window: int | None = None,
        kept: tuple[int, ...] = (),
        swap_halves: bool = False,
    ) -> Lone:
        """The head in `folder`. The options are faults and settings put on top of the formula, which a head of `tests.tiny` may leave out."""
        tensors = read_tensors(folder)
        formula = formula or tiny_formula(tensors, json.loads((folder / "config.json").read_text()))
        if post_norm is not None:
            formula = replace(formula, feedback="normed" if post_norm else "raw")
        if normed_residual:
            formula = replace(formula, residual="normed")
        if window is not None:
            formula = replace(formula, windows=(window,) * n_layers(tensors), kept=kept)
        return cls(tensors, formula, *embedding_and_head(tensors, formula, target), swap_halves)

    def norm(self, x: Tensor, name: str | None) -> Tensor:
        unit = x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.formula.eps)
        return unit if name is None else unit * self.tensors[f"{name}.weight"]

    def linear(self, x: Tensor, name: str, *, bias: bool = False) -> Tensor:
        return self.tensors[f"{name}.weight"] @ x + (self.tensors[f"{name}.bias"] if bias else 0)

    def first_state(self, streams: list[Tensor]) -> Tensor:
        """The drafter's state of a target row."""
        if self.formula.entry == "eagle1" or "fc.weight" not in self.tensors:
            (state,) = streams
            return state
        if self.formula.stream_norm == "per-stream":
            streams = [self.norm(stream, f"fc_norm.{number}") for number, stream in enumerate(streams)]
        joined = torch.cat(streams)
        if self.formula.stream_norm == "joint":
            joined = self.norm(joined, "input_norm")
        return self.linear(joined, "fc", bias=self.formula.fc_bias)

    def entry(self, token: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer attends with, and the residual around its attention."""
        embedded = self.embedding[token] * (math.sqrt(self.embedding.shape[1]) if self.formula.gemma else 1.0)
        if self.formula.entry == "eagle1":
            fused = self.linear(torch.cat([embedded, state]), "fc", bias=self.formula.fc_bias)
            return fused, fused
        hidden = self.norm(state, "layers.0.input_layernorm") if self.formula.hidden_norm == "twice" else state
        hidden = self.norm(hidden, None if self.formula.hidden_norm == "ones" else "layers.0.hidden_norm")
        halves = [self.norm(embedded, "layers.0.input_layernorm"), hidden]
        return torch.cat(halves[::-1] if self.swap_halves else halves), hidden if self.formula.residual == "normed" else state

    def project(self, layer: int, x: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (head, size) each, rotated to the row."""
        if self.formula.latent is not None:
            return self.project_latent(f"layers.{layer}.self_attn", self.formula.latent, x, row)
        if self.formula.gemma:
            return self.project_shared(f"layers.{layer}.self_attn", x, row)
        at, parts = f"layers.{layer}.self_attn", []
        for name, count in (("q", self.formula.heads), ("k", self.formula.kv_heads), ("v", self.formula.kv_heads)):
            part = self.linear(x, f"{at}.{name}_proj", bias=self.formula.attention_bias).view(count, -1)
            parts.append(self.norm(part, f"{at}.{name}_norm") if f"{at}.{name}_norm.weight" in self.tensors else part)
        query, key, value = parts
        return rotate(self.formula.rope, query, row), rotate(self.formula.rope, key, row), value

    def project_shared(self, at: str, x: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, before their norm, are values, normed without a gain."""
        query = self.linear(x, f"{at}.q_proj").view(self.formula.heads, -1)
        key = self.linear(x, f"{at}.k_proj").view(self.formula.kv_heads, -1)
        turned = (rotate(self.formula.rope, self.norm(part, f"{at}.{name}_norm"), row) for name, part in (("q", query), ("k", key)))
        return (*turned, self.norm(key, None))

    def project_latent(self, at: str, sizes: Latent, x: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
        heads, rank = self.formula.heads, self.tensors[f"{at}.kv_a_layernorm.weight"].shape[0]
        query = self.linear(self.norm(self.linear(x, f"{at}.q_a_proj"), f"{at}.q_a_layernorm"), f"{at}.q_b_proj").view(heads, -1)
        compressed = self.linear(x, f"{at}.kv_a_proj_with_mqa")
        expanded = self.linear(self.norm(compressed[:rank], f"{at}.kv_a_layernorm"), f"{at}.kv_b_proj").view(heads, -1)
        shared = rotate(self.formula.rope, compressed[rank:].view(1, sizes.rope), row).expand(heads, sizes.rope)
        turned = rotate(self.formula.rope, query[:, sizes.nope :], row)
        assert expanded.shape[1] == sizes.nope + sizes.value
        return (
            torch.cat([query[:, : sizes.nope], turned], 1),
            torch.cat([expanded[:, : sizes.nope], shared], 1),
            expanded[:, sizes.nope :],
        )

    def sees(self, layer: int, row: int, key_row: int) -> bool:
        window = self.formula.windows[layer] if self.formula.windows else None
        start = row if self.formula.window_from == "query" else min(row, self.trunk)
        return window is None or key_row > start - window or key_row in self.formula.kept

    def attend(self, layer: int, query: Tensor, row: int) -> tuple[Tensor, Tensor, list[int]]:
        """The heads' outputs in a row, the attention (head, key) and the rows of the keys."""
        seen = [entry for entry in self.cache[layer] if self.sees(layer, row, entry[0])]
        groups = self.formula.heads // seen[0][1].shape[0]
        outputs, shares = [], []
        for head in range(self.formula.heads):
            of = head // groups
            scores = torch.stack([query[head] @ key[of] for _, key, _ in seen]) * self.formula.score_scale / math.sqrt(query.shape[1])
            if row > self.trunk:
                scores = scores / (1 + self.formula.warming * (row - self.trunk)) + self.favour([entry[0] for entry in seen])
            share = (scores - scores.max()).exp()
            shares.append(share / share.sum())
            outputs.append(sum(p * value[of] for p, (_, _, value) in zip(shares[-1], seen, strict=True)))
        return torch.cat(outputs), torch.stack(shares), [row for row, _, _ in seen]

    def favour(self, rows: list[int]) -> Tensor:
        """What is added to the scores of these rows from within a chain."""
        formula = self.formula
        return torch.tensor([formula.chain_bias * (row > self.trunk) + formula.row_bias * (row in formula.sinks) for row in rows])

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        gate, up = (self.linear(x, f"layers.{layer}.mlp.{name}_proj") for name in ("gate", "up"))
        if self.formula.gemma:
            gate = gate * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        else:
            gate = gate * torch.sigmoid(gate)
        return self.linear(gate * up, f"layers.{layer}.mlp.down_proj")

    def leave(self, layer: int, residual: Tensor, attended: Tensor) -> Tensor:
        """The residual stream behind attention and MLP."""
        at = f"layers.{layer}"
        if not self.formula.gemma:
            inner = residual + attended
            return inner + self.mlp(layer, self.norm(inner, f"{at}.post_attention_layernorm"))
        inner = residual + self.norm(attended, f"{at}.post_attention_layernorm")
        out = self.mlp(layer, self.norm(inner, f"{at}.pre_feedforward_layernorm"))
        return (inner + self.norm(out, f"{at}.post_feedforward_layernorm")) * self.tensors[f"{at}.layer_scalar"]

    def step(self, token: int, state: Tensor, row: int) -> Step:
        """Feed one token and state at one row and ask for the next token; the cache grows by the row."""
        step = self.feed(token, state, row, ask=True)
        assert step is not None
        return step

    def remember(self, token: int, state: Tensor, row: int) -> None:
        """Feed one token and state at one row; the cache grows by the row."""
        self.feed(token, state, row, ask=False)

    def feed(self, token: int, state: Tensor, row: int, *, ask: bool) -> Step | None:
        layers, attention, rows = n_layers(self.tensors), [], []
        self.cache = self.cache or [[] for _ in range(layers)]
        x, residual = self.entry(token, state)
        for layer in range(layers):
            if layer > 0:
                x = self.norm(residual, self.formula.later_norm and f"layers.{layer}.{self.formula.later_norm}")
            query, key, value = self.project(layer, x, row)
            self.cache[layer].append((row, key, value))
            if layer == layers - 1 and not ask:
                return None
            output, shares, seen = self.attend(layer, query, row)
            residual = self.leave(layer, residual, self.linear(output, f"layers.{layer}.self_attn.o_proj"))
            attention, rows = [*attention, shares], [*rows, seen]
        return self.finish(residual, attention, rows)

    def finish(self, raw: Tensor, attention: list[Tensor], rows: list[list[int]]) -> Step:
        outputs = {"raw": raw, **({"normed": self.norm(raw, "norm")} if "norm.weight" in self.tensors else {})}
        logits, cap = self.head @ outputs[self.formula.logits_from], self.formula.softcap
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return Step(logits, outputs[self.formula.feedback], attention, rows)

    def to_target(self, draft_id: int) -> int:
        return draft_id + int(self.tensors["d2t"][draft_id]) if "d2t" in self.tensors else draft_id

    def chain(
        self,
        ids: list[int],
        streams: list[Tensor],
        anchor: int,
        depth: int,
        *,
        forced: bool,
        shift: int = 0,
        pinned: bool = False,
        reanchored: int = 0,
        held: bool = False,
    ) -> list[Step]:
        """The chain from one anchor: prefill rows 0 .. anchor - 1 from the target, then feed on its own state.

        streams: (position, width) each, in the order of the columns of fc. `shift` misplaces the tokens, for a negative control.
        pinned: every state is scaled to the length of the chain's first. reanchored: every so many depths the target's state is read. held: the one
        that the chain began with always is.
        """
        self.cache, self.trunk = [], anchor - 1
        states = [self.first_state([stream[row] for stream in streams]) for row in range(anchor)]
        for row in range(anchor - 1):
            self.remember(ids[row + 1 + shift], states[row], row)
        steps = [self.step(ids[anchor + shift], states[anchor - 1], anchor - 1)]
        for d in range(2, depth + 1):
            token = ids[anchor + d - 1] if forced else self.to_target(int(steps[-1].logits.argmax()))
            row = anchor + d - 2
            again = reanchored and (d - 1) % reanchored == 0
            read = anchor - 1 if held else row
            step = self.step(token, self.first_state([stream[read] for stream in streams]) if again or held else steps[-1].state, row)
            if pinned:
                step = replace(step, state=step.state * (steps[0].state.norm() / step.state.norm()))
            steps.append(step)
        return steps


def said_alone(model: PreTrainedModel, ids: list[int], spans: list[tuple[int, int]]) -> list[list[int]]:
    """The model's greedy choice at each token of each half-open span, from one pass over the whole text."""
    choices = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
    return [choices[start - 1 : end - 1] for start, end in spans]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint in float32 under one spelling of their names: no `model.`, be it twice, `layers.0.` for `midlayer.`."""
    pickle = folder / "pytorch_model.bin"
    held = torch.load(pickle, weights_only=True) if pickle.exists() else load_file(folder / "model.safetensors")
    return {plain_name(name): t.float() if t.is_floating_point() else t for name, t in held.items()}


def plain_name(name: str) -> str:
    name = name.removeprefix("model.").removeprefix("model.")
    for old, new in LEGACY.items():
        name = new + name.removeprefix(old) if name.startswith(old) else name
    return name


def n_layers(tensors: Mapping[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))


def embedding_and_head(tensors: dict[str, Tensor], formula: Formula, target: Path) -> tuple[Tensor, Tensor]:
    """Where tokens are embedded and where logits come from. A head without its own takes the target's rows of its vocabulary."""
    with safe_open(target / "model.safetensors", "pt") as held:
        embedding = tensors["embed_tokens.weight"] if formula.embedding == "own" else held.get_tensor("model.embed_tokens.weight").float()
        if formula.head == "own":
            return embedding, tensors["lm_head.weight"]
        head = held.get_tensor("lm_head.weight").float()
    return embedding, head[torch.arange(len(tensors["d2t"])) + tensors["d2t"]] if "d2t" in tensors else head


def tiny_formula(tensors: Mapping[str, Tensor], config: Mapping[str, float]) -> Formula:
    """The formula of the heads that `tests.tiny` and `examples/train_eagle3.py` write."""
    return Formula(
        stream_norm="per-stream" if "fc_norm.0.weight" in tensors else "none",
        feedback="normed" if config.get("norm_output") else "raw",
        embedding="own" if "embed_tokens.weight" in tensors else "target",
        head="own" if "lm_head.weight" in tensors else "target",
        rope=Rope(theta=config["rope_theta"]),
        heads=int(config["num_attention_heads"]),
        kv_heads=int(config["num_key_value_heads"]),
        eps=config["rms_norm_eps"],
    )


def rotate(rope: Rope, x: Tensor, row: int) -> Tensor:
    """x: (head, size) -> the same, each pair of numbers turned by the angle of its row."""
    size = x.shape[1]
    angles = torch.tensor([row * frequency for frequency in frequencies(rope, size)], dtype=torch.float64)
    cos, sin = (rope.amplitude * angles.cos()).float(), (rope.amplitude * angles.sin()).float()
    first, second = (slice(0, size, 2), slice(1, size, 2)) if rope.interleaved else (slice(0, size // 2), slice(size // 2, size))
    out = torch.empty_like(x)
    out[:, first] = x[:, first] * cos - x[:, second] * sin
    out[:, second] = x[:, second] * cos + x[:, first] * sin
    return out


@cache
def frequencies(rope: Rope, size: int) -> tuple[float, ...]:
    """Radians a row, by pair."""
    theta = rope.theta
    if rope.kind == "dynamic":
        theta *= (rope.factor * rope.factor - (rope.factor - 1)) ** (size / (size - 2))
    plain = [theta ** (-2 * pair / size) for pair in range(size // 2)]
    if rope.kind == "proportional":
        return tuple(frequency if pair < rope.turned * size / 2 else 0.0 for pair, frequency in enumerate(plain))
    if rope.kind == "linear":
        return tuple(frequency / rope.factor for frequency in plain)
    if rope.kind == "llama3":
        return tuple(blend(frequency, rope, llama3_share(frequency, rope)) for frequency in plain)
    if rope.kind == "yarn":
        return tuple(blend(frequency, rope, yarn_share(pair, rope, size)) for pair, frequency in enumerate(plain))
    return tuple(plain)


def blend(frequency: float, rope: Rope, kept: float) -> float:
    return kept * frequency + (1 - kept) * frequency / rope.factor


def llama3_share(frequency: float, rope: Rope) -> float:
    """How much of a frequency stays unscaled: all of a fast one, nothing of a slow one, by turns within the original length."""
    turns = rope.original * frequency / (2 * math.pi)
    return min(1.0, max(0.0, (turns - rope.slow) / (rope.fast - rope.slow)))


def yarn_share(pair: int, rope: Rope, size: int) -> float:
    """As `llama3_share`, by place between the pairs that make `fast` and `slow` turns within the original length."""

    def place(turns: float) -> float:
        return size * math.log(rope.original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = max(math.floor(place(rope.fast)), 0), min(math.ceil(place(rope.slow)), size - 1)
    return 1 - min(1.0, max(0.0, (pair - low) / (high - low if high != low else 0.001)))


def target_streams(target: LlamaForCausalLM, ids: list[int], boundaries: tuple[int, ...]) -> list[Tensor]:
    """Streams of a plain forward, (position, width) each. Of transformers' `hidden_states` the last is after the final norm, so boundary L
    is taken from the last layer itself and L + 1 means the stream after the norm."""
    layers, kept = target.model.layers, []
    handle = layers[-1].register_forward_hook(lambda _, __, output: kept.append(output if isinstance(output, Tensor) else output[0]))
    with torch.inference_mode():
        *states, after_norm = target(torch.tensor([ids]), output_hidden_states=True).hidden_states
    handle.remove()
    by_boundary = [*states, *kept, after_norm]
    return [by_boundary[boundary][0].float() for boundary in boundaries]


def speculate(
    target: LlamaForCausalLM, head: Lone, prompt: list[int], boundaries: tuple[int, ...], depth: int, rounds: int
) -> tuple[list[int], list[int]]:
    """Greedy speculative decoding, written naively: every round recomputes the target from scratch. Returns the text and the accepted counts."""

    def best(ids: list[int]) -> list[int]:
        with torch.inference_mode():
            return target(torch.tensor([ids])).logits[0].argmax(-1).tolist()

    ids, accepted = [*prompt, best(prompt)[-1]], []
    for _ in range(rounds):
        anchor = len(ids) - 1
        steps = head.chain(ids, target_streams(target, ids, boundaries), anchor, depth, forced=False)
        drafts = [head.to_target(int(step.logits.argmax())) for step in steps]
        wanted = best(ids + drafts)[anchor:]
        kept = next((i for i, (a, b) in enumerate(zip(drafts, wanted, strict=False)) if a != b), depth)
        ids += [*drafts[:kept], wanted[kept]]
        accepted.append(kept)
    return ids, accepted
