"""What can be said of a drafter's checkpoint without running it: headers, small integer tensors and the target's config; torch is not
needed.
"""

from __future__ import annotations

from dataclasses import replace

from driftcli.errors import UsageError
from driftcli.families.assistant.declaration import declare_assistant
from driftcli.families.assistant.scan import scan_assistant
from driftcli.families.block.declaration import declare_block
from driftcli.families.block.scan import scan_block
from driftcli.families.carried import carried
from driftcli.families.causal_lm.scan import scan_causal_lm
from driftcli.families.eagle.scan import scan_eagle
from driftcli.families.feed_forward.declaration import declare_feed_forward
from driftcli.families.feed_forward.scan import scan_feed_forward
from driftcli.families.formats import open_drafter
from driftcli.families.layout import LANGUAGE_MODELS, Format
from driftcli.families.mtp.declaration import declare_mtp
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.families.mtp.scan import scan_mtp
from driftcli.families.without_files import without_files
from driftcli.scanned import Check, Scan, Unread
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint, tensor_names
from driftcli.sources.files import resolve
from driftcli.target.facts import NO_TARGET, TargetFacts, read_facts


def scan_checkpoint(drafter: str, target: str | None) -> Scan | Unread:
    """The scan of a drafter by name, or what it is where it is not measured; raises the same refusals as loading it, as far as config and
    headers tell.
    """
    if drafter == OWN_HEAD:
        return _own_head(target)
    if own := without_files(drafter):
        raise UsageError(f"--drafter {drafter}: {own.no_files}")
    opened = open_drafter(resolve(drafter))
    if isinstance(opened, Unread):
        return opened
    checkpoint, format = opened
    source = None if target is None else resolve(target, weights=False)
    facts = NO_TARGET if source is None else read_facts(source)
    if (made := _of_family(checkpoint, format, facts)) is not None:
        return made
    found = (scan_causal_lm if format.family in LANGUAGE_MODELS else scan_eagle)(checkpoint, format, facts)
    heads = () if source is None else carried(tensor_names(source), facts.model_type)
    return replace(found, checks=(*found.checks, *(Check("target", "note", f"the target carries {head}") for head in heads)))


def _of_family(checkpoint: Checkpoint, format: Format, facts: TargetFacts) -> Scan | None:
    """The scan of what files and a target's config declare; None for an EAGLE head or a language model."""
    if format.family == "mtp":
        return scan_mtp(declare_mtp(checkpoint, facts if facts.named else read_facts(checkpoint.source), apart=True), apart=True)
    if format.family == "feed-forward":
        return scan_feed_forward(declare_feed_forward(checkpoint, format, facts))
    if format.family == "assistant":
        return scan_assistant(declare_assistant(checkpoint, format, facts))
    if format.family == "block":
        return scan_block(declare_block(checkpoint, format, facts))
    return None


def _own_head(target: str | None) -> Scan:
    if target is None:
        raise UsageError(f"--drafter {OWN_HEAD}: the head that a target carries, expected --target with it")
    source = resolve(target)
    return scan_mtp(declare_mtp(open_checkpoint(source), read_facts(source)))
