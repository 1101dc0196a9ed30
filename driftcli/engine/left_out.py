"""What a run does not do of what was asked, or does where a server would not, said before it begins and kept beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.domain import Condition, Prompt, RunSpec
from driftcli.errors import PromptError
from driftcli.loading.pair import LoadedPair
from driftcli.loading.rendering import render

NAMED = 5  # conditions or prompts that a note lists by name (chosen by us)


def on_some(conditions: Sequence[Condition], whole: int) -> list[str]:
    """Which conditions are asked of a part of the prompts alone."""
    cut: dict[tuple[str, int], list[str]] = {}
    for one in conditions:
        if 0 < one.prompts < whole:
            cut.setdefault((one.probe, one.prompts), []).append(one.name)
    return [
        f"{probe}: {some} of {whole} prompts for {', '.join(names[:NAMED])}{' ...' * (len(names) > NAMED)}"
        for (probe, some), names in cut.items()
    ]


def cramped(pair: LoadedPair, prompts: Sequence[Prompt], spec: RunSpec) -> list[str]:
    """A note on prompts that may run past the target's positions with their reply; PromptError where none are computed beyond them, or for
    tokens that the target does not know.
    """
    target, room, long = pair.target, pair.card.target_positions, list[str]()
    for prompt in prompts:
        ids = render(target.tokenizer, prompt.id, prompt.turns[0], prompt.text).ids
        length = len(ids)
        if max(ids) >= len(target.embedding):
            raise PromptError(
                f"prompt {prompt.id}: its tokenizer gives token {max(ids)}, the target's embedding has {len(target.embedding)} rows; "
                "the tokenizer is not that of these weights, so fetch it again"
            )
        if room is not None and length + spec.max_new_tokens > room:
            if not target.has_rotary_positions:
                raise PromptError(
                    f"prompt {prompt.id}: takes {length} tokens as rendered and up to {spec.max_new_tokens} for its reply, the target "
                    f"has {room} positions; shorten it, leave it out, or ask for shorter replies (--max-new-tokens)"
                )
            long.append(prompt.id)
    if not long:
        return []
    some = ", ".join(long[:NAMED]) + (" ..." if len(long) > NAMED else "")
    return [f"{len(long)} prompts may run past the target's {room} positions with their reply, where servers would cut or refuse: {some}"]
