"""The target's residual streams, taken by hooks while it runs: only the boundaries asked for, never all hidden states.

Boundary `b` is the residual stream after `b` decoder layers: 0 the embeddings, `L` the stream before the final norm, `L + 1` the one after
it. Boundary `b < L` is read where it enters layer `b` and boundary `L` where it leaves the last layer: transformers' own
`hidden_states[L]` is behind the final norm, which is boundary `L + 1` here and is read where it leaves the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeAlias

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.utils.generic import ModelOutput

Output: TypeAlias = Tensor | tuple[Tensor, ...] | ModelOutput


class StreamCapture:
    """Context in which every forward pass of the target adds its streams at `boundaries`, in the order of the passes.

    decoder: the target's decoder, layers: its decoder layers. positions: the most that all passes have together; room
    for them is taken once, since small pieces beside a growing cache leave holes. Streams are kept in the target's
    dtype on the device of the layer they come from. rows: of all passes, those of the first one unless said; places: the
    rows of the passes to come, where not all take part in each.
    """

    def __init__(
        self, decoder: nn.Module, layers: Sequence[nn.Module], boundaries: Sequence[int], positions: int, rows: int | None = None
    ) -> None:
        self._decoder, self._layers, self._boundaries, self._positions = decoder, layers, boundaries, positions
        self._rows = rows
        self.places: slice | list[int] = slice(None)
        self._streams: dict[int, Tensor] = {}
        self._filled = dict.fromkeys(boundaries, 0)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> StreamCapture:
        for boundary in self._boundaries:
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
            self._add(boundary, args[0] if args else kwargs["hidden_states"])

        return keep

    def _after(self, boundary: int) -> Callable[[nn.Module, tuple[Tensor, ...], Output], None]:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Output) -> None:
            self._add(boundary, output if isinstance(output, Tensor) else output[0])

        return keep

    def _add(self, boundary: int, stream: Tensor) -> None:
        batch, length, width = stream.shape
        if boundary not in self._streams:
            self._streams[boundary] = stream.new_empty(self._rows or batch, self._positions, width)
        start = self._filled[boundary]
        self._streams[boundary][self.places, start : start + length] = stream
        self._filled[boundary] = start + length

    def begin(self, streams: Mapping[int, Tensor], rows: int) -> None:
        """So many rows begin alike with streams by boundary, (1, position, width)."""
        for boundary, stream in streams.items():
            _, length, width = stream.shape
            self._streams[boundary] = stream.new_empty(rows, self._positions, width)
            self._streams[boundary][:, :length] = stream
            self._filled[boundary] = length

    def take(self) -> dict[int, Tensor]:
        """All passes joined along positions, by boundary, each (batch, position, width)."""
        return {boundary: stream[:, : self._filled[boundary]] for boundary, stream in self._streams.items()}
