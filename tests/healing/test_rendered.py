"""User turns in the renderings of a run's probes, and what the target answers behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftcli.healing import data
from driftcli.healing.data import Gathering, gather
from driftcli.healing.rendered import prompts, renderings, user_turns
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.texts.prompts import bundled_prompts
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from driftcli.training.conversations import Conversation, read_conversations, write_conversations
from driftcli.training.replies import Pieces, Request, Wave, user_words, write_wave
from tests.healing.command import diagnosed
from tests.reference import said_alone


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    return load_language_model(resolve("bundled:target"), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("rendered") / "run"
    asked = ("--drafter", "bundled:post-norm", "--probe", "template", "--probe", "system-prompt", "--limit", 4, "--depth", 2)
    return read_run(diagnosed(out, *asked, "--max-new-tokens", 8, "--no-quick"))


WORDS = [words[0] for prompt in bundled_prompts()[:8] if len(words := user_words(prompt)) == 1]


@pytest.fixture(scope="module")
def talks(target: LanguageModel) -> list[Conversation]:
    """Given turns, answered in the target's own template."""
    given = [[words] for words in WORDS]
    return write_wave(target, Pieces.of(target), Request(0, 0, 8, 8, 512, 0), Wave(len(given), 1, given), greedy=True)


def test_prompts_are_rendered_as_the_probes_of_the_run_rendered_them(run: Run, target: LanguageModel) -> None:
    recorded = {one["name"]: one["text"] for one in run._measured if one["probe"] in ("template", "system-prompt")}
    anew = [name for name, text in recorded.items() if not text["replayed"]]
    settings = renderings(run)
    assert len(settings) == len(anew) > 8
    single = {prompt.id: user_words(prompt)[0] for prompt in bundled_prompts() if prompt.id in run.prompts and len(user_words(prompt)) == 1}
    assert single
    for name, one in zip(anew, settings, strict=True):
        rows = read_table(run.path / "trajectories", ["prompt", "ids", "prompt_length"], name).to_pylist()
        wanted = {row["prompt"]: row["ids"][: row["prompt_length"]] for row in rows if row["prompt"] in single}
        assert wanted
        for prompt, ids in wanted.items():
            assert list(prompts(target.tokenizer, [single[prompt]], [one], 10**6)) == [ids], name


def test_every_user_turn_comes_once_in_every_rendering_that_has_room(run: Run, target: LanguageModel) -> None:
    settings = renderings(run)
    every = list(prompts(target.tokenizer, WORDS[:3], settings, 10**6))
    assert len(every) == 3 * len(settings)
    assert len({tuple(ids) for ids in every}) > len(every) // 2
    short = list(prompts(target.tokenizer, WORDS[:3], settings, 200))
    assert short == [ids for ids in every if len(ids) <= 200] != every


def test_a_user_turn_is_its_words_or_left(target: LanguageModel, talks: list[Conversation], capsys: pytest.CaptureFixture[str]) -> None:
    assert user_turns(target, talks) == WORDS
    assert capsys.readouterr().err == ""
    talk, pieces = talks[0], Pieces.of(target)
    start, answer = talk.spans[0][0], len(pieces.answer)
    letters = [token for letter in WORDS[0] for token in target.tokenizer(letter, add_special_tokens=False).input_ids]
    spelled = [*pieces.opening, *letters, *pieces.answer]
    assert len(letters) > start - answer - len(pieces.opening), "the same words by other tokens"
    others = [
        Conversation([*spelled, *talk.ids[start:]], [(len(spelled), len(spelled) + 2)]),
        Conversation(talk.ids[1:], [(start - 1, len(talk.ids) - 1)]),
        Conversation([*pieces.opening, *pieces.answer, 9], [(len(pieces.opening) + answer, len(pieces.opening) + answer + 1)]),
    ]
    assert user_turns(target, [*others, talks[1]]) == [WORDS[1]]
    assert "3 of 4 conversations stay in their own rendering" in capsys.readouterr().err


def test_a_target_whose_template_is_not_known_by_pieces_keeps_its_rendering(
    target: LanguageModel, talks: list[Conversation], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target.tokenizer, "chat_template", None)
    assert user_turns(target, talks) == []
    assert "no user turn is rendered by other templates: bundled:target: has no chat template to write in" in capsys.readouterr().err


def test_given_replies_are_answered_behind_other_templates_by_the_target_for_a_third_of_all_at_most(
    run: Run, target: LanguageModel, talks: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "WAVE", 5)
    monkeypatch.setattr(data, "REPLY", 6)
    monkeypatch.setattr(
        data, "own_replies", lambda *_: [Conversation([7, 8, 9, number], [(3, 4)]) for number in range(2 + 2 * (len(_) > 2))]
    )
    many = [Conversation([*talk.ids, 9], talk.spans) for _ in range(4) for talk in talks]
    write_conversations(tmp_path / "given.jsonl", many)
    how = Gathering(60, tmp_path / "given.jsonl", 3, tmp_path / "work", target.config.vocab_size, lambda: target)
    found = gather(how, run, [], ("templates",), [])
    assert found.rendered == len(many) // 2
    assert len(found.conversations) == 2 + 2 + found.rendered + len(many)
    written = [
        talk for path in sorted((tmp_path / "work").glob("rendered-*")) for talk in read_conversations(path, target.config.vocab_size)
    ]
    assert written == found.conversations[4 : 4 + found.rendered]
    assert found.again == [], "more than a third as they are"
    first = written[:5]
    for talk in first:
        assert [talk.ids[start:end] for start, end in talk.spans] == said_alone(target.model, talk.ids, talk.spans)
    opening = Pieces.of(target).opening
    assert sum(talk.ids[: len(opening)] == opening for talk in written) < len(written) / 2, "most begin otherwise"
    assert gather(replace(how, writer=lambda: pytest.fail("asked again")), run, [], ("templates",), []) == found
    assert not list(tmp_path.glob("work/replies*"))
    assert json.loads((tmp_path / "work" / "rendered-1.jsonl").read_text().splitlines()[0])["spans"]
