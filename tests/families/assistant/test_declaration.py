"""What the files of an assistant declare, and which of them are refused, each in a sentence."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftcli.errors import DriftError, FormatError, PairError, UsageError
from driftcli.families.assistant.declaration import AssistantDeclaration, declare_assistant
from driftcli.families.formats import detect
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.facts import NO_TARGET, TargetFacts, read_facts
from tests.edits import drop_config, edit_config, edit_tensors, refused
from tests.families.assistant.cases import write_pair


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair("shared", tmp_path_factory.mktemp("assistant"))


def declared(assistant: Path, facts: TargetFacts) -> AssistantDeclaration:
    checkpoint = open_checkpoint(Source("some-assistant", assistant))
    return declare_assistant(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), facts)


def test_keys_are_those_of_the_last_layer_of_each_kind_that_keeps_its_own(folders: tuple[Path, Path]) -> None:
    target, assistant = folders
    found = declared(assistant, read_facts(Source("target", target)))
    assert {kind: one.layer for kind, one in found.kinds.items()} == {"sliding_attention": 3, "full_attention": 1}
    assert found.layers == ("sliding_attention", "sliding_attention", "full_attention")
    assert (found.heads, found.width, found.vocabulary) == (4, 32, 260)
    assert {kind: (one.size, one.window) for kind, one in found.kinds.items()} == {
        "sliding_attention": (12, 8),
        "full_attention": (16, None),
    }


def test_it_is_declared_without_a_target_and_its_keys_are_then_not_known(folders: tuple[Path, Path]) -> None:
    found = declared(folders[1], NO_TARGET)
    assert found.record()["keys_of"].value == "sliding not known, full not known"
    scan = scan_checkpoint(str(folders[1]), None)
    assert isinstance(scan, Scan) and scan.target is None


def test_engines_stand_apart_in_position_and_window(folders: tuple[Path, Path]) -> None:
    found = declared(folders[1], read_facts(Source("target", folders[0])))
    other = found.differences()["as_served:transformers"]
    assert {name: field.value for name, field in other.items()} == {"position": "the anchor's", "windows": "9"}
    assert [str(one) for one in found.alternatives()] == ["position-the-anchor", "capture-6"]
    refused(UsageError, lambda: found.served("as_trained"), "as_trained", "expected declared or one of")


def test_a_bound_on_scores_is_vllm_s_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders[1], tmp_path / "capped")
    text = {**open_checkpoint(Source("x", folder)).config["text_config"], "final_logit_softcapping": 3.0}  # type: ignore[dict-item]
    pairs = [
        load_pair(str(folders[0]), str(edit_config(folder, text_config=text)), torch.device("cpu"), "float32", reading=reading)
        for reading in (None, "as_served:transformers")
    ]
    output = torch.randn(5, 32)
    capped, free = (pair.drafter.logits(output) for pair in pairs)  # type: ignore[union-attr]
    torch.testing.assert_close(capped, 3 * torch.tanh(free / 3))
    assert float(free.abs().max()) > 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "llama"}, "of type 'llama'"),
        ({"width": 64}, "made for a target 48 wide with 260 tokens"),
        ({"vocabulary": 999}, "is 48 wide with 999"),
        ({"config": {"layer_types": ["full_attention"] * 6}}, "no layer of its 6 with keys of their own is of kind sliding_attention"),
    ],
)
def test_a_target_whose_keys_it_cannot_read_is_refused(folders: tuple[Path, Path], change: dict[str, object], says: str) -> None:
    facts = replace(read_facts(Source("target", folders[0])), **change)  # type: ignore[arg-type]
    refused(PairError, lambda: declared(folders[1], facts), "expected" if "type" in says else "name the target it is for", says)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"post_projection.weight": torch.zeros(40, 32)}, "missing, of another shape or without a place"),
        ({"model.norm.weight": None}, "norm.weight"),
        ({"model.layers.1.self_attn.q_norm.weight": None}, "q_norm"),
        ({"model.layers.0.mlp.bias": torch.zeros(3)}, "layers.0.mlp.bias"),
        ({"model.layers.2.self_attn.o_proj.weight": torch.zeros(32, 8)}, "o_proj"),
        ({"model.layers.0.input_layernorm.weight": torch.full((32,), torch.nan)}, "NaN"),
    ],
)
def test_tensors_that_do_not_make_an_assistant_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, tensors: dict[str, torch.Tensor | None], says: str
) -> None:
    folder = edit_tensors(shutil.copytree(folders[1], tmp_path / "assistant"), tensors)
    refused(FormatError, lambda: load_pair(str(folders[0]), str(folder), torch.device("cpu"), "float32"), says, "export it again")


@pytest.mark.parametrize("value", [True, "x", [1], {"a": 1}, 10**400, float("nan"), -1, None])
@pytest.mark.parametrize(
    "key", ["layer_types", "sliding_window", "rope_parameters", "rms_norm_eps", "hidden_activation", "final_logit_softcapping",
            "max_position_embeddings"]
)  # fmt: skip
def test_a_setting_of_any_kind_ends_in_a_scan_or_a_sentence(folders: tuple[Path, Path], tmp_path: Path, key: str, value: object) -> None:
    folder = shutil.copytree(folders[1], tmp_path / "assistant")
    text = {**open_checkpoint(Source("x", folder)).config["text_config"], key: value}  # type: ignore[dict-item]
    edit_config(folder, text_config=text)
    with suppress(DriftError):
        assert isinstance(scan_checkpoint(str(folder), str(folders[0])), Scan)


def test_a_target_stored_as_other_than_plain_numbers_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    target = shutil.copytree(folders[0], tmp_path / "target")
    name = "model.layers.3.self_attn.k_proj.weight"
    edit_tensors(target, {name: torch.zeros(24, 48, dtype=torch.int8)})
    with pytest.raises(DriftError, match=r"k_proj"):
        load_pair(str(target), str(folders[1]), torch.device("cpu"), "float32")


def test_without_a_nested_config_the_class_s_own_settings_hold(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = drop_config(shutil.copytree(folders[1], tmp_path / "assistant"), "text_config")
    found = declared(folder, NO_TARGET)
    assert found.kinds["sliding_attention"].window == 512 and found.fields["positions"].source.startswith("default:")
