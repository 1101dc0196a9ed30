from __future__ import annotations

from transformers import AutoTokenizer

from driftcli.sources.files import resolve
from driftcli.texts.prompts import bundled_prompts
from examples import tiny_tasks


def test_lines_that_the_bundled_target_is_asked_for_are_left_out() -> None:
    asked = next(prompt for prompt in bundled_prompts() if prompt.id == "quote-01").messages[0].content.partition(": ")[2]
    assert tiny_tasks.unasked([asked, "Nobody ever said this line before."]) == ["Nobody ever said this line before."]


def test_an_echo_asks_for_tokens_that_no_text_foretells_and_says_none_that_the_template_writes() -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve("bundled:target").folder)
    tasks = tiny_tasks.echoes(tokenizer, 50, seed=1)
    said = [talk[0]["content"] for kind, talk in tasks if kind == "echo"]
    assert len(set(said)) == 50
    assert not any(token in text for token in tokenizer.all_special_tokens for text in said)
    assert tiny_tasks.echoes(tokenizer, 50, seed=1) == tasks
