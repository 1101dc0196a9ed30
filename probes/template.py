"""How much of the accepted drafts does the drafter lose when the chat template changes?"""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.conditions import TextSettings
from driftcli.texts.changes import Change, TextChanges

CHANGES = (
    Change("no-bos", "without BOS", TextSettings(bos="dropped"), ("begins_with_bos",)),
    Change("no-template", "without the template", TextSettings(template="none"), ("templated",)),
    Change("neither", "without template and BOS", TextSettings(template="none", bos="dropped"), ("templated", "begins_with_bos")),
    Change("bos-doubled", "with BOS doubled", TextSettings(bos="doubled"), ("begins_with_bos",)),
    Change("other-family", "in another family's template", TextSettings(template="other-family"), ("templated",)),
    Change("other-roles", "with other role names", TextSettings(template="other-roles"), ("names_roles",)),
    Change("no-generation-prompt", "without the prompt to answer", TextSettings(template="no-generation-prompt"), ("prompts_reply",)),
    Change("thinking", "with thinking switched on", TextSettings(template="thinking"), ("thinks_if_asked",)),
    Change("no-thinking", "with thinking switched off", TextSettings(template="no-thinking"), ("thinks_unless_told",)),
)
QUICK = ("no-bos", "no-template", "neither")  # the paper's, which --quick runs


@dataclass(frozen=True)
class TemplateChanges(TextChanges):
    """Changes of the template against the template as it is."""

    name: str = "template"
    changes: tuple[Change, ...] = CHANGES
    quick: tuple[str, ...] = QUICK
