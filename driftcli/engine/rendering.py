"""A conversation as token ids, each token labelled as template or as content of a given message.

Content is found in the rendered text by its characters, message after message. A template that rewrites a message (drops its reasoning,
say) hides it: its tokens then count as template and the message is counted as not located, never guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from driftcli.domain import Message
from driftcli.errors import PromptError

TEMPLATE, CONTENT, REPLY = 0, 1, 2  # labels of tokens; they index engine.attention.LABELS


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the target reads it: its text, token ids, a label a token, and how many messages could not be located in it."""

    text: str
    ids: list[int]
    labels: list[int]
    unlocated: int


def render(tokenizer: PreTrainedTokenizerBase, where: str, messages: Sequence[Message], text: str | None) -> Rendered:
    """The rendered prompt: by the chat template without special tokens, plain text (or a target without a template) with them.

    where: names the prompt in errors. Raises PromptError when the template refuses the conversation or nothing is left.
    """
    plain = text if text is not None else None if tokenizer.chat_template else "\n\n".join(message.content for message in messages)
    if plain is not None:
        encoded = tokenizer(plain, return_offsets_mapping=True)
        labels = [CONTENT if end > start else TEMPLATE for start, end in encoded.offset_mapping]
        return _checked(where, Rendered(plain, list(encoded.input_ids), labels, 0))
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        shown = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ValueError) as error:
        raise PromptError(f"prompt {where}: the target's chat template refuses it ({error}); change its roles or their order") from error
    spans, unlocated = _locate(shown, messages)
    encoded = tokenizer(shown, add_special_tokens=False, return_offsets_mapping=True)
    labels = [CONTENT if any(start < to and end > at for at, to in spans) else TEMPLATE for start, end in encoded.offset_mapping]
    return _checked(where, Rendered(shown, list(encoded.input_ids), labels, unlocated))


def _locate(shown: str, messages: Sequence[Message]) -> tuple[list[tuple[int, int]], int]:
    spans: list[tuple[int, int]] = []
    cursor, unlocated = 0, 0
    for message in messages:
        found = next(
            ((at, len(form)) for form in (message.content, message.content.strip()) if form and (at := shown.find(form, cursor)) >= 0), None
        )
        if found is None:
            unlocated += 1
            continue
        cursor = found[0] + found[1]
        spans.append((found[0], cursor))
    return spans, unlocated


def _checked(where: str, rendered: Rendered) -> Rendered:
    if len(rendered.ids) < 2:
        raise PromptError(f"prompt {where}: renders to {len(rendered.ids)} tokens, expected at least 2; give it some text")
    return rendered
