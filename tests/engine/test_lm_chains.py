from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    LlamaForCausalLM,
    MistralConfig,
    PretrainedConfig,
    Qwen3Config,
)
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from driftcli.conditions import DraftSettings, Wiring
from driftcli.engine.drafted import Drafted
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.rows import rounds_to_end
from driftcli.engine.serving import serve
from driftcli.engine.trajectories import Trajectory
from driftcli.families.causal_lm.loading import read_causal_lm
from driftcli.loading.pair import LoadedPair
from driftcli.sources.files import Source
from driftcli.statistics.walks import leading_matches
from driftcli.target.language_model import load_language_model
from tests.engine.regions import shares_of
from tests.engine.rounds import kept_by_generate, served_chains
from tests.tiny import prompts, tokenizer, trajectories

DEPTH = 4


@pytest.fixture(scope="module")
def drafted(pair: Callable[[str], LoadedPair]) -> list[tuple[Trajectory, Drafted]]:
    loaded = pair("lm")
    made = trajectories(loaded.target, prompts(4), [], 30)
    return [(t, draft_lm_chains(loaded.drafter, [t], DraftSettings(depth=DEPTH), DEPTH, free=True)) for t in made]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lm(models: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(models / "lm", attn_implementation="eager").eval()


def accepted(trajectory: Trajectory, result: Drafted) -> np.ndarray:
    start, n = trajectory.prompt_length, result.n_anchors
    match = [q.guesses.drafted.numpy() == trajectory.ids[start + d : start + d + n].numpy() for d, q in enumerate(result.forced, 1)]
    return leading_matches(np.stack(match, axis=1))


@torch.inference_mode()
def test_a_free_chain_equals_the_same_chain_drafted_alone(drafted: list, lm: LlamaForCausalLM) -> None:
    for trajectory, result in drafted[:2]:
        for place in range(result.n_anchors):
            seen = trajectory.ids[: trajectory.prompt_length + place + 1]
            for depth in range(DEPTH):
                probs = lm(seen[None], use_cache=False).logits[0, -1].softmax(-1)
                guesses = result.free[depth].guesses
                assert int(guesses.drafted[place]) == int(probs.argmax())
                assert float(guesses.draft_prob[place]) == pytest.approx(float(probs.max()), abs=1e-5)
                seen = torch.cat([seen, probs.argmax()[None]])


@torch.inference_mode()
@pytest.mark.parametrize("longest", [30, 3])
def test_rounds_to_the_end_of_a_text_are_those_of_a_plain_loop(
    longest: int, pair: Callable[[str], LoadedPair], lm: LlamaForCausalLM
) -> None:
    loaded = pair("lm")
    for trajectory in trajectories(loaded.target, prompts(3), [], longest):
        result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(DEPTH), DEPTH, free=True, to_end=True)  # type: ignore[arg-type]
        ids, place, rounds = trajectory.ids.tolist(), trajectory.prompt_length, 0
        while place < len(ids) - 1:
            text = ids[: place + 1]
            for _ in range(DEPTH):
                text.append(int(lm(torch.tensor([text])).logits[0, -1].argmax()))
            place += 1 + next(
                (kept for kept in range(DEPTH) if text[place + 1 + kept : place + 2 + kept] != ids[place + 1 + kept : place + 2 + kept]),
                DEPTH,
            )
            rounds += 1
        assert rounds_to_end(result, [trajectory], DEPTH)[0][-1] == rounds


@torch.inference_mode()
def test_forced_attention_equals_the_eager_attention_of_transformers(drafted: list, lm: LlamaForCausalLM) -> None:
    trajectory, result = drafted[1]
    maps = lm(trajectory.ids[None, :-1], output_attentions=True).attentions
    assert len(maps) == result.fresh.masses.label.shape[0]
    names, labels = ("template", "prompt", "verified"), trajectory.labels
    for depth in range(1, DEPTH + 1):
        found = shares_of(result.forced[depth - 1].masses, 0, labels, depth - 1)
        for place in (0, result.n_anchors - 1):
            anchor = trajectory.prompt_length + place
            for layer, attention in enumerate(maps):
                row = attention[0, :, anchor + depth - 1, : anchor + depth]
                expected = {name: row[:, 1 : anchor + 1][:, labels[1 : anchor + 1] == i].sum(-1) for i, name in enumerate(names)}
                expected |= {"sink": row[:, 0], "ahead": row[:, anchor + 1 :].sum(-1), "recent": row[:, -4:].sum(-1)}
                for name, share in expected.items():
                    torch.testing.assert_close(found[name][layer, :, place], share, rtol=0, atol=2e-5)
                entropy = torch.special.entr(row).sum(-1)
                torch.testing.assert_close(result.forced[depth - 1].masses.entropy[layer, :, place], entropy, rtol=0, atol=1e-4)


def test_chain_and_control_are_one_computation(drafted: list) -> None:
    for trajectory, result in drafted:
        for depth in range(1, DEPTH + 1):
            chain, control = result.forced[depth - 1], result.control(depth)
            assert torch.equal(chain.guesses.drafted, control.guesses.drafted)
            shares = [shares_of(q.masses, 0, trajectory.labels, depth - 1) for q in (chain, control)]
            assert all(torch.equal(shares[0][name], shares[1][name]) for name in shares[0])


def test_free_attention_has_every_drafted_token_ahead(drafted: list) -> None:
    trajectory, result = drafted[0]
    for depth, queries in enumerate(result.free, 1):
        shares = shares_of(queries.masses, None, trajectory.labels, None)
        torch.testing.assert_close(
            sum(s for name, s in shares.items() if name != "recent"), torch.ones_like(shares["ahead"]), rtol=0, atol=1e-5
        )
        assert bool((shares["ahead"] > 0).all()) == (depth > 1)


def test_accepted_equals_assisted_generation_of_transformers(
    drafted: list, models: Path, lm: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AutoModelForCausalLM.from_pretrained(models / "target").eval()
    lm.generation_config.num_assistant_tokens, lm.generation_config.num_assistant_tokens_schedule = DEPTH, "constant"
    lm.generation_config.assistant_confidence_threshold = 0
    rounds, compared, kept = kept_by_generate(AssistedCandidateGenerator, monkeypatch), 0, 0
    for trajectory, result in drafted:
        rounds.clear()
        start, counts = trajectory.prompt_length, accepted(trajectory, result)
        new = len(trajectory.ids) - start
        out = target.generate(trajectory.ids[None, :start], assistant_model=lm, max_new_tokens=new, do_sample=False)
        assert out[0].tolist() == trajectory.ids.tolist()
        for anchor, matched in rounds:
            if start <= anchor < start + result.n_anchors:
                assert matched == counts[anchor - start]
                compared, kept = compared + 1, kept + matched
    assert compared > 10
    assert 0 < kept < DEPTH * compared


def test_a_model_drafting_for_itself_is_never_refused(pair: Callable[[str], LoadedPair]) -> None:
    loaded = pair("target")
    for trajectory in trajectories(loaded.target, prompts(3), [], 30):
        result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(depth=DEPTH), DEPTH, free=False)  # type: ignore[arg-type]
        assert (accepted(trajectory, result) == DEPTH).all()


MASK = 3


def in_parallel(pair: Callable[[str], LoadedPair]) -> LoadedPair:
    """The pair of a language model that drafts in one pass over masks."""
    loaded = pair("lm")
    return replace(loaded, drafter=replace(loaded.drafter, mask=MASK), card=replace(loaded.card, family="pard"))  # type: ignore[type-var]


@torch.inference_mode()
def test_a_parallel_chain_is_one_plain_pass_over_the_text_and_masks(pair: Callable[[str], LoadedPair], lm: LlamaForCausalLM) -> None:
    loaded = in_parallel(pair)
    for trajectory in trajectories(loaded.target, prompts(2), [], 12):
        result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(DEPTH), DEPTH, free=True)  # type: ignore[arg-type]
        assert result.free == result.forced and result.n_anchors
        for place in range(result.n_anchors):
            seen = [*trajectory.ids[: trajectory.prompt_length + place + 1].tolist(), *[MASK] * (DEPTH - 1)]
            probs = lm(torch.tensor([seen])).logits[0, -DEPTH:].softmax(-1)
            for depth, queries in enumerate(result.forced):
                assert int(queries.guesses.drafted[place]) == int(probs[depth].argmax())
                assert float(queries.guesses.draft_prob[place]) == pytest.approx(float(probs[depth].max()), abs=1e-5)
                assert float(result.control(depth + 1).guesses.draft_prob[place]) == pytest.approx(
                    float(result.fresh.guesses.draft_prob[place + depth])
                )


@torch.inference_mode()
@pytest.mark.parametrize("longest", [20, 3])
def test_rounds_of_a_parallel_drafter_to_the_end_of_a_text_are_those_of_a_plain_loop(
    longest: int, pair: Callable[[str], LoadedPair], lm: LlamaForCausalLM
) -> None:
    loaded = in_parallel(pair)
    for trajectory in trajectories(loaded.target, prompts(2), [], longest):
        result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(DEPTH), DEPTH, free=True, to_end=True)  # type: ignore[arg-type]
        ids, place, rounds = trajectory.ids.tolist(), trajectory.prompt_length, 0
        while place < len(ids) - 1:
            guessed = lm(torch.tensor([[*ids[: place + 1], *[MASK] * (DEPTH - 1)]])).logits[0, -DEPTH:].argmax(-1).tolist()
            right = [one == wanted for one, wanted in zip(guessed, ids[place + 1 :], strict=False)]
            place, rounds = place + 1 + (right.index(False) if False in right else len(right)), rounds + 1
        assert rounds_to_end(result, [trajectory], DEPTH)[0][-1] == rounds


def test_a_served_parallel_round_is_the_engines(pair: Callable[[str], LoadedPair]) -> None:
    loaded = in_parallel(pair)
    (trajectory,) = trajectories(loaded.target, prompts(1), [], 12)
    result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(DEPTH), DEPTH, free=False)  # type: ignore[arg-type]
    served = serve(loaded.drafter, len(trajectory.ids) + DEPTH, DEPTH)
    found = served_chains(served, trajectory, DEPTH, range(result.n_anchors))
    torch.testing.assert_close(found, torch.stack([queries.guesses.drafted for queries in result.forced], dim=1))


def test_another_mask_is_another_wiring(pair: Callable[[str], LoadedPair]) -> None:
    loaded = in_parallel(pair)
    (trajectory,) = trajectories(loaded.target, prompts(1), [], 12)
    probs = []
    for wiring in (Wiring(), Wiring(mask=7)):
        result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(DEPTH, wiring=wiring), DEPTH, free=False)  # type: ignore[arg-type]
        probs.append([queries.guesses.draft_prob for queries in result.forced])
    torch.testing.assert_close(probs[0][0], probs[1][0])
    assert not torch.allclose(probs[0][1], probs[1][1])


SIZES: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.3, "eos_token_id": 1, "pad_token_id": 1, "bos_token_id": 0,
}  # fmt: skip
KINDS: dict[
    str, PretrainedConfig
] = {  # windows shorter than the texts, bounded scores, learned sinks, learned positions, values of another size
    "mistral": MistralConfig(**SIZES, sliding_window=7),
    "gemma2": Gemma2Config(**SIZES, sliding_window=7, attn_logit_softcapping=2.0, query_pre_attn_scalar=8),
    "gpt-oss": GptOssConfig(**SIZES, sliding_window=7, num_local_experts=2, num_experts_per_tok=1),
    "gpt2": GPT2Config(vocab_size=260, n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
    "qwen3": Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1),
}


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_chains_of_other_models_are_those_of_their_own_plain_forward(kind: str, pair: Callable[[str], LoadedPair], tmp_path: Path) -> None:
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(KINDS[kind]).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    tokenizer().save_pretrained(tmp_path)
    loaded = pair("lm").target
    drafter, _ = read_causal_lm(load_language_model(Source(kind, tmp_path), torch.device("cpu"), "float32"), loaded)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    texts = trajectories(loaded, prompts(3), [], 16)  # type: ignore[arg-type]
    found = draft_lm_chains(drafter, texts, DraftSettings(DEPTH), DEPTH, free=True)
    for number, text in enumerate(texts):
        first, every = found.anchors.offsets[number], found.every.offsets[number]
        told = plain(text.ids[None, :-1], output_attentions=True)
        for place in range(found.every.counts[number]):
            assert int(found.fresh.guesses.drafted[every + place]) == int(told.logits[0, text.prompt_length + place].argmax())
            for layer, weights in enumerate(told.attentions):
                row = weights[0, :, text.prompt_length + place]
                own = found.fresh.masses.pick(torch.tensor([every + place]))
                verified = row[:, : len(text.ids) - 1][:, text.labels[:-1] == 2].sum(-1)
                torch.testing.assert_close(own.label[layer, :, 0, 2], verified / row.sum(-1), rtol=0, atol=2e-5)
        for place in (0, found.anchors.counts[number] - 1):
            ids = text.ids[: text.prompt_length + place + 1].tolist()
            for depth, queries in enumerate(found.free, 1):
                told = plain(torch.tensor([ids]), output_attentions=True)
                token = int(told.logits[0, -1].argmax())
                assert int(queries.guesses.drafted[first + place]) == token
                own = queries.masses.pick(torch.tensor([first + place]))
                for layer, weights in enumerate(told.attentions):
                    row = weights[0, :, -1]
                    ahead = row[:, text.prompt_length + place + 1 :].sum(-1) / row.sum(-1)
                    torch.testing.assert_close(own.label[layer, :, 0, 3], ahead, rtol=0, atol=2e-5)
                ids.append(token)
                assert len(ids) == text.prompt_length + place + 1 + depth
