"""Which drafter a folder holds, told by its tensors: `architectures` and file names are never believed.

One tuple is the list of what can be read. `detect` wants exactly one match; anything else is refused with a histogram of the tensor
names, so that a person can see at once what the file is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from driftcli.errors import FormatError
from driftcli.loading.files import Json, Source

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Format:
    """A layout: its name, its family, and the test on config and tensor shapes that tells it."""

    name: str
    family: Literal["eagle3", "causal-lm"]
    matches: Callable[[Mapping[str, Json], Shapes], bool]


def _is_causal_lm(config: Mapping[str, Json], shapes: Shapes) -> bool:
    def named(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in shapes)

    whole = named(r"(^|\.)(layers|h|blocks|block)\.0\.") and named(r"(embed_tokens|embed_in|wte|word_embeddings|embeddings?)\.weight$")
    drafter = named(r"(^|^model\.)fc\.weight$|(^|\.)(hidden_norm|eh_proj|enorm)\.weight$|(^|\.)d2t$")
    return str(config.get("model_type")) in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and whole and not drafter


FORMATS: tuple[Format, ...] = (
    Format(
        "EAGLE-3, SafeAILab layout", "eagle3", lambda _, shapes: "midlayer.hidden_norm.weight" in shapes and "mask_hidden" not in shapes
    ),
    Format("causal language model", "causal-lm", _is_causal_lm),
)


def detect(source: Source, config: Mapping[str, Json], shapes: Shapes) -> Format:
    """The one format that the tensors are in; raises FormatError with the key histogram when none or several fit."""
    found = [format for format in FORMATS if format.matches(config, shapes)]
    if len(found) == 1:
        return found[0]
    seen = "several formats fit" if found else "no known format fits"
    known = ", ".join(format.name for format in FORMATS)
    raise FormatError(f"{source.name}: {seen}, expected one of: {known}; its tensors are {histogram(shapes)}")


def histogram(shapes: Shapes, longest: int = 12) -> str:
    """Tensor names with numbers starred, each with its count, the most frequent first."""
    counts = Counter(re.sub(r"\d+", "*", name) for name in shapes)
    shown = [f"{name} x{count}" for name, count in counts.most_common(longest)]
    if not shown:
        return "none"
    return ", ".join(shown) + (f" and {len(counts) - longest} more names" if len(counts) > longest else "")
