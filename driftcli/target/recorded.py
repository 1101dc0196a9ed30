"""A decoding step recorded as one CUDA graph: a small step is mostly the time that the host takes to start its kernels, one by one.

Recorded by hand and not by `torch.compile`, which takes a minute for a model whose replies take seconds. What is recorded is checked
against the same step unrecorded before it is used.
"""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from driftcli.target.rooms import Rooms

log = logging.getLogger(__name__)


class Steppable(Protocol):
    """A language model to decode with."""

    @property
    def model(self) -> PreTrainedModel:
        """The model with its output head."""

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""

    def continuing(self, cache: Cache | None) -> dict[str, Cache | None]:
        """The argument by which the model goes on from a cache."""


def recordable(target: Steppable) -> bool:
    """Whether steps of a model can be recorded: on one GPU, without a look at numbers on the way, attention by torch's own kernels."""
    model = target.model
    if target.device.type != "cuda" or len(set(getattr(model, "hf_device_map", {}).values())) > 1:
        return False
    return bool(getattr(model, "_can_compile_fullgraph", False)) and model.config._attn_implementation == "sdpa"


class FixedStep:
    """Steps of so many rows whose tensors all keep their places: every step sees the whole cache and masks what is not written yet."""

    def __init__(self, target: Steppable, cache: Rooms, visible: Tensor, positions: Tensor) -> None:
        self._target, self._cache = target, cache
        self._tokens, self._positions = torch.zeros_like(positions), positions.clone()
        self._mask = visible[:, None, None, :].clone()
        self._at = cache.fix(target.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits (row, vocabulary) behind one more token of each row, which stand until the next step."""
        self._put(tokens)
        if self._graph is None:
            self._logits = self._forward()
        else:
            self._graph.replay()
        self._at += 1
        self._positions += 1
        return self._logits

    def _put(self, tokens: Tensor) -> None:
        self._tokens.copy_(tokens[:, None])
        self._mask.index_fill_(3, self._at, True)

    def _forward(self) -> Tensor:
        arguments = {"attention_mask": self._mask, "position_ids": self._positions, "use_cache": True, "logits_to_keep": 1}
        logits: Tensor = self._target.model(self._tokens, **arguments, **self._target.continuing(self._cache)).logits[:, -1]
        return logits

    def record(self, tokens: Tensor) -> bool:
        """Whether the step behind these tokens was recorded and chooses what it chooses unrecorded; it can be taken again."""
        self._put(tokens)
        try:
            expected = self._recorded().argmax(-1)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what a model does on the way that cannot be recorded
            return _not_used(f"cannot be recorded as a CUDA graph ({error})")
        assert self._graph is not None
        self._graph.replay()
        return torch.equal(self._logits.argmax(-1), expected) or _not_used("chooses other tokens when recorded as a CUDA graph")

    def _recorded(self) -> Tensor:
        """What the step gives unrecorded, taken twice on a stream of its own as recording wants it, and then recorded."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._forward()
            expected = self._forward().clone()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._forward()
        self._graph = graph
        return expected


def _not_used(why: str) -> bool:
    log.warning("a decoding step of the target %s; replies are written step by step, which takes longer", why)
    return False
