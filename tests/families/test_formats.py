from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from driftcli.errors import FormatError
from driftcli.families import formats
from driftcli.families.causal_lm.formats import known_types
from driftcli.families.formats import FORMATS, detect, histogram
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Json, Source
from tests.edits import refused

SOURCE = Source("some-drafter", Path("some-drafter"))
EAGLE3 = {"midlayer.hidden_norm.weight": (4,), "fc.weight": (4, 12), "d2t": (3,)}
LLAMA = {"model.embed_tokens.weight": (9, 4), "model.layers.0.mlp.up_proj.weight": (8, 4), "model.layers.1.mlp.up_proj.weight": (8, 4)}


@pytest.mark.parametrize(("name", "family"), [("pre", "eagle3"), ("post", "eagle3"), ("lm", "causal-lm"), ("target", "causal-lm")])
def test_each_kind_is_told_by_its_tensors(models: Path, name: str, family: str) -> None:
    found = open_checkpoint(Source(name, models / name))
    assert detect(found.source, found.config, found.shapes).family == family


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, {"architectures": ["Whatever"], "model_type": ["llama"]}]
)
def test_an_eagle3_head_is_one_whatever_its_config_claims(config: dict[str, Json]) -> None:
    assert detect(SOURCE, config, EAGLE3).family == "eagle3"


UNKNOWN: list[tuple[dict[str, tuple[int, ...]], str]] = [
    ({}, "no drafter that is known here: it has no tensors"),
    ({"weight": (4,)}, "no drafter that is known here: its 1 tensor is weight"),
    ({"0.weight": (4, 4), "1.weight": (4, 4), "a": (1,), "b": (1,), "c": (1,)}, "its 5 tensors are *.weight, a, b ..."),
    ({**LLAMA, "fc.weight": (4, 8)}, "expected a causal language model that transformers builds, or a drafter's head"),
]


@pytest.mark.parametrize(("shapes", "says"), UNKNOWN)
@pytest.mark.parametrize("model_type", ["llama", None, 3, ["llama"], {"llama": 1}])
def test_an_unknown_layout_is_refused_with_a_few_of_its_tensors(shapes: dict[str, tuple[int, ...]], says: str, model_type: Json) -> None:
    refused(FormatError, lambda: detect(SOURCE, {"model_type": model_type}, shapes), "some-drafter", says)


@pytest.mark.parametrize("model_type", ["bert-of-nobody", None, 3, ["llama"], {"llama": 1}])
def test_a_layered_model_of_a_type_that_transformers_has_no_causal_class_for_is_refused(model_type: Json) -> None:
    refused(FormatError, lambda: detect(SOURCE, {"model_type": model_type}, LLAMA), f"a model of type {model_type!r}")
    assert detect(SOURCE, {"model_type": "llama"}, LLAMA).family == "causal-lm"


def test_the_types_of_causal_models_are_those_of_transformers_itself() -> None:
    assert known_types() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_two_fitting_formats_are_refused_rather_than_the_first_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, FORMATS[0]))
    refused(FormatError, lambda: detect(SOURCE, {}, EAGLE3), "some-drafter", "several layouts fit", "expected one")


def test_the_histogram_counts_names_with_their_numbers_starred_the_most_frequent_first() -> None:
    shapes = {f"layers.{layer}.{part}": (1,) for layer in range(12) for part in ("a", "b")} | {"norm": (1,)}
    assert list(histogram(shapes).items()) == [("layers.*.a", 12), ("layers.*.b", 12), ("norm", 1)]
    assert histogram({}) == {}


@pytest.mark.parametrize(
    ("shapes", "fits"),
    [
        ({"transformer.wte.weight": (9, 4), "transformer.h.0.mlp.c_fc.weight": (4, 16)}, True),  # GPT-2: c_fc is no fusion of streams
        ({"model.embed_tokens.weight": (9, 4), "model.layers.0.mlp.up_proj.weight": (8, 4)}, True),
        ({"blocks.0.mixer.in_proj.weight": (4, 4)}, False),  # layers without an embedding
        ({"embed_tokens.weight": (9, 4), "layers.0.mlp.up_proj.weight": (8, 4), "fc.weight": (4, 8)}, False),  # EAGLE-1
    ],
)
def test_a_causal_lm_has_layers_and_an_embedding_and_nothing_of_a_drafter(shapes: dict[str, tuple[int, ...]], fits: bool) -> None:
    causal_lm = next(format for format in FORMATS if format.family == "causal-lm")
    assert causal_lm.matches({"model_type": "llama"}, shapes) == fits
