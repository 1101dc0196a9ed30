"""The output head, given only some of the rows that a pass computes: those whose logits are wanted."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Asked:
    """Context in which the output head is given only some of the rows that come to it, (row,), of all texts one behind the other."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.rows = torch.zeros(1, dtype=torch.long)

    def __enter__(self) -> Asked:
        self._hook = self._head.register_forward_pre_hook(self._pick)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hook.remove()

    def _pick(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._of(args[0])[None], *args[1:])

    def _of(self, given: Tensor) -> Tensor:
        return given.flatten(0, 1)[self.rows.to(given.device)]

    def among(self, logits: Tensor) -> Tensor:
        """The logits of the rows, (row, vocabulary), also of a model that multiplies with the head's weights and never calls it."""
        return logits[0] if logits.shape[:2] == (1, len(self.rows)) else self._of(logits)
