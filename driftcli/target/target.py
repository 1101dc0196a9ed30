"""What is asked of a verifying model, whatever runs it: it writes replies, and it reads texts and hands out its streams on the way.

Boundary `b` is its residual stream after `b` decoder layers: 0 the embeddings, `L` the stream before the final norm, `L + 1` behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from driftcli.sources.files import Json, Source
from driftcli.target.facts import TargetFacts


class Unread(Protocol):
    """A text that the target is to read."""

    @property
    def ids(self) -> Sequence[int]:
        """Its token ids, the reply's behind those of the prompt."""

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""


@dataclass(frozen=True)
class Reading:
    """What a target says of a text that it has read.

    probs: of each reply token (reply token,); entropies: of its distribution there, in nats, None where the engine does not tell them;
    choices: the target's own first choice there, as token id. streams: by boundary, (position - 1, width), since the last token needs no
    state.
    """

    probs: Tensor
    entropies: Tensor | None
    choices: Tensor
    streams: Mapping[int, Tensor]


def kept_bytes(tokens: int, boundaries: int, width: int) -> int:
    """What the streams of so many tokens take that are kept."""
    return 4 * tokens * boundaries * width


@dataclass
class Kept:
    """What a target computed of texts while it wrote them, so that they need not be read again: streams at `boundaries`, and what it said
    of each reply token, the same as reading gives, to rounding. room: bytes of streams that may still come; without any nothing is kept.
    """

    boundaries: Sequence[int]
    room: int
    _texts: dict[tuple[tuple[int, ...], int, float], _Left] = field(default_factory=dict)

    def size(self, tokens: int, width: int) -> int:
        """Bytes of streams of so many tokens. width: of a stream."""
        return kept_bytes(tokens, len(self.boundaries), width)

    def admits(self, size: int) -> bool:
        """Whether there is room for so many bytes more, which are taken up then; where there is not, nothing more is kept."""
        admitted = self.room > 0 and size <= self.room
        self.room = self.room - size if admitted else 0
        return admitted

    def add(self, ids: Sequence[int], temperature: float, said: Tensor, streams: Mapping[int, Sequence[Tensor]]) -> None:
        """A text. temperature: of its reply; said: probabilities, entropies and first choices, (3, reply token); streams: by boundary the
        parts that are all of its positions but the last, (position, width) each.
        """
        self._texts[tuple(ids), len(ids) - said.shape[1], temperature] = _Left(said, streams)

    def has(self, text: Unread, temperature: float) -> bool:
        """Whether what reading a text would give is known. temperature: of probabilities."""
        return (tuple(text.ids), text.prompt_length, temperature) in self._texts

    def reading(self, text: Unread, temperature: float) -> Reading | None:
        """What reading a text would give, None where that is not known."""
        left = self._texts.get((tuple(text.ids), text.prompt_length, temperature))
        if left is None:
            return None
        probs, entropies, choices = left.said
        return Reading(probs, entropies, choices.long(), {boundary: torch.cat(list(parts)) for boundary, parts in left.streams.items()})

    def let_go(self) -> bool:
        """Keep nothing, now and later; whether there was anything to let go of."""
        anything = bool(self.room or self._texts)
        self.room = 0
        self._texts.clear()
        return anything


@dataclass(frozen=True)
class _Left:
    """What is kept of a text."""

    said: Tensor
    streams: Mapping[int, Sequence[Tensor]]


@dataclass(frozen=True)
class Writing:
    """How replies are written: of so many tokens at most, at a temperature, greedily at 0. say: told how many tokens each has meanwhile.
    kept: takes what is computed meanwhile, where the target hands it out as it writes and there is room. beside: texts that `kept` takes
    too, where they begin as prompts do that are answered greedily. ends: tokens that end a reply besides the target's own.
    """

    most: int
    temperature: float = 0.0
    say: Callable[[int], None] | None = None
    kept: Kept | None = None
    beside: Sequence[Unread] = ()
    ends: Sequence[int] = ()


@dataclass(frozen=True)
class Served:
    """The engine that serves a target, its version, the scheme of quantised weights, and the arguments that it was given."""

    engine: str
    version: str
    quantisation: str | None
    args: Mapping[str, Json]


class Target(Protocol):
    """A verifying model with its tokenizer; `unread` names the tensors that nothing has a place for."""

    @property
    def source(self) -> Source:
        """Where it comes from."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, which tells character offsets."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of stored tensors that its class has no place for."""

    @property
    def config(self) -> PretrainedConfig:
        """The text model's settings, also of a multimodal model."""

    @property
    def generation_config(self) -> GenerationConfig:
        """How it is to be decoded by its files, of which the end tokens are used."""

    @property
    def facts(self) -> TargetFacts:
        """What a drafter's checkpoint is held against."""

    @property
    def room(self) -> int | None:
        """Positions that a text may have at most, None where they can be computed beyond those that the config admits."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order, without their numbers where an engine has those."""

    @property
    def embedding(self) -> Tensor:
        """Input embeddings (vocabulary, width)."""

    @property
    def head(self) -> Tensor:
        """Output projection (vocabulary, width); a drafter computes in its dtype and beside it."""

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""

    @property
    def device_name(self) -> str:
        """What it runs on, in the device's own words."""

    @property
    def served(self) -> Served | None:
        """The engine that serves it, None for transformers in this process."""

    @property
    def computed_as(self) -> str | None:
        """As what quantised weights are computed with in this process, None where none are, or where an engine has them."""

    @property
    def untold(self) -> str | None:
        """Why its entropies, and its probabilities at a temperature, are not told; None where they are."""

    def start(self, boundaries: Sequence[int]) -> None:
        """Be ready to write, and to read with the streams at these boundaries."""

    def close(self) -> None:
        """Give back what it holds besides memory; it writes and reads no more."""

    def write(self, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        """The reply to each rendered prompt, up to its first end token, that included; what is drawn depends on torch's random state."""

    def read_all(
        self, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float = 1.0, most: int | None = None
    ) -> Iterator[Reading]:
        """Of each text, in their order, its streams at `boundaries` and the target's probability and entropy at every token behind the
        prompt. What is said of a text is the same in whatever company, to rounding; what was not asked for yet need not be read yet.

        most: tokens of texts side by side that there is room for in this process, None for as many as usual.
        """


def end_tokens(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens by which a target ends a reply, by its generation config, else its tokenizer; none where neither names one."""
    end = tokenizer.eos_token_id if config.eos_token_id is None else config.eos_token_id
    return [int(token) for token in (end if isinstance(end, list) else [end]) if token is not None]
