"""What a head's weights can be put together with in place of what its files declare, by the words of a `Wiring`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from transformers import LlamaConfig

from driftcli.families.vocabulary import DraftVocabulary


@dataclass(frozen=True, slots=True)
class Others:
    """Maps, rotations and embeddings by name; target_head: (vocabulary, width), absent where it does not fit the head's width."""

    vocabularies: Mapping[str, DraftVocabulary] = field(default_factory=dict)
    ropes: Mapping[str, LlamaConfig] = field(default_factory=dict)
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    target_head: Tensor | None = None
