"""The tensors of MTP heads by one spelling for all families: which module they are of, and which part of it.

A module's parts are `embedding_norm`, `hidden_norm`, `fusion`, `final_norm`, `head`, `embedding`, and those of a decoder layer by
transformers' names (`input_layernorm`, `self_attn.q_proj`, `mlp.gate_proj` ...).
"""

from __future__ import annotations

import re
from collections.abc import Collection

PREFIXED = re.compile(r"(^|\.)(mtp|mtp_layers|mtp_block|mtp_emb_norm|mtp_hidden_norm|mtp_linear_proj)\.")
WITHIN = re.compile(r"^(?:model\.)?language_model\.(?:model\.)?")  # a text model inside of another
PROJECTION = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:transformer\.)?eh_proj\.")
NUMBERED = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:transformer\.)?(.+)$")
PLACES = tuple(  # depth and part
    re.compile(pattern)
    for pattern in (
        r"^(?:model\.)?mtp\.layers\.(?P<depth>\d+)\.(?P<part>.+)$",
        r"^(?:model\.)?mtp_layers\.(?P<depth>\d+)\.(?P<part>.+)$",
        r"^model\.mtp_block\.(?P<depth>\d+)\.(?P<part>.+)$",
        r"^model\.(?P<part>mtp_(?:emb_norm|hidden_norm|linear_proj))\.(?P<depth>\d+)(?P<rest>\..+)$",
        r"^(?:model\.)?mtp\.(?P<part>(?:fc|pre_fc_norm_embedding|pre_fc_norm_hidden|norm|embed_tokens|lm_head)\..+)$",
    )
)
PARTS = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"^(?:enorm(?:\.m)?|pre_fc_norm_embedding|token_layernorm|mtp_emb_norm)\.", "embedding_norm."),
        (r"^(?:hnorm(?:\.m)?|pre_fc_norm_hidden|hidden_layernorm|mtp_hidden_norm)\.", "hidden_norm."),
        (r"^(?:eh_proj|fc|input_proj|mtp_linear_proj)\.", "fusion."),
        (r"^(?:shared_head\.norm|final_layernorm|final_norm)\.", "final_norm."),
        (r"^(?:shared_head\.(?:head|output)|lm_head)\.", "head."),
        (r"^embed_tokens\.", "embedding."),
        (r"^pre_mlp_layernorm\.", "post_attention_layernorm."),
        (r"^(?:transformer_layer|transformer)\.", ""),
        (r"^(?:self_attn|attention)\.attention_sink_bias$", "self_attn.sinks"),
        (r"^self_attn\.sinks$", "self_attn.sinks"),
        (r"^attention\.", "self_attn."),
        (r"^self_attn\.dense\.", "self_attn.o_proj."),
        (r"^self_attn\.(query|key)_layernorm\.", r"self_attn.\1_norm."),
    )
)
OF_BLOCKS = ((r"norm.", ("input_layernorm.", "post_attention_layernorm.")), (r"mixer.", ("self_attn.", "mlp.")))


def mtp_tensors(names: Collection[str]) -> tuple[str, ...]:
    """Tensors of an MTP head: under a prefix of its own, or all of a numbered layer that has a projection of embedding and state."""
    layers = tuple({name[: found.end(1) + 1] for name in names if "eh_proj." in name and (found := PROJECTION.search(name))})
    return tuple(name for name in names if name.startswith(layers) or ("mtp" in name and PREFIXED.search(name)))


def modules_of(names: Collection[str]) -> list[dict[str, str]]:
    """Each module's stored names by part, in the order of the modules; what all share stands in each. names: of any checkpoint."""
    names = mtp_tensors(names)
    numbers = sorted({int(match[1]) for name in names if (match := PROJECTION.search(name)) and not _placed(name)})
    found: dict[int, dict[str, str]] = {}
    shared: dict[str, str] = {}
    for stored in names:
        depth, part = _part(stored, numbers)
        if part:
            (shared if depth is None else found.setdefault(depth, {}))[part] = stored
    blocks = any(part.startswith("mixer.") for parts in found.values() for part in parts)
    modules = _joined(found) if blocks else [found[depth] for depth in sorted(found)]
    return [{**shared, **parts} for parts in modules] or ([shared] if shared else [])


def _placed(name: str) -> re.Match[str] | None:
    return next((match for place in PLACES if (match := place.match(WITHIN.sub("model.", name)))), None)


def _part(stored: str, numbers: list[int]) -> tuple[int | None, str]:
    """The module and the part of a stored name; no module for what all share, no part for what is none of a head."""
    if match := _placed(stored):
        groups = match.groupdict()
        part = groups["part"] + (groups.get("rest") or "")
        depth = groups.get("depth")
        if depth is None:
            return None, _spelled(part.replace("norm.", "final_norm.") if part.startswith("norm.") else part)
        return int(depth), _spelled(part)
    numbered = NUMBERED.search(stored)
    if numbered is None or int(numbered[1]) not in numbers:
        return None, ""
    return numbers.index(int(numbered[1])), _spelled(numbered[2])


def _spelled(part: str) -> str:
    for pattern, spelling in PARTS:
        part = pattern.sub(spelling, part)
    return part


def _joined(blocks: dict[int, dict[str, str]]) -> list[dict[str, str]]:
    """Modules of blocks that hold an attention or experts each, behind a norm: a module begins with the block that has a projection."""
    found: list[dict[str, str]] = []
    for number in sorted(blocks):
        parts = blocks[number]
        if "fusion.weight" in parts or not found:
            found.append({})
        second = int("mixer.q_proj.weight" not in parts)
        found[-1].update({_of_block(part, second): stored for part, stored in parts.items()})
    return found


def _of_block(part: str, second: int) -> str:
    """A block's part as one of a decoder layer: its first block attends, its second has the experts."""
    return next((new[second] + part.removeprefix(old) for old, new in OF_BLOCKS if part.startswith(old)), part)
