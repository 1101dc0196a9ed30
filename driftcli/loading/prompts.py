"""Prompt sets: the built-in one, or a JSON Lines file; every bad line is named by its number."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path

from driftcli.domain import Message, Prompt
from driftcli.errors import PromptError
from driftcli.loading.files import Json

KNOWN_KEYS = {"id", "messages", "text", "category", "response"}


def builtin_prompts() -> list[Prompt]:
    """The 80 prompts that ship: eight categories, ten each, some with two turns."""
    resource = files("probes") / "prompts" / "builtin.jsonl"
    return _parse("built-in prompts", resource.read_text(encoding="utf-8"))


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a JSON Lines file; raises PromptError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
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
    said = [prompt.id, [[message.role, message.content] for message in prompt.messages], prompt.text, prompt.category, prompt.response]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _parse(where: str, text: str) -> list[Prompt]:
    prompts = [_prompt(f"{where}, line {number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not prompts:
        raise PromptError(f"{where}: holds no prompt, expected one JSON object a line")
    ids = [prompt.id for prompt in prompts]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise PromptError(f"{where}: id {twice!r} stands there twice, expected one line an id; rename one")
    return prompts


def _prompt(where: str, line: str) -> Prompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where}: no JSON ({error}); expected one object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        raise PromptError(f"{where}: expected an object with a text `id`")
    if unknown := sorted(row.keys() - KNOWN_KEYS):
        raise PromptError(f"{where}: unknown key {unknown[0]!r}, expected only {', '.join(sorted(KNOWN_KEYS))}")
    for key in ("text", "category", "response"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise PromptError(f"{where}: {key} is {row[key]!r}, expected text")
    if ("messages" in row) == ("text" in row):
        raise PromptError(f"{where}: expected either `messages` or `text`, saw {'both' if 'text' in row else 'neither'}")
    prompt = Prompt(row["id"], _messages(where, row.get("messages", [])), row.get("text"), row.get("category"), row.get("response"))
    if prompt.response is not None and len(prompt.turns) > 1:
        raise PromptError(f"{where}: one response for {len(prompt.turns)} open turns; give the earlier replies as assistant messages")
    return prompt


def _messages(where: str, given: Json) -> tuple[Message, ...]:
    rows = given if isinstance(given, list) else [None]
    messages = []
    for row in rows:
        role, content = (row.get("role"), row.get("content")) if isinstance(row, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise PromptError(f"{where}: messages must be a list of objects with a text `role` and `content`, saw {row!r}")
        messages.append(Message(role, content))
    if messages and messages[-1].role == "assistant":
        raise PromptError(f"{where}: ends with an assistant message, so there is nothing to answer; move it to `response`")
    if given == []:
        return ()
    return tuple(messages)
