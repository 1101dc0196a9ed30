"""A block drafter that is trained here is what driftcli drafts with, block for block."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.block_chains import draft_blocks
from driftcli.errors import UsageError
from driftcli.families.block.drafter import Block
from driftcli.loading.pair import load_pair
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.training.losses import TargetHead
from driftcli.training.streams import Batch, usual_boundaries
from examples import train_dflash
from tests.tiny import prompts, trajectories
from training.blocks import BlockDrafter, BlockShape, block_losses, export
from training.layer import HeadShape

CPU, ROWS = torch.device("cpu"), 5


def train(models: Path, out: Path, **changes: object) -> None:
    settings = {
        "target": str(models / "target"), "out": out, "cache": models / "streams", "replies": models / "replies.jsonl", "steps": 200, "tokens": 512,
        "device": "cpu", "dtype": "float32", "guesses": ROWS - 1, "rows": 40, "layers": 1, "rate": 3e-3,
    }  # fmt: skip
    train_dflash.main(**{**settings, **changes})  # type: ignore[arg-type]


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(resolve(str(folder)), CPU, "float32")


def shape_of(target: LanguageModel, rank: int = 0) -> BlockShape:
    boundaries = usual_boundaries(target)
    return BlockShape(HeadShape.of(target, target.config.vocab_size), 2, ROWS, 1, boundaries, rank)


def guesses(folder: Path, head: BlockDrafter, models: Path) -> tuple[Tensor, Tensor]:
    """What the engine drafts behind the text's own tokens with an exported drafter, and what the trained module would; (anchor, guess)."""
    pair, depth = load_pair(str(models / "target"), str(folder), CPU, "float32"), head.shape.guesses
    assert isinstance(pair.drafter, Block)
    (text,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 24)
    drafted = draft_blocks(pair.drafter, [text], DraftSettings(depth), depth, free=False)
    streams = torch.cat([text.streams[boundary] for boundary in pair.drafter.boundaries], dim=-1)[None]
    ids, anchors = text.ids[None], text.prompt_length + torch.arange(drafted.n_anchors)
    batch = Batch(ids, torch.nn.functional.pad(streams, (0, 0, 0, 1)), streams, ids > 0)
    scores = head.states(batch, pair.target.embedding, anchors[None])[0] @ pair.target.head.T
    if head.shape.rank:
        scores = scores + head.bias(text.ids[anchors[:, None] + torch.arange(depth)])
    return torch.stack([queries.guesses.drafted for queries in drafted.forced], dim=1), scores.argmax(-1)


@pytest.mark.parametrize("rank", [0, 3], ids=["DFlash", "DSpark"])
@torch.no_grad()
def test_the_engine_drafts_what_the_module_would(rank: int, models: Path, tmp_path: Path) -> None:
    target = loaded(models / "target")
    torch.manual_seed(0)
    head = BlockDrafter(shape_of(target, rank))
    for parameter in head.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.4)
        parameter.copy_(parameter.bfloat16())
    export(head, target, tmp_path)
    drafted, own = guesses(tmp_path, head, models)
    assert drafted.shape[1] == (ROWS if rank else ROWS - 1)
    assert torch.equal(drafted, own)
    assert len(drafted.unique()) >= 3, "a drafter that always says the same proves nothing"


def test_training_lowers_the_held_out_loss_of_every_guess_and_says_how(trained: Path, tmp_path: Path) -> None:
    train(trained, tmp_path / "drafter")
    with (tmp_path / "drafter" / "loss.csv").open() as lines:
        first, last = csv.DictReader(lines)
    assert all(float(last[f"held_out_loss_{guess}"]) < float(first[f"held_out_loss_{guess}"]) for guess in range(1, ROWS))
    assert "--guesses 4 --steps 200" in (tmp_path / "drafter" / "README.md").read_text()
    assert load_pair(str(trained / "target"), str(tmp_path / "drafter"), CPU, "float32").card.record["block_size"].value == ROWS


def test_the_mask_is_the_padding_token_or_one_that_is_named(models: Path) -> None:
    target = loaded(models / "target")
    assert train_dflash.mask_of(target, None) == target.tokenizer.pad_token_id
    assert train_dflash.mask_of(target, 7) == 7
    with pytest.raises(UsageError, match="expected a token of the target's"):
        train_dflash.mask_of(target, 9999)


def test_streams_head_sizes_and_base_may_be_others_and_wrong_ones_are_refused(models: Path) -> None:
    target = loaded(models / "target")
    assert train_dflash.boundaries_of(target, "1,2,5") == (1, 2, 5)
    assert train_dflash.boundaries_of(target, "") == usual_boundaries(target)
    for wrong in ("2,1", "0,1", "1,99", "one", "1,1"):
        with pytest.raises(UsageError, match="expected ascending numbers from 1 to"):
            train_dflash.boundaries_of(target, wrong)
    shape = HeadShape.of(target, target.config.vocab_size)
    width = shape.num_attention_heads * shape.head_dim
    wide = train_dflash.layer_of(shape, 40, 2 * shape.head_dim, 1e6)
    assert (wide.intermediate_size, wide.num_attention_heads * wide.head_dim, wide.rope_theta) == (40, width, 1e6)
    assert train_dflash.layer_of(shape, 0, 0, 0.0) == shape
    with pytest.raises(UsageError, match="expected an even divisor"):
        train_dflash.layer_of(shape, 0, shape.head_dim + 1, 0.0)


@torch.no_grad()
def test_the_loss_of_a_block_is_that_of_a_loop_over_its_guesses_and_ends_with_the_reply(models: Path) -> None:
    target = loaded(models / "target")
    torch.manual_seed(0)
    head, width = BlockDrafter(shape_of(target, 3)), target.config.hidden_size
    head.after.weight.normal_(std=0.3)
    ids = torch.randint(3, 200, (2, 14))
    replied = torch.zeros(2, 14, dtype=torch.bool)
    replied[0, 5:9] = replied[1, 3:5] = replied[1, 9:13] = True
    batch = Batch(ids, torch.randn(2, 14, 3 * width), torch.randn(2, 14, width), replied)
    read = TargetHead.of(target, None, "float32")
    found = list(block_losses(head, target.embedding, read, batch, ROWS))
    by_hand: dict[int, list[float]] = {}
    for row, spans in enumerate([[(5, 9)], [(3, 5), (9, 13)]]):
        for start, end in spans:
            for anchor in range(start - 1, end - 1):
                one = Batch(ids[row : row + 1], batch.streams[row : row + 1], batch.tops[row : row + 1], replied[row : row + 1])
                states = head.states(one, target.embedding, torch.tensor([[anchor]]))[0, 0]
                for guess in range(min(ROWS, end - 1 - anchor)):
                    scores = states[guess] @ target.head.T + head.bias(ids[row, anchor + guess])
                    truth = (batch.tops[row, anchor + guess] @ target.head.T).softmax(-1)
                    by_hand.setdefault(guess, []).append(-(truth * scores.log_softmax(-1)).sum().item())
    assert [loss.rows for loss in found] == [len(by_hand.get(guess, [])) for guess in range(ROWS)]
    for guess, loss in enumerate(found):
        expected = sum(by_hand[guess]) / len(by_hand[guess]) if guess in by_hand else 0.0
        assert loss.nats.item() == pytest.approx(expected, rel=1e-4)
    assert found[0].doubt is not None and found[-1].doubt is None, "no reply is as long as the block"
