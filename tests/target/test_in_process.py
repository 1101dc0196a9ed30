"""Texts that are read side by side, what they begin with once, against one plain pass over each."""

from __future__ import annotations

import pytest
import torch

from driftcli.target.language_model import LanguageModel
from tests.target.test_decoding import KINDS, OTHERS, SHARED, a_model
from tests.target.test_kept import BOUNDARIES, READ, Given, assert_read

ENOUGH = {"cpu": 1}


def some_texts(shapes: tuple[tuple[int, int], ...] = ((1, 5), (30, 1), (4, 40), (17, 9), (60, 30))) -> list[Given]:
    """Texts of random tokens that begin alike, by the tokens of their prompts behind that and of their replies."""
    random = torch.Generator().manual_seed(2)
    return [Given(SHARED + torch.randint(4, 260, (sum(shape),), generator=random).tolist(), len(SHARED) + shape[0]) for shape in shapes]


def shapes_read(target: LanguageModel, texts: list[Given], most: int | None = None) -> list[tuple[int, ...]]:
    """What is given to the model in each of its passes while these are read."""
    seen = list[tuple[int, ...]]()
    hook = target.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    list(target.read_all(texts, BOUNDARIES, 1.0, most))
    hook.remove()
    return seen


@pytest.mark.parametrize("kind", READ)
def test_texts_that_begin_alike_are_read_as_one_alone_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, texts = a_model(KINDS[kind]), some_texts()
    monkeypatch.setattr("driftcli.target.in_process.WORTH_SHARING", ENOUGH)
    for chunk, most in ((512, None), (512, 100), (7, 300)):
        monkeypatch.setattr("driftcli.target.in_process.CHUNK", chunk)
        for text, found in zip(texts, target.read_all(texts, BOUNDARIES, 0.7, most), strict=True):
            assert_read(target, text, found, 0.7)


def test_what_texts_begin_with_is_read_once_whoever_is_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    target, texts = a_model(KINDS["llama"]), some_texts()
    rest = [len(text.ids) - 1 - len(SHARED) for text in texts]
    whole = [(5, len(SHARED) + max(rest))]
    assert shapes_read(target, texts) == whole
    monkeypatch.setattr("driftcli.target.in_process.WORTH_SHARING", {"cpu": 4 * len(SHARED) + 1})
    assert shapes_read(target, texts) == whole
    monkeypatch.setattr("driftcli.target.in_process.WORTH_SHARING", {"cpu": 4 * len(SHARED)})
    assert shapes_read(target, texts) == [(1, len(SHARED)), (5, max(rest))]
    assert shapes_read(target, texts, 1) == [(1, len(SHARED)), *((1, length) for length in rest)]


def test_no_token_that_is_asked_about_is_among_what_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.in_process.WORTH_SHARING", ENOUGH)
    target, ids = a_model(KINDS["llama"]), some_texts(((20, 10),))[0].ids
    texts = [Given(ids, 25), Given(ids, 12), Given(ids[:18], 15)]
    assert shapes_read(target, texts)[0] == (1, 11)
    for text, found in zip(texts, target.read_all(texts, BOUNDARIES), strict=True):
        assert_read(target, text, found)
    assert shapes_read(target, [Given(ids, 1), Given(ids, 12)]) == [(2, len(ids) - 1)]


@pytest.mark.parametrize("kind", ["mistral, a window", "states besides keys"])
def test_a_model_that_does_not_see_all_before_it_reads_every_text_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.in_process.WORTH_SHARING", ENOUGH)
    texts = some_texts()
    assert shapes_read(a_model((KINDS | OTHERS)[kind]), texts) == [(5, max(len(text.ids) for text in texts) - 1)]
