"""A drafter whose weights are trained, as a module of torch."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.healing.unrolled import Chains
from driftcli.healing.weights import weights, with_weights
from driftcli.training.streams import Batch

DOT = "|"  # in place of a dot, which a parameter's name cannot have


class TrainedDrafter(nn.Module):
    """A drafter in float32 with the weights at `places` to be trained; the others stay as they are.

    boundaries: of the streams of a batch, in the order in which they lie side by side there.
    """

    def __init__(self, drafter: SelfFeedingDrafter, places: Iterable[str], boundaries: tuple[int, ...]) -> None:
        super().__init__()
        held = {place: tensor.detach().float().clone() for place, tensor in weights(drafter).items()}
        self.trained = nn.ParameterDict({place.replace(".", DOT): nn.Parameter(held[place]) for place in places})
        self.drafter = with_weights(drafter, {**held, **self.own})
        self.boundaries = boundaries

    @property
    def own(self) -> dict[str, Tensor]:
        """The trained weights by place."""
        return {name.replace(DOT, "."): parameter for name, parameter in self.trained.items()}

    def chains(self, batch: Batch, depth: int, chosen: Tensor) -> Chains:
        """Forced chains from some rows of each text, (text, chosen), whose guesses all lie inside it."""
        parts = batch.streams.float().chunk(len(self.boundaries), dim=-1)
        rows = batch.ids.shape[1] - 1 - depth
        return Chains(self.drafter, batch.ids, dict(zip(self.boundaries, parts, strict=True)), rows, depth, chosen)
