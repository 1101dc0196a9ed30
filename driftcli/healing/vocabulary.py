"""More tokens that an EAGLE-3 head can propose: those that the target said and the head lacks, with the target's rows of the output head.

Heads begin with rows of the target's head in every trainer that is known here. So a new row is the target's, each of its numbers times
what fits the rows that both have best (least squares): exact for rows that are the target's behind other gains, close to nothing for a
head that has gone its own way, which training then fills. What is proposed at first may change: the new tokens compete with the old ones.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.healing.mended import with_offsets
from driftcli.healing.places import HeadFiles
from driftcli.training.streams import Streams

GROWTH = 0.25  # of a draft vocabulary at most: every row is read at every step (chosen by us)


def lacking(drafter: Eagle3, data: Streams) -> Tensor:
    """Target ids in the replies that the head cannot propose, the most frequent first, so many as it may grow by."""
    known = drafter.vocabulary.to_draft.cpu() >= 0
    counts = data.counts(len(known)).masked_fill(known, 0)
    order = counts.argsort(descending=True, stable=True)[: int(GROWTH * len(drafter.vocabulary.to_target))]
    return order[counts[order] > 0]


def with_tokens(drafter: Eagle3, ids: Tensor, target_head: Tensor) -> Eagle3:
    """The head that can propose these target ids too; draft ids in the order of target ids. target_head: (target id, width)."""
    old = drafter.vocabulary.to_target
    together, order = torch.cat([old, ids.to(old)]).sort()
    rows = torch.cat([drafter.head, _rows(drafter, ids, target_head)])[order]
    return replace(drafter, vocabulary=DraftVocabulary.of(together, len(drafter.vocabulary.to_draft)), head=rows)


def _rows(drafter: Eagle3, ids: Tensor, target_head: Tensor) -> Tensor:
    new, theirs = (target_head[some.to(target_head.device)].to(drafter.head) for some in (ids, drafter.vocabulary.to_target))
    if drafter.shared_head:
        return new
    own, theirs = drafter.head.float(), theirs.float()
    fitting = (own * theirs).sum(0) / theirs.square().sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    return (new.float() * fitting).to(drafter.head)


def with_map_of(files: HeadFiles, drafter: Eagle3) -> HeadFiles:
    """The files with the drafter's map in both directions, and its size in the config."""
    made = with_offsets(files, drafter.vocabulary.to_target)
    config = {**made.config, "draft_vocab_size": len(drafter.vocabulary.to_target)}
    if "t2d" not in made.tensors:
        return replace(made, config=config)
    proposed = (drafter.vocabulary.to_draft >= 0).cpu().to(made.tensors["t2d"].dtype)
    return replace(made, config=config, tensors={**made.tensors, "t2d": proposed})
