"""What a head is healed on, and by which of it the best head is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftcli.domain import Prompt
from driftcli.errors import UsageError
from driftcli.healing import data
from driftcli.healing.data import Gathering, gather
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.texts.prompts import bundled_prompts
from driftcli.traces.reader import Run, read_run
from driftcli.training.conversations import Conversation, write_conversations
from tests.healing.command import diagnosed


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    return load_language_model(resolve("bundled:target"), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("data") / "run"
    words = ("--drafter", "bundled:post-norm", "--probe", "vocabulary", "--limit", 8, "--depth", 2, "--max-new-tokens", 16, "--no-quick")
    return read_run(diagnosed(out, *words))


@pytest.fixture
def how(target: LanguageModel, tmp_path: Path) -> Gathering:
    replies = tmp_path / "given.jsonl"
    write_conversations(replies, [Conversation([0, 4, 9, 9, number], [(3, 5)]) for number in range(20)])
    return Gathering(0.001, replies, 3, tmp_path / "work", target.config.vocab_size, lambda: target)


def unasked() -> LanguageModel:
    pytest.fail("written again")


def of(run: Run) -> list[Prompt]:
    return [prompt for prompt in bundled_prompts() if prompt.id in run.prompts]


def test_the_runs_own_replies_tell_the_best_head_where_there_are_others_to_learn_from(run: Run, how: Gathering) -> None:
    taught = of(run)[:4]
    found = gather(how, run, taught, ("unroll",), [])
    talks, apart = found.conversations, found.apart
    assert len(talks) - 20 == len(apart) > 0
    assert found.again == []
    assert [talk.ids[:4] for talk in talks[len(apart) :]] == [[0, 4, 9, 9]] * 20
    write_conversations(how.replies or Path(), [Conversation([0, 4, 9, 9, 1], [(3, 5)])])
    assert gather(how, run, taught, ("unroll",), []).apart == range(0)


def test_prompts_that_went_wrong_are_answered_again_once_an_attempt(run: Run, how: Gathering) -> None:
    prompts = of(run)[:2]
    found = gather(how, run, prompts, ("domain",), prompts)
    talks, apart = found.conversations, found.apart
    assert found.again == [len(apart), len(apart) + 1] * 4, "10 of 30, beside 20 that are given"
    drawn = talks[len(apart) : -20]
    assert len(drawn) == 2
    own = {tuple(talk.ids[: talk.spans[0][0]]) for talk in talks[: len(apart)]}
    assert {tuple(talk.ids[: talk.spans[0][0]]) for talk in drawn} <= own, "behind the very prompts of the run"
    assert gather(replace(how, writer=unasked), run, prompts, ("domain",), prompts) == found


def test_new_replies_are_written_where_none_are_given(run: Run, how: Gathering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "WAVE", 4)
    talks = gather(replace(how, replies=None), run, of(run)[:2], ("unroll",), []).conversations
    assert len(talks) > 2
    assert gather(replace(how, replies=None, writer=unasked), run, of(run)[:2], ("unroll",), []).conversations == talks


def test_a_treatment_with_nothing_to_learn_from_is_refused(run: Run, how: Gathering) -> None:
    with pytest.raises(UsageError, match="--treatment contexts: the run has no texts of the context-length probe to learn from"):
        gather(how, run, of(run)[:2], ("contexts",), [])
