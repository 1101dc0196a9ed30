"""What can be done about a finding by training the head alone, and what of it suits a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.mtp.head import Mtp
from driftcli.mitigations.treatment import CALLED_FOR_BY, NAMES, OF_EAGLE3, Treatment


def unsuited(treatment: Treatment, drafter: Eagle3 | Mtp) -> str:
    """Why a treatment can do nothing for a head, empty where it can."""
    if treatment not in OF_EAGLE3:
        return ""
    return PUT_IN[treatment](drafter) if isinstance(drafter, Eagle3) else "it is for EAGLE-3 heads, and this is an MTP head"


def _no_vocabulary(drafter: Eagle3) -> str:
    every = len(drafter.vocabulary.to_target) == len(drafter.vocabulary.to_draft)
    return "it can propose every token of the target" if every else ""


def _no_norm_output(drafter: Eagle3) -> str:
    if drafter.feedback == "normed":
        return "it feeds back its normed state"
    if drafter.residual == "normed":
        return "it norms its state before the residual, so the size of what it feeds back changes nothing"
    return "its output head reads the raw state" if drafter.logits_from == "raw" else ""


def _no_fc_norm(drafter: Eagle3) -> str:
    return "it has norms in front of fc" if drafter.fusion.stream_norms or drafter.fusion.joint_norm is not None else ""


def _no_window(drafter: Eagle3) -> str:
    return "its attention has a window already" if any(layer.window is not None for layer in drafter.layers) else ""


PUT_IN: dict[Treatment, Callable[[Eagle3], str]] = {  # treatments that add to an EAGLE-3 head, and why one can have no more of it
    "vocabulary": _no_vocabulary,
    "norm-output": _no_norm_output,
    "fc-norm": _no_fc_norm,
    "window": _no_window,
}


def chosen(asked: Sequence[Treatment], codes: frozenset[str], drafter: Eagle3 | Mtp) -> tuple[Treatment, ...]:
    """The treatments that are asked for, else those that findings call for and that suit the head.

    Raises UsageError for one that is asked for and cannot do anything, and where nothing calls for any.
    """
    for treatment in asked:
        if why := unsuited(treatment, drafter):
            raise UsageError(f"--treatment {treatment}: {why}; leave it out")
    if asked:
        return tuple(dict.fromkeys(asked))
    found = tuple(name for name, calling in CALLED_FOR_BY.items() if not codes.isdisjoint(calling) and not unsuited(name, drafter))
    if not found:
        raise UsageError(
            f"the run has no finding that training of the head alone mends ({', '.join(sorted(codes)) or 'none at all'}); to train it all "
            f"the same name --treatment {', '.join(NAMES)}"
        )
    return found
