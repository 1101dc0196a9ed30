"""What a run does not do of what was asked, or does where a server would not, said before it begins and kept beside its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from driftcli.conditions import Condition
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.texts import foreseen
from driftcli.errors import PromptError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair
from driftcli.printable import few


def on_some(conditions: Sequence[Condition], whole: int) -> list[str]:
    """Which conditions are asked of a part of the prompts alone."""
    cut: dict[tuple[str, int], list[str]] = {}
    for one in conditions:
        if 0 < one.prompts < whole:
            cut.setdefault((one.probe, one.prompts), []).append(one.name)
    return [f"{probe}: {some} of {whole} prompts for {few(names)}" for (probe, some), names in cut.items()]


def untold(pair: LoadedPair) -> list[str]:
    """What the engine that serves the target does not tell of it."""
    served, why = pair.target.served, pair.target.untold
    if served is None or why is None:
        return []
    return [f"{served.engine} does not tell the entropy of the target ({why}), so target_entropy is null in the traces"]


def lacked(pair: LoadedPair, prompts: Sequence[Prompt]) -> list[str]:
    """How much of the prompts a drafter with another tokenizer is handed as unknown, and which tokens most."""
    drafter = pair.drafter
    if not isinstance(drafter, CausalLm) or "tokens" not in pair.card.record:
        return []
    tokenizer, counts = pair.target.tokenizer, Counter[int]()
    for prompt in prompts:
        counts.update(foreseen(tokenizer, prompt).ids)
    to_draft = drafter.tokens.vocabulary.to_draft.tolist()
    unknown = Counter({token: count for token, count in counts.items() if to_draft[token] < 0})
    if not unknown:
        return ["the drafter has every token of these prompts"]
    names = [repr(tokenizer.decode([token])) for token, _ in unknown.most_common()]
    instead = drafter.lm.tokenizer.convert_ids_to_tokens(int(drafter.tokens.fed[next(iter(unknown))]))
    return [f"{unknown.total() / counts.total():.1%} of the prompts' tokens are {instead} to the drafter, which lacks them: {few(names)}"]


def cramped(pair: LoadedPair, prompts: Sequence[Prompt], spec: RunSpec) -> list[str]:
    """A note on prompts that may run past the target's positions with their reply; PromptError where none are computed beyond them, or for
    tokens that the target does not know.
    """
    target, room, long = pair.target, pair.card.target_positions, list[str]()
    for prompt in prompts:
        ids, replies = foreseen(target.tokenizer, prompt).ids, len(prompt.turns) * spec.max_new_tokens
        if max(ids) >= len(target.embedding):
            raise PromptError(
                f"prompt {prompt.id}: its tokenizer gives token {max(ids)}, the target's embedding has {len(target.embedding)} rows; "
                "the tokenizer is not that of these weights, so fetch it again"
            )
        if target.room is not None and len(ids) + replies > target.room:
            whose = "the target has" if target.served is None else f"{target.served.engine}'s engine has for a text"
            raise PromptError(
                f"prompt {prompt.id}: takes {len(ids)} tokens as rendered and up to {replies} for what is replied, {whose} {target.room} "
                "positions; shorten it, leave it out, or ask for shorter replies (--max-new-tokens)"
            )
        if room is not None and len(ids) + replies > room:
            long.append(prompt.id)
    if not long:
        return []
    which = f"{len(long)} prompt{'s' * (len(long) > 1)}"
    return [f"{which} may run past the target's {room} positions with what is replied, where servers would cut or refuse: {few(long)}"]
