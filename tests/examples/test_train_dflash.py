"""A DFlash drafter that is trained here is what driftcli drafts with, block for block."""

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
from driftcli.training.streams import Batch
from examples import train_dflash
from tests.tiny import prompts, trajectories
from training.dflash import DFlash, export
from training.layer import HeadShape

CPU, ROWS = torch.device("cpu"), 5


def train(models: Path, out: Path, **changes: object) -> None:
    settings = {
        "target": str(models / "target"), "out": out, "cache": models / "streams", "replies": models / "replies.jsonl", "steps": 200, "tokens": 512,
        "device": "cpu", "dtype": "float32", "block_size": ROWS, "rows": 40, "layers": 1, "rate": 3e-3,
    }  # fmt: skip
    train_dflash.main(**{**settings, **changes})  # type: ignore[arg-type]


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(resolve(str(folder)), CPU, "float32")


def guesses(folder: Path, head: DFlash, models: Path) -> tuple[Tensor, Tensor]:
    """What the engine drafts with an exported drafter, and what the trained module itself would; (anchor, guess)."""
    pair = load_pair(str(models / "target"), str(folder), CPU, "float32")
    assert isinstance(pair.drafter, Block)
    (text,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 24)
    drafted = draft_blocks(pair.drafter, [text], DraftSettings(ROWS - 1), ROWS - 1, free=False)
    streams = torch.cat([text.streams[boundary] for boundary in pair.drafter.boundaries], dim=-1)[None]
    ids, anchors = text.ids[None], text.prompt_length + torch.arange(drafted.n_anchors)
    batch = Batch(ids, torch.nn.functional.pad(streams, (0, 0, 0, 1)), streams, ids > 0)
    states = head.blocks(batch, pair.target.embedding, torch.zeros_like(anchors), anchors)
    own = (states @ pair.target.head.T).argmax(-1)
    return torch.stack([queries.guesses.drafted for queries in drafted.forced], dim=1), own


@torch.no_grad()
def test_the_engine_drafts_what_the_module_would(models: Path, tmp_path: Path) -> None:
    target = loaded(models / "target")
    torch.manual_seed(0)
    head = DFlash(HeadShape.of(target, target.config.vocab_size), 2, ROWS, 1)
    for parameter in head.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.4)
        parameter.copy_(parameter.bfloat16())
    export(head, target, tmp_path)
    drafted, own = guesses(tmp_path, head, models)
    assert torch.equal(drafted, own)
    assert len(drafted.unique()) >= 3, "a drafter that always says the same proves nothing"


def test_training_lowers_the_held_out_loss_of_every_guess_and_says_how(trained: Path, tmp_path: Path) -> None:
    train(trained, tmp_path / "drafter")
    with (tmp_path / "drafter" / "loss.csv").open() as lines:
        first, last = csv.DictReader(lines)
    assert all(float(last[f"held_out_loss_{guess}"]) < float(first[f"held_out_loss_{guess}"]) for guess in range(1, ROWS))
    assert "--block-size 5 --steps 200" in (tmp_path / "drafter" / "README.md").read_text()
    assert load_pair(str(trained / "target"), str(tmp_path / "drafter"), CPU, "float32").card.record["block_size"].value == ROWS


def test_the_mask_is_the_padding_token_or_one_that_is_named(models: Path) -> None:
    target = loaded(models / "target")
    assert train_dflash.mask_of(target, None) == target.tokenizer.pad_token_id
    assert train_dflash.mask_of(target, 7) == 7
    with pytest.raises(UsageError, match="expected a token of the target's"):
        train_dflash.mask_of(target, 9999)
