"""Short convolutions inside a block, as DFlash2 puts them around attention and MLP: each row is mixed with the few rows before it.

    D = Wk h                                    for either side, tap and group of numbers
    h'_r = sum_t (base[0, t] + D_r[0, t]) h_(r-t)    what the attention or the MLP reads; rows before the block's first are zero
    o'_r = sum_t (base[1, t] + D_r[1, t]) o_(r-t)    what it gives, in front of the residual sum

Sources: z-lab's dflash 0.1 and speculators 0.9, DFlash2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Convolution:
    """base: (side, tap, width); kernel: (side * tap * group, width), from which each row's own taps come, one a group of numbers."""

    base: Tensor
    kernel: Tensor

    def prepare(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Blocks of so many rows one behind the other, (step, width), mixed, and the taps for what comes out, (step, tap * group)."""
        before, behind = F.linear(x, self.kernel).chunk(2, dim=-1)
        return self._mixed(x, before, self.base[0], rows), behind

    def finish(self, x: Tensor, behind: Tensor, rows: int) -> Tensor:
        """What attention or MLP gave, mixed likewise."""
        return self._mixed(x, behind, self.base[1], rows)

    def _mixed(self, x: Tensor, own: Tensor, base: Tensor, rows: int) -> Tensor:
        taps, width = base.shape
        blocks, own = x.view(-1, rows, width), own.view(-1, rows, taps, own.shape[-1] // taps)
        weights = base + own.repeat_interleave(width // own.shape[-1], dim=-1)
        earlier = [F.pad(blocks, (0, 0, tap, 0))[:, :rows] for tap in range(taps)]
        return torch.stack([weights[:, :, tap] * one for tap, one in enumerate(earlier)]).sum(dim=0).view_as(x)
