"""What can be said of a drafter's checkpoint without running it: headers, small integer tensors and the target's config; torch is not
needed.
"""

from __future__ import annotations

from dataclasses import replace

from driftcli.families.carried import carried
from driftcli.families.causal_lm.scan import scan_causal_lm
from driftcli.families.eagle.scan import scan_eagle
from driftcli.families.formats import open_drafter
from driftcli.scanned import Check, Scan, Unread
from driftcli.sources.checkpoint import tensor_names
from driftcli.sources.files import resolve
from driftcli.target.facts import NO_TARGET, read_facts


def scan_checkpoint(drafter: str, target: str | None) -> Scan | Unread:
    """The scan of a drafter by name, or what it is where it is not measured; raises the same refusals as loading it, as far as config and
    headers tell.
    """
    opened = open_drafter(resolve(drafter))
    if isinstance(opened, Unread):
        return opened
    checkpoint, format = opened
    source = None if target is None else resolve(target, weights=False)
    facts = NO_TARGET if source is None else read_facts(source)
    found = (scan_causal_lm if format.family == "causal-lm" else scan_eagle)(checkpoint, format, facts)
    heads = () if source is None else carried(tensor_names(source))
    return replace(found, checks=(*found.checks, *(Check("target", "note", f"the target carries {head}") for head in heads)))
