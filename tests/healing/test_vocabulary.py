"""A head that can propose more tokens scores the old ones as before, the new ones as the target's rows do, and is stored as what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.healing.places import head_files
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.training import treated
from driftcli.healing.treatments import unsuited
from driftcli.healing.vocabulary import GROWTH, lacking, with_map_of, with_tokens
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target.language_model import LanguageModel
from driftcli.training.conversations import Conversation
from driftcli.training.streams import Streams

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pair() -> LoadedPair:
    return load_pair("bundled:target", "bundled:pre-norm", CPU, "float32")


def parts(pair: LoadedPair) -> tuple[Eagle3, LanguageModel]:
    assert isinstance(pair.drafter, Eagle3)
    assert isinstance(pair.target, LanguageModel)
    return pair.drafter, pair.target


def outside(head: Eagle3, count: int) -> torch.Tensor:
    return (head.vocabulary.to_draft < 0).nonzero()[:count, 0]


def said(ids: list[int]) -> Streams:
    """Streams of one reply of these tokens; nothing was computed on it."""
    return Streams({}, (), [Conversation([0, *ids], [(1, 1 + len(ids))])], np.zeros(2), np.zeros((0, 0)), np.zeros((0, 0)))


def test_the_tokens_that_were_said_most_and_cannot_be_proposed_come_first(pair: LoadedPair) -> None:
    head, _ = parts(pair)
    one, two, three = outside(head, 3).tolist()
    known = int(head.vocabulary.to_target[5])
    assert lacking(head, said([two, known, known, known, three, one, two, three, two])).tolist() == [two, three, one]
    assert len(lacking(head, said([known]))) == 0
    small = replace(head, vocabulary=DraftVocabulary.of(torch.arange(8), len(head.vocabulary.to_draft)))
    assert len(lacking(small, said(list(range(8, 40))))) == int(GROWTH * 8)


def test_old_tokens_are_scored_as_before_and_new_ones_by_the_targets_rows(pair: LoadedPair) -> None:
    head, target = parts(pair)
    ids, outputs = outside(head, 7), torch.randn(5, head.head.shape[1], generator=torch.Generator().manual_seed(0))
    made = with_tokens(head, ids, target.head)
    assert made.vocabulary.to_target.tolist() == sorted([*head.vocabulary.to_target.tolist(), *ids.tolist()])
    places = made.vocabulary.to_draft[head.vocabulary.to_target]
    torch.testing.assert_close(made.logits(outputs)[:, places], head.logits(outputs))
    gains = torch.rand(head.head.shape[1]) + 0.5
    of_target = replace(head, head=target.head[head.vocabulary.to_target] * gains)
    rows = with_tokens(of_target, ids, target.head)
    torch.testing.assert_close(rows.head[rows.vocabulary.to_draft[ids]], target.head[ids] * gains, rtol=1e-3, atol=1e-5)
    shared = with_tokens(replace(head, head=target.head[head.vocabulary.to_target], shared_head=True), ids, target.head)
    assert torch.equal(shared.head, target.head[shared.vocabulary.to_target])


def test_a_head_with_more_tokens_is_read_back_as_what_it_is(pair: LoadedPair, tmp_path: Path) -> None:
    head, target = parts(pair)
    made = with_tokens(head, outside(head, 7), target.head)
    files = head_files("bundled:pre-norm", target, head)
    write_files(with_weights_of(with_map_of(files, made), made, {}), tmp_path)
    found = load_pair("bundled:target", str(tmp_path), CPU, "float32").drafter
    assert isinstance(found, Eagle3)
    assert found.vocabulary.to_target.tolist() == made.vocabulary.to_target.tolist()
    torch.testing.assert_close(found.head, made.head, rtol=1e-2, atol=1e-3)  # stored in bfloat16


def test_nothing_is_put_in_where_nothing_lacks(pair: LoadedPair) -> None:
    head, target = parts(pair)
    with pytest.raises(UsageError, match="the replies hold no token that the head lacks"):
        treated(head, ("vocabulary",), said([int(head.vocabulary.to_target[0])]), target)
    every = replace(head, vocabulary=DraftVocabulary.of(torch.arange(len(target.head)), len(target.head)))
    assert unsuited("vocabulary", every) == "it can propose every token of the target"
    assert unsuited("vocabulary", head) == ""
