"""Draft ids to target ids from `d2t` and `t2d`.

`d2t` holds offsets: draft id `i` means target id `i + d2t[i]`. Some exports hold the target ids themselves; servers add them all the same,
so that reading is taken only where the offsets are impossible and `t2d`, or ids that only ever grow, prove it. A `d2t` of zeros alone is
lost; where `t2d` marks as many tokens as there are draft ids, these are its tokens in order, as every trainer writes the two.
"""

from __future__ import annotations

import numpy as np

from driftcli.errors import FormatError
from driftcli.families.map_kinds import ABSOLUTE, MARKED, OFFSET, ZEROS
from driftcli.families.record import Record
from driftcli.sources.checkpoint import WHOLE_NUMBERS, Checkpoint


def target_ids(checkpoint: Checkpoint, draft_vocabulary: int, vocabulary: int, record: Record) -> np.ndarray:
    """Target id of each draft id; raises FormatError where `d2t` is no sound map or stands against `t2d`."""
    if "d2t" not in checkpoint.tensors:
        record.note("vocab_map", "none", "tensor")
        return np.arange(draft_vocabulary, dtype=np.int64)
    sound = sound_maps(checkpoint, draft_vocabulary, vocabulary)
    absolute = sound.get(ABSOLUTE)
    proven = "t2d" in checkpoint.tensors or (absolute is not None and bool((absolute[1:] > absolute[:-1]).all()))
    kind = next((name for name in (OFFSET, ABSOLUTE, MARKED) if name in sound and (name != ABSOLUTE or proven)), None)
    if kind is None:
        lost = "" if _numbers(checkpoint, "d2t", WHOLE_NUMBERS).any() else "holds zeros alone and "
        raise FormatError(
            f"{record.where}: d2t {lost}maps outside the target's {vocabulary} tokens, twice to one, or against t2d, "
            "expected offsets; export it again"
        )
    first = kind == OFFSET and draft_vocabulary < vocabulary and bool((sound[kind] == np.arange(draft_vocabulary)).all())
    record.note("vocab_map", ZEROS if first else kind, "tensor")
    return sound[kind]


def sound_maps(checkpoint: Checkpoint, draft_vocabulary: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Target id of each draft id under each reading of `d2t` that stays in the vocabulary, hits no token twice and agrees with `t2d`; that
    of `t2d` alone where `d2t` holds zeros.
    """
    if "d2t" not in checkpoint.tensors:
        return {}
    stored, t2d = _numbers(checkpoint, "d2t", WHOLE_NUMBERS).astype(np.int64), None
    if "t2d" in checkpoint.tensors:
        t2d = _numbers(checkpoint, "t2d", (*WHOLE_NUMBERS, "BOOL")).astype(bool)
    maps = {OFFSET: np.arange(draft_vocabulary, dtype=np.int64) + stored, ABSOLUTE: stored}
    if t2d is not None and not stored.any() and np.count_nonzero(t2d) == draft_vocabulary:
        maps[MARKED] = np.flatnonzero(t2d)
    return {name: ids for name, ids in maps.items() if _is_sound(ids, t2d, vocabulary)}


def _numbers(checkpoint: Checkpoint, name: str, dtypes: tuple[str, ...]) -> np.ndarray:
    if (dtype := checkpoint.tensors[name].dtype) not in dtypes:
        raise FormatError(
            f"{checkpoint.source.name}: {name} is stored as {dtype}, expected whole numbers (a cast to a float type destroys ids); "
            "export it again"
        )
    return checkpoint.numbers(name)


def _is_sound(ids: np.ndarray, t2d: np.ndarray | None, vocabulary: int) -> bool:
    inside = bool((ids >= 0).all() and (ids < vocabulary).all())
    return inside and len(np.unique(ids)) == len(ids) and (t2d is None or bool(t2d[ids].all()))
