"""What each token adds to a text, in bytes, so that whoever reads a run sees words and needs no tokenizer.

Told by the tokenizer's own decoder: a byte-level one maps each character of a token to a byte, one with byte fallback writes `<0xAB>` for
a byte, and what any other token adds is how the text behind ordinary words differs with it. What a decoder does to the ends of a whole
text (it may strip a space there) is left out: a piece is what its token adds amid a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BEFORE = "a a"  # text that tokens are appended to (chosen by us): ordinary words, so that no decoder strips what follows


def piece_columns(tokenizer: PreTrainedTokenizerBase) -> dict[str, Sequence[object]]:
    """The columns of the table `pieces`: every token of a tokenizer's vocabulary, by id."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    ids = sorted(set(backend.get_vocab(with_added_tokens=True).values()))
    added = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
    special = added | set(tokenizer.all_special_ids)
    pieces = _pieces(backend, ids)
    return {"id": ids, "bytes": [pieces[number] for number in ids], "special": [number in special for number in ids]}


def _pieces(backend: Tokenizer, ids: Sequence[int]) -> dict[int, bytes]:
    """The bytes that each token adds to a text."""
    kinds = set(_kinds(backend))
    tokens = {number: backend.id_to_token(number) or "" for number in ids}
    if "ByteLevel" in kinds:
        return {number: _byte_level(token) for number, token in tokens.items()}
    raw = {number: bytes.fromhex(found[1]) for number, token in tokens.items() if (found := BYTE.fullmatch(token))}
    known = raw if "ByteFallback" in kinds else {}
    return {**_differences(backend, [number for number in ids if number not in known]), **known}


def _kinds(backend: Tokenizer) -> Iterator[str]:
    """The kinds of decoder that a tokenizer is made of; none where it has none, and then tokens are joined by spaces."""
    parts: list[Mapping[str, object]] = [] if backend.decoder is None else [json.loads(backend.decoder.__getstate__())]
    for part in parts:
        yield str(part["type"])
        inner = part.get("decoders", [])
        assert isinstance(inner, list)
        parts += inner


def _byte_level(token: str) -> bytes:
    """The bytes of a byte-level token; one that holds a character of no byte stands for itself, as the decoder has it."""
    try:
        return bytes(BYTES[char] for char in token)
    except KeyError:
        return token.encode()


def _byte_of_characters() -> dict[str, int]:
    """Byte by character, as byte-level BPE writes bytes: printable ones as themselves, the others from U+0100 on in their order."""
    shown = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {**{chr(byte): byte for byte in shown}, **{chr(256 + place): byte for place, byte in enumerate(hidden)}}


BYTES = _byte_of_characters()
assert BYTES.keys() == set(ByteLevel.alphabet())


def _differences(backend: Tokenizer, ids: Sequence[int]) -> dict[int, bytes]:
    """What each token adds behind ordinary words, or alone where it changes them."""
    before = backend.encode(BEFORE, add_special_tokens=False).ids
    head = backend.decode(before, skip_special_tokens=False)
    texts = backend.decode_batch([[*before, number] for number in ids], skip_special_tokens=False)
    return {
        number: (text[len(head) :] if text.startswith(head) else _alone(backend, number)).encode()
        for number, text in zip(ids, texts, strict=True)
    }


def _alone(backend: Tokenizer, number: int) -> str:
    return str(backend.decode([number], skip_special_tokens=False))
