from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from driftcli.conditions import TextSettings
from driftcli.domain import Message, RenderingFacts
from driftcli.errors import PromptError
from driftcli.texts.rendering import CONTENT, TEMPLATE, Rendered, render, rendering_facts
from driftcli.texts.system_prompts import USUAL
from tests.tiny import TEMPLATE as TEMPLATE_OF_TINY
from tests.tiny import tokenizer

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def saying(what: str) -> str:
    """A template that says this of each message."""
    return "{% for message in messages %}<|user|>{{ " + what + " }}{% endfor %}<|bot|>"


def with_template(template: str | None) -> PreTrainedTokenizerFast:
    made = tokenizer()
    made.chat_template = template
    return made


def conversation(*contents: str, roles: Sequence[str] = ("user", "assistant")) -> list[Message]:
    return [Message(roles[number % len(roles)], content) for number, content in enumerate(contents)]


def shown(rendered: Rendered, words: PreTrainedTokenizerFast) -> str:
    """The rendered text with content in brackets, as the labels have it: one bracket a run of content tokens."""
    parts, inside = [], False
    for token, label in zip(rendered.ids, rendered.labels, strict=True):
        if (label == CONTENT) != inside:
            parts.append("[" if label == CONTENT else "]")
            inside = label == CONTENT
        parts.append(str(words.decode([token])))
    return "".join(parts) + ("]" if inside else "")


def rendered(template: str | None, *contents: str, roles: Sequence[str] = ("user", "assistant")) -> tuple[str, int]:
    words = with_template(template)
    made = render(words, "p", conversation(*contents, roles=roles), None)
    assert words.decode(made.ids) == made.text
    return shown(made, words), made.unlocated


# --- by the template


def test_content_is_told_from_template_by_its_characters() -> None:
    words = tokenizer()
    made = render(words, "p", conversation("hey", "ho", "there"), None)
    assert made.text == "<s><|user|>hey<|bot|>ho<|user|>there<|bot|>"
    assert made.labels == [TEMPLATE, TEMPLATE, *[CONTENT] * 3, TEMPLATE, *[CONTENT] * 2, TEMPLATE, *[CONTENT] * 5, TEMPLATE]
    assert made.ids == words(made.text, add_special_tokens=False).input_ids
    assert made.unlocated == 0


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (("<|user|>",), "<s><|user|>[<|user|>]<|bot|>"),
        (("<|bot|>",), "<s><|user|>[<|bot|>]<|bot|>"),
        (("<s>",), "<s><|user|>[<s>]<|bot|>"),
        (("<s><|user|>",), "<s><|user|>[<s><|user|>]<|bot|>"),
        (("a", "a", "a"), "<s><|user|>[a]<|bot|>[a]<|user|>[a]<|bot|>"),
        (("a", "<|user|>", "a"), "<s><|user|>[a]<|bot|>[<|user|>]<|user|>[a]<|bot|>"),
        (("ab", "b"), "<s><|user|>[ab]<|bot|>[b]<|bot|>"),
        (("x", "", "y"), "<s><|user|>[x]<|bot|><|user|>[y]<|bot|>"),
    ],
)
def test_a_content_that_stands_in_the_template_too_is_found_where_it_belongs(contents: tuple[str, ...], expected: str) -> None:
    words = tokenizer()
    made = render(words, "p", conversation(*contents), None)
    assert (shown(made, words), made.unlocated) == (expected, 0)


@pytest.mark.parametrize("content", ["user", "assistant", "s", "system", "You are a helpful assistant.", "<|im_end|>", "\n", "im_start"])
def test_words_of_a_chatml_header_or_of_an_injected_system_text_are_not_taken_for_content(content: str) -> None:
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert rendered(CHATML, content) == (f"{head}[{content}]<|im_end|>\n<|im_start|>assistant\n", 0)


def test_a_given_system_text_is_content_and_an_injected_one_is_template() -> None:
    told, _ = rendered(CHATML, "Be brief.", "hi", roles=("system", "user"))
    assert told == "<|im_start|>system\n[Be brief.]<|im_end|>\n<|im_start|>user\n[hi]<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("strip", ["message['content'].strip()", "message['content'] | trim"])
def test_what_a_template_strips_is_gone_and_the_rest_is_content(strip: str) -> None:
    assert rendered(saying(strip), "  a b \n", "c") == ("<|user|>[a b]<|user|>[c]<|bot|>", 0)


@pytest.mark.parametrize(("strip", "left"), [("lstrip", "a  "), ("rstrip", "  a")])
def test_a_template_may_strip_one_end_only(strip: str, left: str) -> None:
    assert rendered(saying(f"message['content'].{strip}()"), "  a  ") == (f"<|user|>[{left}]<|bot|>", 0)


def test_a_message_that_the_template_rewrites_counts_as_not_located_and_the_others_are_found() -> None:
    template = saying("message['content'].split('</think>')[-1]")
    told = rendered(template, "first", "<think>a</think>b", "last")
    assert told == ("<|user|>[first]<|user|>b<|user|>[last]<|bot|>", 1)
    assert rendered(template, "x</think>y", "z</think>w") == ("<|user|>y<|user|>w<|bot|>", 2)


def test_rewritten_text_that_holds_a_later_content_does_not_draw_it_to_itself() -> None:
    template = saying("message['content'] | upper")
    assert rendered(template, "say A", "A") == ("<|user|>SAY A<|user|>[A]<|bot|>", 1)
    assert rendered(template, "a", "b") == ("<|user|>A<|user|>B<|bot|>", 2)
    assert rendered(template, "a", "A", "c") == ("<|user|>A<|user|>[A]<|user|>C<|bot|>", 2)


def test_the_templates_own_text_does_not_stand_in_for_a_message_that_it_rewrote() -> None:
    template = "{% for message in messages %}<|user|>{{ message['content'] | replace('a', '-') }}{% endfor %}<|user|>a<|user|>"
    assert rendered(template, "a", "b") == ("<|user|>-<|user|>[b]<|user|>a<|user|>", 1)


def test_a_message_that_the_template_leaves_out_counts_as_not_located() -> None:
    template = "{% for message in messages if message['role'] == 'user' %}<|user|>{{ message['content'] }}{% endfor %}<|bot|>"
    assert rendered(template, "one", "two", "three") == ("<|user|>[one]<|user|>[three]<|bot|>", 1)


def test_a_content_that_the_template_says_twice_is_content_both_times() -> None:
    assert rendered(saying("message['content'] + ' again ' + message['content']"), "a") == ("<|user|>[a] again [a]<|bot|>", 0)


def test_contents_back_to_back_are_both_located() -> None:
    assert rendered("{% for message in messages %}{{ message['content'] }}{% endfor %}<|bot|>", "one", "two") == ("[onetwo]<|bot|>", 0)


def test_a_template_that_reads_its_contents_and_refuses_marks_locates_nothing_and_still_renders() -> None:
    numbers = saying("message['content'] if message['content'] in '12345' else raise_exception('digits only')")
    assert rendered(numbers, "1", "2") == ("<|user|>1<|user|>2<|bot|>", 2)


def test_an_empty_content_is_nothing_to_locate() -> None:
    assert rendered(saying("message['content']"), "", "  ") == ("<|user|><|user|>[  ]<|bot|>", 0)
    assert rendered(saying("message['content'] or '(nothing)'"), "", "a") == ("<|user|>(nothing)<|user|>[a]<|bot|>", 0)


def test_a_character_of_several_tokens_is_content_whole() -> None:
    made = render(tokenizer(), "p", conversation("é🙂"), None)
    assert made.labels == [TEMPLATE, TEMPLATE, *[CONTENT] * 6, TEMPLATE]


PIECES = st.lists(st.sampled_from(["a", "<", "|", "user|>", "<|user|>", "<|bot|>", "<s>", " ", "\n", "é"]), max_size=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(contents=st.lists(PIECES.map("".join), min_size=1, max_size=4))
def test_whatever_is_said_a_template_that_adds_text_only_labels_exactly_what_was_given(contents: list[str]) -> None:
    words = tokenizer()
    made = render(words, "p", conversation(*contents), None)
    given_text = "".join(str(words.decode([token])) for token, label in zip(made.ids, made.labels, strict=True) if label == CONTENT)
    template_text = [token for token, label in zip(made.ids, made.labels, strict=True) if label == TEMPLATE]
    if "é" not in "".join(contents):  # half of its bytes, decoded alone, are no character
        assert given_text == "".join(contents)
    assert len(template_text) == 2 + len(contents)
    assert made.unlocated == 0


# --- without it


def with_bos(words: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer as most are: it puts <s> before what it is asked to encode with special tokens."""
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return words


def test_plain_text_takes_the_special_tokens_and_is_content_but_for_them() -> None:
    words = with_bos(tokenizer())
    made = render(words, "p", (), "a<s>b")
    assert made.ids == words("a<s>b").input_ids
    assert shown(made, words) == "<s>[a<s>b]"
    assert (made.text, made.unlocated) == ("a<s>b", 0)


def test_a_rendered_template_takes_no_special_tokens_of_the_tokenizers_own() -> None:
    words = with_bos(tokenizer())
    assert shown(render(words, "p", conversation("a"), None), words) == "<s><|user|>[a]<|bot|>"


def test_a_target_without_a_template_gets_the_plain_contents_with_special_tokens() -> None:
    words = with_bos(with_template(None))
    made = render(words, "p", conversation("one", "two"), None)
    assert made.text == "one\n\ntwo"
    assert shown(made, words) == "<s>[one]\n\n[two]"
    assert made.unlocated == 0


# --- what is refused


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[9]['content'] }}", "Undefined"),
        ("{{ messages[0]['content'] + 3 }}", "TypeError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages[0]['content'].rjust('x') }}", "TypeError"),
        ("{{ nothing() }}", "'nothing' is undefined"),
        ("{{ {}.popitem() }}", "Error"),
        ("{% include 'x' %}", "Error"),
    ],
)
def test_a_template_that_fails_is_refused_with_the_prompt_and_its_reason(template: str, says: str) -> None:
    with pytest.raises(PromptError, match=r"^prompt some-prompt: the target's chat template refuses it") as caught:
        render(with_template(template), "some-prompt", conversation("a"), None)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "change its roles or their order" in str(caught.value)


def test_several_named_templates_without_a_default_are_refused() -> None:
    words = tokenizer()
    words.chat_template = {"tool": CHATML, "rag": CHATML}
    with pytest.raises(PromptError, match=r"^prompt p: the target's chat template refuses it"):
        render(words, "p", conversation("a"), None)


@pytest.mark.parametrize(("template", "content", "tokens"), [(None, "", 0), (None, "a", 1), ("{{ messages[0]['content'] }}", "a", 1)])
def test_a_prompt_of_less_than_two_tokens_is_refused(template: str | None, content: str, tokens: int) -> None:
    with pytest.raises(PromptError, match=rf"^prompt p: renders to {tokens} tokens, expected at least 2"):
        render(with_template(template), "p", conversation(content), None)


# --- changed


SAID = conversation("why user", "because", "and now")
PLAIN = "<s><|user|>why user<|bot|>because<|user|>and now<|bot|>"
NAMED = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"


@pytest.mark.parametrize(
    ("template", "changed", "text"),
    [
        (TEMPLATE_OF_TINY, TextSettings(), PLAIN),
        (TEMPLATE_OF_TINY, TextSettings(bos="dropped"), PLAIN.removeprefix("<s>")),
        (TEMPLATE_OF_TINY, TextSettings(bos="doubled"), f"<s>{PLAIN}"),
        (TEMPLATE_OF_TINY, TextSettings(template="none"), "<s>why user\n\nbecause\n\nand now"),
        (TEMPLATE_OF_TINY, TextSettings(template="none", bos="dropped"), "why user\n\nbecause\n\nand now"),
        (TEMPLATE_OF_TINY, TextSettings(template="no-generation-prompt"), PLAIN.removesuffix("<|bot|>")),
        (
            TEMPLATE_OF_TINY,
            TextSettings(template="other-family"),
            "<s><|im_start|>user\nwhy user<|im_end|>\n<|im_start|>assistant\nbecause<|im_end|>\n<|im_start|>user\nand now<|im_end|>\n<|im_start|>assistant\n",
        ),
        (CHATML, TextSettings(template="other-family"), "[INST] why user [/INST] because [INST] and now [/INST]"),
        (NAMED, TextSettings(template="other-roles"), "<s>[human] why user\n[bot] because\n[human] and now\n[bot] "),
        (None, TextSettings(template="none"), "why user\n\nbecause\n\nand now"),
        (
            CHATML,
            TextSettings(system="none"),
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nwhy user<|im_end|>\n<|im_start|>assistant\nbecause<|im_end|>\n<|im_start|>user\nand now<|im_end|>\n<|im_start|>assistant\n",
        ),
        (TEMPLATE_OF_TINY, TextSettings(system="none"), PLAIN),
    ],
)
def test_a_change_of_the_template_changes_that_alone(template: str | None, changed: TextSettings, text: str) -> None:
    words = with_template(template)
    made = render(words, "p", SAID, None, changed)
    assert words.decode(made.ids) == text
    assert len(made.labels) == len(made.ids)
    inside = [words.decode([token]) for token, label in zip(made.ids, made.labels, strict=True) if label == CONTENT]
    assert "".join(inside) == "why userbecauseand now"


def test_what_a_rendering_holds_is_told_from_a_short_one() -> None:
    assert rendering_facts(with_template(TEMPLATE_OF_TINY)) == RenderingFacts(True, True, True, True, takes_system=True)
    assert rendering_facts(with_template(CHATML)) == RenderingFacts(True, False, True, True, takes_system=True, injects_system=True)
    assert rendering_facts(with_template(NAMED)) == RenderingFacts(True, True, True, True, takes_system=True)
    assert rendering_facts(with_template(saying("message['content']"))) == RenderingFacts(True, False, True, False, takes_system=True)
    switched = saying("'<think>' if enable_thinking is defined and enable_thinking else ''")
    assert rendering_facts(with_template(switched)).thinks_if_asked and not rendering_facts(with_template(switched)).thinks_unless_told
    unless = saying("'' if thinking is defined and not thinking else '<think>'")
    assert rendering_facts(with_template(unless)).thinks_unless_told and not rendering_facts(with_template(unless)).thinks_if_asked
    assert rendering_facts(with_template(None)) == RenderingFacts()
    assert rendering_facts(with_template("{{ raise_exception('never') }}")) == RenderingFacts(templated=True)


def test_another_system_message_takes_the_place_of_the_own_one_at_the_length_asked_for() -> None:
    words = with_template(CHATML)
    given = [Message("system", "rules"), *SAID]
    usual = render(words, "p", given, None, TextSettings(system="other"))
    assert "rules" not in usual.text and USUAL in usual.text
    for tokens in (16, 64, 256):
        long = render(words, "p", given, None, TextSettings(system="other", system_tokens=tokens))
        content = words.decode([token for token, label in zip(long.ids[: long.prefix], long.labels, strict=False) if label == CONTENT])
        assert abs(len(words(content, add_special_tokens=False).input_ids) - tokens) <= 2
        assert long.text.endswith(render(words, "p", SAID, None).text.split("<|im_end|>\n", 1)[1])
    assert "rules" not in render(words, "p", given, None, TextSettings(system="none")).text


def test_shuffled_contents_are_the_same_tokens_in_another_order_between_the_same_template() -> None:
    words = with_template(CHATML)
    said = [Message("user", "one two three four five six seven eight nine ten")]
    own, shuffled, again = (render(words, "p", said, None, TextSettings(shuffled=on)) for on in (False, True, True))
    assert shuffled == again
    assert (sorted(shuffled.ids), shuffled.labels) == (sorted(own.ids), own.labels)
    assert shuffled.ids != own.ids
    assert [t for t, label in zip(own.ids, own.labels, strict=True) if label != CONTENT] == [
        t for t, label in zip(shuffled.ids, shuffled.labels, strict=True) if label != CONTENT
    ]
