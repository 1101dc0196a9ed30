"""Drafters without files: what is known of them ahead, what a scan says of them, and what stands in their cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from driftcli.domain import RunSpec
from driftcli.engine.agenda import Agenda
from driftcli.engine.amounts import Texts, Turn, amounts
from driftcli.engine.vllm_rounds import Asked, _speculation
from driftcli.errors import RunError, UsageError
from driftcli.loading.outline import outline_pair
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["lookup", "early-exit:2"])
def test_a_card_is_outlined_as_it_is_loaded(name: str, models: Path) -> None:
    target = str(models / "target")
    loaded, outlined = load_pair(target, name, CPU, "float32").card, outline_pair(target, name).card
    same = ("family", "token_offset", "no_recursion", "copies", "reads_tokens_alone", "attends", "alternatives", "rendering")
    for field in same:
        assert getattr(loaded, field) == getattr(outlined, field), field
    assert loaded.drafter.name == outlined.drafter.name
    assert loaded.record.items() >= outlined.record.items()


def test_runs_of_other_sizes_or_layers_are_other_requests(models: Path) -> None:
    target = str(models / "target")
    names = ("lookup", "lookup:2,3", "early-exit:1", "early-exit:2")
    marks = [load_pair(target, name, CPU, "float32").card.drafter.fingerprint for name in names]
    assert len(set(marks)) == len(names)
    assert load_pair(target, "lookup:1,3", CPU, "float32").card.drafter.fingerprint == marks[0]


def test_an_exit_is_outlined_with_its_layers_and_no_weights_and_a_lookup_with_nothing(models: Path) -> None:
    outline = outline_pair(str(models / "target"), "early-exit:2")
    config = json.loads((models / "target" / "config.json").read_text())
    assert (outline.drafter.layers, outline.drafter.parameters, outline.drafter.stored) == (2, 0, {})
    assert len(outline.drafter.products) * config["num_hidden_layers"] == len(outline.target.products) * 2
    nothing = outline_pair(str(models / "target"), "lookup").drafter
    assert (nothing.products, nothing.layers, nothing.parameters, nothing.stored) == ((), 0, 0, {})


def test_a_lookup_takes_no_chain_query(models: Path) -> None:
    def counted(name: str) -> tuple[float, float]:
        card = outline_pair(str(models / "target"), name).card
        agenda = Agenda(card, RunSpec(depth=4), ())
        found = amounts(agenda, agenda.conditions(), Texts([Turn(20)], 1, 16, 16), 16)
        return found.chained, found.rows

    lookup, exit = counted("lookup"), counted("early-exit:2")
    assert lookup[0] == 0 < exit[0]
    assert lookup[1] == exit[1]


@pytest.mark.parametrize(
    ("name", "why"), [("lookup", "has no files and no weights"), ("early-exit:3", "is the target itself up to a layer")]
)
def test_a_scan_says_in_a_sentence_that_there_is_nothing_to_scan(name: str, why: str, models: Path) -> None:
    with pytest.raises(UsageError, match=f"--drafter {name}: .* {why}, so there is nothing to scan; driftcli diagnose measures it"):
        scan_checkpoint(name, str(models / "target"))


def test_vllm_is_told_a_lookup_by_its_method_and_no_early_exit() -> None:
    def asked(name: str) -> Asked:
        return Asked("target", name, (1, 2), (1,), 32)

    assert _speculation(asked("lookup:2,4")) == {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 4}
    with pytest.raises(RunError, match="--drafter early-exit:3: vLLM drafts with no layers of the target's own"):
        _speculation(asked("early-exit:3"))
