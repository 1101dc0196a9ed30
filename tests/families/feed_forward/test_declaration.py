"""What the files of heads without attention declare, and which of them are refused, each in a sentence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from driftcli.domain import SIDE_BY_SIDE
from driftcli.errors import DriftError, FormatError, PairError, RunError, UsageError
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration, declare_feed_forward
from driftcli.families.formats import detect
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Json, Source
from driftcli.target.facts import NO_TARGET, TargetFacts, read_facts
from tests.edits import edit_config, edit_tensors, refused
from tests.families.feed_forward.cases import CASES, HEADS, write
from tests.tiny import LAYERS, WIDTH


def declared(folder: Path, facts: TargetFacts = NO_TARGET) -> FeedForwardDeclaration:
    checkpoint = open_checkpoint(Source("some-heads", folder))
    return declare_feed_forward(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), facts)


@pytest.mark.parametrize(
    ("name", "format", "why"),
    [
        ("medusa", "Medusa heads", "reads the target's hidden state alone"),
        ("medusa-deep", "Medusa heads", "reads the target's hidden state alone"),
        ("medusa-vllm", "Medusa heads", "reads the target's hidden state alone"),
        ("hydra", "Hydra heads", "and the tokens before it"),
        ("hydra-ungrounded", "Hydra heads", "reads the target's hidden state alone"),
        ("speculator", "MLPSpeculator", "each depth has its own weights"),
        ("speculator-tied", "MLPSpeculator", None),
    ],
)
def test_each_kind_is_told_by_its_tensors_and_says_whether_drift_is_defined(
    name: str, format: str, why: str | None, tmp_path: Path
) -> None:
    folder = write(CASES[name], tmp_path / name)
    found = declared(folder)
    assert found.format.name == format and len(found.stages) == HEADS and (found.width, found.vocabulary) == (WIDTH, 260)
    assert found.no_recursion is None if why is None else why in str(found.no_recursion)
    scan = scan_checkpoint(str(folder), None)
    assert isinstance(scan, Scan)
    said = " ".join(check.text for check in scan.checks)
    assert ("drift is not defined for it" in said) is (why is not None) and "no attention" in said
    assert (found.record()["guesses"].value == SIDE_BY_SIDE) is found.blind is (why is not None and "alone" in why)


def test_biases_that_vllm_would_drop_and_heads_that_a_config_leaves_out_are_told(tmp_path: Path) -> None:
    folder = write(CASES["medusa"], tmp_path / "medusa")
    assert any("medusa_fc_bias" in line for line in declared(folder).pitfalls)
    assert not any("medusa_fc_bias" in line for line in declared(edit_config(folder, medusa_fc_bias=True)).pitfalls)
    assert any(
        "names 6 heads, the file holds 4: the authors' code runs the rest" in line
        for line in declared(edit_config(folder, medusa_num_heads=6)).pitfalls
    )
    assert any("all of which are measured" in line for line in declared(edit_config(folder, medusa_num_heads=2)).pitfalls)
    assert declared(write(CASES["medusa-vllm"], tmp_path / "vllm")).pitfalls == ()


def test_hydra_reads_the_state_that_its_offset_names(models: Path, tmp_path: Path) -> None:
    folder, facts = write(CASES["hydra"], tmp_path / "hydra"), read_facts(Source("target", models / "target"))
    assert declared(folder, facts).boundary == LAYERS + 1
    assert declared(edit_config(folder, hidden_state_offset=2), facts).boundary == LAYERS - 2
    refused(FormatError, lambda: declared(edit_config(folder, hidden_state_offset=-1), facts), "hidden_state_offset is -1")


def test_one_output_head_for_all_medusa_heads_is_each_s(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in CASES["medusa-vllm"].tensors.items() if not name.startswith("lm_heads")}
    whole = {**tensors, "lm_head.weight": CASES["medusa-vllm"].tensors["lm_heads.0.weight"]}
    found = declared(write(replace(CASES["medusa-vllm"], tensors=whole), tmp_path / "shared"))
    assert {stage["head.weight"] for stage in found.stages} == {"lm_head.weight"}


def test_tied_weights_are_told_by_what_the_file_leaves_out(tmp_path: Path) -> None:
    config = {key: value for key, value in CASES["speculator-tied"].config.items() if key != "tie_weights"}
    found = declared(write(replace(CASES["speculator-tied"], config=config), tmp_path / "silent"))
    assert found.tied and found.record()["tied"].source == "tensor"
    assert [stage["proj.weight"] for stage in found.stages] == ["speculator.proj.0.weight", *["speculator.proj.1.weight"] * 3]
    folder = write(replace(CASES["speculator-tied"], config={**config, "tie_weights": False}), tmp_path / "false")
    refused(FormatError, lambda: declared(folder), "n_predict is 4, the file holds 2 heads")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("medusa-deep", {"medusa_head.2.1.linear.weight": torch.zeros(WIDTH, 3)}, "head 2"),
        ("medusa-deep", {"medusa_head.3.2.weight": None}, "head 3"),
        ("medusa-deep", {"medusa_head.1.0.linear.bias": torch.zeros(5)}, "head 1"),
        ("medusa-vllm", {"blocks.2.layers.0.weight": None, "lm_heads.2.weight": None}, "heads 0, 1, 3 are there"),
        ("hydra-ungrounded", {"hydra_mlp.1.0.linear.weight": torch.zeros(WIDTH, 2 * WIDTH)}, "head 1"),
        ("hydra-ungrounded", {"prefix_embeding_layer.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4)}, "behind an attention layer"),
        ("speculator", {"speculator.ln.2.bias": None}, "head 2"),
        ("speculator", {"speculator.extra.0.weight": torch.zeros(3)}, "no place"),
        ("speculator", {"speculator.proj.1.weight": torch.zeros(40, WIDTH)}, "head 1"),
        ("speculator", {"speculator.emb.3.weight": torch.full((260, 40), torch.nan)}, "NaN"),
    ],
)
def test_tensors_that_do_not_make_heads_are_refused(
    name: str, change: dict[str, Tensor | None], says: str, models: Path, tmp_path: Path
) -> None:
    folder = edit_tensors(write(CASES[name], tmp_path / name), change)
    refused(FormatError, lambda: load_pair(str(models / "target"), str(folder), torch.device("cpu"), "float32"), says)


def test_heads_for_another_target_are_refused(models: Path, tmp_path: Path) -> None:
    facts, folder = read_facts(Source("target", models / "target")), write(CASES["medusa"], tmp_path / "medusa")
    for change in ({"width": 64}, {"vocabulary": 100}):
        refused(PairError, lambda change=change: declared(folder, replace(facts, **change)), "name the target it is for")  # type: ignore[misc]
    assert declared(folder, replace(facts, vocabulary=300)).vocabulary == 260


def test_a_reading_of_a_server_is_not_known(tmp_path: Path) -> None:
    found = declared(write(CASES["medusa"], tmp_path / "medusa"))
    assert found.record("as_trained")["reading"].value == "as_trained"
    refused(UsageError, lambda: found.record("as_served:vllm"), "expected declared or as_trained")


@pytest.mark.parametrize("value", [True, "x", [1], {"a": 1}, 10**400, float("nan"), -1, 0, None])
@pytest.mark.parametrize(
    ("name", "key"),
    [("speculator", "n_predict"), ("speculator", "tie_weights"), ("speculator", "scale_input"), ("medusa", "medusa_num_heads"),
     ("medusa", "medusa_fc_bias"), ("hydra", "hidden_state_offset"), ("medusa", "model_type")],
)  # fmt: skip
def test_a_setting_of_any_kind_ends_in_a_scan_or_a_sentence(name: str, key: str, value: Json, models: Path, tmp_path: Path) -> None:
    folder = edit_config(write(CASES[name], tmp_path / name), **{key: value})
    with suppress(DriftError):
        assert isinstance(scan_checkpoint(str(folder), str(models / "target")), Scan)


def test_chains_deeper_than_there_are_heads_are_refused(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from driftcli.cli.main import main

    folder = write(CASES["hydra"], tmp_path / "hydra")
    for command in (["diagnose", "--out", str(tmp_path / "r")], ["plan"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--target", str(models / "target"), "--drafter", str(folder), "--depth", "5", "--limit", "1"])
        assert ended.value.code == 2
        assert "has 4 heads, one a depth" in capsys.readouterr().err


def test_vllm_s_rounds_are_not_timed_for_heads_that_it_does_not_serve(models: Path, tmp_path: Path) -> None:
    from driftcli.engine.vllm_rounds import Asked, _speculation

    asked = Asked(str(models / "target"), str(write(CASES["hydra"], tmp_path / "hydra")), [2], [1], 8)
    refused(RunError, lambda: _speculation(asked), "vLLM 0.33 has no class for Hydra heads", "give --costs")


def test_a_whole_model_that_carries_medusa_heads_is_a_model(tmp_path: Path) -> None:
    names = {"model.embed_tokens.weight": (9, 4), "model.layers.0.mlp.up_proj.weight": (8, 4), "medusa_heads.0.0.linear.weight": (4, 4)}
    assert detect(Source("x", tmp_path), {"model_type": "llama"}, names).family == "causal-lm"
