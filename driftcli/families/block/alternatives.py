"""What the files of a block drafter leave open: wirings of one change each, by which engines differ or that an export may have lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from transformers import LlamaConfig

from driftcli.conditions import Wiring
from driftcli.domain import Sourced, System
from driftcli.errors import FormatError
from driftcli.families.block.declaration import EPS, QWEN3_EPS, BlockDeclaration
from driftcli.families.block.readings import FILL_IN, OWN
from driftcli.families.rope import DEFAULT_THETA, Rope, rope_settings
from driftcli.families.rope_config import rope_config

RopeName = Literal["target's", "default", "Qwen3"]
BASES: Mapping[RopeName, float] = {"default": DEFAULT_THETA, "Qwen3": 1e6}
ROPES: tuple[RopeName, ...] = ("target's", "default", "Qwen3")


def alternatives(
    d: BlockDeclaration, system: System | None = None, masks: Sequence[int] = (), record: Mapping[str, Sourced] | None = None
) -> tuple[Wiring, ...]:
    """Every one-change wiring of a drafter as a system runs it. masks: the target's tokens that its mask may have been instead. record: of
    the weights, once they are read; rows of its own may be the target's until then.
    """
    return (*_around(d, system, masks), *_rows(d, system, record), *_inside(d, system), *_norms(d), *_bias(d))


def _rows(d: BlockDeclaration, system: System | None, record: Mapping[str, Sourced] | None) -> Iterator[Wiring]:
    """The target's embeddings, or its output rows, in the place of a drafter's own that differ from them."""
    a = d.anatomy
    if d.reading(system).rows_of.value != OWN or d.head.target.width != a.width:
        return
    own = {name for name, stored in (("embedding", "embed_tokens"), ("head", "lm_head")) if f"{stored}.weight" in a.names}
    if record is not None:
        own = {name for name in own if record[name].value == "own"}
    if "embedding" in own:
        yield Wiring(embedding="target's")
    if "head" in own:
        yield Wiring(head="target's")


def _around(d: BlockDeclaration, system: System | None, masks: Sequence[int]) -> Iterator[Wiring]:
    """Of what goes in and what comes out."""
    reading, layers = d.reading(system), d.head.target.layers
    for shift in (1, -1):  # ids that name what a layer puts out, or what it takes in
        moved = tuple(boundary + shift for boundary in reading.capture.value)
        if min(moved) >= 0 and (layers is None or max(moved) <= layers):
            yield Wiring(capture=moved)
    yield from (Wiring(mask=token) for token in masks if token != d.mask and token < d.anatomy.vocabulary)
    yield Wiring(slots="the place behind them" if reading.slots.value == FILL_IN else "their own place")


def _inside(d: BlockDeclaration, system: System | None) -> Iterator[Wiring]:
    """Of the layers."""
    reading = d.reading(system)
    if not all(reading.causal.value):
        yield Wiring(seen="causal")
    if any(reading.causal.value):
        yield Wiring(seen="both ways")
    if any(reading.windows.value):
        yield Wiring(window="dropped")
    elif configured_window(d) is not None:
        yield Wiring(window="configured")
    yield Wiring(rotation="halves" if reading.rotation.value == "pairs" else "pairs")
    ropes = other_ropes(d, system)
    yield from (Wiring(rope=name) for name in ROPES if name in ropes)


def _norms(d: BlockDeclaration) -> Iterator[Wiring]:
    """The number beside the mean square that the target's norms have, and the one of the class that trains such drafters."""
    of_target = d.head.target.config.get("rms_norm_eps")
    told = (of_target,) if isinstance(of_target, float) and EPS[0] <= of_target <= EPS[1] else ()
    yield from (Wiring(eps=eps) for eps in dict.fromkeys((*told, QWEN3_EPS)) if eps != d.eps)


def _bias(d: BlockDeclaration) -> Iterator[Wiring]:
    """Scores without their bias by the token before, which an export may have left as it was drawn; a selector cannot be left out."""
    if d.anatomy.rank and not d.candidates:
        yield Wiring(bias="left out")


def configured_window(d: BlockDeclaration) -> int | None:
    """The window that a config names anywhere, None for none."""
    for value in (d.head.own.get("swa_window_size"), d.head.layers.get("sliding_window")):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def other_ropes(d: BlockDeclaration, system: System | None) -> dict[str, LlamaConfig]:
    """The target's rotation and the plain ones with the bases that classes take where a config has none, 10000 in transformers and 1000000
    in vLLM, where they are others than the drafter's and fit its heads.
    """
    own, target = d.reading(system).rope.value, d.head.target
    asked: dict[RopeName, Rope] = {name: {"rope_type": "default", "rope_theta": base} for name, base in BASES.items()}
    if target.config:
        asked["target's"] = rope_settings(target.config, target.name)
    found: dict[str, LlamaConfig] = {}
    for name, settings in asked.items():
        if settings == own or (name in BASES and settings == asked.get("target's")):
            continue
        try:
            found[name] = rope_config(settings, d.anatomy.size, d.positions, None, d.head.record.where)
        except FormatError:  # a rotation that these heads cannot make is none that they were trained with
            continue
    return found
