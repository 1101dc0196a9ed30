"""Every family's head in the engine against a second computation by transformers' one-layer model of the family, by every reading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.measured import both, readings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_reading_equals_the_familys_own_layer(case: Case, tmp_path: Path) -> None:
    for system, pair, witness in readings(case, write(case, tmp_path / "target")):
        for prob, scores, state, own in both(pair, witness):
            torch.testing.assert_close(prob, scores.softmax(-1).max(), rtol=1e-3, atol=1e-4, msg=system)
            if state is not None:
                torch.testing.assert_close(state, own, rtol=1e-3, atol=1e-3, msg=system)
