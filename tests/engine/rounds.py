"""Rounds of decoding as others run them: chains step by step from a drafter as a server holds it, and what `generate` of transformers drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from driftcli.engine.serving import ServedDrafter
from driftcli.engine.trajectories import Trajectory


def served_chains(served: ServedDrafter, trajectory: Trajectory, depth: int, places: Sequence[int]) -> Tensor:
    """The chains of some anchors, drafted by one server that reads on from each to the next; (place, depth)."""
    ids, found, rows = trajectory.ids[None], [], 0
    for place in places:
        last = trajectory.prompt_length + place + 1
        end = last - served.token_offset  # rows that hold the tokens up to the anchor's
        streams = {boundary: stream[None, rows:end] for boundary, stream in trajectory.streams.items()}
        chain = [served.read(ids[:, rows + served.token_offset : last], streams)]
        while len(chain) < depth:
            chain.append(served.follow(chain[-1]))
        found.append(torch.cat(chain))
        rows = end
    return torch.stack(found)


def _heard(kind: type, method: str, keep: Callable[[Tensor, Any, Sequence[Any]], None], patch: pytest.MonkeyPatch) -> None:
    """After every call of a generator's method `keep` is given the text so far, what came back and what else was handed in."""
    inner = getattr(kind, method)

    def heard(self: object, input_ids: Tensor, *others: Any, **named: Any) -> Any:
        back = inner(self, input_ids, *others, **named)
        keep(input_ids, back, others)
        return back

    patch.setattr(kind, method, heard)


def kept_by_generate(kind: type, patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rounds of every call of `generate` from here on, by the class that drafts for it: anchor, and how many draft tokens are kept."""
    rounds: list[tuple[int, int]] = []

    def keep(ids: Tensor, _: Any, others: Sequence[Any]) -> None:
        kept = int(others[1])
        rounds.append((ids.shape[1] - 1 - kept - 1, kept))  # it ends one token behind its matches; it began at its last verified token

    _heard(kind, "update_candidate_strategy", keep, patch)
    return rounds


def drafted_by_generate(kind: type, patch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """The rounds of every call of `generate` from here on, by the class that drafts for it: anchor and draft tokens."""
    rounds: list[tuple[int, list[int]]] = []

    def keep(ids: Tensor, back: Any, _: Sequence[Any]) -> None:
        rounds.append((ids.shape[1] - 1, back[0][0, ids.shape[1] :].tolist()))

    _heard(kind, "get_candidates", keep, patch)
    return rounds
