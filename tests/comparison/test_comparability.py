from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driftcli.comparison.comparability import DTYPE, FACTS, differences
from driftcli.comparison.pairwise import comparable, compare
from driftcli.comparison.telling import remarks
from driftcli.errors import RunError
from driftcli.traces.reader import Run, read_run
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


@pytest.mark.parametrize("what", [fact.what for fact in FACTS if fact.effect == "refuses" and fact.what in EDITS and fact.what != DTYPE])
def test_what_changes_the_question_refuses_unless_forced(run: Run, tmp_path: Path, what: str) -> None:
    other = linked(run.path, tmp_path / "other", EDITS[what])
    with pytest.raises(RunError, match=f"not comparable, they differ in {what}"):
        comparable([run, other], force=False)
    assert [one.what for one in comparable([run, other], force=True)] == [what]


def test_another_dtype_refuses_two_drafters_and_is_told_of_one_pair(run: Run, tmp_path: Path) -> None:
    def other_drafter(held: dict[str, Any]) -> None:
        EDITS[DTYPE](held)
        held["pair"]["drafter"].update(fingerprint="d" * 16)

    (one,) = comparable([run, linked(run.path, tmp_path / "same", EDITS[DTYPE])], force=False)
    assert (one.what, one.effect, one.of_times) == (DTYPE, "is told", True)
    with pytest.raises(RunError, match="not comparable, they differ in dtype"):
        comparable([run, linked(run.path, tmp_path / "other", other_drafter)], force=False)


def test_two_dtypes_of_one_pair_tell_how_many_draft_tokens_differ(run: Run, tmp_path: Path) -> None:
    other = linked(run.path, tmp_path / "other", EDITS[DTYPE])
    (tmp_path / "other" / "steps").unlink()
    (tmp_path / "other" / "steps").mkdir()
    changed, among = 0, 0
    for file in sorted((run.path / "steps").glob("*.parquet")):
        table = pq.read_table(file)
        rows = table.select(["anchor", "depth", "feed", "drafted"]).to_pylist()
        hit = [row["feed"] == "forced" and row["anchor"] % 7 == 0 and row["depth"] == 3 for row in rows]
        drafted = pa.array([row["drafted"] + one for row, one in zip(rows, hit, strict=True)], table.schema.field("drafted").type)
        pq.write_table(
            table.set_column(table.schema.get_field_index("drafted"), table.schema.field("drafted"), drafted),
            other.path / "steps" / file.name,
        )
        baseline = file.name.startswith("baseline")
        changed, among = changed + baseline * sum(hit), among + baseline * sum(row["feed"] == "forced" for row in rows)
    said = remarks(compare((run, read_run(other.path)), ("a", "b"), 0.05))
    assert 0 < changed < among
    assert f"one pair in bfloat16 and in float16: {changed / among:.1%} of the {among:,} draft tokens on the same replies differ" in said


def test_another_machine_withholds_speeds_and_nothing_else(run: Run, tmp_path: Path) -> None:
    (one,) = comparable([run, linked(run.path, tmp_path / "other", EDITS["machine"])], force=False)
    assert (one.what, one.effect, one.of_times) == ("machine", "withholds speeds", True)


def test_speeds_stay_withheld_where_another_class_of_device_is_forced(run: Run, tmp_path: Path) -> None:
    (one,) = comparable([run, linked(run.path, tmp_path / "other", EDITS["device class"])], force=True)
    assert (one.what, one.effect, one.of_times) == ("device class", "refuses", True)
