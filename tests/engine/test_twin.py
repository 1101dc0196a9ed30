"""A target with rounded weights held against its float twin: every count against a naive loop over both runs' rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import torch

from driftcli.domain import Estimate, RunSpec
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report.verdict import judge
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.statistics.shift import CAUSES, STAGES, Shift, length
from driftcli.traces.reader import Run, read_run
from driftcli.traces.soundness import mark
from probes.target_shift import TargetShift
from tests.quantised import write_rounded
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=20, batch_size=5)
ASKED = prompts(12, turns=2)
Rows = dict[tuple[Any, ...], dict[str, Any]]
Quantised = Callable[[int], LoadedPair]


def measured(pair: LoadedPair, out: Path, twin: Run | None = None, **changes: Any) -> Run:
    spec = SPEC if twin is None else replace(SPEC, against=mark(twin.manifest["request"]))  # type: ignore[arg-type]
    asked = {"prompts": ASKED, "battery": (TargetShift(),), "spec": spec, "probe_names": ["target-shift"], "twin": twin, **changes}
    return read_run(measure(Job(pair, out=out, **asked), lambda *_: None))


@pytest.fixture(scope="module")
def twin(pair: Callable[[str], LoadedPair], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return measured(pair("trained-post"), tmp_path_factory.mktemp("twin") / "r")


@pytest.fixture(scope="module")
def quantised(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    """`quantised(bits)` is the pair with the target's weights rounded to so many bits."""

    def get(bits: int) -> LoadedPair:
        folder = tmp_path_factory.mktemp("quantised") / f"int{bits}"
        target = write_rounded(trained / "target", folder, bits)
        return load_pair(str(target), str(trained / "trained-post"), torch.device("cpu"), "float32")

    return get


@pytest.fixture(scope="module")
def coarse(quantised: Quantised, twin: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return measured(quantised(4), tmp_path_factory.mktemp("coarse") / "r", twin)


def rows(run: Path, table: str, condition: str, *keys: str) -> Rows:
    files = sorted((run / table).glob(f"{condition}-{'?' * 12}.parquet"))
    found = [row for row in ds.dataset(files).to_table().to_pylist() if row.get("feed", "forced") == "forced"]
    by_key = {tuple(row[key] for key in keys): row for row in found}
    assert len(by_key) == len(found) > 0
    return by_key


def texts(run: Path, condition: str) -> Rows:
    return rows(run, "trajectories", condition, "prompt", "turn")


def chains(run: Path, condition: str) -> Rows:
    return rows(run, "steps", condition, "prompt", "turn", "anchor", "depth")


def walked(right: dict[tuple[Any, ...], bool], depth: int) -> tuple[int, int]:
    """Rounds and drafts kept in them of decoding along every reply, one anchor after the other."""
    rounds = kept = 0
    for prompt, turn in sorted({key[:2] for key in right}):
        anchors = sorted({key[2] for key in right if key[:2] == (prompt, turn)})
        at = anchors[0]
        while at <= anchors[-1]:
            accepted = 0
            while accepted < depth and right[prompt, turn, at, accepted + 1]:
                accepted += 1
            rounds, kept, at = rounds + 1, kept + accepted, at + accepted + 1
    return rounds, kept


def by_loop(own: Path, twin: Path, choices: dict[tuple[Any, ...], list[int]], deepest: int = SPEC.depth) -> dict[str, Any]:
    """All counts, from the two runs' own files alone and what a target chooses on the twin's replies."""
    theirs, ours, replayed = chains(twin, "baseline"), chains(own, "baseline"), chains(own, "twin-replies")
    assert theirs.keys() == replayed.keys()
    starts = {key: row["prompt_length"] for key, row in texts(twin, "baseline").items()}
    found: dict[str, Any] = {name: [0] * deepest for name in ("drafted", "wanted")}
    found |= {f"{what}_{cause}": [0] * deepest for what in ("lost", "gained") for cause in CAUSES}
    right: dict[str, dict[tuple[Any, ...], bool]] = {stage: {} for stage in STAGES}
    for key, row in theirs.items():
        prompt, turn, anchor, depth = key
        wanted = choices[prompt, turn][anchor + depth - starts[prompt, turn]]
        other_draft, other_wanted = replayed[key]["drafted"] != row["drafted"], wanted != row["wanted"]
        there, here = row["drafted"] == row["wanted"], replayed[key]["drafted"] == wanted
        found["drafted"][depth - 1] += other_draft
        found["wanted"][depth - 1] += other_wanted
        cause = "both" if other_draft and other_wanted else "drafted" if other_draft else "wanted"
        found[f"lost_{cause}"][depth - 1] += there and not here
        found[f"gained_{cause}"][depth - 1] += here and not there
        right["twin"][key], right["tokens"][key] = there, here
        right["streams"][key] = there if other_wanted else here
    right["here"] = {key: row["drafted"] == row["wanted"] for key, row in ours.items()}
    walks = {stage: walked(guesses, deepest) for stage, guesses in right.items()}
    found |= {f"{stage}_{name}": walk[place] for stage, walk in walks.items() for place, name in enumerate(("rounds", "kept"))}
    return {**found, **parted(texts(twin, "baseline"), texts(own, "baseline")), "anchors": len(theirs) // deepest}


def parted(theirs: Rows, ours: Rows) -> dict[str, int]:
    found = {"replies": 0, "parted": 0, "common": 0}
    for key, row in theirs.items():
        start = row["prompt_length"]
        if ours[key]["ids"][: ours[key]["prompt_length"]] != row["ids"][:start]:
            continue
        found["replies"] += 1
        if ours[key]["ids"] != row["ids"]:
            found["parted"] += 1
            found["common"] += (
                next(place for place, pair in enumerate(zip(row["ids"], ours[key]["ids"], strict=False)) if len(set(pair)) > 1) - start
            )
    return found


def chosen(target: Any, texts_of: Rows) -> dict[tuple[Any, ...], list[int]]:
    """What transformers' own forward pass of a target chooses at each reply token."""
    found = {}
    with torch.inference_mode():
        for key, row in texts_of.items():
            logits = target.model(torch.tensor([row["ids"]])).logits[0]
            found[key] = logits[row["prompt_length"] - 1 : -1].argmax(-1).tolist()
    return found


def told(shift: Shift) -> dict[str, Any]:
    return {name: values.sum(axis=0).tolist() for name, values in shift.sums.items()}


def test_every_count_is_that_of_a_naive_loop_over_both_runs(coarse: Run, twin: Run, quantised: Quantised) -> None:
    """The rounded target chooses by a forward pass of its own on the twin's replies, and all else is read from the two folders."""
    assert coarse.shift is not None
    choices = chosen(quantised(4).target, texts(twin.path, "baseline"))
    expected = by_loop(coarse.path, twin.path, choices)
    assert told(coarse.shift) == expected
    assert expected["drafted"][0] > 0 and expected["wanted"][0] > 0 and expected["parted"] > 0
    assert any(expected[f"lost_{cause}"][0] for cause in CAUSES)


def test_the_twins_rows_stand_in_the_run_as_they_stand_in_its_own(coarse: Run, twin: Run) -> None:
    for table, keys in (("steps", ("prompt", "turn", "anchor", "depth")), ("heads", ("prompt", "turn", "depth", "layer", "head"))):
        theirs, taken = rows(twin.path, table, "baseline", *keys), rows(coarse.path, table, "twin", *keys)
        for row in theirs.values():
            row |= {"probe": "target-shift", "condition": "twin"}
        assert taken == theirs
    assert texts(coarse.path, "twin") == texts(twin.path, "baseline")


def test_the_twins_replies_are_read_and_none_of_them_counts_as_written_here(coarse: Run, twin: Run) -> None:
    theirs, replayed = texts(twin.path, "baseline"), texts(coarse.path, "twin-replies")
    assert {key: row["ids"] for key, row in replayed.items()} == {key: row["ids"] for key, row in theirs.items()}
    assert not any(row["generated"] for row in replayed.values())


def test_the_acceptance_lengths_of_both_ends_are_those_of_the_two_runs(coarse: Run, twin: Run) -> None:
    assert coarse.shift is not None
    for stage, run in (("twin", twin), ("here", coarse)):
        assert coarse.shift.estimate(length(stage)).value == pytest.approx(run.estimate(walk_acceptance_length).value)  # type: ignore[arg-type]


def test_the_same_target_loses_exactly_nothing(pair: Callable[[str], LoadedPair], twin: Run, tmp_path: Path) -> None:
    run = measured(pair("trained-post"), tmp_path / "r", twin)
    shift = run.shift
    assert shift is not None and shift.same and shift.nothing_differs
    assert shift.kept().value == 1.0
    assert [shift.change(before, after).value for before, after in pairwise(STAGES)] == [0.0, 0.0, 0.0]
    assert not any(shift.sums[f"{what}_{cause}"].any() for what in ("lost", "gained") for cause in CAUSES)
    assert judge(run, [TargetShift()]).axes["domain"].reason == "the twin is the same target, computed alike, and nothing differs"


def test_a_tiny_rounding_shows_no_shift_and_says_what_it_excludes(quantised: Quantised, twin: Run, tmp_path: Path) -> None:
    run = measured(quantised(16), tmp_path / "r", twin)
    assert run.shift is not None and not run.shift.same
    domain = judge(run, [TargetShift()]).axes["domain"]
    assert domain.state in ("healthy", "open")
    assert "no shift seen, against " in domain.reason and ("or more is excluded" in domain.reason or domain.bound is not None)
    kept = run.shift.kept()
    assert isinstance(kept, Estimate) and kept.low <= 1 <= kept.high


def test_the_record_says_both_targets_and_what_computed_them(coarse: Run, twin: Run) -> None:
    record = json.loads((coarse.path / "run.json").read_text())
    assert record["twin"]["target"]["fingerprint"] == twin.pair.target.fingerprint != coarse.pair.target.fingerprint
    assert {name: record["twin"][name] for name in ("run", "engine", "dtype", "device", "quantisation")} == {
        "run": twin.path.name, "engine": "transformers", "dtype": "float32", "device": "cpu", "quantisation": None,
    }  # fmt: skip
    assert record["target_quantisation"] is None


def test_a_resumed_run_has_the_same_rows(quantised: Quantised, coarse: Run, twin: Run, tmp_path: Path) -> None:
    again = measured(quantised(4), tmp_path / "r", twin)
    for file in again.path.glob("steps/twin*.parquet"):
        file.unlink()
    manifest = json.loads((again.path / "run.json").read_text())
    (again.path / "run.json").write_text(json.dumps({**manifest, "complete": False}))
    again = measured(quantised(4), tmp_path / "r", twin)
    for condition in ("twin", "twin-replies"):
        assert chains(again.path, condition) == chains(coarse.path, condition)


def test_a_causal_lm_reads_no_streams_so_its_drafts_on_the_same_text_are_the_same(trained: Path, tmp_path: Path) -> None:
    target = write_rounded(trained / "target", tmp_path / "int4", 4)
    there, here = (load_pair(str(one), str(trained / "lm"), torch.device("cpu"), "float32") for one in (trained / "target", target))
    run = measured(here, tmp_path / "here", measured(there, tmp_path / "there"))
    assert run.shift is not None
    assert not run.shift.sums["drafted"].any() and run.shift.sums["wanted"].any()
    assert run.shift.change("twin", "streams").value == 0.0
