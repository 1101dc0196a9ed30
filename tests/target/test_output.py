from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from driftcli.sources.files import Source
from driftcli.target.capture import StreamCapture
from driftcli.target.language_model import LanguageModel, outline_language_model
from driftcli.target.output import ORDER, Output
from driftcli.target.parts import read_parts

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
SCALED = {  # settings by which models bound or scale what their head gives
    "gemma2": {"final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "qwen2": {},
}
CPU = torch.device("cpu")


def saved(models: Path, folder: Path, model_type: str, settings: dict[str, Any]) -> PreTrainedModel:
    """A tiny model of some type with large weights, beside a tokenizer."""
    config = AutoConfig.for_model(model_type, **SIZES, **settings, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()  # type: ignore[no-untyped-call]
    model.get_output_embeddings().weight.data.mul_(20)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((models / "target" / name).read_bytes())
    return model


@torch.inference_mode()
def last_stream(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """A model's stream before its final norm and its own logits, one row a token."""
    decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
    layers = len(decoder.layers)
    with StreamCapture(decoder, decoder.layers, [layers], len(ids)) as capture:
        logits = model(ids[None]).logits[0]
        return capture.take()[layers][0], logits


@pytest.mark.parametrize("model_type", sorted(SCALED))
@torch.inference_mode()
def test_logits_are_those_of_the_model(models: Path, tmp_path: Path, model_type: str) -> None:
    model = saved(models, tmp_path, model_type, SCALED[model_type])
    outline = outline_language_model(Source("tiny", tmp_path))
    output = Output.of(read_parts(outline, CPU, torch.float32), outline.config)
    stream, logits = last_stream(model, torch.randint(3, 96, (12,)))
    assert output is not None
    torch.testing.assert_close(output.logits(stream), logits, atol=1e-5, rtol=1e-5)
    assert (output.softcap is not None, output.scale != 1.0) == (model_type == "gemma2", model_type in ("granite", "cohere"))


def output_of(target: LanguageModel, models: Path) -> Output:
    found = Output.of(read_parts(outline_language_model(Source("target", models / "target")), CPU, torch.float32), target.config)
    assert found is not None
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@torch.inference_mode()
def test_probabilities_and_entropies_are_those_of_the_softmax_at_a_temperature(
    models: Path, target: LanguageModel, temperature: float
) -> None:
    ids = torch.randint(3, target.config.vocab_size, (700,))  # more than one chunk
    stream, logits = torch.randn(700, target.config.hidden_size), None
    output = output_of(target, models)
    logits = target.model.get_output_embeddings()(target.decoder.norm(stream)).double()  # type: ignore[operator,no-untyped-call]
    expected = torch.softmax(logits / temperature, -1)
    probs, entropies = output.probs_and_entropies(stream, ids, temperature)
    torch.testing.assert_close(probs.double(), expected[torch.arange(700), ids], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(entropies.double(), torch.special.entr(expected).sum(-1), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_what_is_told_is_borne_out_to_rounding_and_a_scale_that_is_not_known_is_seen(models: Path, target: LanguageModel) -> None:
    output, stream = output_of(target, models), torch.randn(6, target.config.hidden_size)
    own = output.logits(stream).log_softmax(-1)
    told = [{token: float(row[token]) for token in (3, 7)} for row in own]
    apart, rounding = output.apart(stream, told)
    assert apart == 0.0 and rounding == ORDER
    other = (1.1 * output.logits(stream)).log_softmax(-1)
    apart, rounding = output.apart(stream, [{token: float(row[token]) for token in (3, 7)} for row in other])
    assert apart > 10 * rounding
