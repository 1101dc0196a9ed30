from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, BloomConfig, Lfm2Config, MistralConfig

from driftcli.errors import FormatError
from driftcli.families.causal_lm.loading import require_measurable, sliding_window
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel
from tests.tiny import tokenizer


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
