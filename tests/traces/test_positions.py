from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from driftcli.conditions import BASELINE
from driftcli.domain import RunSpec
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=150, batch_size=4)
COLUMNS = ["prompt", "turn", "anchor", "depth", "feed", "match", "on_walk", "rms", "share_sink", "share_template", "share_prompt"]


@pytest.fixture(scope="module")
def run(pair: Callable[[str], LoadedPair], tmp_path_factory: pytest.TempPathFactory) -> Run:
    job = Job(pair("trained-pre"), prompts(4, turns=2), (), SPEC, tmp_path_factory.mktemp("positions") / "r", [])
    return read_run(measure(job, lambda *_: None))


def naive(path: Path) -> dict[str, Counter[tuple[str, int, int]]]:
    """Sums by reply and bin, row by row."""
    texts = read_table(path / "trajectories", ["prompt", "turn", "prompt_length"], BASELINE).to_pylist()
    first = {(text["prompt"], text["turn"]): text["prompt_length"] for text in texts}
    found = {
        name: Counter[tuple[str, int, int]]() for name in ("anchors", "rounds", "kept", "own_rms", "control_rms", "prompt_side", "deep")
    }
    rows = read_table(path / "steps", COLUMNS, BASELINE).to_pylist()
    chains: dict[tuple[str, int, int], dict[int, dict]] = {}
    for row in rows:
        place = row["anchor"] - first[row["prompt"], row["turn"]]
        key = (row["prompt"], row["turn"], 0 if place < 64 else 1 if place < 128 else 2)
        if row["feed"] == "forced":
            chains.setdefault((row["prompt"], row["turn"], row["anchor"]), {})[row["depth"]] = row
            found["anchors"][key] += row["depth"] == 1
            found["rounds"][key] += row["depth"] == 1 and row["on_walk"]
        if row["depth"] > 1 and row["feed"] == "forced":
            found["deep"][key] += 1
            found["own_rms"][key] += row["rms"]
            found["prompt_side"][key] += (row["share_sink"] or 0) + row["share_template"] + row["share_prompt"]
        if row["depth"] > 1 and row["feed"] == "fresh":
            found["control_rms"][key] += row["rms"]
    for (prompt, turn, anchor), chain in chains.items():
        place = anchor - first[prompt, turn]
        kept = next((depth - 1 for depth in range(1, SPEC.depth + 1) if not chain[depth]["match"]), SPEC.depth)
        found["kept"][prompt, turn, 0 if place < 64 else 1 if place < 128 else 2] += kept * chain[1]["on_walk"]
    return found


def test_sums_by_reply_and_part_are_those_of_the_rows(run: Run) -> None:
    expected, replies = naive(run.path), run.replies
    assert len(replies.bins) == 3
    names = list(zip(run.trajectories["prompt"].to_pylist(), run.trajectories["turn"].to_pylist(), strict=True))
    for name, counts in expected.items():
        by_hand = [[counts[prompt, turn, part] for part in range(3)] for prompt, turn in names]
        np.testing.assert_allclose(replies.sums[name], by_hand, rtol=1e-5, err_msg=name)
    assert [run.units.prompts[place] for place in np.unique(replies.unit)] == sorted({prompt for prompt, _ in names})


def test_replies_that_an_end_token_ended_are_told_from_those_that_were_cut(run: Run) -> None:
    lengths = (run.trajectories["length"].to_numpy() - run.trajectories["prompt_length"].to_numpy()).tolist()
    assert run.replies.ended.tolist() == [length < SPEC.max_new_tokens for length in lengths]
    for part, (start, _) in enumerate(run.replies.bins):
        assert run.replies.reached(part) == sum(length - SPEC.depth > start for length in lengths)
        assert run.replies.reached(part) + run.replies.ended_before(part) == len(lengths)


def test_a_causal_lm_has_no_states_by_position_and_a_run_without_a_chain_no_replies(
    pair: Callable[[str], LoadedPair], tmp_path: Path
) -> None:
    made = (
        Job(pair(name), prompts(2), (), RunSpec(depth=4, max_new_tokens=most), tmp_path / name, [])
        for name, most in (("lm", 8), ("pre", 2))
    )
    lm, none = (read_run(measure(job, lambda *_: None)) for job in made)
    assert np.isnan(lm.replies.sums["own_rms"]).all()
    assert not np.isnan(lm.replies.sums["prompt_side"]).any()
    assert none.replies.bins == []
