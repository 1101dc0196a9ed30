"""Draft ids to target ids from `d2t` and `t2d`.

`d2t` holds offsets: draft id `i` means target id `i + d2t[i]`. Some exports hold the target ids themselves; servers add them all the same,
so that reading is taken only where the offsets are impossible and `t2d`, or ids that only ever grow, prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.loading.record import Record


def target_ids(tensors: Mapping[str, Tensor], draft_vocabulary: int, vocabulary: int, record: Record) -> Tensor:
    """Target id of each draft id; raises FormatError where `d2t` is no sound map or stands against `t2d`."""
    ids = torch.arange(draft_vocabulary)
    if "d2t" not in tensors:
        record.note("vocab_map", "none", "tensor")
        return ids
    d2t = tensors["d2t"]
    if d2t.is_floating_point() or d2t.is_complex() or d2t.dtype == torch.bool:
        raise FormatError(
            f"{record.where}: d2t is stored as {d2t.dtype}, expected whole numbers (a cast to a float type destroys ids); export it again"
        )
    offset, absolute = ids + d2t.long(), d2t.long()
    kind = _kind(offset, absolute, tensors.get("t2d"), vocabulary)
    if kind == "broken":
        raise FormatError(
            f"{record.where}: d2t maps outside the target's {vocabulary} tokens, twice to one, or against t2d, "
            "expected offsets; export it again"
        )
    record.note("vocab_map", kind, "tensor")
    return offset if kind == "offset" else absolute


def _kind(offset: Tensor, absolute: Tensor, t2d: Tensor | None, vocabulary: int) -> str:
    def sound(ids: Tensor) -> bool:
        inside = bool((ids >= 0).all() and (ids < vocabulary).all())
        return inside and len(torch.unique(ids)) == len(ids) and (t2d is None or bool(t2d.bool()[ids].all()))

    if sound(offset):
        return "offset"
    proven = t2d is not None or all(a < b for a, b in pairwise(absolute.tolist()))
    return "absolute" if proven and sound(absolute) else "broken"
