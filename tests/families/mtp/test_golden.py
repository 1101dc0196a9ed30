"""The witness computes what speculators' own MTP class did (`tests/golden/steps/mtp`), fresh and through its training unroll."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.witness import Reading, Streams, Witness

STEPS = Path(__file__).parents[2] / "golden" / "steps" / "mtp"
GOLDEN = [(case, STEPS / f"{case.name}.safetensors") for case in CASES if (STEPS / f"{case.name}.safetensors").is_file()]


def test_there_are_golden_steps_of_every_class_that_speculators_has() -> None:
    assert {case.name for case, _ in GOLDEN} == {"qwen3_5", "qwen3_5_moe", "qwen3_next"}


@pytest.mark.parametrize(("case", "path"), GOLDEN, ids=[case.name for case, _ in GOLDEN])
def test_the_witness_equals_speculators(case: Case, path: Path, tmp_path: Path) -> None:
    golden, witness = load_file(path), Witness.of(case, write(case, tmp_path))
    ids, stream = golden["ids"], golden["stream"].float()
    fresh = witness.rows(0, ids[1 : len(stream) + 1], stream)
    torch.testing.assert_close(fresh.logits, golden["logits"][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fresh.states, golden["state"][0], rtol=1e-4, atol=1e-4)
    unrolled = witness.read_as(Reading(per_depth=True)).chain(ids, Streams(stream, stream), len(stream), len(golden["logits"]))
    torch.testing.assert_close(unrolled.logits, golden["logits"][:, -1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(unrolled.states, golden["state"][:, -1], rtol=1e-4, atol=1e-4)
