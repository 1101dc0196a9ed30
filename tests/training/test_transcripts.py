"""Conversations that are asked for turn by turn are those that one growing cache writes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
import torch
from transformers import GenerationConfig

from driftcli.errors import SourceError
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.target.target import Writing, end_tokens
from driftcli.texts.prompts import bundled_prompts
from driftcli.training.replies import Pieces, Request, Wave, user_words, write_wave
from driftcli.training.transcripts import Transcripts


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    return load_language_model(resolve("bundled:target"), torch.device("cpu"), "float32")


@dataclass
class Asked:
    """A target that is no language model of this process, but is run by one; asked: the prompts of each time that it was asked."""

    inside: LanguageModel
    room: int | None = None
    asked: list[list[list[int]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inside, name)

    def write(self, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        self.asked.append([list(ids) for ids in prompts])
        return self.inside.write(prompts, writing)


SAID = [words[0] for prompt in bundled_prompts()[:12] if (words := user_words(prompt))]


@pytest.mark.parametrize("length", [1024, 150])
def test_greedy_replies_to_given_turns_are_those_of_one_cache(target: LanguageModel, length: int) -> None:
    given = [[SAID[row], SAID[(row + 1) % len(SAID)], SAID[(row + 5) % len(SAID)]] for row in range(len(SAID))]
    pieces, request, wave = Pieces.of(target), Request(0, 0, 8, 24, length, 0), Wave(len(given), 3, given)
    here, asked = write_wave(target, pieces, request, wave, greedy=True), write_wave(Asked(target), pieces, request, wave, greedy=True)  # type: ignore[arg-type]
    assert asked == here
    ends = end_tokens(target.generation_config, target.tokenizer)
    replies = [talk.ids[start:end] for talk in here for start, end in talk.spans]
    assert {reply[-1] in ends for reply in replies} == {True, False}, "some end, some are cut"
    assert {len(talk.spans) for talk in here} == ({3} if length == 1024 else {1, 2})
    assert max(len(talk.ids) for talk in here) <= length


def test_a_user_turn_ends_where_the_template_would_end_it_and_is_no_reply(target: LanguageModel) -> None:
    pieces, said = Pieces.of(target), Transcripts(target, 3, [], 99)
    said.add(pieces.opening)
    first = target.write([pieces.opening] * 3, Writing(6))[0][2]  # which the model says third, if it is greedy
    said.write("user", 6, 0.0, [first])
    (talk, *_) = said.conversations()
    assert talk.ids == [*pieces.opening, *target.write([pieces.opening], Writing(2))[0]]
    assert talk.spans == []


@pytest.mark.parametrize("kind", ["decoded here", "by generate"])
def test_a_reply_ends_at_tokens_that_are_named_besides(target: LanguageModel, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.in_process.decodable", lambda _: kind == "decoded here")
    prompts = [target.tokenizer(words).input_ids for words in SAID[:4]]
    whole = target.write(prompts, Writing(12))
    end = whole[0][5]
    wanted = [reply[: reply.index(end) + 1] if end in reply else reply for reply in whole]
    assert wanted != whole
    assert target.write(prompts, Writing(12, ends=[end])) == wanted
    assert target.write(prompts, Writing(12)) == whole, "only where they are named"


def test_a_conversation_that_the_target_has_no_room_for_goes_no_further(target: LanguageModel) -> None:
    engine, pieces = Asked(target, room=60), Pieces.of(target)
    given = [["0"] * 4, [" ".join(SAID[:4])] * 4]
    found = write_wave(engine, pieces, Request(0, 0, 8, 16, 1024, 0), Wave(2, 4, given), greedy=True)  # type: ignore[arg-type]
    assert all(len(ids) + 16 <= 60 for prompts in engine.asked for ids in prompts)
    assert [len(prompts) for prompts in engine.asked] == [1] * len(engine.asked), "the long one never had room"
    assert len(found) == 1
    assert len(found[0].spans) == len(engine.asked) < 4


def test_a_target_that_would_never_end_a_turn_is_refused(target: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(target, tokenizer=deepcopy(target.tokenizer))
    monkeypatch.setattr(target.model, "generation_config", GenerationConfig())  # type: ignore[no-untyped-call]
    write_wave(silent, Pieces.of(silent), Request(0, 0, 8, 2, 64, 0), Wave(1, 1), greedy=True)  # whose tokenizer names one
    silent.tokenizer.eos_token = None
    with pytest.raises(SourceError, match="names no end token, expected one; bring --replies of your own"):
        write_wave(silent, Pieces.of(target), Request(0, 0, 8, 2, 64, 0), Wave(1, 1), greedy=True)
