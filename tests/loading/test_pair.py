from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig, Lfm2Config, MistralConfig

from driftcli.domain import System
from driftcli.errors import FormatError, PairError, SourceError, UsageError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.loading import pair as loading
from driftcli.loading.pair import LoadedPair, fingerprint, load_pair, require_measurable, shared_vocabulary, sliding_window
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel
from tests.edits import CONFIG, WEIGHTS, edit_config, edit_tensors, refused
from tests.tiny import tokenizer, write_target

CPU = torch.device("cpu")


def load(target: Path, drafter: Path) -> LoadedPair:
    return load_pair(str(target), str(drafter), CPU, "float32")


@pytest.fixture
def with_target(target: LanguageModel, monkeypatch: pytest.MonkeyPatch, models: Path) -> Callable[[Path], LoadedPair]:
    """Load a head beside the target that is loaded already."""
    monkeypatch.setattr(loading, "load_language_model", lambda *_, **__: target)
    return lambda drafter: load(models / "target", drafter)


def test_an_eagle3_pair_is_loaded_with_a_card_that_says_what_it_is(models: Path) -> None:
    pair = load(models / "target", models / "post")
    assert isinstance(pair.drafter, Eagle3)
    card = pair.card
    assert (card.family, card.token_offset, card.no_recursion, card.notes) == ("eagle3", 1, None, ())
    assert (card.target.model_type, card.drafter.model_type) == ("llama", "llama")
    assert (card.target.name, card.drafter.name) == (str(models / "target"), str(models / "post"))
    assert card.record["format"].value == "EAGLE-3, SafeAILab layout"
    assert all(re.fullmatch("tensor|config:.+|default:.+|assumed:.+", field.source) for field in card.record.values())
    assert card.record["feedback"].value == "normed"


def test_a_causal_lm_pair_has_no_recursion_and_shares_the_tokens_of_both(models: Path) -> None:
    pair = load(models / "target", models / "lm")
    assert isinstance(pair.drafter, CausalLm)
    assert pair.drafter.vocabulary == len(tokenizer())
    assert (pair.card.family, pair.card.token_offset) == ("causal-lm", 0)
    assert pair.card.no_recursion is not None and "feeds no state" in pair.card.no_recursion
    assert pair.card.record["vocabulary"].value == len(tokenizer())


def test_a_model_may_draft_for_itself(models: Path) -> None:
    pair = load(models / "target", models / "target")
    assert isinstance(pair.drafter, CausalLm)
    assert pair.card.target.fingerprint == pair.card.drafter.fingerprint


def test_a_drafter_that_cannot_be_read_is_refused_before_the_targets_weights_are(
    copy: Callable[[str], Path], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_language_model", lambda *_, **__: pytest.fail("the target was loaded"))
    unknown = edit_tensors(copy("pre"), {"midlayer.hidden_norm.weight": None})
    refused(FormatError, lambda: load(models / "target", unknown), str(unknown), "1 tensors are missing", "layers.0.hidden_norm.weight")
    edit_tensors(unknown, {"midlayer.self_attn.q_proj.weight": None})
    refused(
        FormatError, lambda: load(models / "target", unknown), str(unknown), "no known format fits", "midlayer.self_attn.k_proj.weight x1"
    )
    (unknown / WEIGHTS).write_bytes(b"")
    refused(FormatError, lambda: load(models / "target", unknown), str(unknown / WEIGHTS), "not a whole safetensors file")


def test_a_target_or_drafter_that_is_not_there_is_refused_by_its_name(models: Path) -> None:
    refused(SourceError, lambda: load(models / "gone", models / "pre"), str(models / "gone"), "no such folder", "expected a model folder")
    refused(
        SourceError, lambda: load(models / "target", models / "gone"), str(models / "gone"), "no such folder", "expected a model folder"
    )


def test_an_eagle3_head_is_no_target_even_beside_a_tokenizer(copy: Callable[[str], Path], models: Path) -> None:
    folder = copy("pre")
    says = (str(folder), "holds a head in EAGLE-3, SafeAILab layout", "expected a causal language model", "exchanged?")
    refused(SourceError, lambda: load(folder, models / "pre"), *says)
    tokenizer().save_pretrained(folder)
    refused(SourceError, lambda: load(folder, models / "target"), *says)


def test_a_target_of_five_layers_is_refused_for_the_default_capture_layers(models: Path, tmp_path: Path) -> None:
    shallow = write_target(tmp_path / "shallow", layers=5)
    refused(PairError, lambda: load(shallow, models / "pre"), str(shallow), "5 layers", "at least 7", "eagle_aux_hidden_state_layer_ids")


def test_a_target_of_another_hidden_size_is_refused(models: Path, tmp_path: Path) -> None:
    wide = write_target(tmp_path / "wide", width=96)
    refused(PairError, lambda: load(wide, models / "pre"), str(models / "pre"), "target width of 48", f"{wide} has 96", "name the target")


# --- one tokenizer for both


def with_tokenizer(lm: LanguageModel, folder: Path, **changes: object) -> LanguageModel:
    """The same model with a tokenizer that differs in these parts of its `tokenizer.json`."""
    made = tokenizer()
    made.save_pretrained(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return replace(lm, source=Source("other", folder), tokenizer=type(made).from_pretrained(folder))


def test_a_tokenizer_of_the_same_size_with_two_ids_exchanged_is_refused(models: Path, tmp_path: Path) -> None:
    swapped = write_target(tmp_path / "swapped", swapped=True)
    first = next(token for token, number in tokenizer().get_vocab().items() if number == 10)
    says = (str(swapped), f"token {first!r} is 11 here and 10 in {models / 'target'}", "expected one tokenizer for both", "same family")
    refused(PairError, lambda: load(models / "target", swapped), *says)


def test_a_tokenizer_with_a_token_more_is_refused_by_that_token(target: LanguageModel) -> None:
    longer = tokenizer()
    longer.add_tokens(["<|more|>", "<|and more|>"])
    drafter = replace(target, source=Source("other", Path()), tokenizer=longer)
    says = ("other", "token '<|and more|>' is 261 here and absent in target", "expected one tokenizer for both")
    refused(PairError, lambda: shared_vocabulary(target, drafter), *says)
    refused(PairError, lambda: shared_vocabulary(drafter, target), "target", "is absent here and 260 in other")


def test_tokenizers_of_the_same_tokens_that_split_otherwise_are_refused(target: LanguageModel, tmp_path: Path) -> None:
    drafter = with_tokenizer(
        target, tmp_path, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    )
    assert drafter.tokenizer.get_vocab() == target.tokenizer.get_vocab()
    refused(PairError, lambda: shared_vocabulary(target, drafter), "other", "splits", "otherwise than target", "expected one tokenizer")


def test_padding_rows_beyond_the_tokens_are_never_shared(target: LanguageModel, models: Path) -> None:
    padded = load(models / "lm", models / "lm").target
    padded.model.resize_token_embeddings(320)
    assert shared_vocabulary(target, padded) == shared_vocabulary(padded, target) == shared_vocabulary(padded, padded) == len(tokenizer())


# --- notes


def test_absolute_ids_are_noted_because_servers_would_propose_other_tokens(
    copy: Callable[[str], Path], with_target: Callable[[Path], LoadedPair]
) -> None:
    folder = copy("pre")
    assert with_target(folder).card.notes == ()
    (note,) = with_target(edit_tensors(folder, {"d2t": load_file(folder / WEIGHTS)["d2t"] + torch.arange(120)})).card.notes
    assert "d2t holds absolute ids" in note and "vLLM and SGLang" in note


def test_stream_norms_that_the_flag_leaves_out_fall_back_to_whoever_can_run_them(
    copy: Callable[[str], Path], with_target: Callable[[Path], LoadedPair]
) -> None:
    card = with_target(edit_config(copy("post"), fc_norm=False)).card
    assert (card.record["reading"].value, card.record["pre_fc_norm"].value) == ("as_served:sglang", "none")
    assert card.readings["as_trained"]["pre_fc_norm"].value == "per stream"
    assert "no place for fc_norm tensors" in str(card.readings["as_served:vllm"]["refused"].value)
    assert any("served by vLLM it fails" in note for note in card.notes)


def test_a_norm_that_the_config_turns_on_and_the_file_lacks_is_refused(copy: Callable[[str], Path], models: Path) -> None:
    folder = edit_config(copy("pre"), fc_norm=True)
    refused(FormatError, lambda: load(models / "target", folder), str(folder), "fc_norm is true", "no fc_norm.0.weight", "gain 1")


def test_a_reading_may_be_asked_for_and_the_card_says_which(copy: Callable[[str], Path], models: Path) -> None:
    folder = edit_config(copy("pre"), norm_before_residual=True)

    def residual(reading: System | None) -> tuple[object, object]:
        record = load_pair(str(models / "target"), str(folder), CPU, "float32", reading=reading).card.record
        return record["reading"].value, record["residual"].value

    assert residual(None) == ("as_served:vllm", "normed")
    assert residual("as_served:sglang") == ("as_served:sglang", "raw")
    lm = lambda: load_pair(str(models / "target"), str(models / "lm"), CPU, "float32", reading="as_trained")  # noqa: E731
    refused(UsageError, lm, "--reading as_trained", "every system computes alike")


def test_tensors_that_the_targets_class_has_no_place_for_are_noted(copy: Callable[[str], Path], models: Path) -> None:
    folder = edit_tensors(copy("target"), {"model.layers.8.eh_proj.weight": torch.ones(2)})
    (note,) = load(folder, models / "pre").card.notes
    assert str(folder) in note and "1 tensors have no place" in note and "model.layers.8.eh_proj.weight" in note


# --- fingerprints


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_fingerprint_changes_with_any_file_that_matters_and_with_nothing_else(copy: Callable[[str], Path], file: str) -> None:
    folder = copy("target")
    source = Source("target", folder)
    before = fingerprint(source)
    assert re.fullmatch("[0-9a-f]{16}", before)
    (folder / "README.md").write_text("hello")
    assert fingerprint(Source("elsewhere", folder)) == before
    content = bytearray((folder / file).read_bytes())
    content[-3] ^= 1
    (folder / file).write_bytes(bytes(content))
    assert fingerprint(source) != before


def test_a_large_file_is_told_by_its_size_and_by_evenly_spaced_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WHOLE_HASH", 1000)
    (tmp_path / WEIGHTS).write_bytes(bytes(3 << 20))
    source = Source("large", tmp_path)
    before = fingerprint(source)
    for content in (bytes((3 << 20) + 1), bytes(2 << 20) + b"\1" + bytes((1 << 20) - 1)):
        (tmp_path / WEIGHTS).write_bytes(content)
        assert fingerprint(source) != before


def test_a_causal_lm_whose_attention_cannot_be_measured_is_refused() -> None:
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    mixed = Lfm2Config(**sizes, num_hidden_layers=2, layer_types=["conv", "full_attention"])
    alone = BloomConfig(vocab_size=20, hidden_size=16, n_layer=1, n_head=2)
    for config, seen in ((mixed, "lfm2 has layers of type conv"), (alone, "bloom has attention of its own")):
        lm = LanguageModel(Source("odd", Path()), AutoModelForCausalLM.from_config(config), tokenizer())
        with pytest.raises(FormatError, match=f"odd: {seen}, expected plain attention in every layer"):
            require_measurable(lm)


@pytest.mark.parametrize(
    ("settings", "window"),
    [({"sliding_window": 8}, 8), ({"sliding_window": None}, None), ({"sliding_window": 8, "layer_types": ["full_attention"]}, None)],
)
def test_the_sliding_window_is_that_of_the_layers_that_slide(settings: dict, window: int | None) -> None:
    config = MistralConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    for name, value in settings.items():
        setattr(config, name, value)
    lm = LanguageModel(Source("m", Path()), AutoModelForCausalLM.from_config(config), tokenizer())
    assert sliding_window(lm) == window
