"""Which tokens a drafting language model shares with its target, and what it is handed for those that it lacks.

With one tokenizer the two share all. With two, tokens are mapped one by one, as vLLM's `use_heterogeneous_vocab` does (0.33:
vocab_mapping.py): the same text once each side's sign of a leading space is one. The drafter reads the target's own cut of a text, so its
positions are the target's, and an accepted draft is a token of the target's. Of two tokens of one text the first id stands: vLLM takes
the one that its table happens to name first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from driftcli.errors import PairError
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.sources.files import Source

SPACES = ("\u0120", "\u2581")  # signs of a leading space in byte-level BPE and in SentencePiece
ALSO_CUT = (
    "The quick brown fox, 3.14159!",
    "def f(x):\n\treturn x ** 2  # ok",
    "naïve café — 東京 🙂",
    "<|im_start|>user\n</s>[INST] <bos>",
    " \n\n  leading",
)  # texts by which two tokenizers of the same tokens are told apart (chosen by us)


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of one model: its tokenizer, the rows of its embedding and head, and how messages name it."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    rows: int


@dataclass(frozen=True, slots=True)
class Shared:
    """What two models share.

    pairs: target id by drafter id, in order of the drafter's. same: whether they have one table of tokens; cut_alike: and cut texts alike.
    unknown: the drafter's id for target ids that it lacks, None where it lacks none. known: tokens of the target's table.
    """

    pairs: Mapping[int, int]
    same: bool
    cut_alike: bool
    unknown: int | None
    known: int


@dataclass(frozen=True)
class Tokens:
    """What a drafter may propose, and what it is handed.

    vocabulary: target ids of what it may propose, (proposable,), and back. columns: its own ids of them, None for the first ones. fed: its
    own id for every target id, (target rows,).
    """

    vocabulary: DraftVocabulary
    columns: Tensor | None
    fed: Tensor

    @classmethod
    def of(cls, shared: Shared, rows: int, device: torch.device) -> Tokens:
        """On a device. rows: of the target's embedding."""
        own = torch.tensor(list(shared.pairs), device=device)
        to_target = torch.tensor(list(shared.pairs.values()), device=device)
        fed = torch.full((rows,), shared.unknown or 0, device=device).index_copy(0, to_target, own)
        first = torch.equal(own, torch.arange(len(own), device=device))
        return cls(DraftVocabulary.of(to_target, rows), None if first else own, fed)

    def scores(self, logits: Tensor) -> Tensor:
        """Those of what may be proposed; (..., drafter rows) -> (..., proposable)."""
        return logits[..., : len(self.vocabulary.to_target)] if self.columns is None else logits[..., self.columns]


def shared_tokens(target: Words, drafter: Words) -> Shared:
    """What two models share; raises PairError where that is nothing, or where the drafter has no token for what it lacks.

    Rows past a tokenizer's tokens are padding: they are never proposed, and what the target makes of its own is handed on as unknown.
    """
    ours, theirs = target.tokenizer.get_vocab(), drafter.tokenizer.get_vocab()
    same = ours == theirs
    by_id = {number: number for number in sorted(ours.values())} if same else _by_text(target.tokenizer, drafter.tokenizer)
    pairs = {own: there for own, there in by_id.items() if own < drafter.rows and there < target.rows}
    if not pairs:
        raise PairError(
            f"{drafter.name}: none of its {len(theirs)} tokens is one of {target.name}'s {len(ours)}, expected some in common; "
            "use a drafter of a related family"
        )
    alike = same and all(_cut(target.tokenizer, text) == _cut(drafter.tokenizer, text) for text in ALSO_CUT)
    lacks = len(pairs) < target.rows
    return Shared(pairs, same, alike, _unknown(drafter) if lacks else None, len(ours))


def one_table(target: Source, drafter: Source) -> bool:
    """Whether two models' tokenizers have the same tokens under the same ids, without a look at their weights."""
    ours, theirs = (AutoTokenizer.from_pretrained(one.folder).get_vocab() for one in (target, drafter))
    return bool(ours == theirs)


def _by_text(target: PreTrainedTokenizerBase, drafter: PreTrainedTokenizerBase) -> dict[int, int]:
    ours, theirs = _ids_by_text(target), _ids_by_text(drafter)
    return dict(sorted((theirs[text], ours[text]) for text in ours.keys() & theirs.keys()))


def _ids_by_text(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The first id of each token's text, a leading space in place of its sign."""
    signs, found = _space_signs(tokenizer), dict[str, int]()
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]):
        sign = next((sign for sign in signs if token.startswith(sign)), None)
        found.setdefault(token if sign is None else " " + token[len(sign) :], number)
    return found


def _space_signs(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """What stands for a leading space, told by what becomes of one; both usual signs where that is no one token."""
    ids = tokenizer.encode(" a", add_special_tokens=False)
    first = str(tokenizer.convert_ids_to_tokens(ids[0])) if ids else ""
    told = len(first) > 1 and first.endswith("a") and first[0] not in " \t"
    return (first[:-1],) if told else SPACES


def _unknown(drafter: Words) -> int:
    """The token for what a drafter lacks: that for unknown text, else its end token; padding has neither a text."""
    found = (drafter.tokenizer.unk_token_id, drafter.tokenizer.eos_token_id)
    for one in found:
        if isinstance(one, int) and one < drafter.rows:
            return one
    raise PairError(
        f"{drafter.name}: its tokenizer names neither unk_token nor eos_token, expected one to stand for what it lacks of the target's "
        "tokens; name one in tokenizer_config.json"
    )


def _cut(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)
