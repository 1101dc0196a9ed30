"""Prompt sets: the built-in one, or a JSON Lines file; every bad line is named by its number."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path

from driftcli.domain import Message, Prompt
from driftcli.errors import PromptError
from driftcli.sources.files import Json
from driftcli.suggestions import meant

SETS = {"builtin": ("builtin",), "builtin:languages": ("languages",), "builtin:all": ("builtin", "languages")}  # by the name of a set
KNOWN_KEYS = {"id", "messages", "text", "category", "response", "group"}
MESSAGE_KEYS = {"role", "content"}
LARGEST_FILE = 1 << 28  # bytes of a file of prompts (chosen by us: a million long ones)
LONGEST_LINE, MOST_MESSAGES = 1 << 24, 4096  # characters of a line, and messages of a conversation (chosen by us)
LONGEST_SHOWN = 80  # characters of a wrong value that an error repeats (chosen by us)


def builtin_prompts() -> list[Prompt]:
    """The 80 prompts that ship: eight categories, ten each, some with two turns."""
    return prompt_set("builtin")


def prompt_set(name: str) -> list[Prompt]:
    """One of `SETS`: the 80 built-in prompts; 64 more in seven languages and for tool calls as JSON, eight each; or all of them."""
    shipped = files("probes") / "prompts"
    return [prompt for part in SETS[name] for prompt in _parse(f"{part} prompts", (shipped / f"{part}.jsonl").read_text(encoding="utf-8"))]


def bundled_prompts() -> list[Prompt]:
    """Prompts for the bundled target: tasks of the kinds that it was taught, on lines and facts that it never saw."""
    resource = files("driftcli") / "bundled" / "prompts.jsonl"
    return _parse("bundled prompts", resource.read_text(encoding="utf-8"))


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a set that ships, by its name, or of a JSON Lines file; raises PromptError with file and line."""
    if str(path) in SETS:
        return prompt_set(str(path))
    try:
        with path.open("rb") as file:  # a pipe may have no end
            read = file.read(LARGEST_FILE + 1)
        if len(read) > LARGEST_FILE:
            raise PromptError(f"{path}: holds more than {LARGEST_FILE >> 20} MiB, expected a file of prompts; take fewer")
        text = read.decode("utf-8-sig")  # some editors put a byte order mark in front
    except FileNotFoundError:
        expected = f"expected a JSON Lines file or one of {', '.join(SETS)}"
        raise PromptError(f"--prompts {path}: no such file; {meant(str(path), SETS)}{expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read as UTF-8 text ({error}); expected JSON Lines") from error
    return _parse(str(path), text)


def limited(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """The first `limit` prompts taken in turn from each category, so that a small run still sees all of them."""
    by_category: dict[str | None, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_category[prompt.category].append(prompt)
    dealt = [prompt for prompt in chain.from_iterable(zip_longest(*by_category.values())) if prompt is not None]
    return dealt[:limit]


def content_hash(prompt: Prompt) -> str:
    """Hash of everything that a prompt says, as 16 hex digits."""
    messages = [[message.role, message.content] for message in prompt.messages]
    said: list[object] = [prompt.id, messages, prompt.text, prompt.category, prompt.response]
    said += [] if prompt.group is None else [prompt.group]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def prompt_json(prompt: Prompt) -> dict[str, object]:
    """A prompt as a line of a prompt file holds it."""
    said = {"text": prompt.text} if prompt.messages == () else {"messages": [asdict(message) for message in prompt.messages]}
    others = {name: value for name in ("category", "response", "group") if (value := getattr(prompt, name)) is not None}
    return {"id": prompt.id, **said, **others}


def _parse(where: str, text: str) -> list[Prompt]:
    prompts: list[Prompt] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON leaves U+2028 and its like as they are inside a text
        if not line.strip():
            continue
        prompt = _prompt(f"{where}, line {number}", line)
        if (first := lines.setdefault(prompt.id, number)) != number:
            raise PromptError(f"{where}, line {number}: id {prompt.id!r} is that of line {first} too, expected one line an id; rename one")
        prompts.append(prompt)
    if not prompts:
        raise PromptError(f"{where}: holds no prompt, expected one JSON object a line")
    return prompts


def _prompt(where: str, line: str) -> Prompt:
    if len(line) > LONGEST_LINE:
        raise PromptError(f"{where}: holds {len(line)} characters, expected at most {LONGEST_LINE}; shorten the prompt")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{where}: no JSON ({error}), expected one object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        raise PromptError(f"{where}: expected an object with a text `id`, saw {_shortened(row)}")
    if unknown := sorted(row.keys() - KNOWN_KEYS):
        raise PromptError(f"{where}: unknown key {unknown[0]!r}, expected only {', '.join(sorted(KNOWN_KEYS))}")
    given = {key: value for key, value in row.items() if value is not None}
    if ("messages" in given) == ("text" in given):
        raise PromptError(f"{where}: expected either `messages` or `text`, saw {'both' if 'text' in given else 'neither'}")
    for key in sorted(given.keys() - {"messages"}):
        _check_text(where, key, given[key], empty=key == "category")
    optional = {key: row.get(key) for key in ("text", "category", "response", "group")}
    prompt = Prompt(row["id"], _messages(where, given.get("messages")), **optional)
    if prompt.response is not None and len(prompt.turns) > 1:
        raise PromptError(f"{where}: one response for {len(prompt.turns)} open turns; give the earlier replies as assistant messages")
    return prompt


def _messages(where: str, given: Json) -> tuple[Message, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not given:
        raise PromptError(f"{where}: messages is {_shortened(given)}, expected a list of objects with a text `role` and `content`")
    if len(given) > MOST_MESSAGES:
        raise PromptError(f"{where}: holds {len(given)} messages, expected at most {MOST_MESSAGES}; shorten the conversation")
    messages = []
    for row in given:
        if not isinstance(row, dict) or row.keys() != MESSAGE_KEYS:
            raise PromptError(
                f"{where}: a message is {_shortened(row)}, expected an object with a text `role` and `content` and nothing else"
            )
        role, content = (_check_text(where, key, row[key], empty=key == "content") for key in ("role", "content"))
        messages.append(Message(role, content))
    if messages[-1].role == "assistant":
        raise PromptError(f"{where}: ends with an assistant message, so there is nothing to answer; move it to `response`")
    return tuple(messages)


def _check_text(where: str, key: str, value: Json, *, empty: bool) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise PromptError(f"{where}: {key} is {_shortened(value)}, expected {'' if empty else 'some '}text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{where}: {key} holds half of a surrogate pair ({error}), expected whole characters; write it again") from error
    return value


def _shortened(value: Json) -> str:
    """A value as Python would write it, cut to one short line."""
    shown = repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
