"""Conditions whose texts are written together: each gives what it gives whoever else is there, stopped, failing or short of memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Axis, PairCard, RunSpec, Said
from driftcli.engine import batches, texts
from driftcli.engine.run import Job, measure
from driftcli.engine.texts import Continued, write_texts, write_together
from driftcli.errors import PromptError, RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.probe import Trace
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Writing
from driftcli.texts.rendering import render
from driftcli.traces.manifest import read_manifest
from driftcli.traces.writer import RunFolder
from tests.engine.test_run import assert_same_rows, silent, table
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=16, batch_size=12)
OWN = {
    "bare": TextSettings(template="none"),
    "dropped": TextSettings(bos="dropped"),
    "roles": TextSettings(template="other-roles"),
    "system": TextSettings(system="other"),
    "long": TextSettings(length=300),
    "longer": TextSettings(length=400),
}


OWN_TEXTS = TextSettings()


@dataclass(frozen=True)
class Texts:
    """A probe whose conditions have texts of their own; two share some."""

    asked: tuple[str, ...] = tuple(OWN)
    name: str = "texts"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        windowed = Condition("bare-window", DraftSettings(spec.depth, window=4), self.name, text=OWN["bare"])
        return (*(Condition(name, DraftSettings(spec.depth), self.name, text=OWN[name]) for name in self.asked), windowed)

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


@pytest.fixture(scope="module")
def pair(models: Path) -> LoadedPair:
    return load_pair(str(models / "target"), str(models / "pre"), torch.device("cpu"), "float32")


def job(pair: LoadedPair, out: Path, asked: tuple[str, ...] = tuple(OWN)) -> Job:
    return Job(pair, prompts(3, turns=2), (Texts(asked),), SPEC, out, [])


@pytest.fixture(scope="module")
def whole(pair: LoadedPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(job(pair, tmp_path_factory.mktemp("whole") / "r"), silent)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[set[TextSettings]]:
    """The settings of the texts of each call that writes several conditions'."""
    found, made = list[set[TextSettings]](), write_together

    def noted(target: object, asked: Sequence[Continued], *args: Any) -> object:
        found.append({one.settings for one in asked})
        return made(target, asked, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(batches, "write_together", noted)
    return found


def test_texts_of_about_one_length_are_written_together(
    pair: LoadedPair, whole: Path, tmp_path: Path, calls: list[set[TextSettings]]
) -> None:
    assert_same_rows(whole, measure(job(pair, tmp_path / "r"), silent))
    assert calls == [{OWN[name] for name in some} for some in (("bare", "dropped", "roles", "system"), ("long", "longer"))]


@pytest.mark.parametrize(
    ("gone", "written"),
    [(("dropped",), 1), (("bare-window", "roles", "system"), 1), (("system", "longer"), 2)],
)
def test_a_run_that_was_stopped_amid_them_goes_on_to_the_same_rows(
    gone: Sequence[str], written: int, pair: LoadedPair, whole: Path, tmp_path: Path, calls: list[set[TextSettings]]
) -> None:
    path = measure(job(pair, tmp_path / "r"), silent)
    calls.clear()
    for name in gone:
        for file in path.glob(f"steps/{name}-????????????.parquet"):
            file.unlink()
    assert_same_rows(whole, measure(job(pair, path), silent))
    assert len(calls) == written


REPLAYED = {"bare": TextSettings(template="none"), "replayed": TextSettings(template="none", replayed=True)}


def test_where_replayed_texts_alone_are_missing_nothing_is_written_again(
    pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[set[TextSettings]]
) -> None:
    monkeypatch.setitem(OWN, "replayed", REPLAYED["replayed"])
    said = set[str]()
    path = measure(job(pair, tmp_path / "r", tuple(REPLAYED)), lambda *told: said.add(told[2]))
    assert calls == [{REPLAYED["bare"]}]
    assert "writing replies 1-3 of 3, turn 2 of 2, 16 of up to 16 tokens" in said and not any("conditions" in now for now in said)
    before = table(path, "steps")
    calls.clear()
    for file in path.glob("steps/replayed-????????????.parquet"):
        file.unlink()
    after = table(measure(job(pair, path, tuple(REPLAYED)), silent), "steps")
    assert calls == []
    pd.testing.assert_frame_equal(before, after, rtol=1e-4, atol=2e-5)


def test_replayed_texts_that_cannot_be_rendered_fail_alone(
    pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[set[TextSettings]]
) -> None:
    monkeypatch.setitem(OWN, "replayed", REPLAYED["replayed"])
    without = measure(job(pair, tmp_path / "without", ("bare", "dropped")), silent)
    rendering = texts.render

    def refusing(tokenizer: object, where: str, messages: object, text: object, settings: TextSettings = OWN_TEXTS) -> object:
        if settings.replayed:
            raise PromptError("prompt odd: no way back")
        return rendering(tokenizer, where, messages, text, settings)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "render", refusing)
    found = measure(job(pair, tmp_path / "with", ("bare", "replayed", "dropped")), silent)
    assert calls == [{OWN["bare"], OWN["dropped"]}] * 2
    assert_same_rows(without, found)
    assert read_manifest(found).content["failed"] == [{"probe": "texts", "name": "replayed", "reason": "prompt odd: no way back"}]


def test_one_whose_prompts_cannot_be_rendered_fails_alone(
    pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[set[TextSettings]]
) -> None:
    others = tuple(name for name in OWN if name != "roles")
    without = measure(job(pair, tmp_path / "without", others), silent)
    rendering, odd = render, prompts(3)[1].id

    def refusing(tokenizer: object, where: str, messages: object, text: object, settings: TextSettings = OWN_TEXTS) -> object:
        if settings == OWN["roles"] and where == odd:
            raise PromptError("prompt odd: no roles here")
        return rendering(tokenizer, where, messages, text, settings)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "render", refusing)
    calls.clear()
    told = list[float]()
    found = measure(job(pair, tmp_path / "with"), lambda done, *_: told.append(done))
    assert told == sorted(told) and told[-1] == 3 * (2 + len(OWN))
    assert [some & {OWN["roles"]} for some in calls] == [set(), set()]
    assert_same_rows(without, found)
    assert read_manifest(found).content["failed"] == [{"probe": "texts", "name": "roles", "reason": "prompt odd: no roles here"}]


def test_where_there_is_no_room_for_all_parts_of_them_are_written(
    pair: LoadedPair, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tried = write_together, list[int]()

    def cramped(target: object, asked: Sequence[object], *args: Any) -> object:
        tried.append(len(asked))
        if len(asked) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(target, asked, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(batches, "write_together", cramped)
    room, writing = list[object](), RunFolder.write_cell

    def noted(folder: RunFolder, *args: Any) -> None:
        room.append(json.loads((folder.path / "run.json").read_text())["room"])
        writing(folder, *args)

    monkeypatch.setattr(RunFolder, "write_cell", noted)
    found = measure(job(pair, tmp_path / "r"), silent)
    assert tried == [12, 12, 6, 6, 6], "once more with nothing kept, then by halves, and never more again"
    assert room == [{}, *[{"keeping": 0, "writing": 6}] * (1 + len(OWN))], "said before the first cell that was written so"
    for name in ("trajectories", "steps"):
        pd.testing.assert_frame_equal(table(whole, name), table(found, name), rtol=1e-4, atol=2e-5)


def test_where_not_even_one_text_has_room_each_condition_tells_it(
    pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    writing = write_texts
    monkeypatch.setattr(batches, "write_together", none)
    monkeypatch.setattr(batches, "write_texts", lambda *args: writing(*args) if args[3] == OWN_TEXTS else none())
    found = measure(replace(job(pair, tmp_path / "r"), spec=replace(SPEC, batch_size=6)), silent)
    failed = json.loads((found / "run.json").read_text())["failed"]
    assert [one["name"] for one in failed] == [*OWN, "bare-window"]
    assert all("no memory is left" in one["reason"] for one in failed)


def test_a_text_for_which_an_engine_has_no_room_spoils_no_other(pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = LanguageModel.write

    def short(target: LanguageModel, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        if max(map(len, prompts)) > 350:
            raise RunError("a prompt is longer than 350 tokens")
        return writing(target, prompts, how)

    monkeypatch.setattr(LanguageModel, "write", short)
    found = measure(job(pair, tmp_path / "r"), silent)
    assert read_manifest(found).content["failed"] == [{"probe": "texts", "name": "longer", "reason": "a prompt is longer than 350 tokens"}]
