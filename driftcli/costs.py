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
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeAlias

import numpy as np

from driftcli.errors import SourceError, UsageError
from driftcli.stats import Floats, ratio

CostsJson: TypeAlias = Mapping[str, str | int | Sequence[Mapping[str, int | float | Sequence[float]]]]
KEYS = ("source", "context", "by_batch")  # the first may be left out
BATCH_KEYS = ("batch_size", "draft_first", "draft_step", "verify", "draft_read")  # the last may be left out
LONGEST_SHOWN = 80  # characters of a wrong value that an error repeats (chosen by us)


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of one batch's steps.

    draft_first: the drafter's first step of a round, which reads the newly verified tokens, where that is one; draft_read: what each more
    of them adds to it, one for each draft that the round before kept. draft_step: each further step. verify: one target step over
    `1, 2, ...` tokens a sequence.
    """

    batch_size: int
    draft_first: float
    draft_step: float
    verify: tuple[float, ...]
    draft_read: float = 0.0

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


def speed_up(rounds: Floats, kept: Floats, costs: StepCosts, drafts: int) -> Floats:
    """Expected speed over plain decoding of rounds of `drafts` drafts; NaN without a round. rounds and kept drafts: of one shape."""
    return speed_up_of(np.multiply.outer(rounds, np.arange(drafts + 1) == drafts), kept, costs)


def speed_up_of(rounds_by_drafts: Floats, kept: Floats, costs: StepCosts) -> Floats:
    """Expected speed over plain decoding of rounds of different lengths; NaN without a round.

    rounds_by_drafts: (..., drafts), rounds that drafted exactly `0, 1, ...` tokens. kept: (...) drafts kept in all of them.
    """
    seconds = np.array([costs.round_seconds(drafts) for drafts in range(rounds_by_drafts.shape[-1])])
    return ratio((rounds_by_drafts.sum(axis=-1) + kept) * costs.plain, rounds_by_drafts @ seconds + kept * costs.draft_read)


def break_even_length(costs: StepCosts, drafts: int) -> float:
    """Acceptance length from which rounds of `drafts` drafts are faster than plain decoding; infinite where reading a token costs more."""
    saved = costs.plain - costs.draft_read
    return (costs.round_seconds(drafts) - costs.draft_read) / saved if saved > 0 else inf


def pays_from(costs: StepCosts, drafts: int) -> str:
    """From which acceptance length on rounds of `drafts` drafts pay, in words."""
    length = break_even_length(costs, drafts)
    return f"it pays from an acceptance length of {length:.2f}" if length <= drafts + 1 else "it would not pay if every draft were kept"


def interpolated(seconds: Mapping[int, float]) -> tuple[float, ...]:
    """Seconds of a target step over `1, 2, ...` tokens from those of some numbers, linearly between; that of 1 must be among them."""
    assert 1 in seconds
    known = sorted(seconds)
    every = np.interp(np.arange(1, known[-1] + 1), known, [seconds[number] for number in known])
    return tuple(map(float, every))


def costs_json(costs: Costs) -> CostsJson:
    """Costs as `run.json` and `--costs` hold them."""
    rows: list[Mapping[str, int | float | Sequence[float]]] = [
        {**{key: getattr(one, key) for key in BATCH_KEYS}, "verify": list(one.verify)} for one in costs.by_batch
    ]
    return {"source": costs.source, "context": costs.context, "by_batch": rows}


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
    row = _object(where, given, BATCH_KEYS, optional=BATCH_KEYS[-1:])
    first, further, read = (_seconds(f"{where}.{key}", row.get(key, 0), free=True) for key in ("draft_first", "draft_step", "draft_read"))
    return StepCosts(_whole(f"{where}.batch_size", row["batch_size"]), first, further, _verify(f"{where}.verify", row["verify"]), read)


def _verify(where: str, given: object) -> tuple[float, ...]:
    """Target steps, all of them as a list or some as an object by their number of tokens."""
    if isinstance(given, list) and given:
        return tuple(_seconds(f"{where}[{place}]", seconds) for place, seconds in enumerate(given))
    if not isinstance(given, dict) or not given:
        raise _wrong(where, given, "seconds of steps over 1, 2, ... tokens as a list, or as an object by number of tokens")
    if odd := next((key for key in given if not re.fullmatch(r"[1-9][0-9]{0,3}", str(key))), None):
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
