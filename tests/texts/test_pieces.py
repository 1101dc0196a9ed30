from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from driftcli.sources.files import resolve
from driftcli.texts.pieces import piece_columns
from tests.tiny import tokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def fast(inner: Tokenizer, *added: AddedToken) -> PreTrainedTokenizerFast:
    inner.add_tokens([one for one in added if not one.special])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", additional_special_tokens=[str(one) for one in added if one.special]
    )


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2: `▁` for a space, a token for each byte, and a decoder that strips the space at the beginning of a text."""
    words = ["<unk>", "</s>", *BYTES, "▁", "a", "b", "▁a", "▁the", "▁▁", "é", "中"]
    inner = Tokenizer(
        models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(parts)
    return fast(inner, AddedToken("<|im_end|>", special=True), AddedToken("▁é x"))


def word_pieces() -> PreTrainedTokenizerFast:
    """As BERT: a space before every word, `##` before what goes on with one."""
    words = ["[UNK]", "</s>", "a", "##b", "##é", "word", "中", "."]
    inner = Tokenizer(models.WordPiece(vocab={word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(cleanup=True)
    return fast(inner)


def without_decoder() -> PreTrainedTokenizerFast:
    words = ["<unk>", "</s>", "a", "word", "中"]
    inner = Tokenizer(models.WordLevel(vocab={word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(inner)


def byte_level() -> PreTrainedTokenizerFast:
    made = tokenizer()
    made.add_tokens([AddedToken(" spaced é", normalized=False), AddedToken("éé", normalized=False), AddedToken("中", normalized=False)])
    return made


KINDS: list[Callable[[], PreTrainedTokenizerFast]] = [byte_level, sentencepiece, word_pieces, without_decoder]


def joined(tokens: PreTrainedTokenizerFast, ids: list[int]) -> str:
    columns = piece_columns(tokens)
    pieces = dict(zip(columns["id"], columns["bytes"], strict=True))
    return b"".join(pieces[number] for number in ids).decode(errors="replace")


@pytest.mark.parametrize("make", KINDS)
def test_pieces_in_a_row_are_what_the_tokenizer_decodes(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    tokens, draw = make(), random.Random(0)
    backend = tokens.backend_tokenizer
    start = backend.encode("a", add_special_tokens=False).ids
    head = backend.decode(start, skip_special_tokens=False)
    whole = [number for number in range(len(tokens)) if "�" not in backend.decode([number], skip_special_tokens=False)]
    for _ in range(50):
        ids = draw.choices(whole, k=12)
        assert head + joined(tokens, ids) == backend.decode([*start, *ids], skip_special_tokens=False)


@pytest.mark.parametrize(("make", "text"), [(byte_level, "naïve 中文 😀 a"), (sentencepiece, "a 😀 b¿ a"), (sentencepiece, "a the 中é")])
def test_a_text_of_many_byte_characters_comes_back_from_its_pieces(make: Callable[[], PreTrainedTokenizerFast], text: str) -> None:
    tokens = make()
    ids = tokens(text, add_special_tokens=False).input_ids
    assert len(ids) > 4
    assert joined(tokens, ids).removeprefix(" ") == text


def test_the_bundled_vocabulary_is_whole_and_any_row_of_its_tokens_decodes_alike() -> None:
    tokens, draw = AutoTokenizer.from_pretrained(resolve("bundled:target").folder), random.Random(1)
    columns = piece_columns(tokens)
    assert columns["id"] == list(range(len(tokens)))
    assert [number for number, special in zip(columns["id"], columns["special"], strict=True) if special] == [0, 1, 2, 3, 4, 5]
    for _ in range(50):
        ids = draw.choices(columns["id"], k=30)
        assert joined(tokens, ids) == tokens.backend_tokenizer.decode(ids, skip_special_tokens=False)


def test_bytes_of_sentencepiece_are_bytes_and_a_mark_in_a_word_is_a_space() -> None:
    columns = piece_columns(sentencepiece())
    pieces = dict(zip(columns["id"], columns["bytes"], strict=True))
    words = sentencepiece().get_vocab()
    assert (pieces[words["<0xF0>"]], pieces[words["▁the"]], pieces[words["▁▁"]]) == (b"\xf0", b" the", b"  ")


def test_ids_without_a_token_are_left_out() -> None:
    inner = Tokenizer(models.WordLevel(vocab={"</s>": 0, "a": 7}, unk_token="a"))
    assert piece_columns(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>"))["id"] == [0, 7]
