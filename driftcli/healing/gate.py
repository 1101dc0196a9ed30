"""Proof that what is trained is what was measured: with its weights as stored, the trained step drafts the run's own chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch

from driftcli.errors import RunError
from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.healing.unrolled import forced_chains
from driftcli.target.target import Target
from driftcli.traces.parquet import holding
from driftcli.traces.reader import Run
from driftcli.traces.sums import read_table

COLUMNS = ("prompt", "turn", "anchor", "depth", "feed", "drafted")
ALIKE = 0.995  # of the draft tokens at least; ties that rounding breaks are far rarer (chosen by us)


@dataclass(frozen=True)
class RunText:
    """A text of a run, prompt and reply."""

    prompt: str
    turn: int
    ids: Sequence[int]
    prompt_length: int


@torch.no_grad()
def same_guesses(drafter: SelfFeedingDrafter, target: Target, run: Run, texts: Sequence[RunText]) -> float:
    """The share of a run's forced draft tokens on some of its texts that the trained step drafts too; RunError below `ALIKE`."""
    same, total, depth = 0, 0, run.spec.depth
    forced = holding(read_table(run.path / "steps", COLUMNS, run.reference), {"feed": ["forced"]})
    for text, read in zip(texts, target.read_all(texts, drafter.boundaries), strict=True):
        ids, rows = torch.tensor([list(text.ids)], device=drafter.head.device), len(text.ids) - 1 - depth
        streams = {boundary: stream[None] for boundary, stream in read.streams.items()}
        drafted = _drafted(forced, text)
        for step, done in enumerate(forced_chains(drafter, ids, streams, rows, depth), 1):
            guesses = drafter.to_target(drafter.logits(done.output).argmax(-1)).tolist()
            known = [(anchor, token) for (anchor, at), token in drafted.items() if at == step and anchor - 1 < rows]
            same += sum(guesses[anchor - 1] == token for anchor, token in known)
            total += len(known)
    if not total or same / total < ALIKE:
        raise RunError(
            f"{run.path}: only {same} of {total} draft tokens of the run are those of the step that would be trained, expected "
            f"{ALIKE:.1%} of them: training would begin from another head than was measured; diagnose this head again{_otherwise(run)}"
        )
    return same / total


def _otherwise(run: Run) -> str:
    """How to diagnose again, where the run's engine may compute its target otherwise than it is read for training."""
    asked = run.manifest["asked"]
    assert isinstance(asked, Mapping)
    return "" if asked.get("engine") is None else " with --engine transformers, by which the target is read for training"


def _drafted(forced: pa.Table, text: RunText) -> dict[tuple[int, int], int]:
    """The draft tokens of forced chains on a text, by anchor and depth."""
    rows = holding(forced, {"prompt": [text.prompt], "turn": [text.turn]}).to_pylist()
    return {(row["anchor"], row["depth"]): row["drafted"] for row in rows}
