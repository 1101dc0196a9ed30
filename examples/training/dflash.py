"""A DFlash drafter as a plain module, written from the paper (arXiv:2602.06036) and sharing no code with driftcli's engine.

A block of rows, the anchor's token and then mask tokens, reads the target's streams of everything before the anchor as keys and values, and
its own rows both ways; row d guesses the token d behind the anchor. Embedding and output head are the target's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from driftcli.target.language_model import LanguageModel
from driftcli.training.losses import Loss, TargetHead
from driftcli.training.sampling import ALL_ROWS, Among, Drawn
from driftcli.training.streams import Batch
from training.layer import ATTENTION, HeadShape, Norm, rotary, rotate, stored_name


class BlockLayer(nn.Module):
    """A Qwen3 layer whose attention has two sources of keys and values: the fused streams, and the block itself."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape, width = shape, shape.hidden_size
        q_width, kv_width = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
        self.q_proj, self.o_proj = nn.Linear(width, q_width, bias=False), nn.Linear(q_width, width, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, kv_width, bias=False) for _ in range(2))
        self.q_norm, self.k_norm = (Norm(shape.head_dim, eps=shape.rms_norm_eps) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(width, shape.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate_size, width, bias=False)
        self.input_layernorm, self.post_attention_layernorm = (Norm(width, eps=shape.rms_norm_eps) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, places: Tensor, anchors: Tensor) -> Tensor:
        """Blocks (block, row, width) one layer on. context: fused streams (conversation, position, width); places: which conversation each
        block is of, anchors: at which position; (block,) each.
        """
        rows, length = x.shape[1], context.shape[1]
        h = self.input_layernorm(x)
        own = anchors[:, None] + torch.arange(rows, device=x.device)
        before = torch.arange(length, device=x.device).expand(len(context), -1)
        query = self._turned(self.q_norm(self._heads(self.q_proj(h))), own)
        keys = [self._turned(self.k_norm(self._heads(self.k_proj(part))), at) for part, at in ((context, before), (h, own))]
        values = [self._heads(self.v_proj(part)) for part in (context, h)]
        key, value = (torch.cat([shared[places], inside], dim=2) for shared, inside in (keys, values))
        seen = torch.cat([before[:1] < anchors[:, None], torch.ones(len(x), rows, dtype=torch.bool, device=x.device)], dim=1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None], enable_gqa=True)
        x = x + self.o_proj(out.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.shape.head_dim).transpose(1, 2)

    def _turned(self, heads: Tensor, positions: Tensor) -> Tensor:
        cos, sin = rotary(positions.flatten(), self.shape.head_dim, self.shape.rope_theta)
        shape = (*positions.shape, -1)
        return rotate(heads, cos.view(shape)[:, None], sin.view(shape)[:, None])


class DFlash(nn.Module):
    """Streams -> fc -> norm, as context of the layers that a block goes through; mask: the token of the rows that guess."""

    def __init__(self, shape: HeadShape, layers: int, block_size: int, mask: int) -> None:
        super().__init__()
        self.shape, self.block_size, self.mask = shape, block_size, mask
        self.fc = nn.Linear(3 * shape.hidden_size, shape.hidden_size, bias=False)
        self.hidden_norm, self.norm = (Norm(shape.hidden_size, eps=shape.rms_norm_eps) for _ in range(2))
        self.layers = nn.ModuleList([BlockLayer(shape) for _ in range(layers)])

    def blocks(self, batch: Batch, embed: Tensor, places: Tensor, anchors: Tensor) -> Tensor:
        """What the target's output head reads for the rows that guess, (block, guess, width)."""
        context = self.hidden_norm(self.fc(batch.streams.to(self.fc.weight.dtype)))
        ids = torch.full((len(anchors), self.block_size), self.mask, device=anchors.device)
        ids[:, 0] = batch.ids[places, anchors]
        x = F.embedding(ids, embed)
        for layer in self.layers:
            x = layer(x, context, places, anchors)
        return self.norm(x[:, 1:])


def block_losses(
    head: DFlash, embed: Tensor, target: TargetHead, batch: Batch, unroll: int, drawn: Drawn = ALL_ROWS, among: Among | None = None
) -> Iterator[Loss]:
    """Loss of each guess of a block against the target's distribution, over blocks anchored in replies or right before them, on the guesses
    whose wanted token is part of the reply. unroll: how many guesses a block has.
    """
    places, anchors = drawn.of(batch.replied.roll(-1, dims=1), unroll).nonzero().unbind(-1)
    out, replied = head.blocks(batch, embed, places, anchors), F.pad(batch.replied, (0, unroll))
    for guess in range(unroll):
        counted = replied[places, anchors + guess + 1]
        truth = target.probabilities(batch.tops[places[counted], anchors[counted] + guess], among)
        states = out[counted, guess]
        guessed = (TargetHead(target.rows[among.ids], target.config) if among else target).logits(states)
        guessed = among.weighed(guessed) if among else guessed
        agreement = (guessed.argmax(-1) == truth.argmax(-1)).float().mean()
        yield Loss(F.cross_entropy(guessed, truth), agreement.detach(), len(guessed))


def export(head: DFlash, target: LanguageModel, out: Path) -> None:
    """`config.json` and `model.safetensors` in z-lab's layout, weights in bfloat16."""
    tensors = {_stored(name): value.detach().bfloat16().cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    shape, depth = head.shape, len(target.layers)
    config = {
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        **{
            name: getattr(shape, name)
            for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
        },
        "vocab_size": shape.vocab_size,
        "num_hidden_layers": len(head.layers),
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "max_position_embeddings": shape.max_position_embeddings,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "num_target_layers": depth,
        "block_size": head.block_size,
        "dflash_config": {"mask_token_id": head.mask, "target_layer_ids": [1, depth // 2 - 1, depth - 4]},
        "dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _stored(name: str) -> str:
    """A tensor of the drafter as z-lab names it."""
    if not name.startswith("layers."):
        return name
    _, number, part = name.split(".", maxsplit=2)
    normed = part.split("_")[0] in ("q", "k") and part.split(".")[0] not in ATTENTION
    return f"layers.{number}.{'self_attn.' if normed else ''}{stored_name(part)}"
