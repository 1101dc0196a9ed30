"""A drafter whose weights are trained, as a module of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log2

from torch import Tensor, nn

from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.healing.unrolled import Chains
from driftcli.healing.weights import weights, with_weights
from driftcli.training.streams import Batch

DOT = "|"  # in place of a dot, which a parameter's name cannot have


class TrainedDrafter(nn.Module):
    """A drafter in float32 with the weights at `places` to be trained; the others stay as they are.

    boundaries: of the streams of a batch, in the order in which they lie side by side there; units: powers of two in which some weights are
    held, since a step of the optimiser is as long for small numbers as for large ones.
    """

    def __init__(
        self, drafter: SelfFeedingDrafter, places: Iterable[str], boundaries: tuple[int, ...], units: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        held = {place: tensor.detach().float().clone() for place, tensor in weights(drafter).items()}
        self._units = units or {}
        self.trained = nn.ParameterDict({place.replace(".", DOT): nn.Parameter(held[place] / self._unit(place)) for place in places})
        self._as_it_was = with_weights(drafter, held)
        self.boundaries = boundaries

    @property
    def own(self) -> dict[str, Tensor]:
        """The trained weights by place."""
        named = {name.replace(DOT, "."): parameter for name, parameter in self.trained.items()}
        return {place: parameter * self._unit(place) if place in self._units else parameter for place, parameter in named.items()}

    def _unit(self, place: str) -> float:
        return self._units.get(place, 1.0)

    def drafter(self) -> SelfFeedingDrafter:
        """The drafter with the weights of now, through which gradients flow to them."""
        return with_weights(self._as_it_was, self.own)

    def chains(self, drafter: SelfFeedingDrafter, batch: Batch, depth: int, chosen: Tensor) -> Chains:
        """Forced chains of the drafter from some rows of each text, (text, chosen), whose guesses all lie inside it."""
        parts = batch.streams.float().chunk(len(self.boundaries), dim=-1)
        rows = batch.ids.shape[1] - 1 - depth
        return Chains(drafter, batch.ids, dict(zip(self.boundaries, parts, strict=True)), rows, depth, chosen)


def units(before: SelfFeedingDrafter, after: SelfFeedingDrafter) -> dict[str, float]:
    """By place, how many times larger than before a weight has become: the nearest power of two, so that nothing is rounded. A new weight
    is a norm's gain, which is 1 in most heads.
    """
    sizes = {place: _rms(weight) for place, weight in weights(before).items()}
    grown = {
        place: _rms(weight) / sizes.get(place, 1.0) for place, weight in weights(after).items() if _rms(weight) and sizes.get(place, 1.0)
    }
    return {place: 2.0 ** round(log2(times)) for place, times in grown.items() if round(log2(times))}


def _rms(weight: Tensor) -> float:
    return float(weight.detach().float().square().mean().sqrt())
