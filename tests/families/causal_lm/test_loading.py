from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Lfm2Config, MistralConfig

from driftcli.errors import FormatError, PairError
from driftcli.families.causal_lm.loading import require_measurable, shared_vocabulary, sliding_window
from driftcli.loading.pair import load_pair
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.edits import refused
from tests.tiny import tokenizer, write_target

CPU = torch.device("cpu")


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
    refused(PairError, lambda: load_pair(str(models / "target"), str(swapped), CPU, "float32"), *says)


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
    padded = load_language_model(Source("lm", models / "lm"), CPU, "float32")
    padded.model.resize_token_embeddings(320)
    assert shared_vocabulary(target, padded) == shared_vocabulary(padded, target) == shared_vocabulary(padded, padded) == len(tokenizer())


# --- notes


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
