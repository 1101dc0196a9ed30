"""How much of the accepted drafts does the drafter lose when the system prompt changes, or grows?

Rules of 16 to 1,024 tokens tell what a long system prompt costs, another one of usual length what its words do.
"""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.conditions import TextSettings
from driftcli.texts.changes import Change, TextChanges

TOKENS = (16, 64, 256, 1024)
CHANGES = (
    Change("no-system", "without a system prompt", TextSettings(system="none"), ("takes_system",)),
    Change("other-system", "with another system prompt", TextSettings(system="other"), ("takes_system",)),
    *(
        Change(
            f"system-{tokens}",
            f"with a system prompt of {tokens} tokens",
            TextSettings(system="other", system_tokens=tokens),
            ("takes_system",),
        )
        for tokens in TOKENS
    ),
)


@dataclass(frozen=True)
class SystemPrompt(TextChanges):
    """Other system prompts against the run's own, or against none."""

    name: str = "system-prompt"
    changes: tuple[Change, ...] = CHANGES
    fix: str = "serve the system prompts that the head was trained with; retrain with mixed ones, post-norm feedback and per-stream norms"
