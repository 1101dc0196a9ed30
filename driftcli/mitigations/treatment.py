"""What `driftcli heal` can do for a head, by name, and the findings that call for it."""

from __future__ import annotations

from typing import Literal, get_args

Treatment = Literal[
    "vocabulary", "norm-output", "fc-norm", "window", "unroll", "templates", "contexts", "domain"
]  # in the order of their doing
NAMES: tuple[Treatment, ...] = get_args(Treatment)

SELF_FED = ("DRIFT-STATE", "DRIFT-ATTENTION", "DEPTH-COLLAPSE", "EXPOSURE-GAP")  # findings of chains that feed on their own state
CALLED_FOR_BY: dict[Treatment, tuple[str, ...]] = {
    "vocabulary": ("VOCAB-COVERAGE",),
    "norm-output": SELF_FED,
    "fc-norm": ("STREAM-IMBALANCE",),
    "window": ("DRIFT-LONGCTX",),
    "unroll": SELF_FED,
    "templates": ("TEMPLATE-SENSITIVE",),
    "contexts": ("DRIFT-LONGCTX", "LENGTH-LOSS"),
    "domain": ("DOMAIN-SHIFT",),
}
OF_EAGLE3: tuple[Treatment, ...] = ("vocabulary", "norm-output", "fc-norm", "window")  # what an MTP head has no place for
OTHER_TEXTS: dict[Treatment, tuple[str, ...]] = {  # probes whose texts are learned from besides, and that tell what it gave
    "templates": ("template", "system-prompt"),
    "contexts": ("context-length",),
    "window": ("context-length",),
}
