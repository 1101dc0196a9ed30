"""Where each weight of a head stands in its files: places in a loaded drafter, and names of stored tensors.

A weight is trained where its stored tensor is, number for number, what was loaded. What a loader makes of several tensors, or shares with
the target, has no tensor of its own and stays as it is, and so does one tensor that stands in two places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.eagle.declaration import declare
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import stream_norm_names
from driftcli.families.formats import open_drafter
from driftcli.families.mtp.declaration import declare_mtp
from driftcli.families.mtp.head import Mtp
from driftcli.healing.weights import weights
from driftcli.scanned import Unread
from driftcli.sources.files import Json, Source, resolve
from driftcli.sources.tensors import read_some, read_tensors
from driftcli.target.target import Target

EAGLE = {
    "fusion.weight": "fc.weight",
    "fusion.joint_norm": "input_norm.weight",
    "embedding_gain": "layers.0.input_layernorm.weight",
    "final_gain": "norm.weight",
    "head": "lm_head.weight",
}
MTP = {
    "embedding_gain": "embedding_norm.weight",
    "hidden_gain": "hidden_norm.weight",
    "final_gain": "final_norm.weight",
}
LAYER = {  # of a decoder layer, EAGLE's first layer having its norm of the state under a name of its own
    "mlp_gain": "post_attention_layernorm.weight",
    "gain": "input_layernorm.weight",
    "mlp.gate": "mlp.gate_proj.weight",
    "mlp.up": "mlp.up_proj.weight",
    "mlp.down": "mlp.down_proj.weight",
    "attention.q_norm": "self_attn.q_norm.weight",
    "attention.k_norm": "self_attn.k_norm.weight",
    "attention.q_gain": "self_attn.q_a_layernorm.weight",
    "attention.kv_gain": "self_attn.kv_a_layernorm.weight",
}
LATENT = {"low_q": "q_a_proj", "low_kv": "kv_a_proj_with_mqa", "kv": "kv_b_proj"}


@dataclass(frozen=True)
class HeadFiles:
    """A head as it is stored: config, its own tensors by stored name, and the stored name of each weight that can be trained, by place.

    prefix: what stands before the names of its tensors.
    """

    source: Source
    config: Mapping[str, Json]
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    prefix: str = ""


def head_files(name: str, target: Target, drafter: Eagle3 | Mtp) -> HeadFiles:
    """The files of a drafter that is loaded; FormatError for one that has none of its own."""
    opened = open_drafter(resolve(name))
    if isinstance(opened, Unread):
        raise FormatError(opened.refusal)
    checkpoint, format = opened
    held = weights(drafter)
    if isinstance(drafter, Eagle3):
        stored = declare(checkpoint, format, target.facts).names
        tensors = read_tensors(checkpoint.source)
        prefix = stored["norm.weight"].removesuffix("norm.weight")
        candidates = {place: _eagle_name(place, stored, len(drafter.hidden_gains)) for place in held}
    else:
        (module,) = declare_mtp(checkpoint, target.facts, apart=True).modules
        stored = {part: raw for part, raw in module.parts.items() if module.cut is None}
        tensors, prefix = read_some(checkpoint.source, module.parts.values()), ""
        candidates = {place: _mtp_name(place) for place in held}
    less = 1.0 if isinstance(drafter, Mtp) and drafter.one_plus else 0.0
    names, standing = dict[str, str](), Counter(map(id, held.values()))
    for place, loaded in held.items():
        raw = stored.get(candidates[place], "")
        if standing[id(loaded)] == 1 and raw in tensors and _same(loaded, tensors[raw], less if is_gain(place) else 0.0):
            names[place] = raw
    return HeadFiles(checkpoint.source, checkpoint.config, tensors, names, prefix)


def _same(loaded: Tensor, stored: Tensor, less: float) -> bool:
    return loaded.shape == stored.shape and torch.equal(loaded.cpu(), stored.to(loaded.dtype) + less)


def is_gain(place: str) -> bool:
    """Whether a norm's gain stands there."""
    return place.endswith(("gain", "_norm"))


def _eagle_name(place: str, stored: Mapping[str, str], hidden_norms: int) -> str:
    if match := re.fullmatch(r"fusion\.stream_norms\.(\d+)", place):
        return stream_norm_names(stored)[int(match[1])]
    if place == f"hidden_gains.{hidden_norms - 1}":
        return "layers.0.hidden_norm.weight"
    if match := re.fullmatch(r"layers\.(\d+)\.(.+)", place):
        return f"layers.{match[1]}.{_in_layer(match[2])}"
    return EAGLE.get(place, "")


def _mtp_name(place: str) -> str:
    return _in_layer(place.removeprefix("layer.")) if place.startswith("layer.") else MTP.get(place, place)


def _in_layer(place: str) -> str:
    if match := re.fullmatch(r"attention\.(\w+)\.(weight|bias)", place):
        return f"self_attn.{LATENT.get(match[1], f'{match[1]}_proj')}.{match[2]}"
    return LAYER.get(place, "")
