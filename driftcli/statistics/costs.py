"""What speculation costs and pays: the seconds of each step of a pair, and the speed that a draft length then gives.

A round of `K` drafts is the drafter's first step, `K - 1` further ones and one target step over `K + 1` tokens; it commits the kept drafts
and one token besides, all of which the drafter's next first step reads. Plain decoding commits one token a step. What surrounds the steps
(sampling, scheduling) is in neither. Source: Leviathan et al. 2023, section 3.3, with a price of its own for a target step over every
number of tokens in place of one price for all.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import TypeAlias

import numpy as np

from driftcli.domain import Half
from driftcli.errors import SourceError, UsageError
from driftcli.statistics.turns import FALL, Seconds, Turns, falls
from driftcli.statistics.walks import Floats, ratio

Plain: TypeAlias = "int | float | str | Sequence[Plain] | Mapping[str, Plain]"
CostsJson: TypeAlias = Mapping[str, Plain]
KEYS = ("source", "context", "by_batch")  # the first may be left out
NUMBERS = ("batch_size", "draft_first", "draft_step", "draft_read")
BATCH_KEYS = ("batch_size", "draft_first", "draft_step", "verify", "draft_read", "turns")  # the last two may be left out
TURN_KEYS = ("draft_first", "draft_read", "draft_step", "verify")
LENGTH = r"[1-9][0-9]{0,3}"  # a number of tokens
LONGEST_SHOWN = 80  # characters of a wrong value that an error repeats (chosen by us)


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

    def round_seconds(self, drafts: int) -> float:
        """Seconds of a round of `drafts` drafts behind one that kept none, a plain step for none; UsageError beyond what was measured."""
        assert drafts >= 0
        if drafts >= len(self.verify):
            raise UsageError(
                f"costs at batch size {self.batch_size}: a round of {drafts} drafts verifies {drafts + 1} tokens, but steps are known up "
                f"to {len(self.verify)}; ask for at most {len(self.verify) - 1} drafts or measure deeper"
            )
        return (self.draft_first + (drafts - 1) * self.draft_step if drafts else 0.0) + self.verify[drafts]


@dataclass(frozen=True, slots=True)
class Costs:
    """Step costs by batch size, where they come from, and the tokens of context that they were measured at."""

    source: str
    context: int
    by_batch: tuple[StepCosts, ...]

    @property
    def deciding(self) -> StepCosts:
        """The costs of the batch size that was named first, by which settings are chosen."""
        return self.by_batch[0]

    def of_batch(self, size: int) -> StepCosts:
        """The costs of one batch size; UsageError where it was not measured."""
        for costs in self.by_batch:
            if costs.batch_size == size:
                return costs
        known = ", ".join(str(costs.batch_size) for costs in self.by_batch)
        raise UsageError(f"costs of {self.source}: hold no batch size {size}, expected one of {known}; measure it or ask for one of these")


def speed_up_of(rounds_by_drafts: Floats, kept: Floats, costs: StepCosts, half: Half | None = None) -> Floats:
    """Expected speed over plain decoding of rounds of different lengths; NaN without a round.

    rounds_by_drafts: (row, drafts), rounds that drafted exactly `0, 1, ...` tokens. kept: (row,) drafts kept in all of them. half: of the
    turns in which steps were timed; rows beyond one are draws of prompts, and each goes with a draw of the turns.
    """
    drafts = rounds_by_drafts.shape[-1] - 1
    if drafts >= len(costs.verify):
        costs.round_seconds(drafts)  # says what is missing
    steps = costs.seconds(half, len(kept))
    spent = (rounds_by_drafts * steps.rounds(drafts)).sum(axis=-1) + kept * steps.read
    return ratio((rounds_by_drafts.sum(axis=-1) + kept) * steps.verify[:, 0], spent)


def break_even_length(costs: StepCosts, drafts: int) -> float:
    """Acceptance length from which rounds of `drafts` drafts are faster than plain decoding; infinite where reading a token costs more."""
    saved = costs.plain - costs.draft_read
    return (costs.round_seconds(drafts) - costs.draft_read) / saved if saved > 0 else inf


def pays_from(costs: StepCosts, drafts: int) -> str:
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


def costs_json(costs: Costs) -> CostsJson:
    """Costs as `run.json` and `--costs` hold them."""
    return {"source": costs.source, "context": costs.context, "by_batch": list(map(_batch_json, costs.by_batch))}


def _batch_json(costs: StepCosts) -> Mapping[str, Plain]:
    row: dict[str, Plain] = {**{key: getattr(costs, key) for key in NUMBERS}, "verify": list(costs.verify)}
    if costs.turns is not None:
        first, read, step, *verify = costs.turns.seconds.T.tolist()
        by_length = {str(length): seconds for length, seconds in zip(costs.turns.lengths, verify, strict=True)}
        row["turns"] = {"draft_first": first, "draft_read": read, "draft_step": step, "verify": by_length}
    return row


def read_costs(path: Path, depth: int) -> Costs:
    """Costs of a JSON file, for rounds of up to `depth` drafts; raises SourceError naming file and key."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}), expected a file of step costs; check the name") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: no JSON ({error}), expected an object of step costs; write it again") from error
    costs = costs_of_json(given, str(path))
    for place, one in enumerate(costs.by_batch):
        if len(one.verify) <= depth:
            raise SourceError(
                f"{path}, by_batch[{place}].verify: holds steps of up to {len(one.verify)} tokens, expected up to {depth + 1} for "
                f"{depth} drafts; measure deeper or lower --depth"
            )
    return costs


def costs_of_json(given: object, where: str = "costs") -> Costs:
    """Costs from what `costs_json` wrote, or a person; raises SourceError naming `where` and key. Without a source `where` is it."""
    row = _object(where, given, KEYS, optional=("source",))
    source, batches = row.get("source", where), row["by_batch"]
    if not isinstance(source, str):
        raise _wrong(f"{where}, source", source, "a text that says where the costs come from")
    if not isinstance(batches, list) or not batches:
        raise _wrong(f"{where}, by_batch", batches, f"a list of objects with {', '.join(BATCH_KEYS)}")
    found = tuple(_step_costs(f"{where}, by_batch[{place}]", batch) for place, batch in enumerate(batches))
    sizes = [one.batch_size for one in found]
    if twice := next((size for size in sizes if sizes.count(size) > 1), None):
        raise SourceError(f"{where}, by_batch: batch_size {twice} stands there twice, expected each once; leave one out")
    return Costs(source, _whole(f"{where}, context", row["context"]), found)


def _step_costs(where: str, given: object) -> StepCosts:
    row = _object(where, given, BATCH_KEYS, optional=BATCH_KEYS[-2:])
    size = _whole(f"{where}.batch_size", row["batch_size"])
    if "turns" in row:
        return StepCosts.timed(size, _turns(f"{where}.turns", row["turns"]))
    first, further, read = (_seconds(f"{where}.{key}", row.get(key, 0), free=True) for key in ("draft_first", "draft_step", "draft_read"))
    return StepCosts(size, first, further, _verify(f"{where}.verify", row["verify"]), read)


def _turns(where: str, given: object) -> Turns:
    """Seconds by turn, each kind of step as a list of as many."""
    row = _object(where, given, TURN_KEYS)
    by_length = _object(f"{where}.verify", row["verify"], tuple(row["verify"])) if isinstance(row["verify"], dict) else {}
    if odd := next((key for key in by_length if not re.fullmatch(LENGTH, str(key))), None):
        raise _wrong(f"{where}.verify, key", odd, "a number of tokens from 1 to 9999")
    if "1" not in by_length:
        raise _wrong(f"{where}.verify", row["verify"], 'an object by number of tokens, with "1" among them, a list of seconds each')
    lengths = sorted(map(int, by_length))
    named = [(key, row[key]) for key in TURN_KEYS[:3]] + [(f"verify.{length}", by_length[str(length)]) for length in lengths]
    columns = [_column(f"{where}.{key}", values, signed=key == "draft_read") for key, values in named]
    if odd_key := next((key for (key, _), column in zip(named, columns, strict=True) if len(column) != len(columns[0])), None):
        raise SourceError(f"{where}.{odd_key}: holds another number of turns than draft_first, expected {len(columns[0])}; correct it")
    return Turns(tuple(lengths), np.array(columns).T)


def _column(where: str, given: object, *, signed: bool) -> list[float]:
    """Seconds of one kind of step by turn; signed: a difference of two steps, which noise may turn round."""
    if not isinstance(given, list) or not given:
        raise _wrong(where, given, "a list of seconds, one a turn")
    if not signed:
        return [_seconds(f"{where}[{turn}]", seconds) for turn, seconds in enumerate(given)]
    if odd := next((one for one in given if not isinstance(one, int | float) or isinstance(one, bool) or not isfinite(one)), None):
        raise _wrong(where, odd, "seconds, a finite number")
    return [float(one) for one in given]


def _verify(where: str, given: object) -> tuple[float, ...]:
    """Target steps, all of them as a list or some as an object by their number of tokens."""
    if isinstance(given, list) and given:
        return tuple(_seconds(f"{where}[{place}]", seconds) for place, seconds in enumerate(given))
    if not isinstance(given, dict) or not given:
        raise _wrong(where, given, "seconds of steps over 1, 2, ... tokens as a list, or as an object by number of tokens")
    if odd := next((key for key in given if not re.fullmatch(LENGTH, str(key))), None):
        raise _wrong(f"{where}, key", odd, "a number of tokens from 1 to 9999")
    if "1" not in given:
        raise SourceError(f'{where}: has no step of 1 token, expected key "1", a step of plain decoding; measure it too')
    return interpolated({int(key): _seconds(f"{where}.{key}", seconds) for key, seconds in given.items()})


def _object(where: str, given: object, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, object]:
    """An object with these keys and no others."""
    if not isinstance(given, dict):
        raise _wrong(where, given, f"an object with {', '.join(keys)}")
    if unknown := sorted(given.keys() - set(keys)):
        raise SourceError(f"{where}: unknown key {_shortened(unknown[0])}, expected only {', '.join(keys)}; take it out")
    if lost := [key for key in keys if key not in given and key not in optional]:
        raise SourceError(f"{where}: has no {lost[0]}, expected {', '.join(key for key in keys if key not in optional)}; add it")
    return given


def _whole(where: str, given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise _wrong(where, given, "a positive whole number")
    return given


def _seconds(where: str, given: object, *, free: bool = False) -> float:
    """Seconds as a finite number above 0; free: or 0, of a drafter that costs nothing."""
    number = given if isinstance(given, int | float) and not isinstance(given, bool) else -1
    if not (0 <= number <= sys.float_info.max) or (number == 0 and not free):
        raise _wrong(where, given, f"seconds, {'0 or a positive' if free else 'a positive'} number")
    return float(number)


def _wrong(where: str, given: object, expected: str) -> SourceError:
    return SourceError(f"{where}: saw {_shortened(given)}, expected {expected}; correct it")


def _shortened(value: object) -> str:
    """A value as Python would write it, cut to one short line."""
    shown = repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
