"""What the switches of a reading are called before people, and how a value of one is written."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.conditions import worded
from driftcli.domain import SYSTEM_NAMES, TRAINED, PairCard, Sourced

SWITCHES = {
    "capture": "captured boundaries",
    "pre_fc_norm": "norm before fc",
    "hidden_norms": "norms on the state",
    "residual": "residual",
    "deeper_norm": "norm of deeper layers",
    "biases": "attention biases",
    "fusion_bias": "bias of fc",
    "embedding": "embedding",
    "windows": "window by layer",
    "window_from": "window counted from",
    "rope": "RoPE",
    "logits_from": "state read by lm_head",
    "feedback": "state fed back",
    "first_row": "embedding of row 0",
    "rotation": "numbers turned together",
    "modules": "modules",
    "causal": "attention in a block",
    "rows": "rows of a block",
    "scales": "scales",
    "slots": "rows of a block guess",
    "rows_of": "embedding and head",
    "position": "position of a chain's queries",
    "softcap": "bound on scores",
}


def written(value: object) -> str:
    """A field's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not said" if value is None else worded(value)


def disagreements(pair: PairCard) -> list[str]:
    """One line a system that would compute the drafter otherwise than this run did, or that cannot run it."""
    return [_line(SYSTEM_NAMES[system], fields) for system, fields in pair.readings.items()]


def _line(system: str, fields: Mapping[str, Sourced]) -> str:
    if "refused" in fields:
        return f"{system}: {'cannot be run here' if system == TRAINED else 'cannot run this drafter'}: {fields['refused'].value}"
    return f"{system}: otherwise: " + "; ".join(f"{SWITCHES[name]} {written(field.value)}" for name, field in fields.items())
