from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from driftcli.errors import DriftError, SourceError
from driftcli.families.carried import carried, promised
from driftcli.families.formats import open_drafter, recognise
from driftcli.families.layout import Format
from driftcli.families.mtp.names import mtp_tensors
from driftcli.families.named import NAMED
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Unread
from driftcli.sources.files import Json, Source
from tests.edits import edit_config, refused

SOURCE = Source("some-drafter", Path("some-drafter"))
LLAMA = {"model.embed_tokens.weight": (9, 4), "model.layers.0.mlp.up_proj.weight": (8, 4), "model.layers.1.mlp.up_proj.weight": (8, 4)}
MTP = {"model.layers.2.eh_proj.weight": (4, 8), "model.layers.2.enorm.weight": (4,), "model.layers.2.mlp.up_proj.weight": (8, 4)}


def family(config: dict[str, Json], names: list[str]) -> str | None:
    found = recognise(SOURCE, config, dict.fromkeys(names, (4, 4)))
    return found.family if isinstance(found, Unread) else found.name


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["fc.weight", "hidden_norm.weight", "norm.weight", "layers.0.self_attn.q_proj.weight"], "DFlash in z-lab layout"),
        (["fc.weight", "hidden_norm.weight", "layers.0.mlp.up_proj.weight", "markov_head.markov_w1.weight"], "DSpark in DeepSpec layout"),
        (
            ["fc.weight", "hidden_norm.weight", "layers.0.mlp.up_proj.weight", "markov_head.markov_w1.weight", "layers.0.layer_scalar"],
            "DSpark in DeepSpec layout",
        ),
        (
            ["fc.weight", "hidden_norm.weight", "layers.0.mlp.up_proj.weight", "candidate_selector.hidden_projection.weight"],
            "DFlash2 in z-lab layout",
        ),
        (["fc.weight", "hidden_norm.weight", "prefix_gru.weight_ih_l0"], "Domino"),
        (["fc.weight", "hidden_norm.weight", "refiner_head.token_embed.weight"], "XPress"),
        (["fc.weight", "mask_hidden", "layers.0.hidden_norm.weight"], "P-EAGLE, vLLM's layout"),
        (["fc.weight", "hidden_norm.weight", "layers.0.mlp.up_proj.weight", "lilicorr.logit_scale"], "LiLiCorr"),
        (["fc.weight", "hidden_norm.weight", "layers.0.mlp.up_proj.weight", "aux_hidden_norms.0.weight"], "DFlash of Laguna"),
        (["encoder.fc.weight", "encoder.output_norm_enc.weight", "layers.0.mlp.up_proj.weight"], "Muse-Glimmer assistant"),
        (["forget_emb.0.weight", "cell_ln.weight"], "Arctic speculator"),
        (["eagle_linear.weight", "norm.weight"], "EAGLE in Mistral's layout"),
        (["mtp.0.main_proj.weight", "mtp.0.main_norm.weight"], "DSpark of DeepSeek-V4"),
        (["mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "embed_tokens.weight"], "MTP head"),
    ],
)
def test_tensors_name_a_family_whatever_the_config_says(names: list[str], called: str) -> None:
    for config in ({}, {"model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"]}, {"medusa_num_heads": 5}):
        assert family(config, names) == called


@pytest.mark.parametrize(
    ("config", "called"),
    [
        ({"dflash_config": {"mask_token_id": 1}}, None),
        ({"dflash_config": {"projector_type": "domino"}}, "Domino"),
        ({"speculators_model_type": "dspark"}, None),
        ({"speculators_model_type": "mtp"}, "MTP head"),
        ({"medusa_num_heads": 5}, None),
        ({"medusa_num_heads": None, "dflash_config": {}}, None),
        ({"architectures": "DFlashDraftModel"}, None),
        ({"architectures": [3, None]}, None),
        ({"speculators_model_type": ["eagle3"]}, None),
    ],
)
def test_a_config_names_a_family_only_where_no_tensor_tells(config: dict[str, Json], called: str | None) -> None:
    assert family(config, ["something.weight"]) == called
    assert family({**config, "model_type": "llama"}, list(LLAMA)) == "causal language model"


def test_a_language_model_that_drafts_in_parallel_is_told_by_its_config() -> None:
    parallel = "PARD, a causal language model that drafts in parallel"
    for key in ("pard_token", "ptd_token_id"):
        assert family({"model_type": "llama", key: 5}, list(LLAMA)) == parallel
    assert family({"model_type": "llama", "spd_type": "PARD"}, list(LLAMA)) == parallel
    assert family({"model_type": "llama", "spd_type": "other"}, list(LLAMA)) == "causal language model"


def test_a_whole_model_that_carries_a_head_is_a_model_and_the_head_alone_is_one() -> None:
    whole = {**LLAMA, **MTP}
    assert family({"model_type": "llama"}, list(whole)) == "causal language model"
    assert family({"model_type": "of-nobody"}, list(whole)) == "MTP head"
    alone = {"model.embed_tokens.weight": (9, 4), "model.layers.0.eh_proj.weight": (4, 8), "model.layers.0.mlp.up_proj.weight": (8, 4)}
    assert family({"model_type": "llama"}, list(alone)) == "MTP head"
    assert set(mtp_tensors(whole)) == set(MTP)
    (head,) = carried(whole)
    assert str(head).startswith("an MTP head (3 tensors, such as model.layers.2.") and "vLLM (method mtp)" in str(head)
    assert [one.name for one in carried([*LLAMA, "medusa_heads.0.0.linear.weight"])] == ["Medusa heads"]
    assert carried(LLAMA) == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_nextn_predict_layers": 1}, "num_nextn_predict_layers is 1"),
        ({"text_config": {"mtp_num_hidden_layers": 2}}, "mtp_num_hidden_layers is 2"),
        ({"num_nextn_predict_layers": 0}, ""),
        ({"num_nextn_predict_layers": "1"}, ""),
        ({}, ""),
    ],
)
def test_a_config_may_promise_a_head(config: dict[str, Json], said: str) -> None:
    assert promised(config) == said


@pytest.mark.parametrize("file", ["freq_32768.pt", "model.Q4_K.gguf"])
def test_a_file_names_what_is_there_without_weights_and_without_a_config(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"x")
    for config in ("", "{}"):
        if config:
            (tmp_path / "config.json").write_text(config)
        found = open_drafter(Source("some-drafter", tmp_path))
        assert isinstance(found, Unread) and f"({file})" in found.refusal


def test_every_family_is_one_sentence_with_what_would_work() -> None:
    for row in NAMED:
        said = row.sentence("x", "proof")
        assert said.startswith(f"x: holds {row.holds} (proof), which ") and "; drift is " in said and "; not measured here yet, " in said
        assert said.count(". ") == 0 and len(said) < 400
        assert row.tensors or row.config or row.files


def test_nothing_that_is_measured_is_named_by_a_row(layouts: Path) -> None:
    for folder in layouts.iterdir():
        found = open_drafter(Source(folder.name, folder))
        assert not isinstance(found, Unread) and isinstance(found[1], Format), folder.name


def test_a_folder_of_nothing_is_refused_as_ever(tmp_path: Path) -> None:
    refused(SourceError, lambda: open_drafter(Source("some-drafter", tmp_path)), "no config.json")


@pytest.mark.parametrize("value", [True, "x", [1], {"a": 1}, 10**400, float("inf"), float("nan"), -1, None])
@pytest.mark.parametrize(
    "key",
    ["num_hidden_layers", "num_aux_hidden_states", "draft_vocab_size", "rope_theta", "architectures", "num_target_layers", "target_layer_ids",
     "quantization_config", "rope_scaling", "speculators_config", "pard_token", "eagle_config", "num_nextn_predict_layers", "model"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["safeai", "deepspec-gemma4", "eagle1-converted", "target"])
def test_a_setting_of_any_kind_ends_in_a_scan_or_a_sentence(layouts: Path, tmp_path: Path, name: str, key: str, value: Json) -> None:
    folder = edit_config(shutil.copytree(layouts / name, tmp_path / name), **{key: value})
    with suppress(DriftError):
        scan_checkpoint(str(folder), str(layouts / "target"))


@pytest.mark.parametrize("factor", [0, -1.0, 10**400, float("inf"), float("nan"), "2", None, True])
@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "mrope", "proportional"])
def test_a_factor_of_any_kind_ends_in_a_scan_or_a_sentence(layouts: Path, tmp_path: Path, kind: str, factor: Json) -> None:
    rope = {"rope_type": kind, "factor": factor, "original_max_position_embeddings": factor}
    folder = edit_config(shutil.copytree(layouts / "safeai", tmp_path / "safeai"), rope_scaling=rope, max_position_embeddings=64)
    with suppress(DriftError):
        scan_checkpoint(str(folder), str(layouts / "target"))
    (folder / "hf_quant_config.json").write_text("{")
    with pytest.raises(DriftError):
        scan_checkpoint(str(folder), str(layouts / "target"))
