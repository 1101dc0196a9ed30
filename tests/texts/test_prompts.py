from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftcli.domain import Message, Prompt
from driftcli.errors import PromptError
from driftcli.sources.files import Json
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.texts.prompts import builtin_prompts, content_hash, limited, read_prompts
from tests.edits import refused

GOOD = '{"id": "good", "text": "fine"}'
USER: Json = {"role": "user", "content": "hi"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], list[Prompt]]:
    """Read a prompt file of these characters."""

    def written(text: str) -> list[Prompt]:
        (tmp_path / "prompts.jsonl").write_text(text, encoding="utf-8", newline="")
        return read_prompts(tmp_path / "prompts.jsonl")

    return written


# --- the set that ships


def test_every_language_and_tool_calls_have_enough_prompts_to_be_judged() -> None:
    counts = Counter(prompt.category for prompt in read_prompts(Path("builtin:languages")))
    assert set(counts) == {"german", "french", "spanish", "portuguese", "russian", "chinese", "japanese", "tool-calls"}
    assert set(counts.values()) == {MINIMAL_PROMPTS}
    every = read_prompts(Path("builtin:all"))
    assert every == [*builtin_prompts(), *read_prompts(Path("builtin:languages"))]
    assert len({prompt.id for prompt in every}) == len({content_hash(prompt) for prompt in every}) == 144


def test_the_built_in_set_has_ten_ascii_prompts_in_each_of_eight_categories_and_some_have_two_turns() -> None:
    prompts = builtin_prompts()
    assert len({prompt.id for prompt in prompts}) == len(prompts) == 80
    assert sorted(Counter(prompt.category for prompt in prompts).values()) == [10] * 8
    assert all(message.content.isascii() and message.content.strip() for prompt in prompts for message in prompt.messages)
    turns = Counter(len(prompt.turns) for prompt in prompts)
    assert turns.keys() == {1, 2} and turns[2] >= 8


# --- what a file may hold


def test_every_field_is_read(read: Callable[[str], list[Prompt]]) -> None:
    rows: list[dict[str, Json]] = [
        {"id": "a", "messages": [{"role": "system", "content": "s"}, USER], "category": "c", "response": "r", "group": "g"},
        {"id": "b", "text": "plain"},
        {"id": "c", "messages": [USER, {"role": "assistant", "content": ""}, USER]},
        {"id": "d", "messages": [USER, USER]},
    ]
    assert read("\n".join(map(json.dumps, rows)) + "\n") == [
        Prompt("a", (Message("system", "s"), Message("user", "hi")), None, "c", "r", "g"),
        Prompt("b", (), "plain"),
        Prompt("c", (Message("user", "hi"), Message("assistant", ""), Message("user", "hi"))),
        Prompt("d", (Message("user", "hi"), Message("user", "hi"))),
    ]


def test_keys_that_are_null_are_as_good_as_absent(read: Callable[[str], list[Prompt]]) -> None:
    (prompt,) = read(json.dumps({"id": "a", "messages": None, "text": "x", "category": None, "response": None}))
    assert prompt == Prompt("a", (), "x")


def test_blank_lines_and_windows_line_ends_are_passed_over(read: Callable[[str], list[Prompt]]) -> None:
    assert [prompt.id for prompt in read(f'\r\n{GOOD}\r\n  \r\n{{"id": "b", "text": "x"}}\r\n')] == ["good", "b"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "🙂"])
def test_characters_that_only_look_like_line_ends_stay_inside_a_text(read: Callable[[str], list[Prompt]], character: str) -> None:
    row = {"id": "a", "text": f"one{character}two"}
    assert [prompt.text for prompt in read(json.dumps(row, ensure_ascii=False))] == [row["text"]]


# --- what is refused, with its line

BAD: list[tuple[str, tuple[str, ...]]] = [
    ("{", ("no JSON", "expected one object a line")),
    ("[" * 100_000, ("no JSON", "expected one object a line")),
    ('{"id": "a", "text": ' + "9" * 5000 + "}", ("no JSON",)),
    ("[]", ("expected an object with a text `id`", "saw []")),
    ("3", ("expected an object with a text `id`", "saw 3")),
    ("null", ("expected an object with a text `id`", "saw None")),
    ('{"text": "x"}', ("expected an object with a text `id`",)),
    ('{"id": 3, "text": "x"}', ("expected an object with a text `id`",)),
    ('{"id": "", "text": "x"}', ("expected an object with a text `id`",)),
    ('{"id": "a", "text": "x", "mesages": []}', ("unknown key 'mesages'", "expected only category, group, id, messages, response, text")),
    ('{"id": "a"}', ("expected either `messages` or `text`", "neither")),
    ('{"id": "a", "text": null}', ("expected either `messages` or `text`", "neither")),
    ('{"id": "a", "messages": null}', ("expected either `messages` or `text`", "neither")),
    ('{"id": "a", "text": "x", "messages": [{"role": "user", "content": "x"}]}', ("expected either `messages` or `text`", "both")),
    ('{"id": "a", "text": ""}', ("text is ''", "expected some text")),
    ('{"id": "a", "text": 3}', ("text is 3", "expected some text")),
    ('{"id": "a", "text": ["x"]}', ("text is ['x']", "expected some text")),
    ('{"id": "a", "text": "x", "category": 3}', ("category is 3", "expected text")),
    ('{"id": "a", "text": "x", "response": ["r"]}', ("response is ['r']", "expected some text")),
    ('{"id": "a", "text": "x", "response": ""}', ("response is ''", "expected some text")),
    ('{"id": "a", "text": "\\ud800"}', ("text holds half of a surrogate pair", "expected whole characters")),
    ('{"id": "\\udfff", "text": "x"}', ("id holds half of a surrogate pair", "expected whole characters")),
    ('{"id": "a", "messages": []}', ("messages is []", "expected a list of objects")),
    ('{"id": "a", "messages": {}}', ("messages is {}", "expected a list of objects")),
    ('{"id": "a", "messages": "hi"}', ("messages is 'hi'", "expected a list of objects")),
    ('{"id": "a", "messages": 3}', ("messages is 3", "expected a list of objects")),
    ('{"id": "a", "messages": ["hi"]}', ("a message is 'hi'", "text `role` and `content`")),
    ('{"id": "a", "messages": [null]}', ("a message is None", "text `role` and `content`")),
    ('{"id": "a", "messages": [{"role": "user"}]}', ("a message is {'role': 'user'}", "text `role` and `content`")),
    ('{"id": "a", "messages": [{"role": "user", "content": "x", "tool_calls": []}]}', ("a message is", "tool_calls", "and nothing else")),
    ('{"id": "a", "messages": [{"role": "user", "content": null}]}', ("content is None", "expected text")),
    ('{"id": "a", "messages": [{"role": "user", "content": [{"type": "text"}]}]}', ("content is [", "expected text")),
    ('{"id": "a", "messages": [{"role": "", "content": "x"}]}', ("role is ''", "expected some text")),
    ('{"id": "a", "messages": [{"role": "user", "content": "\\ud800"}]}', ("content holds half of a surrogate pair",)),
    ('{"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
     ("ends with an assistant", "`response`")),
    ('{"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], "response": "z"}',
     ("one response for 2 open",)),
    ('{"id": "good", "text": "x"}', ("id 'good' is that of line 1 too", "expected one line an id", "rename one")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "says"), BAD)
def test_a_bad_line_is_refused_by_its_number(read: Callable[[str], list[Prompt]], tmp_path: Path, line: str, says: tuple[str, ...]) -> None:
    refused(PromptError, lambda: read(f"{GOOD}\n\n{line}\n"), f"{tmp_path / 'prompts.jsonl'}, line 3: ", *says)


def test_a_long_wrong_value_is_not_repeated_whole(read: Callable[[str], list[Prompt]]) -> None:
    row = {"id": "a", "messages": [{"role": "user", "content": ["x" * 5000]}]}
    assert len(refused(PromptError, lambda: read(json.dumps(row)), "line 1", "xxx...", "expected text")) < 400


@pytest.mark.parametrize("text", ["", "\n\n", "   "])
def test_a_file_without_prompts_is_refused(read: Callable[[str], list[Prompt]], text: str) -> None:
    refused(PromptError, lambda: read(text), "prompts.jsonl", "holds no prompt", "expected one JSON object a line")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"id": "a", "text": "\xe9"}')
    for path in (tmp_path, tmp_path / "latin"):
        refused(PromptError, lambda path=path: read_prompts(path), str(path), "cannot be read as UTF-8 text", "expected JSON Lines")


def test_a_file_that_is_not_there_is_said_to_be_missing_and_a_set_of_a_close_name_is_suggested(tmp_path: Path) -> None:
    refused(
        PromptError,
        lambda: read_prompts(tmp_path / "gone"),
        "--prompts",
        "gone: no such file; expected a JSON Lines file or one of builtin",
    )
    refused(PromptError, lambda: read_prompts(Path("builtin:language")), "did you mean builtin:languages? expected")


def test_a_byte_order_mark_in_front_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a", "text": "b"}\n')
    assert [prompt.id for prompt in read_prompts(tmp_path / "p.jsonl")] == ["a"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "role", "content", "text", "messages"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROW = st.dictionaries(st.sampled_from(["id", "text", "messages", "category", "response", "other"]), JSON, max_size=5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=st.lists(ROW, max_size=3))
def test_any_rows_are_read_whole_or_refused(rows: list[dict[str, Json]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    try:
        prompts = read_prompts(path)
    except PromptError:
        return
    assert len(prompts) == len(rows)
    assert all(bool(prompt.messages) != bool(prompt.text) for prompt in prompts)


# --- limited and hashes


def test_a_limit_deals_over_the_categories_in_the_order_they_come() -> None:
    prompts = [
        Prompt(f"{category}{number}", text="x", category=category)
        for category, count in (("a", 3), (None, 1), ("b", 2))
        for number in range(count)
    ]
    assert [prompt.id for prompt in limited(prompts, 5)] == ["a0", "None0", "b0", "a1", "b1"]
    assert [prompt.id for prompt in limited(prompts, None)] == ["a0", "None0", "b0", "a1", "b1", "a2"]
    assert limited(prompts, 99) == limited(prompts, None)


def test_eight_of_the_built_in_prompts_are_one_of_each_category() -> None:
    assert len({prompt.category for prompt in limited(builtin_prompts(), 8)}) == 8


WHOLE = Prompt("id", (Message("user", "hi"), Message("system", "x")), "text", "category", "response", "group")
OTHERS = {
    "id": "other", "messages": (Message("user", "hi"),), "text": "other", "category": "other", "response": "other",
    "group": "other",
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in fields(Prompt)])
def test_the_hash_changes_with_any_field(field: str) -> None:
    hashes = {content_hash(WHOLE), content_hash(replace(WHOLE, **{field: OTHERS[field]}))}
    absent = () if field == "messages" else "" if field == "id" else None
    hashes.add(content_hash(replace(WHOLE, **{field: absent})))
    assert len(hashes) == 3


def test_the_hash_tells_apart_what_would_read_alike_joined_up() -> None:
    said = [
        (Message("user", "a"), Message("user", "b")),
        (Message("user", "ab"),),
        (Message("usera", ""), Message("user", "b")),
        (Message("user", "b"), Message("user", "a")),
    ]
    assert len({content_hash(Prompt("p", messages)) for messages in said} | {content_hash(Prompt("p", text="ab"))}) == 5


def test_the_hash_is_the_same_in_every_session() -> None:
    assert content_hash(Prompt("p", (Message("user", "hé"),), category="c")) == "9fe7501ba8470fcf"
