"""Several processes measure one run, each in an interpreter of its own."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings, Wiring
from driftcli.domain import Axis, PairCard, RunSpec, Said
from driftcli.engine import measuring, processes
from driftcli.engine.cells import measure_cells
from driftcli.engine.processes import ALONE, Processes, begun_together, joined
from driftcli.engine.run import Job, measure
from driftcli.errors import MachineError, PromptError, UsageError
from driftcli.loading.pair import load_pair
from driftcli.probe import Trace
from driftcli.traces.manifest import read_manifest
from tests.engine.test_run import Again, TwoRounds, Windows, assert_same_rows
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=8, batch_size=2)


@dataclass(frozen=True)
class OtherTexts:
    """A probe whose conditions share texts of their own, the first of which finds their sinks, and one whose texts are written beside."""

    name: str = "other-texts"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        settings, text = DraftSettings(depth=spec.depth), TextSettings(template="none")
        beside = Condition("beside", settings, self.name, text=TextSettings(bos="dropped"))
        return (Condition("first", settings, self.name, text=text), Condition("second", settings, self.name, text=text), beside)

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


BATTERY = (Windows(), TwoRounds(Wiring(feedback="normed")), OtherTexts(), Again())


def refusing(bad: int) -> object:
    """`measure_cells`, but that "first" cannot be measured on the batch after `bad` prompts."""

    def measured(work, folder, batch, conditions, holders, say):  # type: ignore[no-untyped-def]
        if batch.before == bad and "first" in {one.name for one in conditions}:
            raise PromptError(f"refused behind {bad}")
        return measure_cells(work, folder, batch, conditions, holders, say)

    return measured


def taking_part(environment: Mapping[str, str], models: str, out: str, count: int, bad: int) -> None:
    """What one process does."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    processes.GRACE = 0.0
    if bad >= 0:
        measuring.measure_cells = refusing(bad)  # type: ignore[assignment]
    with joined("cpu") as (own, _):
        pair = load_pair(f"{models}/target", f"{models}/post", torch.device("cpu"), "float32")
        measure(Job(pair, prompts(count), BATTERY, SPEC, Path(out), []), lambda *_: None, own)


def together(models: Path, out: Path, several: int, count: int, bad: int = -1) -> list[int | None]:
    """The exit codes of so many processes that measure one run."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    shared = {"WORLD_SIZE": str(several), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(several)}
    environments = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(several)]
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=taking_part, args=(one, str(models), str(out), count, bad)) for one in environments]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process."""
    pair = load_pair(str(models / "target"), str(models / "post"), torch.device("cpu"), "float32")
    return measure(Job(pair, prompts(5), BATTERY, SPEC, tmp_path_factory.mktemp("alone") / "r", []), lambda *_: None)


def test_processes_write_the_rows_of_one_searches_and_later_rounds_among_them(models: Path, alone: Path, tmp_path: Path) -> None:
    assert together(models, tmp_path / "r", 2, 5) == [0, 0]  # three batches, so parts of them are shared out
    assert_same_rows(alone, tmp_path / "r")
    one, two = (read_manifest(path).content for path in (alone, tmp_path / "r"))
    assert two["complete"] and (one["processes"], two["processes"]) == (1, 2)
    assert [two[key] for key in ("request", "conditions", "failed", "batches")] == [
        one[key] for key in ("request", "conditions", "failed", "batches")
    ]


@pytest.mark.parametrize("bad", [0, 2])
def test_what_fails_in_one_process_counts_in_all_as_where_one_measures(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    assert together(models, tmp_path / "r", 2, 5, bad) == [0, 0]
    monkeypatch.setattr(measuring, "measure_cells", refusing(bad))
    pair = load_pair(str(models / "target"), str(models / "post"), torch.device("cpu"), "float32")
    measure(Job(pair, prompts(5), BATTERY, SPEC, tmp_path / "alone", []), lambda *_: None)
    assert_same_rows(tmp_path / "alone", tmp_path / "r")
    assert read_manifest(tmp_path / "r").content["failed"] == read_manifest(tmp_path / "alone").content["failed"]


def test_a_process_that_misses_another_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:28712")

    monkeypatch.setattr(processes.dist, "broadcast_object_list", broken)
    monkeypatch.setattr(processes, "GRACE", 0.0)
    with pytest.raises(
        MachineError, match=r"another of the 3 processes of this run ended before its work was done .*Connection closed by peer"
    ):
        Processes(1, 3).agreed(lambda: 1)


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.first and ALONE.agreed(lambda: 7) == 7 and ALONE.gathered("x") == ["x"]


@pytest.mark.parametrize(("device", "asked", "said"), [("cpu", 3, "2 were begun already"), ("cuda:1", None, "cannot all use one device")])
def test_what_does_not_go_with_processes_that_were_begun_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, asked: int | None, said: str
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert begun_together()
    with pytest.raises(UsageError, match=said), joined(device, asked):
        pass


def test_a_world_of_one_or_a_place_without_others_is_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert not begun_together()
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert not begun_together()
