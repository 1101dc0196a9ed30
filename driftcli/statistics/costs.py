"""What speculation costs and pays: the seconds of each step of a pair, or of whole rounds in an engine, and the speed that a draft length
then gives.

A round of `K` drafts is the drafter's first step, `K - 1` further ones and one target step over `K + 1` tokens; it commits the kept drafts
and one token besides, all of which the drafter's next first step reads. Plain decoding commits one token a step. What surrounds the steps
(sampling, scheduling) is in neither. Source: Leviathan et al. 2023, section 3.3, with a price of its own for a target step over every
number of tokens in place of one price for all. Where an engine was timed in whole rounds, their seconds by draft length stand in place of
the steps, and sampling and scheduling are in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TypeAlias

import numpy as np

from driftcli.domain import Half
from driftcli.errors import UsageError
from driftcli.statistics.round_turns import RoundSeconds, RoundTurns, rounds_fall
from driftcli.statistics.turns import FALL, Seconds, Turns, falls
from driftcli.statistics.walks import Floats, ratio

TRANSFORMERS = "transformers"  # the engine of ours, which is no server


@dataclass(frozen=True, slots=True)
class TimedIn:
    """The engine that steps or rounds were timed in. threads: of a CPU; settings: what it was started with besides the pair."""

    name: str
    version: str
    device: str
    dtype: str
    threads: int | None = None
    settings: str = ""


@dataclass(frozen=True)
class StepCosts:
    """Seconds of one batch's steps.

    draft_first: the drafter's first step of a round, which reads the newly verified tokens, where that is one; draft_read: what each more
    of them adds to it, one for each draft that the round before kept. draft_step: each further step. verify: one target step over
    `1, 2, ...` tokens a sequence. turns: in which they were timed, None where somebody gave them, who is taken at their word.
    """

    batch_size: int
    draft_first: float
    draft_step: float
    verify: tuple[float, ...]
    draft_read: float = 0.0
    turns: Turns | None = field(default=None, compare=False)

    @classmethod
    def timed(cls, batch_size: int, turns: Turns) -> StepCosts:
        """Medians over turns, target steps so that they never fall with the number of tokens."""
        here = turns.point
        return cls(batch_size, float(here.first[0]), float(here.step[0]), tuple(map(float, here.verify[0])), float(here.read[0]), turns)

    def seconds(self, half: Half | None, rows: int) -> Seconds:
        """The steps as one half of the turns has them, all unless said; one row for the value, drawn turns for more."""
        if self.turns is None:
            first, read, step = (np.full(rows, value) for value in (self.draft_first, self.draft_read, self.draft_step))
            return Seconds(first, read, step, np.tile(self.verify, (rows, 1)))
        turns = self.turns if half is None else self.turns.halves[half]
        return turns.point if rows == 1 else turns.drawn

    @cached_property
    def doubt(self) -> str:
        """Why no speed is told by these times, since they or what follows from them cannot be; empty where nothing is wrong."""
        if self.turns is not None and self.turns.doubt:
            return self.turns.doubt
        fell = next((place for place in range(1, len(self.verify)) if self.verify[place] < (1 - FALL) * max(self.verify[:place])), None)
        if fell is not None:
            before = max(range(fell), key=lambda place: self.verify[place])
            return falls(before + 1, fell + 1, self.verify[before], self.verify[fell])
        if break_even_length(self, 1) < 1:
            return "a round of one draft took less time than a step of plain decoding, so that it would pay without a single draft kept"
        return ""

    @property
    def plain(self) -> float:
        """Seconds of a step of plain decoding."""
        return self.verify[0]

    @property
    def deepest(self) -> int:
        """Draft tokens of the longest round that is priced."""
        return len(self.verify) - 1

    def round_seconds(self, drafts: int) -> float:
        """Seconds of a round of `drafts` drafts behind one that kept none, a plain step for none; UsageError beyond what was measured."""
        assert drafts >= 0
        if drafts >= len(self.verify):
            raise UsageError(
                f"costs at batch size {self.batch_size}: a round of {drafts} drafts verifies {drafts + 1} tokens, but steps are known up "
                f"to {len(self.verify)}; ask for at most {len(self.verify) - 1} drafts or measure deeper"
            )
        return (self.draft_first + (drafts - 1) * self.draft_step if drafts else 0.0) + self.verify[drafts]


@dataclass(frozen=True)
class RoundCosts:
    """Seconds of one batch's rounds, each timed as a whole in an engine: drafting, verifying and what surrounds them.

    rounds: of `0, 1, ...` draft tokens, the first a step of plain decoding without a drafter. turns: in which they were timed, None where
    somebody gave them, who is taken at their word.
    """

    batch_size: int
    rounds: tuple[float, ...]
    turns: RoundTurns | None = field(default=None, compare=False)

    @classmethod
    def timed(cls, batch_size: int, turns: RoundTurns) -> RoundCosts:
        """Medians over turns, so that they never fall with the number of draft tokens; those between timed ones lie on a line."""
        return cls(batch_size, tuple(map(float, turns.point.by_drafts[0])), turns)

    def seconds(self, half: Half | None, rows: int) -> RoundSeconds:
        """As of `StepCosts`."""
        if self.turns is None:
            return RoundSeconds(np.tile(self.rounds, (rows, 1)))
        turns = self.turns if half is None else self.turns.halves[half]
        return turns.point if rows == 1 else turns.drawn

    @cached_property
    def doubt(self) -> str:
        """As of `StepCosts`."""
        if self.turns is not None:
            return self.turns.doubt
        fell = next((place for place in range(1, len(self.rounds)) if self.rounds[place] < (1 - FALL) * max(self.rounds[:place])), None)
        if fell is None:
            return ""
        before = max(range(fell), key=lambda place: self.rounds[place])
        return rounds_fall(before, fell, self.rounds[before], self.rounds[fell])

    @property
    def plain(self) -> float:
        """Seconds of a step of plain decoding."""
        return self.rounds[0]

    @property
    def draft_read(self) -> float:
        """Seconds that a kept draft token adds to the round after it: none that were timed apart."""
        return 0.0

    @property
    def deepest(self) -> int:
        """Draft tokens of the longest round that is priced."""
        return len(self.rounds) - 1

    def round_seconds(self, drafts: int) -> float:
        """Seconds of a round of `drafts` draft tokens; UsageError beyond what was measured."""
        assert drafts >= 0
        if drafts > self.deepest:
            raise UsageError(
                f"costs at batch size {self.batch_size}: rounds are known up to {self.deepest} draft tokens and {drafts} are asked for; "
                f"ask for at most {self.deepest}, or time longer rounds"
            )
        return self.rounds[drafts]


BatchCosts: TypeAlias = StepCosts | RoundCosts


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs by batch size, where they come from, and the tokens of context that they were measured at.

    engine: that they were timed in, None where that is not known.
    """

    source: str
    context: int
    by_batch: tuple[BatchCosts, ...]
    engine: TimedIn | None = None

    @property
    def deciding(self) -> BatchCosts:
        """The costs of the batch size that was named first, by which settings are chosen."""
        return self.by_batch[0]

    def of_batch(self, size: int) -> BatchCosts:
        """The costs of one batch size; UsageError where it was not measured."""
        for costs in self.by_batch:
            if costs.batch_size == size:
                return costs
        known = ", ".join(str(costs.batch_size) for costs in self.by_batch)
        raise UsageError(f"costs of {self.source}: hold no batch size {size}, expected one of {known}; measure it or ask for one of these")


def speed_up_of(rounds_by_drafts: Floats, kept: Floats, costs: BatchCosts, half: Half | None = None) -> Floats:
    """Expected speed over plain decoding of rounds of different lengths; NaN without a round.

    rounds_by_drafts: (row, drafts), rounds that drafted exactly `0, 1, ...` tokens. kept: (row,) drafts kept in all of them. half: of the
    turns in which steps were timed; rows beyond one are draws of prompts, and each goes with a draw of the turns.
    """
    drafts = rounds_by_drafts.shape[-1] - 1
    if drafts > costs.deepest:
        costs.round_seconds(drafts)  # says what is missing
    steps = costs.seconds(half, len(kept))
    spent = (rounds_by_drafts * steps.rounds(drafts)).sum(axis=-1) + kept * steps.read
    return ratio((rounds_by_drafts.sum(axis=-1) + kept) * steps.plain, spent)


def break_even_length(costs: BatchCosts, drafts: int) -> float:
    """Acceptance length from which rounds of `drafts` drafts are faster than plain decoding; infinite where reading a token costs more."""
    saved = costs.plain - costs.draft_read
    return (costs.round_seconds(drafts) - costs.draft_read) / saved if saved > 0 else inf


def pays_from(costs: BatchCosts, drafts: int) -> str:
    """From which acceptance length on rounds of so many draft tokens pay, in words."""
    length = break_even_length(costs, drafts)
    if length > drafts + 1:
        return "slower than plain decoding even if every draft token were accepted"
    return f"break-even at an acceptance length of {length:.2f}"


def interpolated(seconds: Mapping[int, float]) -> tuple[float, ...]:
    """Seconds of a target step over `1, 2, ...` tokens from those of some numbers, linearly between; that of 1 must be among them."""
    assert 1 in seconds
    known = sorted(seconds)
    every = np.interp(np.arange(1, known[-1] + 1), known, [seconds[number] for number in known])
    return tuple(map(float, every))
