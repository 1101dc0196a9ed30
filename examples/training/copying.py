"""Where a block drafter begins: able to look up what stood behind a token before, which copying takes and which so few steps do not grow.

A row of a block reads the context as the target left it, so an induction circuit (Olsson et al. 2022, arXiv:2209.11895) has three parts
here. The fusion keeps two tokens of every position apart, its own and the one before it, as far as the streams tell both, and a flag that
says that it is context. The first layer reads the anchor's row, the only one that has neither the flag nor the mask's embedding. Each
further layer looks for the place whose token before is the one that was read last, and reads that place's own: the token behind it. All of
it is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.training.streams import Streams
from training.blocks import BlockDrafter, BlockLayer

FITTED = 200  # conversations that tokens are fitted on
RIDGE = 1e-4  # of the streams' mean square
SLOW = 0.004  # turns of RoPE a position, in radians, under which two places far apart still match
FLAG, SHARPNESS, WRITTEN, GROWTH, CALM = 2.5, 2.0, 6.0, 1.6, 0.1  # tried on bundled:target
ANCHOR = (8.0, -6.5)  # bias of the first layer's keys, and what the flag takes from it


@dataclass(frozen=True)
class Places:
    """Where in the width what is kept: rows of orthonormal directions for the token (token, width), the one before, and the flag."""

    token: Tensor
    before: Tensor
    flag: Tensor

    @classmethod
    def of(cls, embed: Tensor) -> Places:
        """Every second principal direction of the embeddings, so that each half tells tokens apart; the flag is where they differ least."""
        axes = torch.linalg.svd(embed - embed.mean(0), full_matrices=False).Vh
        inside = 2 * ((len(axes) - 2) // 2)
        return cls(axes[:inside:2], axes[1:inside:2], axes[-1:])


@torch.no_grad()
def able_to_copy(head: BlockDrafter, embed: Tensor, data: Streams, seed: int) -> None:
    """Write the circuit into a drafter that is still as it was drawn; embed: the target's embeddings (token, width)."""
    places, draw = Places.of(embed), torch.Generator().manual_seed(seed)
    spread = (embed @ places.token.T).std()
    own, before, one = fitted(embed, data)
    fused = places.token.T @ (places.token @ own) + places.before.T @ (places.token @ before)
    head.fc.weight.copy_(fused / spread + FLAG * places.flag.T @ one)
    head.norm.weight.fill_(1.5)
    for number, layer in enumerate(head.layers):
        assert isinstance(layer, BlockLayer)
        for part in (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj, layer.down_proj):
            part.weight.mul_(CALM)
        layer.q_norm.weight.fill_(SHARPNESS)
        layer.k_norm.weight.fill_(SHARPNESS)
        if number:
            find(layer, places, embed, draw)
        else:
            see_the_anchor(layer, places)
        write(layer, places, spread * WRITTEN * GROWTH**number, draw)


def fitted(embed: Tensor, data: Streams) -> tuple[Tensor, Tensor, Tensor]:
    """What of all streams tells a position's own token, the one before, both (width, streams), and the number 1, by least squares."""
    streams, own, before, centred = [], [], [], embed - embed.mean(0)
    for row in range(min(FITTED, len(data.conversations))):
        batch = data.batch([row], embed.device)
        streams.append(batch.streams[0].float())
        own.append(centred[batch.ids[0]])
        before.append(torch.cat([torch.zeros_like(centred[:1]), centred[batch.ids[0, :-1]]]))
    read = torch.cat(streams)
    square = read.T @ read + RIDGE * len(read) * read.pow(2).mean() * torch.eye(read.shape[1], device=read.device)
    wanted = torch.cat([torch.cat(own), torch.cat(before), torch.ones_like(read[:, :1])], dim=1)
    found = torch.linalg.solve(square, read.T @ wanted).T
    return found[: embed.shape[1]], found[embed.shape[1] : -1], found[-1:]


def see_the_anchor(layer: BlockLayer, places: Places) -> None:
    """Queries and keys of one direction whatever comes in, but for the flag, which turns a key away."""
    size = layer.shape.head_dim
    direction = torch.zeros(size, device=places.flag.device)
    direction[[size // 2 - 1, size - 1]] = 1.0  # RoPE's slowest pair
    bias, turned = ANCHOR
    layer.q_proj.bias.copy_(bias * direction.repeat(layer.shape.num_attention_heads))
    layer.k_proj.bias.copy_(bias * direction.repeat(layer.shape.num_key_value_heads))
    layer.k_proj.weight.add_(turned * torch.outer(direction.repeat(layer.shape.num_key_value_heads), places.flag[0]))


def find(layer: BlockLayer, places: Places, embed: Tensor, draw: torch.Generator) -> None:
    """Keys are the token before, queries the token at hand, both in directions drawn for each head, in RoPE's slow pairs."""
    shape, size = layer.shape, layer.shape.head_dim
    fast = int((shape.rope_theta ** (-torch.arange(size // 2) / (size // 2)) > SLOW).sum())
    mean = embed.mean(0) / embed.pow(2).mean(-1).sqrt().mean()
    together = shape.num_attention_heads // shape.num_key_value_heads
    for head in range(shape.num_key_value_heads):
        seen = torch.randn(size, len(places.token), generator=draw).to(embed.device) / len(places.token) ** 0.5
        seen[:fast] *= CALM
        seen[size // 2 : size // 2 + fast] *= CALM
        layer.k_proj.weight[head * size : (head + 1) * size] += seen @ places.before
        for query in range(head * together, (head + 1) * together):
            rows = slice(query * size, (query + 1) * size)
            layer.q_proj.weight[rows] += seen @ places.token
            layer.q_proj.bias[rows] = -seen @ places.token @ mean


def write(layer: BlockLayer, places: Places, size: Tensor, draw: torch.Generator) -> None:
    """What is read is the token, and it is written where a row keeps its own."""
    shape, dim = layer.shape, layer.shape.head_dim
    together = shape.num_attention_heads // shape.num_key_value_heads
    turn = torch.linalg.qr(torch.randn(shape.num_key_value_heads * dim, len(places.token), generator=draw)).Q.to(places.token)
    layer.v_proj.weight.add_(turn @ places.token)
    back = (turn @ places.token).T.unflatten(1, (-1, 1, dim)).expand(-1, -1, together, -1).flatten(1)
    layer.o_proj.weight.add_(size * back / together)
