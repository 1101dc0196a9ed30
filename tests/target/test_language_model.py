from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from driftcli.errors import DriftError, FormatError, MachineError, SourceError, UsageError
from driftcli.sources.files import Json, Source
from driftcli.target import language_model as loading
from driftcli.target.language_model import Dtype, LanguageModel, choose_device, choose_dtype, load_language_model
from tests.edits import CONFIG, WEIGHTS, Payload, as_pickle, drop_config, edit_config, edit_tensors, refused
from tests.tiny import tokenizer

CPU = torch.device("cpu")
LOST = "model.layers.3.mlp.up_proj.weight"


def load(folder: Path, dtype: Dtype = "float32") -> LanguageModel:
    return load_language_model(Source(folder.name, folder), CPU, dtype)


def same(one: LanguageModel, other: LanguageModel) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- what must load


def test_the_model_computes_what_plain_transformers_computes_and_wants_no_gradients(target: LanguageModel, models: Path) -> None:
    plain = LlamaForCausalLM.from_pretrained(models / "target").eval()
    ids = torch.tensor([[0, 9, 40, 7]])
    with torch.inference_mode():
        assert torch.equal(target.model(ids).logits, plain(ids).logits)
    assert not target.model.training
    assert not any(parameter.requires_grad for parameter in target.model.parameters())


def test_a_sharded_model_loads_equal_to_the_whole_one(models: Path, tmp_path: Path, target: LanguageModel) -> None:
    LlamaForCausalLM.from_pretrained(models / "target").save_pretrained(tmp_path, max_shard_size="100KB")
    tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert same(load(tmp_path), target)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_model_loads_equal_to_the_safetensors_one(copy: Callable[[str], Path], target: LanguageModel, legacy: bool) -> None:
    assert same(load(as_pickle(copy("target"), legacy=legacy)), target)


def test_its_parts_are_those_of_the_decoder(target: LanguageModel) -> None:
    state = target.model.state_dict()
    assert [type(layer).__name__ for layer in target.layers] == ["LlamaDecoderLayer"] * 8
    assert torch.equal(target.embedding, state["model.embed_tokens.weight"])
    assert torch.equal(target.head, state["lm_head.weight"])
    assert target.device == CPU
    assert target.unread == ()


def test_tensors_without_a_place_in_the_model_are_named(copy: Callable[[str], Path], target: LanguageModel) -> None:
    loaded = load(edit_tensors(copy("target"), {"model.layers.3.mlp.up_proj.bias": torch.zeros(96)}))
    assert loaded.unread == ("model.layers.3.mlp.up_proj.bias",)
    assert same(loaded, target)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_the_weights_are_in_the_dtype_that_was_asked_for(models: Path, dtype: Dtype, expected: torch.dtype) -> None:
    assert load(models / "target", dtype).head.dtype == expected


# --- what must be refused


@pytest.mark.parametrize("cut", [0, 5, 400, 12_000, -1])
def test_truncated_weights_are_refused(copy: Callable[[str], Path], cut: int) -> None:
    path = copy("target") / WEIGHTS
    path.write_bytes(path.read_bytes()[:cut])
    refused(FormatError, lambda: load(path.parent), str(path), "not a whole safetensors file", "bytes on disk", "fetch it again")


def test_a_truncated_shard_is_refused_by_its_name(models: Path, tmp_path: Path) -> None:
    LlamaForCausalLM.from_pretrained(models / "target").save_pretrained(tmp_path, max_shard_size="100KB")
    tokenizer().save_pretrained(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    refused(FormatError, lambda: load(tmp_path), str(shard), "not a whole safetensors file", "fetch it again")
    shard.unlink()
    refused(SourceError, lambda: load(tmp_path), shard.name, "named by the index", "fetch it")


def test_a_missing_weight_is_refused_because_it_would_be_random(copy: Callable[[str], Path]) -> None:
    folder = edit_tensors(copy("target"), {LOST: None})
    refused(
        FormatError, lambda: load(folder), "target", f"tensor {LOST} is missing", "would be random", "expected a whole model", "fetch it"
    )


def test_a_weight_of_another_shape_is_refused_by_name(copy: Callable[[str], Path]) -> None:
    folder = edit_tensors(copy("target"), {LOST: torch.zeros(95, 48)})
    refused(FormatError, lambda: load(folder), "target", f"tensor {LOST} is missing or of another shape", "fetch it again")


def test_weights_of_another_model_are_refused(copy: Callable[[str], Path], models: Path) -> None:
    folder = copy("target")
    (folder / WEIGHTS).write_bytes((models / "pre" / WEIGHTS).read_bytes())
    refused(FormatError, lambda: load(folder), "target", "tensors are missing", "would be random")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(copy: Callable[[str], Path], value: float) -> None:
    folder = edit_tensors(copy("target"), {"model.norm.weight": torch.full((48,), value)})
    refused(FormatError, lambda: load(folder), "target", "NaN or infinity", "model.norm.weight", "expected finite weights")


def test_weights_that_overflow_in_the_dtype_asked_for_are_refused(copy: Callable[[str], Path]) -> None:
    folder = edit_tensors(copy("target"), {"model.norm.weight": torch.full((48,), 1e6)})
    load(folder)
    refused(FormatError, lambda: load(folder, "float16"), "target", "NaN or infinity", "model.norm.weight")


def test_a_pickle_that_runs_something_is_refused_and_never_runs(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("target")
    as_pickle(folder, {**load_file(folder / WEIGHTS), "evil": Payload(tmp_path / "ran")})
    refused(FormatError, lambda: load(folder), "pytorch_model.bin", "eval", "not opened", "convert it to safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_config_or_weights_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("target")
    (folder / WEIGHTS).unlink()
    refused(SourceError, lambda: load(folder), "target", "no weights", "expected model.safetensors")
    (folder / CONFIG).unlink()
    refused(SourceError, lambda: load(folder), "target", "no config.json", "expected a model folder")


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_config_that_is_no_object_is_refused(copy: Callable[[str], Path], text: str) -> None:
    folder = copy("target")
    (folder / CONFIG).write_text(text)
    refused(FormatError, lambda: load(folder), str(folder / CONFIG), "expected")


BROKEN_CONFIGS: list[dict[str, Json]] = [
    {"model_type": "zzz"}, {"model_type": ["llama"]}, {"model_type": "bert"}, {"num_attention_heads": 0}, {"num_attention_heads": "four"},
    {"num_attention_heads": 5}, {"num_key_value_heads": 0}, {"num_hidden_layers": True}, {"hidden_size": [48]}, {"hidden_size": -48},
    {"vocab_size": -1}, {"intermediate_size": 10**30}, {"rms_norm_eps": "x"}, {"rope_parameters": "x"}, {"hidden_act": "nope"},
    {"head_dim": 7}, {"pad_token_id": 9999}, {"max_position_embeddings": "many"}, {"quantization_config": {"quant_method": "gptq"}},
    {"num_hidden_layers": 9}, {"tie_word_embeddings": "no"},
]  # fmt: skip


@pytest.mark.parametrize("changes", BROKEN_CONFIGS)
def test_a_config_that_transformers_cannot_use_is_refused_and_not_a_crash(copy: Callable[[str], Path], changes: dict[str, Json]) -> None:
    folder = edit_config(copy("target"), **changes)
    with pytest.raises(DriftError, match=r"^target(?:/config[.]json)?: ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert type(caught.value) in (SourceError, FormatError)


def test_a_model_that_brings_its_own_code_is_refused_with_the_flag_that_runs_it(copy: Callable[[str], Path]) -> None:
    changed = copy("target")
    edit_config(changed, model_type="someones-own", auto_map={"AutoConfig": "configuration_own.Own"})
    refused(SourceError, lambda: load(changed), "'someones-own' is code that the model brings itself", "use --trust-remote-code")


def test_a_config_without_type_is_refused(copy: Callable[[str], Path]) -> None:
    folder = drop_config(copy("target"), "model_type", "architectures")
    refused(SourceError, lambda: load(folder), "target", "cannot load this as a causal language model", "model_type", "expected one with")


def test_a_folder_without_tokenizer_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("target")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    refused(SourceError, lambda: load(folder), "target", "transformers cannot load this", "expected one with its tokenizer")


def broken_tokenizer(**changes: Json) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "change", [lambda _: "", lambda _: "{}", lambda _: "[]", lambda text: text[:500], broken_tokenizer(model={"type": "Nope"}),
               broken_tokenizer(added_tokens=[{"id": "x"}]), broken_tokenizer(pre_tokenizer=3)],
)  # fmt: skip
def test_a_broken_tokenizer_is_refused_and_not_a_crash(copy: Callable[[str], Path], change: Callable[[str], str]) -> None:
    path = copy("target") / "tokenizer.json"
    path.write_text(change(path.read_text()))
    refused(
        SourceError,
        lambda: load(path.parent),
        "target",
        "transformers cannot load this",
        "expected one with its tokenizer",
        "fetch it again",
    )


def test_a_tokenizer_without_character_offsets_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("target")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    refused(SourceError, lambda: load(folder), "target", "ByT5Tokenizer", "no character offsets", "expected a model with a tokenizer.json")


def test_a_model_that_does_not_fit_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_placement", lambda *_, **__: {"": "meta"})
    refused(SourceError, lambda: load(models / "target"), "target", "does not fit", "expected room for all of it", "--device cpu")


def test_a_decoder_without_a_list_of_layers_is_refused_when_its_streams_are_wanted(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=2, n_positions=64)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.head.shape == (260, 16)
    refused(FormatError, lambda: loaded.layers, tmp_path.name, "GPT2Model", "no list of 2 decoder layers", "use another target")


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda", "cuda:99", "cuda:-1", "cuda:x", "meta", "mps", "hpu", "fpga", "xla", "privateuseone", "mtia"]
)
@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine without accelerator")
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    refused(UsageError, lambda: choose_device(name), f"--device {name}:", "expected auto, cpu, cuda or cuda:N of a GPU that is there")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without accelerator")
def test_without_an_accelerator_auto_is_the_cpu_and_float32() -> None:
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_auto_is_float32_on_a_cpu_and_the_configs_own_elsewhere() -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == "auto"
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16


# ---- where it goes


def test_a_target_that_has_no_room_on_the_device_is_refused_with_what_can_be_done(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loading, "_model", full)
    with pytest.raises(MachineError) as refused:
        load(models / "target")
    said = str(refused.value)
    assert said.startswith(
        "target: its weights do not fit on the device (OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB)"
    )
    assert all(way in said for way in ("--num-processes 1", "--engine vllm", "--dtype bfloat16", "--device cpu"))


@pytest.mark.parametrize(
    ("gpus", "free", "spread", "expected"),
    [(2, 1 << 40, True, "one"), (2, 1 << 10, True, "all"), (2, 1 << 10, False, "one"), (1, 1 << 10, True, "one")],
)
def test_a_model_goes_on_one_gpu_or_on_all_where_it_must_and_may(
    models: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, free: int, spread: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 1 << 40))
    device = torch.device("cuda", 0)
    found = loading._placement(Source("target", models / "target"), device, spread=spread)
    assert found == ({"": device} if expected == "one" else "auto")
