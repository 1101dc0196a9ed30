from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.families.eagle.anatomy import Anatomy, Heads
from driftcli.families.eagle.served import CLASSES, WRITE, Server, _table, asked_for, built, refusal, version
from driftcli.families.record import Record
from driftcli.sources.files import Json

GROUPED, LATENT = Heads("grouped", 4, 2, 8, 8, 8), Heads("latent", 4, 4, 12, 4, 8, (6, 4))
NAMES = frozenset({"fc.weight", "lm_head.weight", "d2t"})
EAGLE3 = Anatomy("eagle3", 32, 32, 64, 100, 50, 3, 1, GROUPED, NAMES)
NORMED = replace(EAGLE3, names=NAMES | {"layers.0.self_attn.q_norm.weight", "layers.0.self_attn.k_norm.weight"})
EAGLE1 = replace(EAGLE3, family="eagle", draft_vocabulary=100, streams=1, names=frozenset({"fc.weight"}))
GEMMA = replace(NORMED, names=NORMED.names | {"layers.0.layer_scalar"})
CONFIG: dict[str, Json] = {"draft_vocab_size": 50, "num_hidden_layers": 1}


def why(server: Server, anatomy: Anatomy, architectures: Json = None, **changes: Json) -> str:
    record = Record("head", {**CONFIG, "architectures": architectures, **changes})
    return refusal(server, asked_for(server, record, record, anatomy.family, speculators=False), record, record, anatomy)


@pytest.mark.parametrize(
    ("name", "anatomy", "vllm", "sglang"),
    [
        ("LlamaForCausalLMEagle3", EAGLE3, "", ""),
        ("LlamaForCausalLM", EAGLE3, "", "builds LlamaForCausalLM, which reads no such head"),
        ("Eagle3LlamaForCausalLM", EAGLE3, "", "knows no Eagle3LlamaForCausalLM; write LlamaForCausalLMEagle3"),
        ("Qwen3ForCausalLM", EAGLE3, "whose q_norm and k_norm the file lacks", "builds Qwen3ForCausalLM, which reads no such head"),
        ("Qwen2ForCausalLM", EAGLE3, "knows no Eagle3Qwen2ForCausalLM", "builds Qwen2ForCausalLM"),
        ("Qwen3ForCausalLM", NORMED, "", "SGLang has no class for such a head"),
        (
            "LlamaForCausalLMEagle3",
            NORMED,
            "has no place for q_norm and k_norm; write Eagle3Qwen3ForCausalLM",
            "has no class for such a head",
        ),
        ("Gemma4Eagle3Model", GEMMA, "knows no Eagle3Gemma4Eagle3Model; vLLM has no class", "SGLang has no class for such a head"),
        ("Eagle3DeepseekV2ForCausalLM", replace(EAGLE3, heads=LATENT), "", ""),
        ("LlamaForCausalLMEagle3", replace(EAGLE3, heads=LATENT), "has grouped keys, and the file latent ones", "the file latent ones"),
        ("LlamaForCausalLM", EAGLE1, "", "write LlamaForCausalLMEagle into architectures"),
        ("LlamaForCausalLMEagle", EAGLE1, "knows no EagleLlamaForCausalLMEagle; write LlamaForCausalLM into", ""),
        ("Qwen2ForCausalLM", EAGLE1, "knows no EagleQwen2ForCausalLM", "builds Qwen2ForCausalLM"),
        ("DeepseekV3ForCausalLM", replace(EAGLE3, heads=LATENT), "", "builds DeepseekV3ForCausalLM, which reads no such head"),
        ("DFlashDraftModel", EAGLE3, "knows no Eagle3DFlashDraftModel", "builds DFlashDraftModel, which reads no such head"),
    ],
)
def test_architectures_decide_the_class_and_the_class_what_is_read(name: str, anatomy: Anatomy, vllm: str, sglang: str) -> None:
    whole = CONFIG if anatomy.family == "eagle3" else {"draft_vocab_size": None}
    for server, said in (("vllm", vllm), ("sglang", sglang)):
        found = why(server, anatomy, [name], **whole)  # type: ignore[arg-type]
        assert said in found if said else found == "", found


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", [3]])
def test_a_config_without_architectures_is_run_by_no_server(architectures: Json) -> None:
    for server in ("vllm", "sglang"):
        assert "names no architectures" in why(server, EAGLE3, architectures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "vllm", "sglang"),
    [
        ({"num_hidden_layers": 40}, "builds as many, of which the file fills 1", "builds as many, of which the file fills 1"),
        ({"num_aux_hidden_states": 5}, "builds fc for 5 streams", "builds fc for 5 streams"),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 2]}}, "builds fc for 2 streams", "builds fc for 2 streams"),
        ({"eagle_config": {"use_aux_hidden_state": False}}, "", ""),
        ({"tie_word_embeddings": True}, "", "takes all 100 rows of the embedding"),
    ],
)
def test_settings_that_do_not_fit_the_file_stop_the_servers_that_believe_them(changes: dict[str, Json], vllm: str, sglang: str) -> None:
    for server, said in (("vllm", vllm), ("sglang", sglang)):
        found = why(server, EAGLE3, ["LlamaForCausalLMEagle3"], **changes)  # type: ignore[arg-type]
        assert said in found if said else found == "", found


def test_what_sglang_makes_of_the_output_head() -> None:
    whole = replace(EAGLE3, draft_vocabulary=100)
    without = replace(whole, names=frozenset({"fc.weight"}))
    names = ["LlamaForCausalLMEagle3"]
    record = Record("head", {"num_hidden_layers": 1, "architectures": names})
    assert "names no draft_vocab_size" in refusal("sglang", names[0], record, record, EAGLE3)
    assert "add it (50)" in refusal("sglang", names[0], record, record, EAGLE3)
    assert "add it (null)" in refusal("sglang", names[0], record, record, without)
    assert why("sglang", without, names, draft_vocab_size=None) == ""
    assert "keeps an output head that nothing fills" in why("sglang", without, names, draft_vocab_size=100)
    assert why("vllm", without, names, draft_vocab_size=100) == ""
    assert why("sglang", whole, names, tie_word_embeddings=True) == ""


def test_what_vllm_makes_of_a_map_over_the_whole_vocabulary_and_of_a_type_of_its_mtp_heads() -> None:
    names = ["LlamaForCausalLMEagle3"]
    whole = replace(EAGLE3, draft_vocabulary=100)
    assert "for which vLLM 0.33.0 then has no place" in why("vllm", whole, names, draft_vocab_size=100)
    assert why("vllm", replace(whole, names=NAMES - {"d2t"}), names, draft_vocab_size=100) == ""
    assert why("sglang", whole, names, draft_vocab_size=100) == ""
    latent = replace(EAGLE3, heads=LATENT)
    for kind, said in (("deepseek_v3", "takes for an MTP head"), ("kimi_k2", ""), ("deepseek_v2", "")):
        assert said in why("vllm", latent, ["Eagle3DeepseekV2ForCausalLM"], model_type=kind)
        assert why("sglang", latent, ["Eagle3DeepseekV2ForCausalLM"], model_type=kind) == ""


def test_layer_ids_at_the_top_level_count_for_some_classes_alone() -> None:
    five: Json = [1, 2, 3, 4, 5]
    normed = replace(NORMED, streams=5)
    assert why("vllm", normed, ["Eagle3Qwen3ForCausalLM"], eagle_aux_hidden_state_layer_ids=five) == ""
    assert "builds fc for 3 streams" in why(
        "vllm", replace(EAGLE3, streams=5), ["LlamaForCausalLMEagle3"], eagle_aux_hidden_state_layer_ids=five
    )
    latent = replace(EAGLE3, streams=5, heads=LATENT)
    assert why("sglang", latent, ["Eagle3DeepseekV2ForCausalLM"], eagle_aux_hidden_state_layer_ids=five) == ""


def test_all_faults_of_a_file_are_told_at_once() -> None:
    found = why("sglang", EAGLE3, ["Eagle3LlamaForCausalLM"], tie_word_embeddings=True, num_hidden_layers=40)
    assert found.count("; and ") == 2


def test_speculators_configs_are_classes_by_their_nested_type() -> None:
    for kind, name in (("llama", "Eagle3LlamaForCausalLM"), ("qwen3", "Eagle3Qwen3ForCausalLM"), ("mistral", None)):
        layers = Record("head", {"model_type": kind})
        assert asked_for("vllm", Record("head", {}), layers, "eagle3", speculators=True) == name
        assert asked_for("sglang", Record("head", {}), layers, "eagle3", speculators=True) is None


def test_every_class_that_is_described_and_every_name_that_is_advised_is_in_the_table() -> None:
    known = {name for server in ("vllm", "sglang") for name in _table()[server]["classes"].values()}
    assert set(CLASSES) <= known
    for (family, attention), names in WRITE.items():
        for server, name in names.items():
            asked = asked_for(server, Record("head", {"architectures": [name]}), Record("head", {}), family, speculators=False)
            kind = CLASSES[str(built(server, asked))]
            assert (kind.family, kind.attention) == (family, attention)
    assert version("vllm") == "vLLM 0.33.0" and version("sglang") == "SGLang 0.5.23"
