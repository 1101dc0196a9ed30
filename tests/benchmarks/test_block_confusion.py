"""Faults planted into the block drafters that ship are named, and nothing is found in sound copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from driftcli.domain import Prompt
from driftcli.sources.files import resolve
from driftcli.target.language_model import load_language_model
from driftcli.texts.prompts import bundled_prompts, limited
from tests.benchmarks.block_confusion import EVERY, OF_DSPARK, Case, case
from tests.benchmarks.planted_faults import Fault, answered, planted

TARGET, DFLASH, DSPARK = "bundled:target", "bundled:dflash", "bundled:dspark"
BY_NAME = {fault.name: fault for fault in (*EVERY, *OF_DSPARK)}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked() -> Sequence[Prompt]:
    target = load_language_model(resolve(TARGET), torch.device("cpu"), "auto")
    return answered(target, limited(bundled_prompts(), 20), 40)


def diagnosed(fault: Fault, drafter: str, asked: Sequence[Prompt], folder: Path) -> Case:
    return case(TARGET, str(planted(fault, drafter, TARGET, folder / "copy")), asked, folder / "run")


@pytest.mark.parametrize(
    ("name", "drafter"),
    [
        ("sound", DFLASH),
        ("sound", DSPARK),
        ("mask token 0", DFLASH),
        ("layer ids late by one", DSPARK),
        ("slots of the other kind", DSPARK),
        ("RoPE base of the target", DFLASH),
        ("own output rows random", DFLASH),
        ("norm gains at 1", DFLASH),
        ("rms_norm_eps 0.1", DFLASH),
        ("bias by the token before random", DSPARK),
    ],
)
def test_a_planted_fault_is_named_and_nothing_else(name: str, drafter: str, asked: Sequence[Prompt], tmp_path: Path) -> None:
    found = diagnosed(BY_NAME[name], drafter, asked, tmp_path)
    assert found.right(BY_NAME[name]), found.said
    assert (found.state == "healthy") == (name == "sound")
