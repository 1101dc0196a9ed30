"""A head treated and trained on what its target says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from driftcli.errors import RunError, UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.mtp.head import Mtp
from driftcli.healing.head import TrainedDrafter, units
from driftcli.healing.losses import AcceptanceLoss
from driftcli.healing.places import HeadFiles
from driftcli.healing.retrofit import first_guesses, normed_feedback, normed_streams, state_size, stream_sizes
from driftcli.healing.vocabulary import lacking, with_tokens
from driftcli.healing.weights import weights
from driftcli.healing.window import Window, windowed
from driftcli.mitigations.treatment import Treatment
from driftcli.sources.files import Json
from driftcli.target.language_model import LanguageModel
from driftcli.training.learning import Plan, Run, chosen_precision, optimiser_of, train
from driftcli.training.losses import TargetHead
from driftcli.training.streams import Streams

MOST_SCORED, FREQUENT = 8192, 4096  # tokens of a vocabulary that a loss is over; of a larger one the frequent ones, and some drawn
PATIENCE = 0.5  # of the steps, after which a head that gets no better is given up: with the falling rate goes the noise (chosen by us)
ALIKE = 0.999  # of first guesses where a treatment is to leave them as they are; the others are ties that rounding breaks (chosen by us)
RATE = 0.128  # peak learning rate of a head of width 1; of wider ones in inverse proportion
SETTINGS: dict[Treatment, dict[str, Json]] = {"norm-output": {"norm_output": True}, "fc-norm": {"fc_norm": True}}


@dataclass(frozen=True)
class Course:
    """How a head is trained: draft tokens of a chain, peak rate, share of accepted tokens in the loss, padded tokens a batch, minutes.

    treatments: what was put in before. apart: conversations by which the best head is told and that are not trained on; some others where
    there are none. again: those that are trained on that often besides.
    """

    unroll: int
    rate: float
    acceptance: float
    tokens: int
    seed: int
    minutes: float
    treatments: tuple[Treatment, ...] = ()
    apart: range = range(0)
    again: Sequence[int] = ()


def treated(
    drafter: Eagle3 | Mtp, treatments: Sequence[Treatment], data: Streams, target: LanguageModel, window: Window | None = None
) -> tuple[Eagle3 | Mtp, dict[str, Json]]:
    """The head with what treatments put in before training, and what is to be known of it. window: to be put in, None for none.

    Raises RunError where a first guess changes that should not, and UsageError where there is nothing to put in.
    """
    facts: dict[str, Json] = {}
    made = drafter
    if "vocabulary" in treatments:
        assert isinstance(made, Eagle3)
        added = lacking(made, data)
        if not len(added):
            raise UsageError("--treatment vocabulary: the replies hold no token that the head lacks; leave it out, or bring --replies")
        made = with_tokens(made, added, target.head)
        facts |= {"draft_tokens_added": len(added)}
    if "norm-output" in treatments:
        assert isinstance(made, Eagle3)
        before, made = made, normed_feedback(made, size := state_size(made, data))
        facts |= {"state_size": size, "first_guesses_unchanged": _unchanged(before, made, data)}
    if "fc-norm" in treatments:
        assert isinstance(made, Eagle3)
        sizes = stream_sizes(made, data)
        before, made = made, normed_streams(made, sizes)
        alike = (first_guesses(before, data) == first_guesses(made, data)).float().mean()
        facts |= {"stream_sizes": list(sizes), "first_guesses_unchanged_by_fc_norm": float(alike)}
    if window is not None:
        assert isinstance(made, Eagle3)
        made = windowed(made, window.rows)
        facts |= window.facts()
    return made, facts


def _unchanged(before: Eagle3 | Mtp, after: Eagle3 | Mtp, data: Streams) -> float:
    share = float((first_guesses(before, data) == first_guesses(after, data)).float().mean())
    if not share >= ALIKE:
        raise RunError(
            f"norm-output: only {share:.2%} of the first guesses stay as they were, expected all but ties: the head does not score its "
            "normed state as it was taken to; train it without (--treatment unroll)"
        )
    return share


def usual_rate(drafter: Eagle3 | Mtp) -> float:
    """The peak learning rate of a head of this width where nobody names one: a step of Adam changes what a matrix makes of its input by as
    much as its rows are long (arXiv:2203.03466). At a width of 4,096 it is 3e-5; EAGLE-3 was trained at 5e-5 (arXiv:2503.01840).
    At widths of 128 and 576 no other rate that was tried did better.
    """
    return RATE / drafter.head.shape[1]


def places_to_train(drafter: Eagle3 | Mtp, files: HeadFiles) -> list[str]:
    """The weights that are trained: all that have, or get, a tensor in the files, but for embeddings and an MTP head's output head."""
    if isinstance(drafter, Mtp):
        return [place for place in files.names if place not in ("embedding", "head")]
    norms = [f"fusion.stream_norms.{number}" for number in range(len(drafter.fusion.stream_norms))]
    known = {*files.names, *norms, *([] if drafter.shared_head else ["head"])} - {"embedding"}
    return [place for place in weights(drafter) if place in known]


def _through_window(drafter: Eagle3 | Mtp) -> str:
    """The window that a head is trained with, in words; nothing of one without."""
    rows = drafter.layers[0].window
    return "" if rows is None else f", window {rows}"


def trained(
    drafter: Eagle3 | Mtp, before: Eagle3 | Mtp, files: HeadFiles, data: Streams, target: LanguageModel, course: Course, out: Path
) -> tuple[Eagle3 | Mtp, dict[str, Json]]:
    """The head after training in `out`, where a killed attempt goes on, and what is to be known of it; at a rate of 0 as it is.

    before: the head that treatments made it from.
    """
    if not course.rate:
        return drafter, {"steps": 0}
    torch.manual_seed(course.seed)
    head = TrainedDrafter(drafter, places_to_train(drafter, files), data.boundaries, units(before, drafter))
    ids = drafter.vocabulary.to_target if isinstance(drafter, Eagle3) else None
    scored = len(target.head) if ids is None else len(ids)
    frequent = data.frequent(FREQUENT, scored) if ids is None and scored > MOST_SCORED else None
    precision = chosen_precision(target.device)
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        "healed", course.unroll, 0, 1, course.tokens, course.rate, course.seed, scored, precision, data.held,
        f"{files.source.name}, {', '.join(course.treatments)}{_through_window(drafter)}, acceptance {course.acceptance:g}", course.minutes,
    )  # fmt: skip
    run = Run(head, optimiser_of(head, course.rate), out, plan, patience=PATIENCE)
    run.restore()
    train(run, data, target, TargetHead.of(target, ids, precision), AcceptanceLoss(course.acceptance), frequent, course.apart, course.again)
    made = head.drafter()
    assert isinstance(made, Eagle3 | Mtp)
    best = run.best
    assert best is not None
    return made, {"steps": run.step, "best_step": best.step, "tensors": len(head.own)}
