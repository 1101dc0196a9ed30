"""An EAGLE-3 head as a plain module, written from the papers (arXiv:2503.01840, arXiv:2605.09992)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.layer import HeadShape, Layer, stored_name
from training.streams import Batch


class Head(Layer):
    """EAGLE-3: streams -> fc -> one decoder layer over (embedding, state); post-norm: a norm per stream, normed state fed back."""

    def __init__(self, shape: HeadShape, *, post_norm: bool) -> None:
        super().__init__(shape)
        width, self.post_norm = shape.hidden_size, post_norm
        self.fc_norm = nn.ModuleList([self.norm_of_width() for _ in range(3)]) if post_norm else None
        self.fc = nn.Linear(3 * width, width, bias=False)
        self.hidden_norm, self.input_layernorm, self.post_attention_layernorm, self.norm = (self.norm_of_width() for _ in range(4))
        self.add_projections(2 * width)
        self.lm_head = nn.Linear(width, shape.draft_vocab_size, bias=False)

    def fuse(self, streams: Tensor) -> Tensor:
        """Streams (batch, row, 3 * width) -> the first state (batch, row, width)."""
        if self.fc_norm is not None:
            streams = torch.cat([norm(part) for norm, part in zip(self.fc_norm, streams.chunk(3, dim=-1), strict=True)], dim=-1)
        return self.fc(streams)

    def first(self, batch: Batch, rows: int) -> Tensor:
        """The fused streams of the first `rows` positions, (batch, row, width)."""
        return self.fuse(batch.streams[:, :rows].to(self.fc.weight.dtype))

    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `lm_head` reads and the next state, raw or normed."""
        x = torch.cat([self.input_layernorm(embeddings), self.hidden_norm(state)], dim=-1)
        state = state + self.attended(x, step, keys, values)
        state = state + self.inner(self.post_attention_layernorm(state))
        out = self.norm(state)
        return out, out if self.post_norm else state

    @property
    def scoring(self) -> Tensor:
        """Of the draft vocabulary."""
        return self.lm_head.weight


def export(head: Head, ids: Tensor, out: Path) -> None:
    """`config.json` and `model.safetensors` in SafeAILab's layout with the EAGLE 3.1 fields, weights in bfloat16."""
    outer, vocabulary = ("fc", "norm", "lm_head"), head.shape.vocab_size
    tensors = {
        name if name.startswith(outer) else f"midlayer.{stored_name(name)}": value.detach().bfloat16().cpu().contiguous()
        for name, value in head.state_dict().items()
    }
    tensors["d2t"] = ids - torch.arange(len(ids))
    tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    flags = {"fc_norm": True, "norm_output": True} if head.post_norm else {}
    named = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", **asdict(head.shape), **flags}
    (out / "config.json").write_text(json.dumps({**named, "hidden_act": "silu", "torch_dtype": "bfloat16"}, indent=2) + "\n")
