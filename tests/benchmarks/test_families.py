"""The table of families has a row for all that the registries know, and its numbers can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import families
from tests.benchmarks.families import Row, known, lacking, rows, tensors_used, written
from tests.families.agreements import layout_pair
from tests.golden.steps.producers import FORMULA, producer_of, recipe, with_version

NEVER_RUN = ["GLM-OCR MTP head", "Ling 2.5 MTP head"]  # kinds without a small target that transformers could make


def test_every_layout_and_kind_that_is_known_has_a_case_but_for_two_that_are_said_to_be_read_alone(tmp_path: Path) -> None:
    found = [name for name, _, _ in written(tmp_path)]
    assert len(found) == len(set(found)) > len(known()) - len(NEVER_RUN)
    assert {"lookup in the text so far", "early exit of the target", "EAGLE-3, SpecForge or SGLang layout: EAGLE 3.1"} <= set(found)
    assert [row.detected for row in lacking(found)] == NEVER_RUN
    assert all("not run" in row.against for row in lacking(found))


def test_a_layout_without_a_case_is_not_left_out_of_the_table() -> None:
    assert [row.detected for row in lacking([])] == known()
    assert "DFlash in z-lab layout" not in [row.detected for row in lacking(["DFlash in z-lab layout"])]


def test_a_tensor_that_moves_nothing_is_not_counted(tmp_path: Path) -> None:
    """vLLM's class has no place for this bias."""
    assert tensors_used(layout_pair("eagle1-bias", tmp_path)) == "12 of 13, not fc.bias"


def test_a_row_is_measured_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = families.subjects
    monkeypatch.setattr(families, "subjects", lambda *asked: (one for one in subjects(*asked) if one.cases == ["lookup"]))
    assert [(row.detected, row.tensors, row.error) for row in rows(tmp_path, ["lookup"])] == [
        ("lookup in the text so far", "no files", "-")
    ]
    assert str(Row("a", 0, "-", "-", "b")) == "| a | - | - | - | b |"


def test_a_golden_step_has_the_producer_and_version_of_its_recipe() -> None:
    assert producer_of("specforge.as_trained") == "specforge 0.2.0"
    assert producer_of("speculators-llama.as_trained") == "speculators 0.9.0"
    assert producer_of("speculators-qwen3.as_served-vllm") == FORMULA
    assert producer_of("deepspec-gemma4.as_trained") == "deepseek-ai/DeepSpec (afdfa7c9)"
    block = recipe("block_steps")
    said = [with_version(package, block) for package in ("z-lab's dflash", "speculators", "deepseek-ai/DeepSpec", "transformers")]
    assert said == ["z-lab's dflash 0.1.0", "speculators 0.9.0", "deepseek-ai/DeepSpec (afdfa7c9)", "transformers 5.19"]
