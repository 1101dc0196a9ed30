"""An EAGLE-3 step written a second time, from the published formulas and the raw checkpoint: one chain, one query, one key at a time.

Nothing here comes from driftcli: what the engine does for all anchors at once must equal what this does for each anchor alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM


@dataclass
class Step:
    """One query: logits over the draft vocabulary, state fed on, attention over its keys (head, key), and the rows of those keys."""

    logits: Tensor
    state: Tensor
    attention: Tensor
    rows: list[int]


@dataclass
class Lone:
    """A head that drafts one chain alone with a growing cache."""

    tensors: dict[str, Tensor]
    config: dict[str, float]
    embedding: Tensor
    post_norm: bool
    window: int | None = None
    swap_halves: bool = False
    normed_residual: bool = False
    cache: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, target: Path, **options: object) -> Lone:
        tensors = {name: t.float() if t.is_floating_point() else t for name, t in load_file(folder / "model.safetensors").items()}
        config = json.loads((folder / "config.json").read_text())
        embedding = tensors.get("embed_tokens.weight", load_file(target / "model.safetensors")["model.embed_tokens.weight"].float())
        post_norm = bool(options.pop("post_norm", config.get("norm_output", False)))
        return cls(tensors, config, embedding, post_norm, **options)  # type: ignore[arg-type]

    def norm(self, x: Tensor, name: str) -> Tensor:
        return x / torch.sqrt((x * x).mean() + self.config["rms_norm_eps"]) * self.tensors[name]

    def first_state(self, streams: list[Tensor]) -> Tensor:
        if "fc_norm.0.weight" in self.tensors:
            streams = [self.norm(stream, f"fc_norm.{number}.weight") for number, stream in enumerate(streams)]
        return self.tensors["fc.weight"] @ torch.cat(streams)

    def rotate(self, x: Tensor, position: int) -> Tensor:
        size = x.shape[-1]
        out = torch.empty_like(x)
        for pair in range(size // 2):
            angle = position * self.config["rope_theta"] ** (-2 * pair / size)
            a, b = x[:, pair], x[:, pair + size // 2]
            out[:, pair] = a * math.cos(angle) - b * math.sin(angle)
            out[:, pair + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def remember(self, token: int, state: Tensor, row: int) -> Tensor:
        """Add one row to the cache; returns its query (head, size)."""
        heads, kv_heads = int(self.config["num_attention_heads"]), int(self.config["num_key_value_heads"])
        embedded, normed = (
            self.norm(self.embedding[token], "midlayer.input_layernorm.weight"),
            self.norm(state, "midlayer.hidden_norm.weight"),
        )
        x = torch.cat([normed, embedded] if self.swap_halves else [embedded, normed])
        query, key, value = (
            (self.tensors[f"midlayer.self_attn.{name}_proj.weight"] @ x).view(count, -1)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        self.cache.append((row, self.rotate(key, row), value))
        return self.rotate(query, row)

    def step(self, token: int, state: Tensor, row: int) -> Step:
        """Feed one token and state at one row and ask for the next token; the cache grows by the row."""
        query = self.remember(token, state, row)
        heads, kv_heads = int(self.config["num_attention_heads"]), int(self.config["num_key_value_heads"])
        seen = [entry for entry in self.cache if self.window is None or entry[0] > row - self.window]
        outputs, shares = [], []
        for head in range(heads):
            of = head * kv_heads // heads
            scores = torch.stack([query[head] @ key[of] for _, key, _ in seen]) / math.sqrt(query.shape[1])
            share = (scores - scores.max()).exp()
            shares.append(share / share.sum())
            outputs.append(sum(p * value[of] for p, (_, _, value) in zip(shares[-1], seen, strict=True)))
        residual = self.norm(state, "midlayer.hidden_norm.weight") if self.normed_residual else state
        inner = residual + self.tensors["midlayer.self_attn.o_proj.weight"] @ torch.cat(outputs)
        y = self.norm(inner, "midlayer.post_attention_layernorm.weight")
        gate, up = (self.tensors[f"midlayer.mlp.{name}_proj.weight"] @ y for name in ("gate", "up"))
        raw = inner + self.tensors["midlayer.mlp.down_proj.weight"] @ (gate * torch.sigmoid(gate) * up)
        out = self.norm(raw, "norm.weight")
        return Step(self.tensors["lm_head.weight"] @ out, out if self.post_norm else raw, torch.stack(shares), [row for row, _, _ in seen])

    def to_target(self, draft_id: int) -> int:
        return draft_id + int(self.tensors["d2t"][draft_id]) if "d2t" in self.tensors else draft_id

    def chain(self, ids: list[int], streams: list[Tensor], anchor: int, depth: int, *, forced: bool, shift: int = 0) -> list[Step]:
        """The chain from one anchor: prefill rows 0 .. anchor - 1 from the target, then feed on its own state.

        streams: (position, width) each, in capture order. `shift` misplaces the tokens, for a negative control.
        """
        self.cache = []
        states = [self.first_state([stream[row] for stream in streams]) for row in range(anchor)]
        for row in range(anchor - 1):
            self.remember(ids[row + 1 + shift], states[row], row)
        steps = [self.step(ids[anchor + shift], states[anchor - 1], anchor - 1)]
        for d in range(2, depth + 1):
            token = ids[anchor + d - 1] if forced else self.to_target(int(steps[-1].logits.argmax()))
            steps.append(self.step(token, steps[-1].state, anchor + d - 2))
        return steps


def target_streams(target: LlamaForCausalLM, ids: list[int], boundaries: tuple[int, ...]) -> list[Tensor]:
    """Streams of a plain forward through transformers' own `hidden_states`, (position, width) each."""
    with torch.inference_mode():
        states = target(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return [states[boundary][0].float() for boundary in boundaries]


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
