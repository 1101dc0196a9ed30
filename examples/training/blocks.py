"""Block drafters as plain modules, written from the papers (DFlash, arXiv:2602.06036; DSpark, DeepSpec) and sharing no code with driftcli's
engine.

A block of rows, the anchor's token and then mask tokens, reads the target's streams of everything before the anchor as keys and values, and
its own rows both ways. DFlash: row d guesses the token d behind the anchor. DSpark: every row, the anchor's too, guesses the token behind
its own place, its scores biased by the token at that place (`W2 W1[token]`), and a confidence head learns how often the guess is right.
Embedding and output head are the target's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
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

FAR = -1e9  # under every score of an anchor that may be drawn


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a layer, and of the block: rows, the token of those that are not the anchor's, the boundaries that are read, and the rank of
    the correction, 0 for DFlash, which has none.
    """

    layer: HeadShape
    layers: int
    rows: int
    mask: int
    boundaries: tuple[int, ...]
    rank: int = 0

    @property
    def guesses(self) -> int:
        """Tokens that a block guesses; a DSpark's first row guesses too."""
        return self.rows - (not self.rank)

    @property
    def said(self) -> dict[str, str]:
        """For its card: in words, and as the script's options."""
        layer, read = self.layer, ", ".join(map(str, self.boundaries))
        rank = f", a bias of rank {self.rank}" if self.rank else ""
        return {
            "shape": f"{self.layers} layers of inner width {layer.intermediate_size}, boundaries {read}, mask token {self.mask}{rank}",
            "options": f"--layers {self.layers} --inner {layer.intermediate_size} --head-size {layer.head_dim} "
            f"--base {layer.rope_theta:g}\n  --streams {read.replace(' ', '')} --mask {self.mask}{rank and f' --rank {self.rank}'}",
        }


@dataclass(frozen=True)
class Blocks:
    """What every layer needs of a batch: the fused streams (conversation, position, width), which keys each row of its blocks sees
    (conversation, 1, row, position + row), and RoPE's tables of positions and of rows.
    """

    context: Tensor
    seen: Tensor
    before: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor]


class BlockLayer(nn.Module):
    """A Qwen3 layer whose attention has two sources of keys and values: the fused streams, and the block itself."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape, width = shape, shape.hidden_size
        q_width, kv_width = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
        self.q_proj, self.o_proj = nn.Linear(width, q_width), nn.Linear(q_width, width)
        self.k_proj, self.v_proj = (nn.Linear(width, kv_width) for _ in range(2))
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.zeros_(projection.bias)
        self.q_norm, self.k_norm = (Norm(shape.head_dim, eps=shape.rms_norm_eps) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(width, shape.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate_size, width, bias=False)
        self.input_layernorm, self.post_attention_layernorm = (Norm(width, eps=shape.rms_norm_eps) for _ in range(2))

    def forward(self, x: Tensor, blocks: Blocks) -> Tensor:
        """All rows of all blocks (conversation, row, width) one layer on."""
        h = self.input_layernorm(x)
        query = rotate(self.q_norm(self._heads(self.q_proj(h))), *blocks.own)
        sources = (blocks.context, blocks.before), (h, blocks.own)
        key = torch.cat([rotate(self.k_norm(self._heads(self.k_proj(part))), *tables) for part, tables in sources], dim=2)
        value = torch.cat([self._heads(self.v_proj(part)) for part, _ in sources], dim=2)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=blocks.seen, enable_gqa=True)
        x = x + self.o_proj(out.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.shape.head_dim).transpose(1, 2)


class BlockDrafter(nn.Module):
    """Streams -> fc -> norm, as context of the layers that a block goes through."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.shape, width, eps = shape, shape.layer.hidden_size, shape.layer.rms_norm_eps
        self.fc = nn.Linear(len(shape.boundaries) * width, width, bias=False)
        self.hidden_norm, self.norm = (Norm(width, eps=eps) for _ in range(2))
        self.layers = nn.ModuleList([BlockLayer(shape.layer) for _ in range(shape.layers)])
        if shape.rank:
            self.before, self.after = (
                nn.Embedding(shape.layer.vocab_size, shape.rank),
                nn.Linear(shape.rank, shape.layer.vocab_size, bias=False),
            )
            nn.init.zeros_(self.after.weight)
            self.confidence = nn.Linear(width + shape.rank, 1)

    def states(self, batch: Batch, embed: Tensor, anchors: Tensor) -> Tensor:
        """What the output head reads of the rows that guess, (conversation, block, guess, width); anchors: (conversation, block)."""
        (count, each), rows, width = anchors.shape, self.shape.rows, embed.shape[1]
        ids = torch.full((count, each, rows), self.shape.mask, device=anchors.device)
        ids[..., 0] = batch.ids.gather(1, anchors)
        x, blocks = F.embedding(ids, embed).view(count, each * rows, width), self._blocks(batch, anchors)
        for layer in self.layers:
            x = layer(x, blocks)
        return self.norm(x).view(count, each, rows, width)[:, :, rows - self.shape.guesses :]

    def _blocks(self, batch: Batch, anchors: Tensor) -> Blocks:
        (count, each), rows, length, layer = anchors.shape, self.shape.rows, batch.ids.shape[1], self.shape.layer
        context = self.hidden_norm(self.fc(batch.streams.to(self.fc.weight.dtype)))
        places, block = torch.arange(length, device=anchors.device), torch.arange(each * rows, device=anchors.device) // rows
        before = places < anchors.repeat_interleave(rows, dim=1)[..., None]
        inside = (block[:, None] == block).expand(count, -1, -1)
        own = (anchors[..., None] + torch.arange(rows, device=anchors.device)).flatten()
        tables = [part.view(count, 1, each * rows, -1) for part in rotary(own, layer.head_dim, layer.rope_theta)]
        return Blocks(
            context,
            torch.cat([before, inside], dim=2)[:, None],
            rotary(places, layer.head_dim, layer.rope_theta),
            (tables[0], tables[1]),
        )

    def bias(self, tokens: Tensor) -> Tensor:
        """What the tokens before add to the scores, (..., vocabulary)."""
        found: Tensor = self.after(self.before(tokens))
        return found

    def doubt(self, states: Tensor, tokens: Tensor, right: Tensor) -> Tensor:
        """Cross-entropy in nats of the confidence head, which reads states and tokens before and teaches neither anything."""
        scores = self.confidence(torch.cat([states, self.before(tokens)], dim=-1).detach())[..., 0]
        return F.binary_cross_entropy_with_logits(scores.float(), right)


def drawn_anchors(replied: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Positions right before or inside replies, some of each conversation, (conversation, block), and which of these are any."""
    able = replied.roll(-1, dims=1)
    able[:, -1] = False
    most, even = int(able.sum(1).max()), -(-drawn.rows // len(able))
    each = max(1, min(most, even) if drawn.rows else most)
    chance = torch.rand(able.shape, generator=torch.Generator().manual_seed(drawn.seed)).to(able.device)
    chosen = chance.masked_fill(~able, FAR).topk(each, dim=1).indices
    return chosen, able.gather(1, chosen)


def block_losses(
    head: BlockDrafter, embed: Tensor, target: TargetHead, batch: Batch, unroll: int, drawn: Drawn = ALL_ROWS, among: Among | None = None
) -> Iterator[Loss]:
    """Loss of each guess of a block against the target's distribution, over blocks anchored in replies or right before them, on the guesses
    up to the reply's end. unroll: how many guesses a block has. among: None, since all tokens of the vocabulary are scored.
    """
    assert among is None
    anchors, any_of = drawn_anchors(batch.replied, drawn)
    count, each = anchors.shape
    places = anchors[..., None] + torch.arange(unroll, device=anchors.device)
    replied = F.pad(batch.replied, (0, unroll + 1)).gather(1, places.flatten(1) + 1).view(count, each, unroll)
    counted = (replied & any_of[..., None]).cumprod(dim=2).bool()
    talk = torch.arange(count, device=anchors.device)[:, None, None].expand_as(places)[counted]
    states, tokens = head.states(batch, embed, anchors)[counted], batch.ids[talk, places[counted]]
    truth, guessed = target.probabilities(batch.tops[talk, places[counted]]), target.logits(states)
    if head.shape.rank:
        guessed = guessed + head.bias(tokens)
    nats, right = F.cross_entropy(guessed, truth, reduction="none"), (guessed.argmax(-1) == truth.argmax(-1)).float()
    number = torch.arange(unroll, device=anchors.device).expand_as(places)[counted]
    for guess in range(unroll):
        these = number == guess
        rows = int(these.sum())  # 0 where no reply of the batch is that long
        doubt = head.doubt(states[these], tokens[these], right[these].detach()) if head.shape.rank and rows else None
        yield Loss(nats[these].sum() / max(1, rows), right[these].sum().detach() / max(1, rows), rows, doubt)


def export(head: BlockDrafter, target: LanguageModel, out: Path) -> None:
    """`config.json` and `model.safetensors`, weights in bfloat16: a DFlash in z-lab's layout, a DSpark in speculators', where embedding and
    head may be the target's.
    """
    tensors = {_stored(name): value.detach().bfloat16().cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = _speculators(head.shape, target) if head.shape.rank else _zlab(head.shape, target)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _layers(shape: BlockShape) -> dict[str, object]:
    layer = shape.layer
    named = {field.name: getattr(layer, field.name) for field in fields(layer) if field.name not in ("draft_vocab_size", "rope_theta")}
    return {
        "model_type": "qwen3",
        **named,
        "num_hidden_layers": shape.layers,
        "attention_bias": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": layer.rope_theta},
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }


def _zlab(shape: BlockShape, target: LanguageModel) -> dict[str, object]:
    return {
        "architectures": ["DFlashDraftModel"],
        **_layers(shape),
        "num_target_layers": len(target.layers),
        "block_size": shape.rows,
        "dflash_config": {"mask_token_id": shape.mask, "target_layer_ids": [boundary - 1 for boundary in shape.boundaries]},
        "dtype": "bfloat16",
    }


def _speculators(shape: BlockShape, target: LanguageModel) -> dict[str, object]:
    proposal = {"proposal_type": "greedy", "speculative_tokens": shape.guesses}
    verifier = {"architectures": target.config.architectures, "name_or_path": None}
    return {
        "architectures": ["DSparkDraftModel"],
        "speculators_model_type": "dspark",
        "block_size": shape.rows,
        "sample_from_anchor": True,
        "mask_token_id": shape.mask,
        "aux_hidden_state_layer_ids": list(shape.boundaries),
        "draft_vocab_size": shape.layer.vocab_size,
        "markov_rank": shape.rank,
        "markov_head_type": "vanilla",
        "enable_confidence_head": True,
        "confidence_head_with_markov": True,
        "transformer_layer_config": _layers(shape),
        "speculators_config": {
            "algorithm": "dspark", "default_proposal_method": "greedy", "proposal_methods": [proposal], "verifier": verifier
        },
        "dtype": "bfloat16",
    }  # fmt: skip


RENAMED = {"before": "markov_head.markov_w1", "after": "markov_head.markov_w2", "confidence": "confidence_head.proj"}


def _stored(name: str) -> str:
    """A tensor of the drafter as z-lab, speculators and DeepSpec name it."""
    first, _, rest = name.partition(".")
    if first in RENAMED:
        return f"{RENAMED[first]}.{rest}"
    if first != "layers":
        return name
    number, _, part = rest.partition(".")
    normed = part.split("_")[0] in ("q", "k") and part.split(".")[0] not in ATTENTION
    return f"layers.{number}.{'self_attn.' if normed else ''}{stored_name(part)}"
