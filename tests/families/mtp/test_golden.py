"""The witness computes what speculators' own MTP class did (`tests/golden/steps/mtp`), fresh and through its training unroll."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.engine.golden import TOLERANCE, apart
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.witness import Reading, Streams, Witness

STEPS = Path(__file__).parents[2] / "golden" / "steps" / "mtp"
GOLDEN = [(case, STEPS / f"{case.name}.safetensors") for case in CASES if (STEPS / f"{case.name}.safetensors").is_file()]


def test_there_are_golden_steps_of_every_class_that_speculators_has() -> None:
    assert {case.name for case, _ in GOLDEN} == {"qwen3_5", "qwen3_5_moe", "qwen3_next"}


def witness_apart(case: Case, path: Path, folder: Path) -> float:
    """How far the witness of a case is from the golden steps, fresh and unrolled, in units of the RMS of each row."""
    golden, witness = load_file(path), Witness.of(case, write(case, folder))
    ids, stream = golden["ids"], golden["stream"].float()
    fresh = witness.rows(0, ids[1 : len(stream) + 1], stream)
    unrolled = witness.read_as(Reading(per_depth=True)).chain(ids, Streams(stream, stream), len(stream), len(golden["logits"]))
    rows = ((fresh, golden["logits"][0], golden["state"][0]), (unrolled, golden["logits"][:, -1], golden["state"][:, -1]))
    return max(max(apart(found.logits, logits), apart(found.states, held)) for found, logits, held in rows)


@pytest.mark.parametrize(("case", "path"), GOLDEN, ids=[case.name for case, _ in GOLDEN])
def test_the_witness_equals_speculators(case: Case, path: Path, tmp_path: Path) -> None:
    assert witness_apart(case, path, tmp_path) < TOLERANCE
