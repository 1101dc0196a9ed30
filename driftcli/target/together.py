"""Which texts are computed side by side: formed from the texts alone, so that a run that is resumed forms the same batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

ON_CPU, ELSEWHERE = 1 << 11, 1 << 14  # tokens, those that fill up shorter texts included (chosen by us)
SCORES_ON_CPU, SCORES_ELSEWHERE = 1 << 26, 1 << 30  # numbers that may be there at once, of a vocabulary's width or kept (chosen by us)

AT_ONCE_ON_CPU, AT_ONCE_ELSEWHERE = 1 << 20, 1 << 27  # of these, numbers that are computed with at once (chosen by us)


def room(device: torch.device, vocabulary: int, kept: int = 0) -> int:
    """Tokens that are computed side by side on a device, by models with so large a vocabulary. kept: numbers that are kept of each."""
    tokens, scores = (ON_CPU, SCORES_ON_CPU) if device.type == "cpu" else (ELSEWHERE, SCORES_ELSEWHERE)
    return max(1, min(tokens, scores // max(vocabulary, kept)))


def at_once(device: torch.device) -> int:
    """Numbers of a vocabulary's width that are computed with at once on a device; on a CPU they should not leave its cache by far."""
    return AT_ONCE_ON_CPU if device.type == "cpu" else AT_ONCE_ELSEWHERE


def together(lengths: Sequence[int], room: int) -> list[slice]:
    """Texts that are computed side by side, each run of them in their order: filled up to their longest they have `room` tokens at most,
    or one is alone.
    """
    runs, start, longest = list[slice](), 0, 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if place > start and longest * (place + 1 - start) > room:
            runs.append(slice(start, place))
            start, longest = place, length
    return [*runs, slice(start, len(lengths))] if lengths else []
