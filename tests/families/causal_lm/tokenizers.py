"""Small tokenizers of several makes, trained on a few sentences: byte-level BPE, SentencePiece's signs, and one token a byte."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = [
    "the quick brown fox jumps over the lazy dog and runs away from the big bad wolf in the forest near the river",
    "speculative decoding drafts several tokens and the target verifies them in one pass",
    "a question and an answer about a question: what is 3 + 4, and who asked?",
] * 20
ONE_MORE = "<|one more|>"
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


def write_reordered(source: Path, folder: Path, *, longer: bool = False) -> Path:
    """A copy of a Llama with the same tokens under other ids, those that begin, end and fill texts too. longer: with a token more, scored as
    the one that fills: transformers takes vocabularies of one size for one.
    """
    model, words = LlamaForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(3))
    names, moved = words.convert_ids_to_tokens(order.tolist()), order.argsort().tolist()
    with torch.no_grad():
        for rows in {id(rows): rows for rows in (model.model.embed_tokens.weight, model.lm_head.weight)}.values():  # perhaps one
            rows.copy_(rows[order].clone())
    for held in (model.config, model.generation_config):
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if isinstance(told := getattr(held, key), int):
                setattr(held, key, moved[told])
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    whole["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    whole["added_tokens"] = sorted(({**one, "id": names.index(one["content"])} for one in whole["added_tokens"]), key=lambda one: one["id"])
    path.write_text(json.dumps(whole))
    if longer:
        words = AutoTokenizer.from_pretrained(folder)
        words.add_tokens([ONE_MORE])
        model.resize_token_embeddings(len(words), mean_resizing=False)
        with torch.no_grad():
            for rows in (model.model.embed_tokens.weight, model.lm_head.weight):
                rows[-1] = rows[words.pad_token_id]
        model.save_pretrained(folder)
        words.save_pretrained(folder)
    return folder


def pairs() -> dict[str, tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]]:
    """Target's and drafter's tokenizers by name; no two tokens of one have one text, of which vLLM takes any."""
    return {
        "bytewise": (bytewise(330, "<eos>", "<|user|>", "<|bot|>"), bytewise(290, "</s>", "[INST]")),
        "bytewise-spaced": (bytewise(330, "<eos>", "<|user|>", "<|bot|>"), spaced(120, "</s>", "<unk>", unknown="<unk>")),
        "spaced-bytewise": (spaced(200, "<eos>", "<unk>", "<|user|>", "<|bot|>", unknown="<unk>"), bytewise(310, "</s>")),
        "single-bytewise": (single_bytes("<eos>", "<|user|>", "<|bot|>"), bytewise(300, "</s>", "<unk>", unknown="<unk>")),
        "bytewise-single": (bytewise(300, "<eos>", "<|user|>", "<|bot|>"), single_bytes("</s>")),
    }
