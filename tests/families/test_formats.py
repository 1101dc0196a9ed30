from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.errors import FormatError
from driftcli.families import formats
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


UNKNOWN: list[dict[str, tuple[int, ...]]] = [
    {},
    {**LLAMA, "fc.weight": (4, 8)},  # a head beside a model
    {**EAGLE3, "mask_hidden": (4,)},  # P-EAGLE
    {"0.linear.weight": (4, 4), "1.linear.weight": (4, 4)},  # Medusa
    {"weight": (4,)},
]


@pytest.mark.parametrize("shapes", UNKNOWN)
@pytest.mark.parametrize("model_type", ["llama", "medusa", None, 3, ["llama"], {"llama": 1}])
def test_an_unknown_layout_is_refused_with_its_tensors_and_what_would_be_known(
    shapes: dict[str, tuple[int, ...]], model_type: Json
) -> None:
    says = ("some-drafter", "no known format fits", "expected one of", *(known.name for known in FORMATS), histogram(shapes))
    refused(FormatError, lambda: detect(SOURCE, {"model_type": model_type}, shapes), *says)


@pytest.mark.parametrize("model_type", ["bert-of-nobody", None, 3, ["llama"], {"llama": 1}])
def test_a_layered_model_of_a_type_that_transformers_has_no_causal_class_for_is_refused(model_type: Json) -> None:
    refused(FormatError, lambda: detect(SOURCE, {"model_type": model_type}, LLAMA), "no known format fits", "model.layers.*.mlp")
    assert detect(SOURCE, {"model_type": "llama"}, LLAMA).family == "causal-lm"


def test_two_fitting_formats_are_refused_rather_than_the_first_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, FORMATS[0]))
    refused(FormatError, lambda: detect(SOURCE, {}, EAGLE3), "some-drafter", "several formats fit", "expected one of")


def test_the_histogram_counts_names_with_their_numbers_starred_the_most_frequent_first() -> None:
    shapes = {f"layers.{layer}.{part}": (1,) for layer in range(12) for part in ("a", "b")} | {"norm": (1,)}
    assert histogram(shapes) == "layers.*.a x12, layers.*.b x12, norm x1"
    assert histogram(shapes, longest=1) == "layers.*.a x12 and 2 more names"
    assert histogram({}) == "none"


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
