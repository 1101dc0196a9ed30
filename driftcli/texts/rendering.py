"""A conversation as token ids, each token labelled as template or as content of a given message.

What the template writes is told from what was given by rendering a second time with a mark in the place of every content: the text between
the marks is the template's own, so a content that also stands in the template ("user", say) is found where it belongs. A template that
strips a content shows what is left of it. One that rewrites it (drops its reasoning, say) hides it: its tokens then count as template and
the message is counted as not located, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from driftcli.conditions import Template, TextSettings
from driftcli.domain import Message, RenderingFacts
from driftcli.errors import PromptError
from driftcli.sources.bounds import BeyondBounds, bounded_rendering
from driftcli.sources.files import reason
from driftcli.texts.system_prompts import system_text

TEMPLATE, CONTENT, REPLY = 0, 1, 2  # labels of tokens; they index engine.attention.LABELS
MARK = "\ue000{}\ue001"  # private-use characters, which no template writes; contents never meet them, being left out of that rendering
MARKS = re.compile("\ue000(\\d+)\ue001")
BETWEEN = "\n\n"  # what stands between the contents where the target has no template
OWN = TextSettings()
TODAY = datetime(2025, 1, 1)  # for templates that write the date: the same on any day, so that runs can be held against each other
CLOCK = "strftime_now"  # by which a template asks for it
LONGEST_TEMPLATE, LONGER = 1 << 20, 16  # characters of its own that a template may write, and times those it is given (chosen by us)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCTION = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] }} "
    "{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
)
FAMILIES = (("<|im_start|>", CHATML), ("[INST]", INSTRUCTION))  # templates of two families, each with a mark that tells it
OTHER_ROLES = {"user": "human", "assistant": "bot", "system": "instructions", "model": "bot", "human": "person"}
ROLES = re.compile(r"(?i)(?<![a-z])(?:user|assistant|system|model|human)(?![a-z])")
THINKING = {"thinking": True, "no-thinking": False}
SWITCHES = ("enable_thinking", "thinking")  # names under which templates know it; one that does not is silent about it
REFUSALS = (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the target reads it: its text, token ids, a label a token, how many messages could not be located in it, and how many
    tokens stand before the first user's words.
    """

    text: str
    ids: list[int]
    labels: list[int]
    unlocated: int
    prefix: int = 0


def render(
    tokenizer: PreTrainedTokenizerBase, where: str, messages: Sequence[Message], text: str | None, settings: TextSettings = OWN
) -> Rendered:
    """The rendered prompt: by the chat template without special tokens, plain text (or a target without a template) with them.

    where: names the prompt in errors. settings: what is changed of that; a plain text has no template. Raises PromptError when the template
    refuses the conversation or nothing is left.
    """
    templated = text is None and bool(tokenizer.chat_template)
    messages = _with_system(tokenizer, messages, settings)
    if text is not None:
        shown, spans, unlocated = text, [(0, len(text))], 0
    elif templated and settings.template != "none":
        contents = [message.content for message in messages]
        style = _Style.of(tokenizer, settings.template)
        shown = _templated(tokenizer, where, messages, contents, style)
        spans, unlocated = _locate(shown, _marked(tokenizer, where, messages, style), contents)
        if settings.template == "other-roles":
            shown, spans = _renamed(shown, spans)
    else:
        shown = BETWEEN.join(message.content for message in messages)
        spans, unlocated = _spans_between(messages), 0
    encoded = tokenizer(shown, add_special_tokens=not templated, return_offsets_mapping=True)
    labels = [CONTENT if any(start < to and end > at for at, to in spans) else TEMPLATE for start, end in encoded.offset_mapping]
    ids, labels = _with_bos(tokenizer, list(encoded.input_ids), labels, settings)
    if settings.shuffled:
        ids = _shuffled(ids, labels)
    if len(labels) < 2:
        raise PromptError(f"prompt {where}: renders to {len(labels)} tokens, expected at least 2; give it some text")
    return Rendered(shown, ids, labels, unlocated, _prefix(ids, labels, messages))


def _with_system(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], settings: TextSettings) -> Sequence[Message]:
    """A conversation with its system message as the settings want it; an empty one keeps a template from putting in its own."""
    if settings.system == "own" or not messages:
        return messages
    others = [message for message in messages if message.role != "system"]
    if settings.system == "other":
        return [Message("system", system_text(tokenizer, settings.system_tokens)), *others]
    return [Message("system", ""), *others] if rendering_facts(tokenizer).injects_system else others


def _prefix(ids: Sequence[int], labels: Sequence[int], messages: Sequence[Message]) -> int:
    """Tokens before the first content that is not a system message's, by the runs of content tokens; all are content in a plain text."""
    before = 0
    while before < len(messages) and messages[before].role == "system":
        before += 1
    starts = [at for at in range(len(ids)) if labels[at] == CONTENT and (at == 0 or labels[at - 1] != CONTENT)]
    return starts[min(before, len(starts) - 1)] if starts else 0


def _shuffled(ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    """The tokens of all contents in another order, drawn from what they are, and the template's where they stand."""
    contents = [token for token, label in zip(ids, labels, strict=True) if label == CONTENT]
    Random(" ".join(map(str, ids))).shuffle(contents)
    following = iter(contents)
    return [next(following) if label == CONTENT else token for token, label in zip(ids, labels, strict=True)]


def rendering_facts(tokenizer: PreTrainedTokenizerBase) -> RenderingFacts:
    """How this target's conversations come out, by a short one; nothing of a template that refuses it."""
    if not tokenizer.chat_template:
        return RenderingFacts(begins_with_bos=_begins_with_bos(tokenizer, list(tokenizer("a").input_ids)))
    said = [Message("user", "a")]
    try:
        own, renamed, bare, asked, told = (
            render(tokenizer, "a", said, None, TextSettings(template=name)).text
            for name in ("own", "other-roles", "no-generation-prompt", "thinking", "no-thinking")
        )
    except PromptError:
        return RenderingFacts(templated=True)
    begins = _begins_with_bos(tokenizer, list(tokenizer(own, add_special_tokens=False).input_ids))
    takes, injects = _system_facts(tokenizer, own)
    return RenderingFacts(True, begins, own != renamed, own != bare, takes, injects, own != asked, own != told)


def _system_facts(tokenizer: PreTrainedTokenizerBase, own: str) -> tuple[bool, bool]:
    """Whether the template shows a system message that is given, and whether an empty one takes the place of one that it puts in itself."""
    mark = MARK.format(0)
    try:
        with_mark, empty = (
            _templated(tokenizer, "a", [Message("system", content), Message("user", "a")], [content, "a"], _Style(None, prompts_reply=True))
            for content in (mark, "")
        )
    except PromptError:
        return False, False
    return mark in with_mark, mark in with_mark and len(empty) < len(own)


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def _with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int], labels: list[int], settings: TextSettings) -> tuple[list[int], list[int]]:
    """Token ids and labels with their BOS as the settings want it; without the own template the one that it writes is kept."""
    foreign = settings.template in ("none", "other-family") and rendering_facts(tokenizer).begins_with_bos
    if foreign and not _begins_with_bos(tokenizer, ids):
        ids, labels = [int(tokenizer.bos_token_id), *ids], [TEMPLATE, *labels]
    if settings.bos == "dropped" and _begins_with_bos(tokenizer, ids):
        return ids[1:], labels[1:]
    if settings.bos == "doubled" and _begins_with_bos(tokenizer, ids):
        return [ids[0], *ids], [TEMPLATE, *labels]
    return ids, labels


@dataclass(frozen=True, slots=True)
class _Style:
    """The template that messages are put into, None for the target's own, whether a prompt to answer is added, and where the template's
    switch for thinking is put, None where it is left alone.
    """

    template: str | None
    prompts_reply: bool
    thinking: bool | None = None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, name: Template) -> _Style:
        """By the name of a setting; another family's is one whose marks the target's own does not write."""
        foreign = next(one for mark, one in FAMILIES if mark not in str(tokenizer.chat_template)) if name == "other-family" else None
        return cls(foreign, name != "no-generation-prompt", THINKING.get(name))


def _renamed(shown: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """A rendered text with other role names outside its contents, and where the contents stand then."""
    parts, moved, at = [], list[Span](), 0
    for start, end in [*sorted(spans), (len(shown), len(shown))]:
        parts.append(ROLES.sub(lambda found: OTHER_ROLES[found[0].lower()], shown[at:start]))
        begun = sum(map(len, parts))
        parts.append(shown[start:end])
        moved.append((begun, begun + end - start))
        at = end
    return "".join(parts), moved[:-1]


def _templated(tokenizer: PreTrainedTokenizerBase, where: str, messages: Sequence[Message], contents: Sequence[str], style: _Style) -> str:
    turns = [{"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)]
    switches: dict[str, Any] = {} if style.thinking is None else dict.fromkeys(SWITCHES, style.thinking)
    settings = {"chat_template": style.template, "add_generation_prompt": style.prompts_reply, **switches}
    try:
        with bounded_rendering(), _frozen_clock():
            shown = str(tokenizer.apply_chat_template(turns, tokenize=False, **settings))
            if len(shown) > LONGEST_TEMPLATE + LONGER * sum(map(len, contents)):
                raise BeyondBounds(f"makes {len(shown)} characters of {sum(map(len, contents))}")
            return shown
    except BeyondBounds as error:
        raise PromptError(
            f"prompt {where}: the target's chat template {error}, expected one that only puts marks around the messages; fetch it again"
        ) from error
    except REFUSALS as error:
        raise PromptError(
            f"prompt {where}: the target's chat template refuses it ({reason(error)}), expected a conversation that it allows; "
            "change its roles or their order"
        ) from error


class _Clock:
    """A clock that stands still, in the place of the class that templates read the date from."""

    @staticmethod
    def now() -> datetime:
        """The date that templates are given."""
        return TODAY


@contextmanager
def _frozen_clock() -> Iterator[None]:
    """Templates read `TODAY` inside: transformers reads the clock by this name, and lets no function of ours through to a template."""
    clock = chat_template_utils.datetime  # type: ignore[attr-defined]
    chat_template_utils.datetime = _Clock  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        chat_template_utils.datetime = clock  # type: ignore[attr-defined]


def _marked(tokenizer: PreTrainedTokenizerBase, where: str, messages: Sequence[Message], style: _Style) -> str:
    try:
        return _templated(tokenizer, where, messages, [MARK.format(number) for number in range(len(messages))], style)
    except PromptError:  # a template that reads its contents and refuses marks: then nothing can be located
        return ""


def _spans_between(messages: Sequence[Message]) -> list[Span]:
    spans, at = [], 0
    for message in messages:
        spans.append((at, at + len(message.content)))
        at += len(message.content) + len(BETWEEN)
    return spans


def _locate(shown: str, marked: str, contents: Sequence[str]) -> tuple[list[Span], int]:
    """Where the contents stand in `shown`, and how many stand nowhere in it; `marked` is the same rendering with marks for contents."""
    pieces = MARKS.split(marked)  # the template's own text and, between, the numbers of the contents
    numbers, own = [int(number) for number in pieces[1::2]], pieces[::2]
    spans: list[Span] = []
    located: set[int] = set()
    at, known = 0, True  # where the template's next own text begins, or, behind a content that is not as given, the earliest it can
    for number, before, after in zip(numbers, own, own[1:], strict=False):
        wholes = [(before + form + after, len(form)) for form in _forms(contents[number])]
        starts = [at] if known else _places(shown, before, at)
        span = next(
            (_span(start + len(before), size) for start in starts for whole, size in wholes if shown.startswith(whole, start)), None
        )
        if span is not None:
            spans.append(span)
            located.add(number)
            at = span[1]
        elif known and shown.startswith(before, at):
            at += len(before)
        known = span is not None
    return spans, sum(bool(content.strip()) and number not in located for number, content in enumerate(contents))


def _span(start: int, size: int) -> Span:
    return start, start + size


def _forms(content: str) -> list[str]:
    """A content as given and as a template may strip it."""
    return list(dict.fromkeys((content, content.strip(), content.lstrip(), content.rstrip())))


def _places(shown: str, piece: str, at: int) -> Iterator[int]:
    while (at := shown.find(piece, at)) >= 0:
        yield at
        at += 1


def special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens of a tokenizer that a mask can be mistaken for, each once."""
    named = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
    return tuple(dict.fromkeys(one for one in named if isinstance(one, int)))
