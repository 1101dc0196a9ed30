"""What each choice in the training of `driftcli heal` is worth: `python -m tests.benchmarks.healing_choices --target T --drafter D --replies FILE --cache FOLDER`

The head is trained by each variant for the same minutes on the same four fifths of the conversations, and judged on the last fifth, which
none of them saw:

    as heal does           chains end at their first wrong guess
    chains to the end      every chain is drafted as deep as it is unrolled
    small parts first      fc, norms and output rows alone for a third of the time, then all
    half acceptance        half of the loss is accepted tokens, sum_d prod min(p, q), not cross-entropy
    rate R                 another peak learning rate

Printed of each: steps, accepted draft tokens an anchor with the change against the untrained head and its 95% interval (conversations drawn
again), and how often the first guess is right. --retrofit: with normed feedback put in before.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.head import TrainedDrafter
from driftcli.healing.losses import AcceptanceLoss
from driftcli.healing.places import HeadFiles, head_files
from driftcli.healing.training import Course, trained, treated, usual_rate
from driftcli.loading.pair import load_pair
from driftcli.target.language_model import LanguageModel, quiet_transformers
from driftcli.training.conversations import read_conversations
from driftcli.training.learning import split
from driftcli.training.losses import TargetHead
from driftcli.training.streams import Streams, capture

JUDGED = 5  # every fifth conversation judges
SMALL = 1 / 3  # of the time, for small parts alone
LARGE = ("attention", "mlp")  # parts of a layer


class Bench:
    """A head, what its target says, and where variants are trained."""

    def __init__(self, asked: argparse.Namespace) -> None:
        pair = load_pair(asked.target, asked.drafter, torch.device("cpu"), "float32")
        assert isinstance(pair.target, LanguageModel)
        assert isinstance(pair.drafter, Eagle3)
        self.asked, self.target = asked, pair.target
        talks = read_conversations(asked.replies, len(pair.target.head))[: asked.conversations]
        self.data = capture(pair.target, talks, asked.cache, sorted(pair.drafter.boundaries))
        self.files = head_files(asked.drafter, pair.target, pair.drafter)
        self.before = self.untreated = pair.drafter
        if asked.retrofit:
            made, _ = treated(pair.drafter, ("norm-output",), self.data, pair.target)
            assert isinstance(made, Eagle3)
            self.before = made
        rows = range(len(talks))
        _, self.judging = split(talks, asked.unroll, [row for row in rows if row % JUDGED == 0])
        self.taught = Streams(self.data.held, self.data.boundaries, *self._but_for(frozenset(self.judging)))

    def _but_for(self, judging: frozenset[int]) -> tuple[list, np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        """The conversations that are learned from, laid side by side."""
        own = [row for row in range(len(self.data.conversations)) if row not in judging]
        spans = [slice(self.data.offsets[row], self.data.offsets[row + 1]) for row in own]
        lengths = [len(self.data.conversations[row].ids) for row in own]
        parts = (np.concatenate([held[span] for span in spans]) for held in (self.data.streams, self.data.tops))
        return [self.data.conversations[row] for row in own], np.cumsum([0, *lengths]), *parts  # type: ignore[return-value]

    def course(self, share: float = 1.0, **others: float) -> Course:
        asked = self.asked
        settings = {"rate": asked.rate or usual_rate(self.untreated), "acceptance": 0.0, **others}
        return Course(asked.unroll, tokens=2048, seed=asked.seed, minutes=asked.minutes * share, **settings)

    def train(self, drafter: Eagle3, files: HeadFiles, course: Course, name: str) -> tuple[Eagle3, int]:
        out = self.asked.cache / "variants" / name
        shutil.rmtree(out, ignore_errors=True)
        made, facts = trained(drafter, self.untreated, files, self.taught, self.target, course, out)
        assert isinstance(made, Eagle3)
        return made, int(str(facts["steps"]))

    @torch.no_grad()
    def accepted(self, drafter: Eagle3) -> np.ndarray:
        """Anchors and then chains that got past each depth, by conversation that judges; (conversation, 1 + depth)."""
        head = TrainedDrafter(drafter, [], self.data.boundaries)
        read = TargetHead.of(self.target, drafter.vocabulary.to_target, "float32")
        found = np.zeros((len(self.judging), 1 + self.asked.unroll))
        for number, row in enumerate(self.judging):
            batch = self.data.batch([row], self.target.device)
            for step, loss in enumerate(AcceptanceLoss(0.0)(head, self.target.embedding, read, batch, self.asked.unroll)):
                found[number, 0] += loss.rows if step == 0 else 0
                found[number, 1 + step] = loss.rows * loss.agreement.item()
        return found


def as_heal_does(bench: Bench, name: str) -> tuple[Eagle3, int]:
    return bench.train(bench.before, bench.files, bench.course(), name)


def to_the_end(bench: Bench, name: str) -> tuple[Eagle3, int]:
    with patch.object(AcceptanceLoss, "going_on", lambda _, right: torch.ones_like(right)):
        return as_heal_does(bench, name)


def small_first(bench: Bench, name: str) -> tuple[Eagle3, int]:
    small = {place: raw for place, raw in bench.files.names.items() if not any(large in place for large in LARGE)}
    begun, few = bench.train(bench.before, replace(bench.files, names=small), bench.course(SMALL), f"{name} begun")
    made, more = bench.train(begun, bench.files, bench.course(1 - SMALL), name)
    return made, few + more


def half_acceptance(bench: Bench, name: str) -> tuple[Eagle3, int]:
    return bench.train(bench.before, bench.files, bench.course(acceptance=0.5), name)


def variants(asked: argparse.Namespace) -> Mapping[str, Callable[[Bench, str], tuple[Eagle3, int]]]:
    """By name."""

    def at(rate: float) -> Callable[[Bench, str], tuple[Eagle3, int]]:
        return lambda bench, name: bench.train(bench.before, bench.files, bench.course(rate=rate), name)

    return {
        "as heal does": as_heal_does,
        "chains to the end": to_the_end,
        "small parts first": small_first,
        "half acceptance": half_acceptance,
        **{f"rate {rate:g}": at(rate) for rate in asked.rates},
    }


def told(counts: np.ndarray, before: np.ndarray) -> str:
    """Accepted draft tokens an anchor, the change with its interval, and the share of right first guesses."""
    drawn = np.random.default_rng(0).integers(len(counts), size=(2000, len(counts)))

    def of(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
        chosen = found[rows].sum(-2)
        made: np.ndarray = chosen[..., 1:].sum(-1) / chosen[..., 0]
        return made

    every = np.arange(len(counts))
    low, high = np.quantile(of(counts, drawn) - of(before, drawn), [0.025, 0.975])
    change = of(counts, every) - of(before, every)
    return f"{of(counts, every):.3f} | {change:+.3f} [{low:+.3f}, {high:+.3f}] | {counts[:, 1].sum() / counts[:, 0].sum():.1%}"


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="bundled:target")
    parser.add_argument("--drafter", default="bundled:pre-norm")
    parser.add_argument("--replies", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--unroll", type=int, default=8)
    parser.add_argument("--rate", type=float, help="default: as heal's, by the head's width")
    parser.add_argument("--rates", type=float, nargs="*", default=[2e-4, 1e-3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--retrofit", action="store_true")
    parser.add_argument("--only", nargs="*", help="names of variants")
    asked = parser.parse_args()
    quiet_transformers()
    torch.set_num_threads(asked.threads)
    bench = Bench(asked)
    before = bench.accepted(bench.before)
    print("| variant | steps | accepted an anchor | change | first guess right |\n|---|---|---|---|---|")
    print(f"| untrained | - | {told(before, before)} |", flush=True)
    for name, train in variants(asked).items():
        if not asked.only or name in asked.only:
            made, steps = train(bench, name)
            print(f"| {name} | {steps} | {told(bench.accepted(made), before)} |", flush=True)


if __name__ == "__main__":
    main()
