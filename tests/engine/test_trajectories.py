from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.utils import generic

from driftcli.conditions import TextSettings
from driftcli.domain import Message, Prompt
from driftcli.engine.texts import ignored_settings, write_texts
from driftcli.engine.trajectories import read_text
from driftcli.errors import PromptError
from driftcli.loading.pair import LoadedPair
from driftcli.target.language_model import LanguageModel
from tests.tiny import prompts, trajectories

BOUNDARIES = (0, 2, 5, 8)


@pytest.fixture
def target(pair: Callable[[str], LoadedPair]) -> LanguageModel:
    return pair("pre").target


@torch.inference_mode()
def test_captured_streams_are_those_of_a_plain_forward(target: LanguageModel, models: Path) -> None:
    plain = LlamaForCausalLM.from_pretrained(models / "target").eval()
    for trajectory in trajectories(target, prompts(4), BOUNDARIES, 12):
        out = plain(trajectory.ids[None], output_hidden_states=True)
        for boundary in BOUNDARIES[:-1]:
            torch.testing.assert_close(trajectory.streams[boundary], out.hidden_states[boundary][0, :-1], rtol=1e-4, atol=1e-4)
        last = trajectory.streams[8]
        torch.testing.assert_close(plain.model.norm(last), out.hidden_states[8][0, :-1], rtol=1e-4, atol=1e-4)
        assert (last - out.hidden_states[8][0, :-1]).abs().max() > 0.1  # boundary L is before the final norm, transformers' is behind it


@torch.inference_mode()
def test_a_continuation_in_a_batch_is_the_plain_greedy_one_with_its_probabilities(target: LanguageModel, models: Path) -> None:
    plain = LlamaForCausalLM.from_pretrained(models / "target").eval()
    for trajectory in trajectories(target, prompts(5), [], 12):
        start = trajectory.prompt_length
        alone = plain.generate(trajectory.ids[None, :start], max_new_tokens=12, do_sample=False)
        assert trajectory.ids.tolist() == alone[0].tolist()
        probs = plain(trajectory.ids[None]).logits[0, start - 1 : -1].softmax(-1)
        torch.testing.assert_close(trajectory.target_prob, probs.max(-1).values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trajectory.target_entropy, torch.special.entr(probs).sum(-1), rtol=1e-3, atol=1e-4)


def test_prompts_read_in_chunks_give_the_same_text_and_streams(target: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Prompt(f"p{n}", (Message("user", "say ab " * n),)) for n in (1, 4, 9)]  # the short ones are padded over whole chunks
    whole = trajectories(target, asked, BOUNDARIES, 12)
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", 7)
    for one, other in zip(whole, trajectories(target, asked, BOUNDARIES, 12), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        torch.testing.assert_close(one.target_entropy, other.target_entropy, rtol=1e-4, atol=1e-5)
        for boundary in BOUNDARIES:
            torch.testing.assert_close(one.streams[boundary], other.streams[boundary], rtol=1e-4, atol=1e-4)


def test_going_on_from_a_cache_takes_no_name_that_transformers_has_given_up(target: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(generic.logger, "warning_once", said.append)
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", 7)
    trajectories(target, prompts(1), BOUNDARIES, 12)
    assert said == []


def test_tokens_that_the_target_rules_out_leave_its_entropy_finite(target: LanguageModel) -> None:
    (before,) = trajectories(target, prompts(1), [], 12)
    assert before.agrees.all()
    unsaid = next(token for token in range(4, 200) if token not in before.ids)
    hook = target.model.lm_head.register_forward_hook(lambda *args: args[-1].index_fill(-1, torch.tensor([unsaid]), -torch.inf))
    try:
        (after,) = trajectories(target, prompts(1), [], 12)
    finally:
        hook.remove()
    assert after.ids.tolist() == before.ids.tolist()
    assert after.target_entropy.isfinite().all()
    assert (after.target_prob > before.target_prob).all()


def test_a_continuation_ends_with_the_targets_own_end_token(target: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (long,) = trajectories(target, prompts(1), [2], 12)
    end = int(long.ids[long.prompt_length + 4])
    first = long.ids[long.prompt_length :].tolist().index(end)
    monkeypatch.setattr(target.model.generation_config, "eos_token_id", [1, end])
    short, other = trajectories(target, [prompts(1)[0], prompts(2)[1]], [2], 12)
    assert short.ids.tolist() == long.ids[: long.prompt_length + first + 1].tolist()
    assert len(short.streams[2]) == len(short.ids) - 1
    assert len(other.streams[2]) == len(other.ids) - 1


def test_several_user_turns_are_filled_by_the_targets_replies(target: LanguageModel) -> None:
    first, second = trajectories(target, prompts(1, turns=2), [], 10)
    reply = target.tokenizer.decode(first.ids[first.prompt_length :], skip_special_tokens=True)
    assert (first.turn, second.turn) == (0, 1)
    asked, again = (str(target.tokenizer.decode(text.ids[: text.prompt_length])) for text in (first, second))
    assert again.startswith(f"{asked}{reply}<|user|>")
    assert again.endswith("turn 1<|bot|>")


@torch.inference_mode()
def test_a_given_response_is_read_in_chunks_as_if_the_target_had_written_it(target: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", 7)
    ascii_prompt = Prompt("a", (Message("user", "say ab"),), response="hello there")
    (given,) = trajectories(target, [ascii_prompt], BOUNDARIES, 10)
    assert target.tokenizer.decode(given.ids[given.prompt_length :]) == "hello there"
    out = target.model(given.ids[None], output_hidden_states=True)
    for boundary in BOUNDARIES[:-1]:
        torch.testing.assert_close(given.streams[boundary], out.hidden_states[boundary][0, :-1], rtol=1e-4, atol=1e-4)
    start = given.prompt_length
    logits = out.logits[0, start - 1 : -1]
    assert given.agrees.tolist() == (logits.argmax(-1) == given.ids[start:]).tolist()
    wanted = logits.softmax(-1).gather(-1, given.ids[start:, None])[:, 0]
    torch.testing.assert_close(given.target_prob, wanted, rtol=1e-3, atol=1e-6)
    assert not given.agrees.all()


def test_an_empty_response_is_refused(target: LanguageModel) -> None:
    with pytest.raises(PromptError, match="prompt p0: its response has no tokens"):
        trajectories(target, [replace(prompts(1)[0], response="")], [], 10)


def test_penalties_and_sampling_of_the_generation_config_are_set_aside_and_named(
    target: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = trajectories(target, prompts(1), [], 12)
    own = target.model.generation_config
    changed = type(own)(**{**own.to_dict(), "repetition_penalty": 5.0, "temperature": 0.6, "do_sample": True, "top_p": 0.9})
    monkeypatch.setattr(target.model, "generation_config", changed)
    named = ignored_settings(target)
    (after,) = trajectories(target, prompts(1), [], 12)
    assert target.model.generation_config is changed
    assert {"repetition_penalty=5.0", "temperature=0.6", "do_sample=True", "top_p=0.9"} <= set(named)
    assert after.ids.tolist() == before.ids.tolist()


def test_labels_tell_template_content_and_reply_apart(target: LanguageModel) -> None:
    (trajectory,) = trajectories(target, [Prompt("a", (Message("user", "hey"),))], [], 5)
    assert trajectory.labels.tolist() == [0, 0, 1, 1, 1, 0] + [2] * (len(trajectory.ids) - 6)


def test_anchors_leave_room_for_the_horizon(target: LanguageModel) -> None:
    (trajectory,) = trajectories(target, prompts(1), [], 9)
    assert trajectory.n_anchors(8) == len(trajectory.ids) - trajectory.prompt_length - 8 == 1
    assert trajectory.n_anchors(9) == 0


@torch.inference_mode()
def test_replies_drawn_at_a_temperature_depend_on_seed_and_prompts_alone(target: LanguageModel) -> None:
    at_one = TextSettings(temperature=1.0)
    first = write_texts(target, prompts(4), 12, at_one, seed=3)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again = write_texts(target, prompts(4), 12, at_one, seed=3)
    assert [text.ids for text in again] == [text.ids for text in first]
    assert torch.equal(before, torch.random.get_rng_state())
    assert [text.ids for text in write_texts(target, prompts(4), 12, at_one, seed=4)] != [text.ids for text in first]
    assert [text.ids for text in write_texts(target, prompts(4), 12)] != [text.ids for text in first]


@torch.inference_mode()
def test_the_targets_probability_is_that_of_the_temperature(target: LanguageModel) -> None:
    (text,) = write_texts(target, prompts(1), 12, TextSettings(temperature=0.5), seed=1)
    read = read_text(target, text, [], 0.5)
    probs = (target.model(read.ids[None]).logits[0, text.prompt_length - 1 : -1] / 0.5).softmax(-1)
    torch.testing.assert_close(read.target_prob, probs.gather(-1, read.ids[text.prompt_length :, None])[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(read.target_entropy, torch.special.entr(probs).sum(-1), rtol=1e-3, atol=1e-4)
