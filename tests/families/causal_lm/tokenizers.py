"""Small tokenizers of several makes, trained on a few sentences: byte-level BPE, SentencePiece's signs, and one token a byte."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "the quick brown fox jumps over the lazy dog and runs away from the big bad wolf in the forest near the river",
    "speculative decoding drafts several tokens and the target verifies them in one pass",
    "a question and an answer about a question: what is 3 + 4, and who asked?",
] * 20
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' if message['role'] == 'user' else '<|bot|>' }}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)


def bytewise(size: int, *special: str, unknown: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most `size` tokens, whose first special token ends a text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=ALPHABET, show_progress=False)
    )
    return _made(inner, special, unknown)


def spaced(size: int, *special: str, unknown: str | None = None) -> PreTrainedTokenizerFast:
    """BPE over characters with SentencePiece's sign of a space."""
    inner = Tokenizer(models.BPE(unk_token=unknown))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    inner.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False))
    return _made(inner, special, unknown)


def single_bytes(*special: str) -> PreTrainedTokenizerFast:
    """One token a byte, so that no token has a leading space."""
    inner = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate([*special, *ALPHABET])}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return _made(inner, special, None)


def _made(inner: Tokenizer, special: tuple[str, ...], unknown: str | None) -> PreTrainedTokenizerFast:
    more = [one for one in special[1:] if one != unknown]
    named = {} if unknown is None else {"unk_token": unknown}
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=special[0], pad_token=special[0], additional_special_tokens=more, **named
    )
    made.chat_template = TEMPLATE
    return made


def pairs() -> dict[str, tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]]:
    """Target's and drafter's tokenizers by name; no two tokens of one have one text, of which vLLM takes any."""
    return {
        "bytewise": (bytewise(330, "<eos>", "<|user|>", "<|bot|>"), bytewise(290, "</s>", "[INST]")),
        "bytewise-spaced": (bytewise(330, "<eos>", "<|user|>", "<|bot|>"), spaced(120, "</s>", "<unk>", unknown="<unk>")),
        "spaced-bytewise": (spaced(200, "<eos>", "<unk>", "<|user|>", "<|bot|>", unknown="<unk>"), bytewise(310, "</s>")),
        "single-bytewise": (single_bytes("<eos>", "<|user|>", "<|bot|>"), bytewise(300, "</s>", "<unk>", unknown="<unk>")),
        "bytewise-single": (bytewise(300, "<eos>", "<|user|>", "<|bot|>"), single_bytes("</s>")),
    }
