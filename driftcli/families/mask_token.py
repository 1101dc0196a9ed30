"""The token that parallel drafters read in the place of those to be guessed, as a config names it."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.conditions import Wiring
from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.families.record import Record
from driftcli.sources.checkpoint import Checkpoint

MASK_KEYS = ("mask_token_id", "dspark_noise_token_id", "pard_token", "ptd_token_id")  # in the order in which vLLM looks


def mask_token(places: Sequence[Record], vocabulary: int) -> int:
    """The token, noted as `mask_token`; of each key the first of some places of one config counts. Raises FormatError where none names it,
    or where it is none of so many.
    """
    named = ((place, key) for key in MASK_KEYS for place in places if place.config.get(key) is not None)
    place, key = next(named, (places[0], ""))
    if not key:
        raise FormatError(f"{place.where}/config.json: mask_token_id is missing, and no class has a safe default; add it as in training")
    value = place.config[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocabulary:
        raise place.wrong(key, value, f"a token of the target's {vocabulary}")
    place.note("mask_token", value, f"config:{place.inside}{key}")
    return value


def parallel_mask(checkpoint: Checkpoint, rows: int) -> tuple[int, dict[str, Sourced]]:
    """The mask of a language model that drafts in parallel, one of so many tokens, and its field in the record."""
    record = Record(checkpoint.source.name, checkpoint.config)
    return mask_token((record,), rows), record.fields


def other_masks(mask: int, tokens: Sequence[int]) -> tuple[Wiring, ...]:
    """The tokens that a mask may have been instead, as wirings."""
    return tuple(Wiring(mask=token) for token in tokens if token != mask)
