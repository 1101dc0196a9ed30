"""A decoding step recorded as one CUDA graph: a small step is mostly the time that the host takes to start its kernels, one by one.

Recorded by hand and not by `torch.compile`, which takes a minute for a model whose replies take seconds. What is recorded is checked
against the same step unrecorded before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from driftcli.target.roomy_cache import RoomyCache

CHECKED = 2  # steps that are taken both ways before a recorded one is used
log = logging.getLogger(__name__)


class Steppable(Protocol):
    """A language model to decode with."""

    @property
    def model(self) -> PreTrainedModel:
        """The model with its output head."""

    @property
    def decoder(self) -> nn.Module:
        """The text model below the output head."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order."""

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

    def __init__(self, target: Steppable, cache: RoomyCache, visible: Tensor, positions: Tensor) -> None:
        self._target, self._cache = target, cache
        self._tokens, self._positions = torch.zeros_like(positions), positions.clone()
        self._mask = visible[:, None, None, :].clone()
        self._at = cache.fix(target.device)
        self._run = self._forward

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits (row, vocabulary) behind one more token of each row, which stand until the next step."""
        self._put(tokens)
        logits = self._run()
        self._move(1)
        return logits

    def _put(self, tokens: Tensor) -> None:
        self._tokens.copy_(tokens[:, None])
        self._mask.index_fill_(3, self._at, True)

    def _move(self, count: int) -> None:
        self._at += count
        self._positions += count

    def _forward(self) -> Tensor:
        arguments = {"attention_mask": self._mask, "position_ids": self._positions, "use_cache": True, "logits_to_keep": 1}
        logits: Tensor = self._target.model(self._tokens, **arguments, **self._target.continuing(self._cache)).logits[:, -1]
        return logits

    def record(self, tokens: Tensor) -> bool:
        """Whether the step behind these tokens was recorded, and it and the next one choose what they choose unrecorded; both are still to
        be taken.
        """
        self._put(tokens)
        try:
            self._run = recorded(self._forward, self._target.device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what a model does on the way that cannot be recorded
            return _not_used(f"cannot be recorded as a CUDA graph ({error})")
        return self._chooses_alike(tokens) or _not_used("chooses other tokens when recorded as a CUDA graph")

    def _chooses_alike(self, tokens: Tensor) -> bool:
        """Whether two steps choose alike, of which the second shows that nothing stands still which must move."""
        alike = True
        for _ in range(CHECKED):
            self._put(tokens)
            tokens = self._forward().argmax(-1)
            alike = alike and torch.equal(self._run().argmax(-1), tokens)
            self._move(1)
        self._move(-CHECKED)
        self._mask.index_fill_(3, self._at + torch.arange(CHECKED, device=self._at.device), False)
        return alike


def recorded(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """A step that starts all its kernels at once, and whose result stands in the same place every time; `step` is taken twice before."""
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            step()
            step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = step()

    def replayed() -> Tensor:
        graph.replay()
        return made

    return replayed


def _not_used(why: str) -> bool:
    log.warning("a decoding step of the target %s; replies are written step by step, which takes longer", why)
    return False
