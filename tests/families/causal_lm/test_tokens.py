from __future__ import annotations

import json

import pytest
import torch

from driftcli.errors import PairError
from driftcli.families.causal_lm.tokens import Shared, Tokens, Words, shared_tokens
from tests.conftest import GOLDEN
from tests.edits import refused
from tests.families.causal_lm.tokenizers import bytewise, pairs, single_bytes
from tests.tiny import tokenizer

CPU = torch.device("cpu")
PAIRS = pairs()


def shared(name: str, fewer: int = 0) -> Shared:
    target, drafter = PAIRS[name]
    return shared_tokens(Words("target", target, len(target) - fewer), Words("drafter", drafter, len(drafter) - fewer))


@pytest.mark.parametrize("fewer", [0, 2])
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_tokens_are_mapped_id_by_id_as_vllm_maps_them(name: str, fewer: int) -> None:
    target, drafter = PAIRS[name]
    golden = json.loads((GOLDEN / "tokens" / f"{name}.json").read_text())[str(fewer)]
    found = shared(name, fewer)
    proposed = [found.pairs.get(own, -1) for own in range(len(drafter) - fewer)]
    assert proposed == golden["proposed"]
    tokens = Tokens.of(found, len(target) - fewer, CPU)
    assert tokens.fed.tolist() == golden["fed"]
    assert 20 < len(found.pairs) < min(len(target), len(drafter))


def test_scores_and_ids_of_what_may_be_proposed_stand_in_one_order() -> None:
    found = shared("bytewise-spaced")
    tokens = Tokens.of(found, len(PAIRS["bytewise-spaced"][0]), CPU)
    logits = torch.arange(len(PAIRS["bytewise-spaced"][1])).float()[None]
    best = int(tokens.scores(logits).argmax())
    own = max(found.pairs)
    assert int(tokens.vocabulary.to_target[best]) == found.pairs[own]
    assert int(tokens.vocabulary.to_draft[found.pairs[own]]) == best
    lacked = set(range(len(tokens.fed))) - set(found.pairs.values())
    assert lacked and all(int(tokens.vocabulary.to_draft[token]) == -1 for token in lacked)


def test_of_two_tokens_of_one_text_the_first_id_stands() -> None:
    drafter = bytewise(290, "</s>")
    drafter.add_tokens([" the"])  # beside the byte-level token of the same text
    target = bytewise(330, "<eos>")
    own, there = drafter.get_vocab(), target.get_vocab()
    found = shared_tokens(Words("target", target, len(target)), Words("drafter", drafter, len(drafter)))
    assert found.pairs[own["Ġthe"]] == there["Ġthe"]
    assert own[" the"] > own["Ġthe"] and own[" the"] not in found.pairs


def test_one_tokenizer_with_rows_padded_otherwise_shares_its_tokens_under_the_same_ids() -> None:
    one = tokenizer()
    for rows in ((300, 280), (280, 300), (len(one), 300)):
        found = shared_tokens(Words("target", one, rows[0]), Words("drafter", one, rows[1]))
        assert found.same and found.cut_alike
        assert found.pairs == {number: number for number in range(len(one))}
        tokens = Tokens.of(found, rows[0], CPU)
        assert tokens.scores(torch.zeros(1, rows[1])).shape == (1, len(one))
        assert tokens.fed[: len(one)].tolist() == list(range(len(one)))
        assert set(tokens.fed[len(one) :].tolist()) <= {1}  # its end token for padding, which has no text


def test_another_tokenizer_of_as_many_tokens_is_not_taken_for_the_same_one() -> None:
    """transformers' `generate` takes vocabularies of one size for one, and hands ids over as they are."""
    target, drafter = bytewise(300, "<eos>", "<|user|>"), bytewise(300, "</s>")
    assert len(target) == len(drafter) == 300
    found = shared_tokens(Words("target", target, 300), Words("drafter", drafter, 300))
    assert not found.same and not found.cut_alike
    names = [(drafter.convert_ids_to_tokens(own), target.convert_ids_to_tokens(there)) for own, there in found.pairs.items()]
    assert all(own == there for own, there in names)
    assert len(names) == len(target.get_vocab().keys() & drafter.get_vocab().keys()) > 250
    assert all(own != there for own, there in found.pairs.items())  # one special token more moves every id


def test_a_tokenizer_with_tokens_more_is_another_one_and_shares_the_others() -> None:
    longer = tokenizer()
    longer.add_tokens(["<|more|>", "<|and more|>"])
    found = shared_tokens(Words("target", tokenizer(), 262), Words("drafter", longer, 262))
    assert (found.same, len(found.pairs), found.known) == (False, 260, 260)


def test_tokenizers_of_the_same_tokens_that_cut_otherwise_are_told_apart() -> None:
    other = single_bytes("<s>", "</s>", "<|user|>", "<|bot|>")
    other.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    found = shared_tokens(Words("target", single_bytes("<s>", "</s>", "<|user|>", "<|bot|>"), 260), Words("drafter", other, 260))
    assert found.same and not found.cut_alike


def test_what_lacks_tokens_and_names_none_to_stand_for_them_is_refused() -> None:
    silent = bytewise(290, "</s>")
    silent.eos_token = None
    says = ("drafter", "names neither unk_token nor eos_token", "tokenizer_config.json")
    target = bytewise(330, "<eos>")
    refused(PairError, lambda: shared_tokens(Words("target", target, 330), Words("drafter", silent, len(silent))), *says)


def test_models_without_a_token_in_common_are_refused() -> None:
    one, other = bytewise(290, "</s>"), bytewise(290, "</s>")
    says = ("drafter: none of its", "is one of target's", "expected some in common")
    refused(PairError, lambda: shared_tokens(Words("target", one, 0), Words("drafter", other, len(other))), *says)
