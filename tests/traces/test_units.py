from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from driftcli.domain import Estimate
from driftcli.report.evidence import facts_line
from driftcli.report.notes import remarks
from driftcli.statistics.curves import compounding, walk_acceptance_length
from driftcli.statistics.intervals import Bootstrap
from driftcli.traces.reader import read_run
from driftcli.traces.units import Units
from tests.report.synthetic import DRIFTING, Recipe, write_run

ROWS = [
    ("a", "1", None),
    ("b", "2", "g"),
    ("c", "1", None),
    ("d", "3", "g"),
    ("e", "4", None),
]  # a and c read alike, b and d are of a group


def texts(rows: list[tuple[str, str, str | None]]) -> pa.Table:
    prompt, rendered, group = zip(*rows, strict=True)
    return pa.table({"prompt": prompt, "rendered_sha256": rendered, "group": pa.array(group, pa.string())})


def test_prompts_of_a_group_and_prompts_that_are_rendered_alike_are_one_unit() -> None:
    found = Units.of(texts(ROWS))
    assert found.members == [["a", "c"], ["b", "d"], ["e"]]
    assert found.count == 3
    assert found.unit.tolist() == [0, 1, 0, 1, 2]


def test_units_join_through_a_prompt_that_shares_with_both() -> None:
    assert Units.of(texts([*ROWS, ("f", "1", "g")])).members == [["a", "b", "c", "d", "f"], ["e"]]


def test_a_second_turn_that_reads_like_another_prompt_joins_them_too() -> None:
    assert Units.of(texts([("a", "1", None), ("a", "2", None), ("b", "2", None)])).members == [["a", "b"]]


@pytest.mark.parametrize("rows", list(permutations(ROWS[:4])))
def test_the_order_of_the_texts_does_not_matter(rows: tuple[tuple[str, str, str | None], ...]) -> None:
    assert Units.of(texts(list(rows))).members == [["a", "c"], ["b", "d"]]


def test_intervals_halves_and_counts_go_by_unit_and_the_report_says_so(tmp_path: Path) -> None:
    prompts = [f"p{number:02}" for number in range(32)]
    groups = {prompt: f"g{number // 2}" for number, prompt in enumerate(prompts)}
    alone = read_run(write_run(tmp_path / "alone", Recipe(DRIFTING, prompts=prompts)))
    pairs = read_run(write_run(tmp_path / "pairs", Recipe(DRIFTING, prompts=prompts, groups=groups)))
    assert (alone.n_prompts, pairs.n_prompts) == (32, 16)
    summed = {name: values[0::2] + values[1::2] for name, values in alone.sums("baseline").items()}
    for statistic in (walk_acceptance_length, compounding):
        expected = Bootstrap.of(16, pairs.spec.seed, 8).estimates(summed, statistic)
        assert pairs.by_depth(statistic)[: len(expected)] == expected
        whole, joined = alone.by_depth(statistic)[-1], pairs.by_depth(statistic)[-1]
        assert isinstance(whole, Estimate) and isinstance(joined, Estimate)
        assert np.isclose(whole.value, joined.value) and whole.low != joined.low
    assert facts_line(pairs).startswith("32 prompts")
    assert "32 prompts count as 16: of one group, or rendered alike, are p00, p01; p02, p03; p04, p05 and 13 more" in remarks(pairs)
    assert not any("count as" in line for line in remarks(alone))
