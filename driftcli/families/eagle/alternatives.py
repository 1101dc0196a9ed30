"""What a head's files leave open: the wirings, of one change each, that its weights may have been trained with instead.

Only what can be put together with this target is listed, and nothing that comes to the same as the declared wiring.
"""

from __future__ import annotations

from collections.abc import Iterator

from transformers import LlamaConfig

from driftcli.conditions import Feedback, Norm, Wiring
from driftcli.errors import FormatError
from driftcli.families.eagle.declaration import Declaration
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.readings import Reading
from driftcli.families.rope import DEFAULT_THETA, Rope, rope_settings
from driftcli.families.rope_config import rope_config

OTHER: dict[Feedback, Feedback] = {"raw": "normed", "normed": "raw"}
NORMS: tuple[Norm, ...] = ("embedding", "hidden", "fusion", "mlp", "final", "every")


def alternatives(declaration: Declaration, drafter: Eagle3 | Eagle) -> tuple[Wiring, ...]:
    """Every one-change wiring of a loaded head; the orders of its streams are left out."""
    found = [Wiring(capture=capture) for capture in _captures(declaration, drafter.boundaries)]
    found += [Wiring(rope=name) for name in ("target's", "default") if name in drafter.others.ropes]
    found += [Wiring(embedding=name) for name in ("own", "target's") if name in drafter.others.embeddings]
    return (*found, *(_of_eagle3(drafter) if isinstance(drafter, Eagle3) else ()))


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


def _of_eagle3(drafter: Eagle3) -> Iterator[Wiring]:
    yield Wiring(feedback=OTHER[drafter.feedback])
    yield Wiring(residual=OTHER[drafter.residual])
    has_fusion_norms = drafter.fusion.joint_norm is not None or bool(drafter.fusion.stream_norms)
    yield from (Wiring(ones=norm) for norm in NORMS if norm != "fusion" or has_fusion_norms)
    yield from (Wiring(vocabulary=name) for name in ("offset", "absolute") if name in drafter.others.vocabularies)
    if not drafter.shared_head and drafter.others.target_head is not None:
        yield Wiring(head="target's")


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
