from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from driftcli.errors import FormatError, PairError
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Check, Scan
from tests.edits import PROVENANCE, WEIGHTS, edit_config, edit_tensors, refused
from tests.layouts import LAYOUTS, layout, write_layout


@pytest.fixture
def scan(layouts: Path) -> Callable[[str], Scan]:
    return lambda name: scan_checkpoint(str(layouts / name), str(layouts / "target"))


def check(scan: Scan, subject: str) -> Check:
    (found,) = [check for check in scan.checks if check.subject == subject]
    return found


@pytest.mark.parametrize("name", [each.name for each in LAYOUTS])
def test_what_is_scanned_is_what_is_loaded(name: str, layouts: Path, scan: Callable[[str], Scan]) -> None:
    seen = scan(name)
    card = load_pair(str(layouts / "target"), str(layouts / name), torch.device("cpu"), "float32").card
    loaded = {key: field for key, field in card.record.items() if key not in ("embedding", "head", "norm_gains")}  # told by their values
    assert {key: seen.record[key] for key in loaded} == loaded
    assert card.notes == seen.pitfalls
    for system, fields in card.readings.items():
        assert {key: seen.readings[system][key] for key in fields} == fields
    assert all(PROVENANCE.fullmatch(field.source) for field in seen.record.values())


DETECTED = {
    "safeai": "probably SafeAILab", "safeai-bin": "probably SafeAILab", "specforge": "probably SpecForge",
    "specforge-3.1": "probably SpecForge", "wide": "probably SpecForge", "sglang-legacy-norms": "probably SpecForge",
    "speculators-llama": "speculators 0.9.0", "speculators-qwen3": "speculators 0.9.0",
    "modelopt": "ModelOpt", "modelopt-final-hidden": "ModelOpt", "nemo": "probably NeMo", "mla": "probably TorchSpec", "mla-yarn": "probably TorchSpec",
    "fork": "SpecDrift", "fork-as-saved": "probably SpecDrift", "eagle1": "probably SafeAILab",
    "hass-two-layers": "probably SafeAILab",
}  # fmt: skip


@pytest.mark.parametrize(("name", "producer"), DETECTED.items())
def test_each_layout_is_told_by_its_tensors(name: str, producer: str, scan: Callable[[str], Scan]) -> None:
    assert scan(name).record["producer"].value == producer


def test_the_inverted_flag_is_a_warning_and_a_trap(scan: Callable[[str], Scan]) -> None:
    seen = scan("specforge-3.1")
    assert (seen.record["feedback"].value, seen.readings["as_trained"]["feedback"].value) == ("normed", "raw")
    assert check(seen, "norms") == Check(
        "norms",
        "note",
        "normed feedback as served, raw as trained if SpecForge up to 0.2.0 feeds back the raw state whatever norm_output says",
    )
    assert any(trap.startswith("norm_output is true: SpecForge up to 0.2.0") for trap in seen.pitfalls)
    assert not any("norm_output" in trap for trap in scan("specforge").pitfalls)


def test_layer_ids_that_only_vllms_v1_runner_reads_otherwise_are_told_as_its_reading(scan: Callable[[str], Scan]) -> None:
    seen = scan("specforge")
    (trap,) = seen.pitfalls
    assert "vLLM's V1 runner (CPU, and what V2 cannot run): it captures 1, 3, 4, all others 2, 4, 5" in trap
    assert seen.readings["as_served:vllm-v1"]["capture"].value == (1, 3, 4)
    assert "as_served:vllm-v1" not in scan("safeai").readings


def test_layer_ids_of_the_other_convention_are_a_trap_with_every_readers_streams(scan: Callable[[str], Scan]) -> None:
    (trap,) = scan("specforge-custom-ids").pitfalls
    for says in (
        "[0, 4, 6]",
        "vLLM captures 2, 4, 5",
        "SGLang captures 1, 5, 7",
        "whoever trained it captures 1, 5, 7",
        "vLLM's V1 runner captures 0, 4, 6",
    ):
        assert says in trap


TRAPS = {
    "specforge-raw-logits": "norm_output is false", "specforge-full": "embeddings of its own", "specforge-biased": "attention biases",
    "safeai-dynamic": "type dynamic", "speculators-qwen3": "norm_before_residual is absent", "speculators-silent": "no model_type",
    "modelopt": "norms the hidden stream twice", "fork": "the fork", "eagle1-bias": "fc.bias is left out",
    "eagle1-sglang": "has no fc.bias", "fork-as-saved": "layers past the first",
}  # fmt: skip


@pytest.mark.parametrize(("name", "says"), TRAPS.items())
def test_each_known_trap_is_told_where_it_lies(name: str, says: str, scan: Callable[[str], Scan]) -> None:
    assert any(says in trap for trap in scan(name).pitfalls), scan(name).pitfalls


def test_a_target_that_is_not_named_leaves_its_sizes_open(layouts: Path) -> None:
    seen = scan_checkpoint(str(layouts / "safeai"), None)
    assert seen.record["capture"].value == "2, L/2, L-3"
    assert seen.target is None


def test_a_wrong_target_is_refused_without_its_weights(layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 8, "vocab_size": 260}')
    refused(PairError, lambda: scan_checkpoint(str(layouts / "safeai"), str(tmp_path)), "target width of 48", f"{tmp_path} has 64")
    (tmp_path / "config.json").write_text('{"hidden_size": -1}')
    refused(FormatError, lambda: scan_checkpoint(str(layouts / "safeai"), str(tmp_path)), "hidden_size is -1", "positive whole number")


def test_the_text_part_of_a_multimodal_target_is_what_counts(layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "vlm", "hidden_size": 7, "text_config": {"hidden_size": 48, "num_hidden_layers": 8, "vocab_size": 260}}'
    )
    assert scan_checkpoint(str(layouts / "safeai"), str(tmp_path)).record["capture"].value == (2, 4, 5)


def written(layouts: Path, name: str) -> Path:
    return write_layout(layouts / name, layout(name))


def test_positions_and_rope_are_held_against_the_targets(layouts: Path, tmp_path: Path) -> None:
    head = edit_config(written(tmp_path, "safeai"), max_position_embeddings=64, rope_theta=10000.0)
    seen = scan_checkpoint(str(head), str(layouts / "target"))
    assert check(seen, "positions").state == "note" and "64 positions" in check(seen, "positions").text
    assert check(seen, "rope").state == "note" and "the target has rope_theta 5000.0" in check(seen, "rope").text
    edit_config(head, rope_scaling={"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32})
    assert check(scan_checkpoint(str(head), str(layouts / "target")), "positions").state == "warning"


def test_a_map_that_was_never_filled_in_is_a_warning(tmp_path: Path) -> None:
    head = written(tmp_path, "safeai")
    assert check(scan_checkpoint(str(head), None), "vocabulary").state == "ok"
    d2t = load_file(head / WEIGHTS)["d2t"]
    edit_tensors(head, {"d2t": torch.zeros_like(d2t), "t2d": None})
    assert "never filled in" in check(scan_checkpoint(str(head), None), "vocabulary").text


def test_biases_that_are_asked_for_and_not_there_are_a_trap(tmp_path: Path) -> None:
    head = edit_config(written(tmp_path, "safeai"), attention_bias=True)
    assert any("nothing gives them a value" in trap for trap in scan_checkpoint(str(head), None).pitfalls)


def test_a_language_model_is_scanned_without_readings(layouts: Path) -> None:
    seen = scan_checkpoint(str(layouts / "target"), str(layouts / "target"))
    assert (seen.format, seen.readings, seen.pitfalls) == ("causal language model", {}, ())
    assert check(seen, "vocabulary").state == "ok"


def test_a_head_for_another_size_of_the_family_is_seen_by_its_layer_ids(layouts: Path, tmp_path: Path) -> None:
    head = edit_config(written(tmp_path, "specforge"), eagle_config={"eagle_aux_hidden_state_layer_ids": [1, 3, 4]})
    assert not [one for one in scan_checkpoint(str(head), str(layouts / "target")).checks if one.subject == "made for"]
    (tmp_path / "config.json").write_text('{"hidden_size": 48, "num_hidden_layers": 16, "vocab_size": 260}')
    found = check(scan_checkpoint(str(head), str(tmp_path)), "made for")
    assert found.state == "warning" and "the usual ones for 8 layers, the target here has 16" in found.text
    other = edit_config(written(tmp_path, "deepspec-qwen3"), num_target_layers=10)
    assert "a target of 10 layers" in check(scan_checkpoint(str(other), str(layouts / "target")), "made for").text


def test_a_speculators_config_that_names_another_target_says_so(layouts: Path, tmp_path: Path) -> None:
    head = written(tmp_path, "speculators-llama")
    verifier = {"architectures": ["Qwen3ForCausalLM"], "name_or_path": "some-org/another-model"}
    edit_config(head, speculators_config={"proposal_methods": [], "verifier": verifier})
    found = check(scan_checkpoint(str(head), str(layouts / "target")), "made for")
    assert found == Check(
        "made for", "warning", "some-org/another-model, a Qwen3ForCausalLM, says its config; the target here is a LlamaForCausalLM"
    )
