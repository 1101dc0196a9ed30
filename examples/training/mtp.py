"""A multi-token-prediction head as published beside a model: DeepSeek-V3's (arXiv:2412.19437), around the target's own Llama layer.

It reads the hidden state that the target's output head reads, shares the target's embedding and output head, and is stored as the target's
next layer: "extracted" heads (NextN) are folders with this layer and the target's config.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from driftcli.errors import FormatError
from driftcli.sources.files import read_config
from driftcli.target.language_model import LanguageModel
from driftcli.training.streams import Batch
from training.layer import HeadShape, Layer, stored_name

Start = Literal["last", "random"]
CALMER = 16  # times less that a copied layer adds to its stream, which here is normed: RMS 28 before SmolLM2's last layer (chosen by us)


class MtpHead(Layer):
    """eh_proj(embedding, state) -> one decoder layer -> a norm, whose output is both scored and fed back.

    rows: of the target's output head (token, width); they are neither trained nor stored.
    """

    def __init__(self, shape: HeadShape, rows: Tensor, *, attention_bias: bool = False, inner_bias: bool = False) -> None:
        super().__init__(shape)
        self.register_buffer("rows", rows, persistent=False)
        self.enorm, self.hnorm, self.input_layernorm, self.post_attention_layernorm, self.norm = (self.norm_of_width() for _ in range(5))
        self.eh_proj = nn.Linear(2 * shape.hidden_size, shape.hidden_size, bias=False)
        self.add_projections(shape.hidden_size, attention_bias=attention_bias, inner_bias=inner_bias)

    @classmethod
    def of(cls, target: LanguageModel, start: Start) -> MtpHead:
        """A head whose layer starts as the target's last one, or from nothing; FormatError for a target that is no plain Llama."""
        config = target.config
        rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        if config.model_type != "llama" or rope != "default":
            raise FormatError(
                f"{target.source.name}: model_type {config.model_type}, rope_type {rope}; expected a llama with the default one, the only "
                "layer that is written here; use train_eagle3.py"
            )
        head = cls(
            HeadShape.of(target, config.vocab_size), target.head.float(), attention_bias=config.attention_bias, inner_bias=config.mlp_bias
        )
        if start == "last":
            head.take(target)
        return head

    @torch.no_grad()
    def take(self, target: LanguageModel) -> None:
        """Copy the target's last layer, adding less, and its final norm; the projection begins as the sum of both normed inputs."""
        own = target.layers[-1].state_dict()
        for name, parameter in self.named_parameters():
            if (stored := own.get(stored_name(name))) is not None:
                parameter.copy_(stored / CALMER if name.startswith(("o_proj", "down_proj")) else stored)
        self.norm.weight.copy_(target.decoder.norm.weight)
        self.eh_proj.weight.copy_(torch.eye(self.shape.hidden_size).repeat(1, 2))

    def first(self, batch: Batch, rows: int) -> Tensor:
        """What the target's output head reads at the first `rows` positions."""
        return batch.tops[:, :rows].to(self.eh_proj.weight.dtype)

    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The normed state, which the target's output head reads, twice: it is fed back too."""
        x = self.eh_proj(torch.cat([self.enorm(embeddings), self.hnorm(state)], dim=-1))
        x = x + self.attended(self.input_layernorm(x), step, keys, values)
        out = self.norm(x + self.inner(self.post_attention_layernorm(x)))
        return out, out

    @property
    def scoring(self) -> Tensor:
        """The target's."""
        return self.rows


def export(head: MtpHead, target: LanguageModel, out: Path) -> None:
    """`model.safetensors` in bfloat16, under DeepSeek's names for the layer behind the target's last, beside the target's config."""
    at = f"model.layers.{len(target.layers)}."
    tensors = {
        f"{at}{'shared_head.' if name == 'norm.weight' else ''}{stored_name(name)}": value.detach().bfloat16().cpu().contiguous()
        for name, value in head.state_dict().items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    named = {**read_config(target.source), "architectures": ["DeepSeekMTPModel"], "num_nextn_predict_layers": 1}
    (out / "config.json").write_text(json.dumps(named, indent=2) + "\n")
