"""What a causal language model must be to draft for another: one tokenizer with it, and plain attention."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from driftcli.errors import FormatError, PairError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Target

PROBE_STRINGS = (
    "The quick brown fox, 3.14159!",
    "def f(x):\n\treturn x ** 2  # ok",
    "naïve café — 東京 🙂",
    "<|im_start|>user\n</s>[INST] <bos>",
    " \n\n  leading",
)


def read_causal_lm(lm: LanguageModel, target: Target, mask: int | None = None) -> CausalLm:
    """The drafter that a language model is; raises FormatError for attention that nobody can look into, PairError for another tokenizer.

    mask: of one that drafts in parallel.
    """
    require_measurable(lm)
    return CausalLm(lm, shared_vocabulary(target, lm), mask)


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


def shared_vocabulary(target: Target, drafter: LanguageModel) -> int:
    """Number of tokens that both tokenizers know, proved by their tables and by probe strings; raises PairError at the first difference."""
    ours, theirs = target.tokenizer.get_vocab(), drafter.tokenizer.get_vocab()
    if ours != theirs:
        token = min(
            (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
            key=lambda t: (ours.get(t, len(ours)), t),
        )
        here, there = theirs.get(token, "absent"), ours.get(token, "absent")
        raise PairError(
            f"{drafter.source.name}: token {token!r} is {here} here and {there} in {target.source.name}, "
            "expected one tokenizer for both; use a drafter of the same family"
        )
    for text in PROBE_STRINGS:
        if _encode(target.tokenizer, text) != _encode(drafter.tokenizer, text):
            raise PairError(
                f"{drafter.source.name}: splits {text!r} otherwise than {target.source.name}, "
                "expected one tokenizer; use a drafter of the same family"
            )
    rows = min(target.head.shape[0], drafter.head.shape[0])
    return min(rows, max(ours.values()) + 1)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)
