"""How much noise does the drafter bear on its state, and how much on its embedding?

A head that reads its own state along the chain must bear states that are a little off. The paper holds the two inputs against one another:
of a pre-norm head half the state's own RMS as noise leaves 5% of the accepted drafts, of a post-norm head 58%, while the same on the
embedding leaves 86% and 93% (arXiv:2605.09992). Noise is on what every step reads, the fresh pass over the prompt included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from driftcli.conditions import Condition, DraftSettings, Noise
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.walks import MINIMAL_PROMPTS

PATHS: tuple[Literal["state", "embedding"], ...] = ("state", "embedding")
ALPHAS = (0.1, 0.5, 1.0)  # arXiv:2605.09992


@dataclass(frozen=True)
class InputNoise:
    """Noise on one input path at a time."""

    name: str = "noise"
    axes: tuple[Axis, ...] = ()  # a note: nobody serves with noise
    at: float = 0.5  # alpha that is judged; chosen by us: the paper's heads differ most there
    fragile: float = 0.3  # share of accepted drafts kept below which the state is fragile; chosen by us, between the paper's heads

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Each path at each alpha; none for a drafter without a state."""
        if pair.no_recursion is not None:
            return ()
        return [
            Condition(_named(path, alpha), DraftSettings(spec.depth, noise=Noise(path, alpha, spec.seed)), self.name)
            for path in PATHS
            for alpha in ALPHAS
        ]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note where noise on the state takes nearly all and the same noise on the embedding does not."""
        if trace.pair.no_recursion is not None or trace.n_prompts < MINIMAL_PROMPTS:
            return
        state, embedding = (trace.ratio_to_baseline(accepted_drafts, _named(path, self.at)) for path in PATHS)
        if isinstance(state, Estimate) and isinstance(embedding, Estimate) and state.high < self.fragile < embedding.low:
            left = f"leaves {state.value:.0%} of the accepted draft tokens, on the embedding {embedding.value:.0%}"
            claim = f"noise of {self.at:.0%} of the RMS on the hidden state {left}"
            fix = "retrain with post-norm feedback and per-stream norms (EAGLE 3.1)"
            yield Finding("STATE-FRAGILE", "healthy", claim, state, "share of accepted drafts", fix, _named("state", self.at))


def _named(path: str, alpha: float) -> str:
    return f"noise-{path}-{alpha:g}"
