"""What a causal language model must be to draft for another: tokens in common with it, and plain attention."""

from __future__ import annotations

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.causal_lm.tokens import Shared, Tokens, Words, shared_tokens
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Target

ONE_BY_ONE = "one by one, as vLLM's use_heterogeneous_vocab"


def read_causal_lm(lm: LanguageModel, target: Target, mask: int | None = None) -> tuple[CausalLm, Shared]:
    """The drafter that a language model is, and what it shares with the target; raises FormatError for attention that nobody can look
    into, PairError where they share nothing. mask: of one that drafts in parallel.
    """
    require_measurable(lm)
    shared = shared_tokens(words(target), words(lm))
    return CausalLm(lm, Tokens.of(shared, max(len(target.embedding), len(target.head)), lm.device), mask), shared


def words(model: Target) -> Words:
    """The tokens of a model."""
    return Words(model.source.name, model.tokenizer, min(len(model.embedding), len(model.head)))


def token_record(shared: Shared) -> dict[str, Sourced]:
    """How a drafter's tokens stand for the target's, as its record has it."""
    count = {"vocabulary": Sourced(len(shared.pairs), "tokenizer")}
    return count if shared.same else {**count, "tokens": Sourced(ONE_BY_ONE, "tokenizer")}


def token_notes(shared: Shared, target: Target, drafter: LanguageModel) -> tuple[str, ...]:
    """What is to be known of two tokenizers: by which rule the drafter was measured, and what else engines do."""
    if shared.same:
        cut = f"{drafter.source.name}: its tokenizer has the target's tokens and cuts texts otherwise; it reads the target's own cut"
        return () if shared.cut_alike else (cut,)
    return (
        f"{drafter.source.name}: another tokenizer than the target's, measured by vLLM's rule for two (use_heterogeneous_vocab, 0.33): "
        "tokens are mapped one by one, so the drafter reads the target's own cut of the text and proposes only tokens that both have",
        f"{target.source.name} and {drafter.source.name} elsewhere: vLLM without that setting refuses vocabularies of two sizes and takes "
        "ids as they are in those of one; transformers decodes greedily by translating the text from one tokenizer to the other; llama.cpp "
        "refuses the pair",
    )


def require_measurable(lm: LanguageModel) -> None:
    """Raise FormatError for a causal-LM drafter without plain attention in every layer, or whose attention transformers cannot swap."""
    kinds = set(getattr(lm.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or not lm.model._can_set_attn_implementation():
        seen = f"layers of type {', '.join(sorted(kinds))}" if kinds else "attention of its own"
        raise FormatError(f"{lm.source.name}: {lm.config.model_type} has {seen}, expected plain attention in every layer; use another")


def sliding_window(lm: LanguageModel) -> int | None:
    """Keys that the sliding-window layers of a language model see, None where every layer sees all."""
    kinds, window = getattr(lm.config, "layer_types", None), getattr(lm.config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds else getattr(lm.config, "use_sliding_window", True)
    return int(window) if slides and window is not None else None
