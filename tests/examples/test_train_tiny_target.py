from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from driftcli.errors import FormatError
from driftcli.sources.files import resolve
from driftcli.target.language_model import load_language_model
from driftcli.texts.prompts import bundled_prompts, read_prompts
from examples import train_tiny_target
from examples.train_tiny_target import ASSISTANT, BOS, CONFIG, END, PAD, SYSTEM, able_to_copy, ask, weigh
from tests.tiny import tokenizer
from training.tiny_corpus import TASKS, Message, quote, sentences, turns

PHRASES = "is a from has and can be reached at number If you are ever in ask for the You told me that"  # that answers are told in
LINES = [f"The {word} of the house is older than anybody who lives in it." for word in ("roof", "door", "stair", "clock", "chair")] * 3


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_to_a_task_stands_in_its_prompt(task) -> None:
    for seed in range(20):
        talk = task(random.Random(seed), LINES)
        asked = " ".join(turn["content"] for turn in talk[:-1])
        made = (
            {word.strip(".,") for word in talk[-1]["content"].split()} - {word.strip(".,") for word in asked.split()} - set(PHRASES.split())
        )
        assert made == set()


def test_two_drawings_of_a_task_have_different_answers() -> None:
    for task in TASKS:
        assert len({talk[-1]["content"] for _, talk in ask(LINES, [task], each=8, seed=0)}) > 2


def test_a_conversation_that_was_cut_ends_with_its_last_whole_sentence() -> None:
    text = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nGood day. How can I"
    assert turns(text) == [Message(role="user", content="Hi"), Message(role="assistant", content="Good day.")]
    assert turns(text.removesuffix(" How can I") + "<|im_end|>") == turns(text)
    assert turns(text.replace("Good day. ", "")) == []  # nothing whole was said
    assert sentences([turns(text.replace("day", "day to everybody in the house"))]) == ["Good day to everybody in the house."]


def test_replies_weigh_one_and_what_stands_before_them_less() -> None:
    user = SYSTEM + 1
    ids = torch.tensor([[BOS, user, 50, END, ASSISTANT, 51, END, user, 52, PAD, PAD]])
    torch.testing.assert_close(weigh(ids), torch.tensor([[0.15, 0.15, 0.15, 0.15, 0.15, 1, 1, 0.15, 0.15, 0, 0]]))


def test_an_untrained_model_looks_for_the_place_behind_the_earlier_occurrence_of_a_token() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    able_to_copy(model)
    model.set_attn_implementation("eager")
    said = torch.randperm(2000)[:20] + 6
    ids = torch.cat([torch.tensor([BOS]), said, torch.tensor([ASSISTANT]), said])[None]
    first, second = model(ids, output_attentions=True).attentions[:2]
    places = torch.arange(1, ids.shape[1])
    assert (first[0, 0].argmax(-1)[1:] == places - 1).all()
    found = second[0, :2].argmax(-1)[:, -20:]  # the second time round: the place behind where the token stood first
    assert (found == torch.arange(2, 22)).float().mean() > 0.4  # chance is one in thirty


def test_a_quote_repeats_what_follows_the_colon() -> None:
    user, answer = quote(random.Random(4), LINES)
    assert user["content"].split(": ", 1)[1] == answer["content"]


def written(folder: Path, count: int) -> Path:
    """Conversations in ChatML, and the tokenizer that reads them."""
    words = tokenizer()
    words.save_pretrained(folder / "reader")
    lines = []
    for number in range(count):
        answer = " ".join(f"The {thing} of house {number} is {number + 3} years old today." for thing in ("roof", "door", "lamp"))
        text = f"<|im_start|>user\nTell me of house {number}.<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>"
        lines.append(json.dumps({"ids": words(text, add_special_tokens=False).input_ids, "prompt_length": 1}))
    (folder / "replies.jsonl").write_text("\n".join(lines))
    return folder / "replies.jsonl"


def test_one_step_makes_a_target_that_loads_and_prompts_on_lines_it_never_saw(tmp_path: Path) -> None:
    train_tiny_target.main(
        written(tmp_path, 120),
        str(tmp_path / "reader"),
        tmp_path / "new" / "target",
        tmp_path / "new" / "p.jsonl",
        tmp_path / "h.jsonl",
        1,
        256,
    )
    target = load_language_model(resolve(str(tmp_path / "new" / "target")), torch.device("cpu"), "float32")
    assert target.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "<s><|user|>\na<|end|>\n"
    prompts, taught_prompts = read_prompts(tmp_path / "new" / "p.jsonl"), read_prompts(tmp_path / "h.jsonl")
    assert len(prompts) == 40 == len(bundled_prompts())
    assert len(taught_prompts) == 2500
    houses = {int(number) for p in prompts for message in p.messages for number in re.findall(r"house (\d+)", message.content)}
    assert houses and all(number % 16 == 0 for number in houses)
    assert all(int(n) % 16 for p in taught_prompts for message in p.messages for n in re.findall(r"house (\d+)", message.content))


def test_too_few_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="give 9 lines to teach and 3 to ask for, expected 14 of each at least"):
        train_tiny_target.main(
            written(tmp_path, 4), str(tmp_path / "reader"), tmp_path / "t", tmp_path / "p.jsonl", tmp_path / "h.jsonl", 1, 256
        )
