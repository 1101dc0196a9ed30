"""What the files of an MTP head leave open: the wirings, of one change each, by which engines differ or that its export may have lost."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import LlamaConfig

from driftcli.conditions import Turned, Wiring
from driftcli.domain import System
from driftcli.errors import FormatError
from driftcli.families.mtp.declaration import Module, MtpDeclaration
from driftcli.families.rope_config import rope_config

SHARES: dict[Turned, float] = {"all": 1.0, "half": 0.5, "quarter": 0.25}


def alternatives(d: MtpDeclaration, system: System | None = None) -> tuple[Wiring, ...]:
    """Every one-change wiring of a head as a system runs it."""
    return tuple(_open(d, d.modules[0], system))


def _open(d: MtpDeclaration, module: Module, system: System | None) -> Iterator[Wiring]:
    served = d.served(system)
    yield Wiring(capture=(d.layers + (served.handed == "raw"),))
    if "final_norm.weight" in module.parts:
        yield Wiring(feedback="raw" if served.feedback == "normed" else "normed")
    yield Wiring(order="embedding-first" if d.kind.hidden_first else "hidden-first")
    yield Wiring(gains="weight" if d.kind.one_plus else "one-plus")
    yield Wiring(first_row="kept" if served.blanks_first else "zeroed")
    if module.turning.rope is not None:
        yield Wiring(rotation="halves" if d.rotation(system) == "pairs" else "pairs")
        turnings = other_turnings(d, module)
        yield from (Wiring(turned=name) for name in SHARES if name in turnings)


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
