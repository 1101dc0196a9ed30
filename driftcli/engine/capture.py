"""The target's residual streams, taken by hooks while it runs: only the boundaries asked for, never all hidden states.

Boundary `b` is the residual stream after `b` decoder layers: 0 the embeddings, `L` the stream before the final norm, `L + 1` the one after
it. Boundary `b < L` is read where it enters layer `b` and boundary `L` where it leaves the last layer: transformers' own
`hidden_states[L]` is behind the final norm, which is boundary `L + 1` here and is read where it leaves the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.utils.generic import ModelOutput

Output: TypeAlias = Tensor | tuple[Tensor, ...] | ModelOutput


class StreamCapture:
    """Context in which every forward pass of the target adds its streams at `boundaries`, in the order of the passes.

    decoder: the target's decoder, layers: its decoder layers. Streams are kept in the target's dtype on the
    device of the layer they come from.
    """

    def __init__(self, decoder: nn.Module, layers: Sequence[nn.Module], boundaries: Sequence[int]) -> None:
        self._decoder, self._layers = decoder, layers
        self._passes: dict[int, list[Tensor]] = {boundary: [] for boundary in boundaries}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> StreamCapture:
        for boundary in self._passes:
            if boundary < len(self._layers):
                hook = self._layers[boundary].register_forward_pre_hook(self._before(boundary), with_kwargs=True)
            else:
                last = self._layers[-1] if boundary == len(self._layers) else self._decoder
                hook = last.register_forward_hook(self._after(boundary))
            self._handles.append(hook)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, boundary: int) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self._passes[boundary].append((args[0] if args else kwargs["hidden_states"]).detach())

        return keep

    def _after(self, boundary: int) -> Callable[[nn.Module, tuple[Tensor, ...], Output], None]:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Output) -> None:
            self._passes[boundary].append((output if isinstance(output, Tensor) else output[0]).detach())

        return keep

    def take(self) -> dict[int, Tensor]:
        """All passes so far joined along positions, by boundary, each (batch, position, width); the capture is empty afterwards."""
        streams = {boundary: torch.cat(parts, dim=1) for boundary, parts in self._passes.items()}
        for parts in self._passes.values():
            parts.clear()
        return streams
