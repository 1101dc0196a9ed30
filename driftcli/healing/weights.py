"""The weights of a drafter by where they stand in it, and a drafter with others in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from torch import Tensor

from driftcli.families.others import Others
from driftcli.families.vocabulary import DraftVocabulary

D = TypeVar("D")
APART = (Others, DraftVocabulary)  # parts of a drafter that no product goes through


def weights(part: object, at: str = "") -> dict[str, Tensor]:
    """Every tensor of a drafter, by its place, such as `layers.0.attention.q.weight`."""
    if isinstance(part, Tensor):
        return {at: part}
    return {name: tensor for place, inner in _inside(part) for name, tensor in weights(inner, f"{at}.{place}" if at else place).items()}


def with_weights(drafter: D, others: Mapping[str, Tensor]) -> D:
    """The drafter with other tensors at some places."""
    return cast(D, _with(drafter, others, ""))


def _inside(part: object) -> Iterator[tuple[str, object]]:
    if isinstance(part, tuple):
        yield from ((str(number), inner) for number, inner in enumerate(part))
    elif is_dataclass(part) and not isinstance(part, APART):
        yield from ((field.name, getattr(part, field.name)) for field in fields(part))


def _with(part: object, others: Mapping[str, Tensor], at: str) -> object:
    if isinstance(part, Tensor):
        return others.get(at, part)
    inside = {place: _with(inner, others, f"{at}.{place}" if at else place) for place, inner in _inside(part)}
    if isinstance(part, tuple):
        return tuple(inside.values())
    changed = {place: inner for place, inner in inside.items() if inner is not getattr(part, place)}
    return replace(part, **changed) if changed else part  # type: ignore[type-var]
