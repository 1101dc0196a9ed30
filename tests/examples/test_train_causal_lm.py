from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import load_pair
from examples import train_causal_lm
from examples.train_causal_lm import batches, loss_of


def test_a_moment_makes_a_drafter_with_a_tokenizer_of_its_own_that_loads_beside_the_target(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "drafter"
    train_causal_lm.main(
        target=str(trained / "target"),
        replies=trained / "replies.jsonl",
        out=out,
        vocabulary=300,
        minutes=0.02,
        tokens=256,
        rate=1e-3,
        seed=0,
    )
    pair = load_pair(str(trained / "target"), str(out), torch.device("cpu"), "float32")
    assert isinstance(pair.drafter, CausalLm)
    assert pair.drafter.lm.tokenizer.get_vocab() != pair.target.tokenizer.get_vocab()
    assert pair.card.record["tokens"].source == "tokenizer"
    assert 200 < int(str(pair.card.record["vocabulary"].value)) < 300
    assert "another tokenizer than the target's" in pair.card.notes[0]


def test_padding_counts_nothing_in_the_loss() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaForCausalLM.config_class(**sizes))
    ids = torch.tensor([[3, 4, 5, -1, -1], [6, 7, 8, 9, 10]])
    nats = [F.cross_entropy(model(row[None]).logits[0, :-1], row[1:], reduction="sum") for row in (ids[0, :3], ids[1])]
    assert loss_of(model, ids).item() == pytest.approx(sum(one.item() for one in nats) / 6, rel=1e-5)


def test_batches_keep_to_their_size_and_go_through_all_texts_before_they_begin_anew() -> None:
    rows = [[number] * length for number, length in enumerate((3, 9, 2, 5, 4, 4))]
    found = list(islice(batches(rows, 12, 0), 3))
    assert all(ids.numel() <= 12 for ids in found)
    assert sorted(int(row[0]) for ids in found for row in ids) == list(range(6))
