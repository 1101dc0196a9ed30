"""Drafting language models with another tokenizer than the target's, or with rows padded otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from driftcli.conditions import DraftSettings
from driftcli.engine.drafted import Drafted
from driftcli.engine.left_out import lacked
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.serving import ServedLm
from driftcli.engine.texts import foreseen
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.causal_lm.tokens import one_table
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import Source
from tests.families.causal_lm.tokenizers import bytewise, write_reordered
from tests.tiny import SPECIALS, prompts, tokenizer, trajectories

DEPTH = 4
CPU = torch.device("cpu")


def drafts(pair: LoadedPair) -> list[tuple[list[int], int, Drafted]]:
    """Texts of three prompts with all chains on them."""
    assert isinstance(pair.drafter, CausalLm)
    made = trajectories(pair.target, prompts(3), [], 25)  # type: ignore[arg-type]
    settings = DraftSettings(depth=DEPTH)
    return [(t.ids.tolist(), t.prompt_length, draft_lm_chains(pair.drafter, [t], settings, DEPTH, free=True)) for t in made]


def write_other(folder: Path, rows: int | None = None) -> Path:
    """A random drafter with a byte-level BPE that has an end token alone, where the target has four special tokens."""
    words = bytewise(300, "</s>")
    torch.manual_seed(5)
    config = LlamaForCausalLM.config_class(
        vocab_size=rows or len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Mapped:
    """The drafter's ids of the target's tokens that `write_other` has too, told by their names, and its end token for all others."""

    own: dict[int, int]
    end: int

    def fed(self, token: int) -> int:
        """What the drafter reads for a token of the target's."""
        return self.own.get(token, self.end)


def mapped() -> Mapped:
    """Of the tiny target's tokenizer and that of `write_other`."""
    ours, theirs = tokenizer().get_vocab(), bytewise(300, "</s>").get_vocab()
    return Mapped({number: theirs[name] for name, number in ours.items() if name in theirs}, theirs["</s>"])


def test_ids_in_another_order_change_no_draft(models: Path, tmp_path: Path, pair: Callable[[str], LoadedPair]) -> None:
    plain = drafts(pair("lm"))
    other = load_pair(str(models / "target"), str(write_reordered(models / "lm", tmp_path / "other")), CPU, "float32")
    assert other.card.record["tokens"].value == "one by one, as vLLM's use_heterogeneous_vocab"
    for (ids, _, expected), (same, _, found) in zip(plain, drafts(other), strict=True):
        assert ids == same
        for feed in ("forced", "free"):
            for one, two in zip(getattr(expected, feed), getattr(found, feed), strict=True):
                assert torch.equal(one.guesses.drafted, two.guesses.drafted)
                for name in ("draft_prob", "wanted_prob", "entropy"):
                    torch.testing.assert_close(getattr(one.guesses, name), getattr(two.guesses, name), rtol=0, atol=2e-6)


@torch.inference_mode()
@pytest.mark.parametrize("rows", [None, 320])
def test_chains_of_another_tokenizer_are_those_of_a_plain_loop(rows: int | None, models: Path, tmp_path: Path) -> None:
    folder = write_other(tmp_path / "other", rows)
    pair = load_pair(str(models / "target"), str(folder), CPU, "float32")
    lm, shared = AutoModelForCausalLM.from_pretrained(folder), mapped()
    assert len(shared.own) == len(tokenizer()) - (len(SPECIALS) - 1)
    own, back = shared.own, {number: target for target, number in shared.own.items()}
    kept = torch.tensor(sorted(back))
    for ids, start, found in drafts(pair):
        assert any(token not in own for token in ids[:start])  # of the template
        for place in range(0, found.n_anchors, 3):
            text = ids[: start + place + 1]
            for depth in range(DEPTH):
                logits = lm(torch.tensor([[shared.fed(token) for token in text]])).logits[0, -1]
                probs = logits[kept].softmax(-1)
                drafted = back[int(kept[int(probs.argmax())])]
                assert int(found.free[depth].guesses.drafted[place]) == drafted
                assert float(found.free[depth].guesses.draft_prob[place]) == pytest.approx(float(probs.max()), abs=1e-5)
                text.append(drafted)
            wanted = ids[start + place + 1]
            told = float(found.forced[0].guesses.wanted_prob[place])
            logits = lm(torch.tensor([[shared.fed(token) for token in ids[: start + place + 1]]])).logits[0, -1]
            if wanted in own:
                assert told == pytest.approx(float(logits[kept].softmax(-1)[kept.tolist().index(own[wanted])]), abs=1e-5)
            else:
                assert told != told


def padded(folder: Path, source: Path, rows: int, *, wins: bool) -> Path:
    """A copy of a model with more rows than tokens; wins: whose extra rows score higher than any token."""
    model = LlamaForCausalLM.from_pretrained(source)
    known = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[known:], model.lm_head.weight[known:] = 0.0, 0.0
        if wins:
            model.lm_head.weight[known:] = 50 * model.lm_head.weight[:known].abs().amax(0) * model.model.norm.weight.sign()
            model.lm_head.weight[-1] *= -1
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_rows_past_the_tokens_are_neither_drafted_nor_counted(models: Path, tmp_path: Path, pair: Callable[[str], LoadedPair]) -> None:
    target, lm = (
        padded(tmp_path / "target", models / "target", 288, wins=False),
        padded(tmp_path / "lm", models / "lm", 272, wins=True),
    )
    both = load_pair(str(target), str(lm), CPU, "float32")
    assert both.card.record["vocabulary"].value == len(tokenizer())
    assert "tokens" not in both.card.record
    raw = AutoModelForCausalLM.from_pretrained(lm)
    beaten = 0
    for (ids, start, expected), (same, _, found) in zip(drafts(pair("lm")), drafts(both), strict=True):
        assert ids == same
        beaten += int((raw(torch.tensor([ids])).logits[0, start:].argmax(-1) >= len(tokenizer())).sum())
        for one, two in zip(expected.free, found.free, strict=True):
            assert torch.equal(one.guesses.drafted, two.guesses.drafted)
            torch.testing.assert_close(one.guesses.draft_prob, two.guesses.draft_prob, rtol=0, atol=2e-6)
    assert beaten > 10


def test_a_server_steps_a_drafter_of_other_tokens_as_chains_do(models: Path, tmp_path: Path) -> None:
    pair = load_pair(str(models / "target"), str(write_other(tmp_path / "other")), CPU, "float32")
    assert isinstance(pair.drafter, CausalLm)
    for ids, start, found in drafts(pair):
        served = ServedLm(pair.drafter, DEPTH)
        guess = served.read(torch.tensor([ids[: start + 1]]), {})
        for depth in range(DEPTH):
            assert int(guess) == int(found.free[depth].guesses.drafted[0])
            guess = served.follow(guess)


def test_what_the_target_makes_of_padding_is_handed_on_as_unknown(models: Path, tmp_path: Path) -> None:
    target = padded(tmp_path / "target", models / "target", 288, wins=True)
    pair = load_pair(str(target), str(models / "lm"), CPU, "float32")
    assert isinstance(pair.drafter, CausalLm)
    made = trajectories(pair.target, prompts(2), [], 12)  # type: ignore[arg-type]
    assert any(token >= len(tokenizer()) for text in made for token in text.ids.tolist())
    for text in made:
        found = draft_lm_chains(pair.drafter, [text], DraftSettings(depth=DEPTH), DEPTH, free=False)
        wanted = text.ids[text.prompt_length + 1 :][: found.n_anchors]
        assert torch.equal(found.forced[0].guesses.wanted_prob.isnan(), wanted >= len(tokenizer()))


def test_what_the_drafter_lacks_of_the_prompts_is_counted_over_their_tokens(models: Path, tmp_path: Path) -> None:
    pair = load_pair(str(models / "target"), str(write_other(tmp_path / "other")), CPU, "float32")
    asked = prompts(2)
    ids = [token for prompt in asked for token in foreseen(pair.target.tokenizer, prompt).ids]
    lacks = [token for token in ids if tokenizer().convert_ids_to_tokens(token) in ("<s>", "<|user|>", "<|bot|>")]
    (line,) = lacked(pair, asked)
    said = f"{len(lacks) / len(ids):.1%} of the prompts' tokens are </s> to the drafter, which lacks them: '<s>', '<|user|>', '<|bot|>'"
    assert line == said


def test_nothing_is_said_of_lacking_where_there_is_one_tokenizer(pair: Callable[[str], LoadedPair]) -> None:
    assert lacked(pair("lm"), prompts(2)) == []


def test_whether_two_models_have_one_table_of_tokens_is_told_by_their_files(models: Path, tmp_path: Path) -> None:
    other = Source("other", write_other(tmp_path / "other"))
    target = Source("target", models / "target")
    assert one_table(target, Source("lm", models / "lm"))
    assert not one_table(target, other)
