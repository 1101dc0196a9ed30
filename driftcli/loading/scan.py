"""What can be said of a drafter's checkpoint without running it: headers, small integer tensors and the target's config; torch is not
needed.
"""

from __future__ import annotations

from driftcli.families.causal_lm.scan import scan_causal_lm
from driftcli.families.eagle.scan import scan_eagle
from driftcli.families.formats import detect
from driftcli.scanned import Scan
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import resolve
from driftcli.target.facts import NO_TARGET, read_facts


def scan_checkpoint(drafter: str, target: str | None) -> Scan:
    """The scan of a drafter by name; raises the same refusals as loading it, as far as config and headers tell."""
    checkpoint = open_checkpoint(resolve(drafter))
    format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
    facts = NO_TARGET if target is None else read_facts(resolve(target))
    return (scan_causal_lm if format.family == "causal-lm" else scan_eagle)(checkpoint, format, facts)
