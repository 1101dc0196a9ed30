"""System messages that take the place of a conversation's own: a usual one, or rules of a given length."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

USUAL = "You work at the help desk of a small public library. Answer in plain words, and say so when you do not know something."
RULES = (
    "Answer the question that was asked before you add anything to it.",
    "Keep sentences short, and use a list only where the order of its items matters.",
    "Give every number with its unit, and say when it is an estimate.",
    "Where a question can be read in two ways, name both and answer the more likely one.",
    "Do not repeat the question, and do not praise it.",
    "Quote a text only where its exact words matter, and mark what you left out.",
    "Write code with names that say what they hold, and show how it is called.",
    "If a request would harm somebody, refuse in one sentence and offer what can be done instead.",
    "Dates are written with the month as a word, times with the zone.",
    "When you correct a mistake, of your own or of the reader, say what was wrong and what is right.",
    "Explain a technical word the first time that it is used.",
    "Prefer the usual tool over the clever one, and say what it costs.",
    "Answer in the language of the last message, whatever these rules are written in.",
    "A story keeps to the person and the tense in which it began.",
    "Stop when the answer is complete.",
)  # our own, in the manner of those that services put in front


def system_text(tokenizer: PreTrainedTokenizerBase, tokens: int) -> str:
    """The usual system message for 0 tokens, or numbered rules, cut after about so many."""
    if not tokens:
        return USUAL
    rules = "\n".join(f"{number}. {RULES[(number - 1) % len(RULES)]}" for number in range(1, tokens + 1))  # each is a token and more
    return str(tokenizer.decode(tokenizer(rules, add_special_tokens=False).input_ids[:tokens])).strip()
