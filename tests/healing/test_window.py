"""A window that is trained is the window that is measured, and the one that the files say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_together
from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.readings import HEALED_BY
from driftcli.healing import window as windows
from driftcli.healing.places import head_files
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.treatments import chosen, unsuited
from driftcli.healing.unrolled import forced_chains
from driftcli.healing.window import USUAL, Window, best_window, require_chains_in_window, settings_of, windowed
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from driftcli.training.conversations import Conversation, write_conversations
from tests.healing.command import diagnosed, driftcli
from tests.tiny import prompts, trajectories

CPU, DEPTH, SHORT = torch.device("cpu"), 4, 7


@pytest.fixture(scope="module")
def pair() -> LoadedPair:
    return load_pair("bundled:target", "bundled:pre-norm", CPU, "float32")


@pytest.fixture(scope="module")
def head(pair: LoadedPair) -> Eagle3:
    assert isinstance(pair.drafter, Eagle3)
    return pair.drafter


def forced(drafter: Eagle3, texts: Sequence[object], settings: DraftSettings) -> list[torch.Tensor]:
    found = [queries.state for queries in draft_together(drafter, texts, settings, DEPTH, free=False).forced]  # type: ignore[arg-type]
    assert all(state is not None for state in found)
    return found  # type: ignore[return-value]


def test_the_window_that_is_put_in_is_the_one_that_conditions_measure_and_training_unrolls(pair: LoadedPair, head: Eagle3) -> None:
    texts = trajectories(pair.target, prompts(2), head.boundaries, 24)  # type: ignore[arg-type]
    made = windowed(head, SHORT)
    measured, own = forced(head, texts, DraftSettings(DEPTH, window=SHORT)), forced(made, texts, DraftSettings(DEPTH))
    full = forced(head, texts, DraftSettings(DEPTH))
    for one, other, wide in zip(own, measured, full, strict=True):
        torch.testing.assert_close(one, other)
        assert (one - wide).abs().max() > 1e-2
    text, rows = texts[0], len(texts[0].text.ids) - 1 - DEPTH
    streams = {boundary: stream[None] for boundary, stream in text.streams.items()}
    asked = slice(text.prompt_length - 1, rows)
    for step, (done, state) in enumerate(zip(forced_chains(made, text.ids[None], streams, rows, DEPTH), own, strict=True)):
        torch.testing.assert_close(done.state[asked], state[: rows - text.prompt_length + 1], rtol=1e-4, atol=1e-5, msg=f"step {step + 1}")


def test_a_window_as_long_as_the_text_changes_nothing(pair: LoadedPair, head: Eagle3) -> None:
    texts = trajectories(pair.target, prompts(2), head.boundaries, 24)  # type: ignore[arg-type]
    longest = max(len(text.text.ids) for text in texts)
    for one, other in zip(
        forced(windowed(head, longest), texts, DraftSettings(DEPTH)), forced(head, texts, DraftSettings(DEPTH)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_written_says_the_window_and_loads_with_it(pair: LoadedPair, head: Eagle3, tmp_path: Path, nested: bool) -> None:
    files, made = head_files("bundled:pre-norm", pair.target, head), windowed(head, 300)
    said = settings_of({**files.config, **({windows.NEST: {"hidden_size": 128}} if nested else {})}, made)
    inside = said[windows.NEST] if nested else said
    assert isinstance(inside, dict)
    wanted = {"layer_types": ["sliding_attention"], "sliding_window": 300, "use_sliding_window": True}
    assert inside == {**({"hidden_size": 128} if nested else {}), **wanted}
    if nested:
        return
    write_files(with_weights_of(files, made, said), tmp_path)
    again = load_pair("bundled:target", str(tmp_path), CPU, "float32")
    assert isinstance(again.drafter, Eagle3)
    assert [(layer.window, layer.from_anchor) for layer in again.drafter.layers] == [(300, False)]
    assert (again.card.record["windows"].value, again.card.record["window_from"].value) == ("300", "query")


def test_scan_of_a_healed_head_reads_the_window_as_trained_and_names_the_server_that_does_not(
    pair: LoadedPair, head: Eagle3, tmp_path: Path
) -> None:
    files, made = head_files("bundled:pre-norm", pair.target, head), windowed(head, 300)
    write_files(with_weights_of(files, made, settings_of(files.config, made)), tmp_path)
    found = scan_checkpoint(str(tmp_path), "bundled:target")
    assert isinstance(found, Scan)
    told = str(found)
    assert "SGLang takes one from --speculative-draft-window-size alone" in told
    ended = driftcli("scan", "--drafter", tmp_path, "--target", "bundled:target")
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop(HEALED_BY)
    (tmp_path / "config.json").write_text(json.dumps(config))
    unsigned = scan_checkpoint(str(tmp_path), "bundled:target")
    assert isinstance(unsigned, Scan)
    assert unsigned != found, "of a head whose trainer is not known the file says nothing about training"


def test_a_head_with_a_window_gets_no_other(head: Eagle3) -> None:
    assert unsuited("window", head) == ""
    assert unsuited("window", windowed(head, 9)) == "its attention has a window already"
    assert chosen([], frozenset({"DRIFT-LONGCTX"}), head) == ("window", "contexts")
    assert chosen([], frozenset({"DRIFT-LONGCTX"}), windowed(head, 9)) == ("contexts",)
    assert chosen([], frozenset({"LENGTH-LOSS"}), head) == ("contexts",)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of contexts of two lengths, the longer of which was drafted on through windows too."""
    out = tmp_path_factory.mktemp("window") / "run"
    asked = ("--drafter", "bundled:pre-norm", "--probe", "context-length", "--limit", 16, "--depth", DEPTH, "--max-new-tokens", 16)
    return read_run(diagnosed(out, *asked, "--lengths", "120,600", "--no-quick"))


def test_the_best_window_is_that_of_the_longest_context_by_the_prompts_that_are_taught(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    every, some = set(run.prompts), set(run.prompts[:5])
    names = {rows: f"context-600-window-{rows}" for rows in (256, 512)}
    assert set(names.values()) <= run.measured, sorted(run.measured)
    for taught in (every, some):
        own = np.array([set(members) <= taught for members in run.units.members])
        sums = {rows: run.sums(name) for rows, name in names.items()}
        accepted = {
            rows: float(one["kept_by_length"][own, -1].sum() / one["rounds_by_length"][own, -1].sum()) for rows, one in sums.items()
        }
        assert best_window(run, taught) == Window(max(accepted, key=accepted.__getitem__), 600)
    kept = replace(run, path=run.path)
    monkeypatch.setattr(Run, "measured", frozenset(run.measured - set(names.values())))
    assert best_window(kept, every) == Window(USUAL, None)
    with pytest.raises(UsageError, match="--unroll 1025: longer than the window of 1024 rows"):
        require_chains_in_window(USUAL, USUAL + 1)
    require_chains_in_window(USUAL, USUAL)
    require_chains_in_window(None, USUAL)


def test_a_window_that_is_put_in_and_not_trained_is_said_in_files_and_card(run: Run, tmp_path: Path) -> None:
    rows = best_window(run, set(run.prompts)).rows
    ended = driftcli("heal", "--run", run.path, "--out", tmp_path, "--treatment", "window", "--rate", 0, "--format", "json")
    assert ended.exit_code in (0, 4), ended.stderr
    told = json.loads(ended.stdout)
    assert (told["treatments"], told["window_measured_at"]) == (["window"], 600)
    assert told["window"] in (256, 512)
    where = tmp_path if told["cured"] else tmp_path / "tried"
    assert json.loads((where / "config.json").read_text())["sliding_window"] == told["window"]
    card = (where / "README.md").read_text()
    assert f"--speculative-draft-window-size {told['window'] - 1}" in card
    said = f"a window of {told['window']} rows, the best tried at 600 tokens; vLLM reads it in the files, SGLang takes it from a flag alone"
    assert said in ended.stderr
    assert str(Window(USUAL)) == "a window of 1024 rows, the usual one, since the run tried none"
    assert rows in (256, 512)


def test_an_attempt_that_was_trained_without_a_window_is_not_gone_on_with_through_one(run: Run, tmp_path: Path) -> None:
    rows = read_table(run.path / "trajectories", ["ids", "prompt_length"], "baseline").to_pylist()
    write_conversations(tmp_path / "given.jsonl", [Conversation(row["ids"], [(row["prompt_length"], len(row["ids"]))]) for row in rows])
    asked = ("--run", run.path, "--replies", tmp_path / "given.jsonl", "--out", tmp_path / "out", "--budget", "1s", "--rate", 1e-12)
    assert driftcli("heal", *asked, "--treatment", "contexts").exit_code == 4
    ended = driftcli("heal", *asked, "--treatment", "window")
    assert ended.exit_code == 3
    assert f"window {best_window(run, set(run.prompts)).rows}" in ended.stderr.split("expected")[-1]
