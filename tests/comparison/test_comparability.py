from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftcli.comparison.comparability import FACTS, differences
from driftcli.comparison.pairwise import comparable
from driftcli.errors import RunError
from driftcli.traces.reader import Run
from tests.comparison.runs import linked, written
from tests.report.synthetic import Recipe

Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, Edit] = {  # one for each fact that a manifest alone holds
    "target": lambda held: held["pair"]["target"].update(fingerprint="f" * 16),
    "chat template": lambda held: held.update(chat_template_sha256="e" * 16),
    "rendering": lambda held: held["pair"].update(rendering={**held["pair"].get("rendering", {}), "begins_with_bos": True}),
    "thinking": lambda held: held["pair"].update(rendering={**held["pair"].get("rendering", {}), "thinks_if_asked": True}),
    "temperature": lambda held: held["request"].update(temperature=0.7),
    "longest reply in tokens": lambda held: held["request"].update(max_new_tokens=32),
    "depth": lambda held: held["request"].update(depth=4),
    "dtype": lambda held: held["request"].update(dtype="float16"),
    "engine": lambda held: held["request"].update(engine={"engine": "vLLM", "version": "0.32.0", "quantisation": None, "args": {}}),
    "device class": lambda held: held["request"].update(device="cpu"),
    "machine": lambda held: held.update(device_name="Another GPU"),
    "threads": lambda held: held["request"].update(threads=8),
    "reading of the head": lambda held: held["pair"]["record"]["reading"].update(value="as_trained"),
    "trace schema": lambda held: held.update(schema=3),
}
ELSEWHERE = {"replies", "step times", "batch size of the step times", "wiring", "seed"}  # in the rows, in another file, or in two places


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return written(tmp_path_factory.mktemp("runs"), Recipe(), "own")


def test_every_fact_has_an_edit() -> None:
    assert {fact.what for fact in FACTS} == EDITS.keys() | ELSEWHERE


@pytest.mark.parametrize("what", EDITS)
def test_each_thing_that_differs_is_named_alone_with_both_values(run: Run, tmp_path: Path, what: str) -> None:
    other = linked(run.path, tmp_path / "other", EDITS[what])
    (one,) = differences([run, other])
    assert one.what == what
    assert len(set(one.seen)) == 2
    assert differences([run, run]) == []


@pytest.mark.parametrize("what", [fact.what for fact in FACTS if fact.effect == "refuses" and fact.what in EDITS])
def test_what_changes_the_question_refuses_unless_forced(run: Run, tmp_path: Path, what: str) -> None:
    other = linked(run.path, tmp_path / "other", EDITS[what])
    with pytest.raises(RunError, match=f"not comparable, they differ in {what}"):
        comparable([run, other], force=False)
    assert [one.what for one in comparable([run, other], force=True)] == [what]


def test_another_machine_withholds_speeds_and_nothing_else(run: Run, tmp_path: Path) -> None:
    (one,) = comparable([run, linked(run.path, tmp_path / "other", EDITS["machine"])], force=False)
    assert (one.what, one.effect, one.of_times) == ("machine", "withholds speeds", True)


def test_speeds_stay_withheld_where_another_class_of_device_is_forced(run: Run, tmp_path: Path) -> None:
    (one,) = comparable([run, linked(run.path, tmp_path / "other", EDITS["device class"])], force=True)
    assert (one.what, one.effect, one.of_times) == ("device class", "refuses", True)
