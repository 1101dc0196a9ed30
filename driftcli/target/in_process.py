"""A target by transformers, its weights in this process: how it writes replies, and reads texts in one teacher-forced pass.

Decoding is plain and greedy, or plain sampling at a temperature, to the target's own end tokens; penalties and sampling settings of its
generation config are set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from driftcli.target.asked import Asked
from driftcli.target.beginnings import common
from driftcli.target.capture import StreamCapture
from driftcli.target.decoding import decodable, decoded, roomy_cache
from driftcli.target.distributions import said_of
from driftcli.target.growing import ELSEWHERE
from driftcli.target.roomy_cache import RoomyCache
from driftcli.target.target import Reading, Unread, Writing
from driftcli.target.together import room, together

CHUNK = 512  # tokens of a text that the target reads at once: masks and activations of a long one would not fit (chosen by us)
WORTH_SHARING = {"cpu": 256}  # tokens spared from which on a pass of its own over what texts begin with pays (chosen by us)
LENGTH_DEPENDENT = ("dynamic", "longrope")


class Weights(Protocol):
    """A language model whose weights are here, with its tokenizer."""

    @property
    def model(self) -> PreTrainedModel:
        """The model with its output head."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    def decoder(self) -> nn.Module:
        """The text model below the output head."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order."""

    @property
    def embedding(self) -> Tensor:
        """Input embeddings (vocabulary, width)."""

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""

    def continuing(self, cache: Cache | None) -> dict[str, Cache | None]:
        """The argument by which the model goes on from a cache."""


@contextmanager
def plain_decoding(target: Weights) -> Iterator[GenerationConfig]:
    """The target decodes greedily to its own end tokens inside; transformers would fill what is left open from the model's own config."""
    own = target.model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else target.tokenizer.eos_token_id
    first_end = end[0] if isinstance(end, list) else end
    known = range(len(target.embedding))  # what stands before a short prompt is masked, but its embedding is looked up
    pad = next((token for token in (own.pad_token_id, first_end) if token in known), 0)
    plain = GenerationConfig(eos_token_id=end, pad_token_id=pad, bos_token_id=own.bos_token_id)  # type: ignore[no-untyped-call]
    target.model.generation_config = plain
    try:
        yield plain
    finally:
        target.model.generation_config = own


class _Told(StoppingCriteria):
    """Stops nothing: tells how many tokens were written, which `generate` lets nobody else see."""

    def __init__(self, before: int, say: Callable[[int], None]) -> None:
        self._before, self._say = before, say

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        self._say(input_ids.shape[1] - self._before)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def written(target: Weights, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
    """The reply to each prompt, all in one batch, up to its first end token, that included."""
    with plain_decoding(target) as settings:
        ends = [*(settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]), *writing.ends]
        if decodable(target.model):
            return decoded(target, prompts, writing, ends, CHUNK)
        settings.eos_token_id = [end for end in ends if end is not None] or None
        return [until_end(reply, ends) for reply in _generated(target, prompts, writing, settings)]


def _generated(target: Weights, prompts: Sequence[Sequence[int]], writing: Writing, settings: GenerationConfig) -> list[list[int]]:
    """What transformers' own loop writes behind each prompt, all padded to the longest, until the last one ends."""
    longest = max(len(ids) for ids in prompts)
    pads = [longest - len(ids) for ids in prompts]
    padded = [[settings.pad_token_id] * pad + list(ids) for pad, ids in zip(pads, prompts, strict=True)]
    mask = [[0] * pad + [1] * len(ids) for pad, ids in zip(pads, prompts, strict=True)]
    out = target.model.generate(  # type: ignore[operator]
        torch.tensor(padded, device=target.device),
        attention_mask=torch.tensor(mask, device=target.device),
        max_new_tokens=writing.most,
        prefill_chunk_size=CHUNK,
        stopping_criteria=StoppingCriteriaList([] if writing.say is None else [_Told(longest, writing.say)]),
        **choosing(writing.temperature),
    )
    return [list(reply) for reply in out[:, longest:].tolist()]


def choosing(temperature: float) -> dict[str, bool | int | float]:
    """How `generate` chooses tokens: from the whole distribution at a temperature, or greedily at 0."""
    return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}


def until_end(reply: list[int], ends: Sequence[int | None]) -> list[int]:
    """A reply up to its first end token, that included."""
    stop = next((place for place, token in enumerate(reply) if token in ends), len(reply))
    return reply[: stop + 1]


def read_all(
    target: Weights, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float, most: int | None = None
) -> Iterator[Reading]:
    """As the contract of a target: texts that follow one another are read side by side, as many as there is room for, and what all of them
    begin with is read once.

    One by one where the target turns tokens by how long a text is, so that its streams would depend on a longer one beside it.
    """
    alone, fitting = turns_by_length(target.model.config.get_text_config().to_dict()), room(target.device, len(target.embedding))
    beginning = _beginning(target, texts, boundaries)
    for some in together([len(text.ids) for text in texts], 1 if alone else min(fitting, most or fitting)):
        yield from read(target, texts[some], boundaries, temperature, beginning)


def turns_by_length(settings: Mapping[str, object]) -> bool:
    """Whether a config, or some kind of layer in it, names a RoPE type whose frequencies depend on the length."""
    nested = (value for value in settings.values() if isinstance(value, Mapping))
    return settings.get("rope_type", settings.get("type")) in LENGTH_DEPENDENT or any(map(turns_by_length, nested))


@dataclass(frozen=True)
class Beginning:
    """What texts begin with, as it was read: keys and values of one row, and streams by boundary, (1, position, width)."""

    cache: RoomyCache
    streams: Mapping[int, Tensor]
    length: int

    def put(self, cache: RoomyCache | None, capture: StreamCapture, rows: int) -> None:
        """So many texts begin with it."""
        assert cache is not None, "there is none where none could be made for it"
        cache.take(self.cache, 0, [slice(0, self.length)], range(rows))
        cache.look(slice(0, rows), 0, self.length)
        capture.begin(self.streams, rows)


@torch.inference_mode()
def _beginning(target: Weights, texts: Sequence[Unread], boundaries: Sequence[int]) -> Beginning | None:
    """What all texts begin with before the first token that is asked about, None where reading it once would spare little."""
    length = min(common([text.ids for text in texts]), *(text.prompt_length - 1 for text in texts)) if len(texts) > 1 else 0
    if length * (len(texts) - 1) < WORTH_SHARING.get(target.device.type, ELSEWHERE):
        return None
    if (cache := roomy_cache(target.model, 1, length)) is None:
        return None
    ids = torch.tensor([texts[0].ids[:length]], device=target.device)
    with StreamCapture(target.decoder, target.layers, boundaries, length) as capture:
        for chunk in torch.split(ids, CHUNK, dim=1):
            asked = last_rows(target, chunk.shape[1], 1)
            target.model(chunk, use_cache=True, logits_to_keep=asked, **target.continuing(cache))
    return Beginning(cache, capture.take(), length)


@torch.inference_mode()
def read(
    target: Weights, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float, beginning: Beginning | None = None
) -> list[Reading]:
    """The target's streams at `boundaries` on texts, and its probability and entropy at every reply token: one pass, in chunks.

    Shorter texts are filled up behind their end, which nothing before it sees. beginning: of all of them, which is not read again.
    """
    longest, start = max(len(text.ids) for text in texts), 0 if beginning is None else beginning.length
    whole = torch.tensor([[*text.ids, *[0] * (longest - len(text.ids))] for text in texts])
    cached = longest - 1 > CHUNK or beginning is not None
    asked, found, cache = list[Tensor](), list[Tensor](), roomy_cache(target.model, len(texts), longest - 1) if cached else None
    with StreamCapture(target.decoder, target.layers, boundaries, longest - 1) as capture, Asked(target.model) as head:
        if beginning is not None:
            beginning.put(cache, capture, len(texts))
        for at in range(start, longest - 1, CHUNK):
            end = min(at + CHUNK, longest - 1)
            places = _replied(texts, at, end)
            lowest = int(places[1].min()) if places.numel() else end - 1
            head.rows = places[0] * (end - lowest) + places[1] - lowest if places.numel() else torch.zeros(1, dtype=torch.long)
            out = target.model(
                whole[:, at:end].to(target.device),
                use_cache=cached,
                logits_to_keep=last_rows(target, end - at, end - lowest),
                **target.continuing(cache),
            )
            (cache,) = map(out.get, target.continuing(cache))  # by the same name, so that neither is a deprecated one
            if places.numel():
                asked.append(places)
                found.append(said_of(head.among(out.logits), whole[places[0], places[1] + 1], temperature))
        streams = capture.take()
    places, said = torch.cat(asked, dim=1), torch.cat(found, dim=1).cpu()
    return [_reading(number, len(text.ids), said[:, places[0] == number], streams) for number, text in enumerate(texts)]


def last_rows(target: Weights, length: int, count: int) -> int | Tensor:
    """The last rows of a pass as logits are asked of them: their number, or their places of a model which, asked for a number, leaves the
    other rows out of its last layers, since these keep no keys of their own (Gemma 4).
    """
    shared = getattr(target.model.config.get_text_config(), "num_kv_shared_layers", None)
    return torch.arange(length - count, length, device=target.device) if shared else count


def _replied(texts: Sequence[Unread], start: int, end: int) -> Tensor:
    """Numbers of texts and positions from `start` on, before `end`, that a reply token follows; (2, position)."""
    spans = [range(max(start, text.prompt_length - 1), min(end, len(text.ids) - 1)) for text in texts]
    return torch.tensor([[number, at] for number, span in enumerate(spans) for at in span], dtype=torch.long).view(-1, 2).T


def _reading(number: int, length: int, said: Tensor, streams: Mapping[int, Tensor]) -> Reading:
    """What was said of one text, (3, reply token), and its part of the streams."""
    return Reading(said[0], said[1], said[2].long(), {boundary: stream[number, : length - 1] for boundary, stream in streams.items()})
