"""How each family stores its MTP head and what every system does with it; one row a family.

A head is one decoder layer between a projection of (embedding, hidden state) and a norm; it reads the target's last hidden state, gives the
next state by its own, and shares the target's embedding and output head. Read in vLLM 0.33, SGLang 0.5.23 and transformers 5.24.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from driftcli.conditions import Feedback
from driftcli.domain import System

OWN_HEAD = "mtp"  # names the head that a target carries in the place of a drafter
PARTS = ("embedding_norm", "hidden_norm", "fusion", "final_norm")


@dataclass(frozen=True, slots=True)
class Kind:
    """A family's head.

    types: of the text config. names: the stored name of each part outside the layer. layer: what its layer's names begin with. one_plus:
    whether gains are stored less one. gated: whether queries come with a gate on what each head attends to. feedback: what is handed on,
    before or behind the final norm, by system.
    """

    name: str
    types: tuple[str, ...]
    names: Mapping[str, str]
    layer: str
    one_plus: bool
    gated: bool
    feedback: Mapping[System, Feedback]


POST: Mapping[System, Feedback] = {
    "as_served:vllm": "normed",
    "as_served:vllm-v1": "normed",
    "as_served:sglang": "normed",
    "as_trained": "normed",
}
QWEN = Kind(
    "Qwen3.5 MTP head",
    ("qwen3_5", "qwen3_5_text"),
    {
        "embedding_norm": "mtp.pre_fc_norm_embedding.weight",
        "hidden_norm": "mtp.pre_fc_norm_hidden.weight",
        "fusion": "mtp.fc.weight",
        "final_norm": "mtp.norm.weight",
    },
    "mtp.layers.0.",
    one_plus=True,
    gated=True,
    feedback=POST,
)
KINDS: tuple[Kind, ...] = (QWEN,)


def kind_of(model_type: str, names: Collection[str]) -> Kind | None:
    """The kind of a head that is stored beside a model of this type, None where it is of none that is measured."""
    return next((kind for kind in KINDS if model_type in kind.types and set(kind.names.values()) <= set(names)), None)
