"""A target by transformers, its weights in this process: how it writes replies, and reads texts in one teacher-forced pass.

Decoding is plain and greedy, or plain sampling at a temperature, to the target's own end tokens; penalties and sampling settings of its
generation config are set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from driftcli.target.capture import StreamCapture
from driftcli.target.decoding import decodable, decoded
from driftcli.target.target import Reading, Writing

CHUNK = 512  # tokens of a text that the target reads at once: masks and activations of a long one would not fit (chosen by us)
LEAST = torch.finfo(torch.float32).min  # of a token that is ruled out, below the best one: finite, and without weight


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
        ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        if decodable(target.model):
            return decoded(target, prompts, writing, ends, CHUNK)
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


@torch.inference_mode()
def read(target: Weights, ids: Sequence[int], prompt_length: int, boundaries: Sequence[int], temperature: float) -> Reading:
    """The target's streams at `boundaries` on a text, and its probability and entropy at every reply token: one pass, in chunks."""
    whole, start = torch.tensor(ids), prompt_length
    probs, entropies, choices, cache = [], [], [], None
    with StreamCapture(target.decoder, target.layers, boundaries, len(whole)) as capture:
        for at in range(0, len(whole) - 1, CHUNK):
            chunk = whole[at : min(at + CHUNK, len(whole) - 1)]
            out = target.model(
                chunk[None].to(target.device),
                use_cache=len(whole) - 1 > CHUNK,
                logits_to_keep=max(1, min(len(chunk), at + len(chunk) - start + 1)),
                **target.continuing(cache),
            )
            cache = out.past_key_values
            wanted = whole[at + 1 : at + 1 + len(chunk)][-out.logits.shape[1] :].to(out.logits.device)
            if at + len(chunk) < start:
                continue
            prob, entropy = prob_and_entropy(out.logits[0] / temperature, wanted)
            probs.append(prob.cpu())
            entropies.append(entropy.cpu())
            choices.append(out.logits[0].argmax(-1).cpu())
        streams = {boundary: stream[0] for boundary, stream in capture.take().items()}
    return Reading(torch.cat(probs), torch.cat(entropies), torch.cat(choices), streams)


def prob_and_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the wanted tokens and entropy in nats; (query, vocabulary) -> (query,) each."""
    gaps = (logits.float() - logits.amax(-1, keepdim=True)).clamp_(min=LEAST)
    weights = gaps.exp()
    total = weights.sum(-1)
    return weights.gather(-1, wanted[:, None])[:, 0] / total, total.log() - weights.mul_(gaps).sum(-1) / total
