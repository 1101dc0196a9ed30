"""The circuit that a block drafter may begin with copies, where the streams tell the tokens apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from driftcli.training.conversations import Conversation
from driftcli.training.streams import Streams
from training.blocks import BlockDrafter, BlockShape
from training.copying import Places, able_to_copy, fitted
from training.layer import HeadShape

WIDTH, VOCABULARY, LENGTH, MASK = 128, 300, 60, 2
LAYER = HeadShape(WIDTH, 96, 2, 2, 64, VOCABULARY, VOCABULARY, 1e-5, 1e6, 512)


def embedding() -> Tensor:
    return torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.1


def told(count: int = 40) -> Streams:
    """Texts of tokens drawn at random, said twice, whose streams hold each token, and the one before."""
    draw, embed = np.random.default_rng(0), embedding()
    halves = [draw.choice(np.arange(3, VOCABULARY), LENGTH // 2, replace=False) for _ in range(count)]
    talks = [Conversation([*half.tolist(), *half.tolist()], [(LENGTH // 2, LENGTH)]) for half in halves]
    rows = []
    for talk in talks:
        own = embed[torch.tensor(talk.ids)]
        rows.append(torch.cat([own, own.roll(1, dims=0), torch.ones_like(own)], dim=1).index_fill(0, torch.tensor([0]), 0.5))
    streams = torch.cat(rows).bfloat16().view(torch.int16).numpy()
    offsets = np.arange(0, (count + 1) * LENGTH, LENGTH)
    return Streams({}, (1, 2, 3), talks, offsets, streams, streams[:, :WIDTH])


def test_a_token_and_the_one_before_it_are_fitted_where_the_streams_hold_them() -> None:
    data, embed = told(), embedding()
    own, before, one = fitted(embed, data)
    batch = data.batch([3], torch.device("cpu"))
    read, centred = batch.streams[0, 1:].float(), embed - embed.mean(0)
    torch.testing.assert_close(read @ own.T, centred[batch.ids[0, 1:]], atol=0.02, rtol=0)
    torch.testing.assert_close(read @ before.T, centred[batch.ids[0, :-1]], atol=0.02, rtol=0)
    torch.testing.assert_close(read @ one.T, torch.ones(LENGTH - 1, 1), atol=0.05, rtol=0)


def test_the_places_of_tokens_and_flag_share_no_direction() -> None:
    places = Places.of(embedding())
    every = torch.cat([places.token, places.before, places.flag])
    torch.testing.assert_close(every @ every.T, torch.eye(len(every)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_drafter_that_begins_so_copies_thirty_times_as_often_as_one_that_guesses_at_random() -> None:
    data, embed = told(), embedding()
    torch.manual_seed(0)
    head = BlockDrafter(BlockShape(LAYER, 2, 3, MASK, (1, 2, 3)))
    drawn = copied(head, data, embed)
    able_to_copy(head, embed, data, seed=0)
    assert drawn < 0.02
    assert copied(head, data, embed) > 30 / VOCABULARY


def copied(head: BlockDrafter, data: Streams, embed: Tensor) -> float:
    """Share of first guesses in the second half of each text that are the token said there."""
    batch = data.batch(list(range(len(data.conversations))), torch.device("cpu"))
    anchors = torch.arange(LENGTH // 2, LENGTH - 1).expand(len(batch.ids), -1)
    guesses = (head.states(batch, embed, anchors)[:, :, 0] @ embed.T).argmax(-1)
    return (guesses == batch.ids.gather(1, anchors + 1)).float().mean().item()
