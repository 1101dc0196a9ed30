"""What the files of an MTP head leave open: the wirings, of one change each, by which engines differ or that its export may have lost."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import LlamaConfig

from driftcli.conditions import Turned, Wiring
from driftcli.errors import FormatError
from driftcli.families.mtp.declaration import Module, MtpDeclaration
from driftcli.families.mtp.head import Mtp, MtpModules
from driftcli.families.rope_config import rope_config

SHARES: dict[Turned, float] = {"all": 1.0, "half": 0.5, "quarter": 0.25}


def alternatives(d: MtpDeclaration, drafter: Mtp | MtpModules) -> tuple[Wiring, ...]:
    """Every one-change wiring of a loaded head."""
    return tuple(_open(d, drafter.modules[0] if isinstance(drafter, MtpModules) else drafter))


def _open(d: MtpDeclaration, head: Mtp) -> Iterator[Wiring]:
    yield Wiring(capture=(d.layers if head.boundary == d.layers + 1 else d.layers + 1,))
    if head.final_gain is not None:
        yield Wiring(feedback="raw" if head.feedback == "normed" else "normed")
    yield Wiring(order="hidden-first" if head.order == "embedding-first" else "embedding-first")
    yield Wiring(gains="weight" if head.one_plus else "one-plus")
    yield Wiring(first_row="kept" if head.blanks_first else "zeroed")
    if head.rope_config is not None:
        yield Wiring(rotation="halves" if head.layer.attention.paired else "pairs")
        yield from (Wiring(turned=name) for name in SHARES if name in head.others.ropes)


def other_turnings(d: MtpDeclaration, module: Module) -> dict[str, LlamaConfig]:
    """The same rotation of another share of each head, where heads are not latent ones."""
    settings, numbers = module.turning
    if settings is None or module.sizes.latent:
        return {}
    found: dict[str, LlamaConfig] = {}
    for name, share in SHARES.items():
        turned = int(module.sizes.size * share)
        if turned == numbers or turned % 2 or not turned:
            continue
        try:
            found[name] = rope_config(settings, turned, d.positions, None, d.checkpoint.source.name)
        except FormatError:  # a rotation that so many numbers cannot make is none that the head was trained with
            continue
    return found
