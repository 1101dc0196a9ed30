"""What a head's files leave open: the wirings, of one change each, that its weights may have been trained with instead.

Only what can be put together with this target is listed, and nothing that comes to the same as the declared wiring.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from transformers import LlamaConfig

from driftcli.conditions import Feedback, Norm, Wiring
from driftcli.domain import System
from driftcli.errors import FormatError
from driftcli.families.eagle.declaration import Declaration
from driftcli.families.eagle.readings import Reading
from driftcli.families.rope import DEFAULT_THETA, Rope, rope_settings
from driftcli.families.rope_config import rope_config
from driftcli.families.vocab_map import sound_maps

OTHER: dict[Feedback, Feedback] = {"raw": "normed", "normed": "raw"}
NORMS: tuple[Norm, ...] = ("embedding", "hidden", "fusion", "mlp", "final", "every")


def alternatives(
    declaration: Declaration, system: System | None = None, embeddings: Collection[str] | None = None, masks: Sequence[int] = ()
) -> tuple[Wiring, ...]:
    """Every one-change wiring of a head in a system's reading; the orders of its streams are left out.

    embeddings: those whose rows are others than the ones it reads by; None before a weight is read, when all are taken to be. masks: the
    target's tokens that the mask of P-EAGLE may have been instead.
    """
    reading = declaration.reading(system)
    boundaries, rows = reading.capture.value, _embeddings(declaration, reading) if embeddings is None else embeddings
    assert not isinstance(boundaries, str), "the target is named, so its layers are known"
    found = [Wiring(capture=capture) for capture in _captures(declaration, boundaries)]
    ropes = other_ropes(declaration, reading)
    found += [Wiring(rope=name) for name in ("target's", "default") if name in ropes]
    found += [Wiring(embedding=name) for name in ("own", "target's") if name in rows]
    if declaration.mask is not None:
        found += [Wiring(mask=token) for token in masks if token != declaration.mask and token < declaration.anatomy.vocabulary]
    return (*found, *(_of_eagle3(declaration, reading) if declaration.anatomy.family == "eagle3" else ()))


def _embeddings(declaration: Declaration, reading: Reading) -> set[str]:
    """Whose rows could stand in the place of those that a head reads by."""
    own = "embed_tokens.weight" in declaration.anatomy.names
    alike = (declaration.anatomy.vocabulary, declaration.anatomy.width) == (
        declaration.head.target.vocabulary,
        declaration.head.target.width,
    )
    if not own or not alike:
        return set()
    return {"own"} if reading.embedding.value == "target's" else {"target's"}


def _captures(declaration: Declaration, own: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Boundaries one layer earlier and later, those that some system reads, and the engines' default ones."""
    layers = declaration.head.target.layers
    assert layers is not None, "the target is loaded"
    asked = [reading.capture.value for reading in declaration.readings.values() if isinstance(reading, Reading)]
    usual = (2, layers // 2, layers - 3)
    shifted = [tuple(boundary + by for boundary in own) for by in (-1, 1)]
    if own == (layers + 1,):
        shifted = [(layers,), (layers - 1,)]
    found = dict.fromkeys([*shifted, *(one for one in asked if not isinstance(one, str)), *([usual] if len(own) == len(usual) else [])])
    return [one for one in found if one != own and len(set(one)) == len(own) and min(one) >= 0 and max(one) <= layers]


def _of_eagle3(declaration: Declaration, reading: Reading) -> Iterator[Wiring]:
    if not declaration.anatomy.parallel:
        yield Wiring(feedback=OTHER[reading.feedback.value])
    yield Wiring(residual=OTHER[reading.residual.value])
    has_fusion_norms = reading.pre_fc_norm.value != "none"
    yield from (Wiring(ones=norm) for norm in NORMS if norm != "fusion" or has_fusion_norms)
    maps = other_maps(declaration)
    yield from (Wiring(vocabulary=name) for name in ("offset", "absolute") if name in maps)
    if not shares_head(declaration) and declaration.head.target.width == declaration.anatomy.width:
        yield Wiring(head="target's")


def shares_head(declaration: Declaration) -> bool:
    """Whether a head's output rows are the target's: it has none of its own, and its config ties no embedding of its own to them."""
    tied = declaration.head.layers.is_on("tie_word_embeddings") and "embed_tokens.weight" in declaration.anatomy.names
    return "lm_head.weight" not in declaration.anatomy.names and not tied


def other_maps(declaration: Declaration) -> dict[str, np.ndarray]:
    """Target id of each draft id under the other readings of `d2t` that are sound."""
    anatomy = declaration.anatomy
    maps = sound_maps(declaration.checkpoint, anatomy.draft_vocabulary, anatomy.vocabulary)
    return {name: ids for name, ids in maps.items() if not np.array_equal(ids, declaration.to_target)}


def other_ropes(declaration: Declaration, reading: Reading) -> dict[str, LlamaConfig]:
    """The target's own rotation, and the classes' default one, where they differ from the head's and suit its heads."""
    mine, target = reading.rope.value, declaration.head.target
    default: Rope = {"rope_type": "default", "rope_theta": DEFAULT_THETA}
    found: dict[str, LlamaConfig] = {}
    seen = [mine]
    for name, settings in (("target's", _of_target(declaration)), ("default", default)):
        if settings is None or settings in seen:
            continue
        seen.append(settings)
        try:
            found[name] = rope_config(settings, declaration.anatomy.heads.rotated, declaration.positions, None, target.name)
        except FormatError:  # a rotation that these heads cannot make is none that they were trained with
            continue
    return found


def _of_target(declaration: Declaration) -> Rope | None:
    """The target's rotation; None for one that turns only part of a head, or another one a layer."""
    config, where = declaration.head.target.config, declaration.head.target.name
    parameters = config.get("rope_parameters")
    try:
        settings = rope_settings(config, where)
    except FormatError:
        return None
    partial = settings.pop("partial_rotary_factor", config.get("partial_rotary_factor"))
    by_layer = isinstance(parameters, dict) and any(isinstance(value, dict) for value in parameters.values())
    return None if by_layer or partial not in (None, 1, 1.0) else settings
