"""One temperature a depth for what a drafter says of its own draft tokens, so that the product over a chain is the share that survives.

The temperature divides the logit of a probability, `log(p / (1 - p))`. For a confidence head that is its own output. For a drafter's
probability of its draft token it is the logit of that token against all others together, which is what a trace holds: whoever applies it
computes `p^(1/t) / (p^(1/t) + (1-p)^(1/t))` and leaves the draft tokens as they are. It is not the temperature of a softmax over the whole
vocabulary, which would need all of its logits; with two tokens they are the same.

Depths are fitted from the first on, each to the product up to itself with the earlier ones fixed, as DSpark's sequential temperature
scaling does (arXiv:2607.05147, section 3.2.1), in place of one temperature for all (Guo et al. 2017, arXiv:1706.04599, section 4.2). What
is made least is the squared error of the product, the Brier score. The calibration error by bins, which DSpark takes, is no proper score
and not smooth. The log loss, which Guo takes, has no bound: a few chains that survive though the drafter all but excluded it rule the fit,
and on bundled pairs it made the forecasts of other prompts worse where the squared error did not. The interval is that of an estimate by
several equations at once (Huber 1967): how much each unit pulls at every temperature, earlier ones included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftcli.statistics.distributions import logistic
from driftcli.statistics.walks import Floats, by_unit

LEAST = 1e-7  # distance of a probability from 0 and 1, so that its logit is finite: what float32 can tell from 1 (chosen by us)
RANGE = 16.0  # temperatures between 1 / 16 and 16 are looked at; beyond there is nothing but always or never (chosen by us)
COARSE, FINE = 49, 24  # temperatures of the first look, and halvings of what is left behind it (chosen by us)
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Fit:
    """Temperatures by depth, 1 where none could be fitted.

    fitted: by depth, whether one was: a depth at which all chains survive, or none, tells nothing. pull: (unit, depth), by how much each
    unit moves the logarithm of each temperature; the sums over units are 0.
    """

    temperatures: tuple[float, ...]
    fitted: tuple[bool, ...]
    pull: Floats


def logits(probability: Floats) -> Floats:
    """The logit of each probability, finite for 0 and 1 too."""
    kept = np.clip(probability, LEAST, 1 - LEAST)
    found: Floats = np.log(kept) - np.log1p(-kept)
    return found


def survival(probability: Floats, temperatures: tuple[float, ...] = ()) -> Floats:
    """Product of the probabilities up to each depth, each under its depth's temperature, or as they are without any.

    probability: (anchor, depth), of each draft token given that those before it are accepted. Fewer depths than temperatures are the first
    ones.
    """
    scaled = logistic(logits(probability) / np.array(temperatures)[: probability.shape[1]]) if temperatures else probability
    return np.cumprod(scaled, axis=1, dtype=np.float64)


def fit(probability: Floats, accepted: np.ndarray, unit: np.ndarray, units: int) -> Fit:
    """The temperatures under which the products come closest to what survived.

    probability: (anchor, depth); accepted: (anchor,) draft tokens kept; unit: (anchor,) of each, one of `units`.
    """
    logit, before = logits(probability), np.ones(len(accepted))
    chosen, fitted = list[float](), list[bool]()
    for place in range(logit.shape[1]):
        survived = accepted > place
        found = _least(logit[:, place], before, survived) if 0 < survived.sum() < len(survived) else None
        chosen.append(1.0 if found is None else found)
        fitted.append(found is not None)
        before = before * logistic(logit[:, place] / chosen[-1])
    pull = _pull(logit / np.array(chosen), accepted, unit, units, np.array(fitted))
    return Fit(tuple(chosen), tuple(fitted), pull)


def _loss(temperature: float, logit: Floats, before: Floats, survived: np.ndarray) -> float:
    """Squared error of the products whose last factor has this temperature. before: (anchor,) the product of the others."""
    return float(np.square(before * logistic(logit / temperature) - survived).sum())


def _least(logit: Floats, before: Floats, survived: np.ndarray) -> float | None:
    """The temperature of the least loss, None where it lies at an end of what is looked at."""
    grid = np.geomspace(1 / RANGE, RANGE, COARSE)
    losses = [_loss(float(one), logit, before, survived) for one in grid]
    best = int(np.argmin(losses))
    if best in (0, COARSE - 1):
        return None
    low, high = np.log(grid[best - 1]), np.log(grid[best + 1])
    for _ in range(FINE):
        first, second = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        falls = _loss(float(np.exp(first)), logit, before, survived) > _loss(float(np.exp(second)), logit, before, survived)
        low, high = (first, high) if falls else (low, second)
    return float(np.exp((low + high) / 2))


def _pull(scaled: Floats, accepted: np.ndarray, unit: np.ndarray, units: int, fitted: np.ndarray) -> Floats:
    """By how much each unit moves the logarithm of each temperature, (unit, depth): its share of the slopes of all losses, through what
    they bend. Of half the loss at a depth `(S - y) S` is the slope by the logarithm of the product `S`, and `-x (1 - logistic(x))` that of
    the product's logarithm by that of a temperature, `x` being the scaled logit.
    """
    depth, survived = scaled.shape[1], accepted[:, None] > np.arange(scaled.shape[1])
    product = np.cumprod(logistic(scaled), axis=1)
    slope, bend = (product - survived) * product, (2 * product - survived) * product
    past = logistic(-scaled)
    by_temperature = -scaled * past
    own = scaled * past - scaled**2 * past * (1 - past)
    bends = np.einsum("ad,aj->dj", bend * by_temperature, by_temperature) * np.tri(depth)
    bends += np.diag((slope * own).sum(axis=0))
    pulls = by_unit(unit, slope * by_temperature, units)
    moved, some = np.zeros_like(pulls), np.flatnonzero(fitted)
    if len(some):
        moved[:, some] = -np.linalg.solve(bends[np.ix_(some, some)], pulls[:, some].T).T
    return moved
