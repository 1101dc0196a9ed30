"""What can be said of a target's MTP head without running it."""

from __future__ import annotations

from driftcli.families.mtp.declaration import MtpDeclaration
from driftcli.scanned import Check, Scan


def scan_mtp(declaration: MtpDeclaration) -> Scan:
    """The scan of the head that a target carries."""
    d, name = declaration, declaration.checkpoint.source.name
    checks = (
        Check("recursion", "note", "feeds its own state back, which was trained for one step alone as far as is published"),
        Check("embedding, head", "ok", "the target's"),
    )
    return Scan(f"{name}, its MTP head", name, d.kind.name, d.record(), {}, checks, ())
