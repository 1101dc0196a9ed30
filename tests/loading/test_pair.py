from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from driftcli.domain import System
from driftcli.errors import FormatError, PairError, SourceError, UsageError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.loading import pair as loading
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target.language_model import LanguageModel
from tests.edits import WEIGHTS, edit_config, edit_tensors, refused
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
    assert len(pair.drafter.tokens.vocabulary.to_target) == len(tokenizer())
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
    refused(FormatError, lambda: load(models / "target", unknown), str(unknown), "tensor layers.0.hidden_norm.weight is missing")
    edit_tensors(unknown, {"midlayer.self_attn.q_proj.weight": None})
    refused(FormatError, lambda: load(models / "target", unknown), str(unknown), "no drafter that is known here", "its 13 tensors are")
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
    folder = edit_tensors(copy("target"), {"model.layers.3.strange.weight": torch.ones(2)})
    (note,) = load(folder, models / "pre").card.notes
    assert note == f"{folder}: tensor model.layers.3.strange.weight has no place in the model and was not read"
    edit_tensors(folder, {"model.layers.3.stranger.weight": torch.ones(2)})
    (note,) = load(folder, models / "pre").card.notes
    assert "2 tensors have no place in the model and were not read (model.layers.3.strange.weight, " in note


def test_an_mtp_head_of_the_target_is_noted_by_its_name(copy: Callable[[str], Path], models: Path) -> None:
    folder = edit_tensors(copy("target"), {"model.layers.8.eh_proj.weight": torch.ones(2), "model.layers.8.enorm.weight": torch.ones(2)})
    (note,) = load(folder, models / "pre").card.notes
    assert note.startswith("the target carries an MTP head (2 tensors, such as model.layers.8.e")
