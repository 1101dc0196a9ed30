"""Costs as a file: `costs.json` of a run and `--costs`, written by us or by a person, refused by file and key where it is wrong."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TypeAlias

import numpy as np

from driftcli.errors import SourceError
from driftcli.statistics.costs import BatchCosts, Costs, RoundCosts, StepCosts, TimedIn, interpolated
from driftcli.statistics.round_turns import RoundTurns
from driftcli.statistics.turns import Turns
from driftcli.statistics.walks import Floats

Plain: TypeAlias = "int | float | str | Sequence[Plain] | Mapping[str, Plain]"
CostsJson: TypeAlias = Mapping[str, Plain]
KEYS = ("source", "context", "by_batch", "engine")
OPTIONAL = ("source", "engine")
ENGINE_KEYS = ("name", "version", "device", "dtype", "threads", "settings")  # the last two may be left out, or null
NUMBERS = ("batch_size", "draft_first", "draft_step", "draft_read")
BATCH_KEYS = ("batch_size", "draft_first", "draft_step", "verify", "draft_read", "turns")  # the last two may be left out
ROUND_KEYS = ("batch_size", "rounds", "turns")  # whole rounds by their number of draft tokens, in place of steps; the last may be left out
TURN_KEYS = ("draft_first", "draft_read", "draft_step", "verify")
LENGTH = r"[1-9][0-9]{0,3}"  # a number of tokens
LONGEST_SHOWN = 80  # characters of a wrong value that an error repeats (chosen by us)


def costs_json(costs: Costs) -> CostsJson:
    """Costs as `run.json` and `--costs` hold them."""
    engine: dict[str, Plain] = {} if costs.engine is None else {"engine": engine_json(costs.engine)}
    return {"source": costs.source, **engine, "context": costs.context, "by_batch": list(map(_batch_json, costs.by_batch))}


def engine_json(engine: TimedIn) -> dict[str, Plain]:
    """The engine that was timed, as JSON."""
    return {key: getattr(engine, key) for key in ENGINE_KEYS}


def _batch_json(costs: BatchCosts) -> Mapping[str, Plain]:
    if isinstance(costs, RoundCosts):
        turns = {} if costs.turns is None else {"turns": _by_length(costs.turns.lengths, costs.turns.seconds)}
        return {"batch_size": costs.batch_size, "rounds": {str(drafts): one for drafts, one in enumerate(costs.rounds)}, **turns}
    row: dict[str, Plain] = {**{key: getattr(costs, key) for key in NUMBERS}, "verify": list(costs.verify)}
    if costs.turns is not None:
        first, read, step, *verify = costs.turns.seconds.T.tolist()
        by_length = {str(length): seconds for length, seconds in zip(costs.turns.lengths, verify, strict=True)}
        row["turns"] = {"draft_first": first, "draft_read": read, "draft_step": step, "verify": by_length}
    return row


def _by_length(lengths: Sequence[int], seconds: Floats) -> dict[str, Plain]:
    return {str(length): column for length, column in zip(lengths, seconds.T.tolist(), strict=True)}


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
        if isinstance(one, RoundCosts) and one.deepest < depth:
            raise SourceError(
                f"{path}, by_batch[{place}].rounds: holds rounds of up to {one.deepest} draft tokens, expected up to {depth}; time longer "
                "ones (driftcli costs --draft-lengths) or lower --depth"
            )
        if isinstance(one, StepCosts) and one.deepest < depth:
            raise SourceError(
                f"{path}, by_batch[{place}].verify: holds steps of up to {len(one.verify)} tokens, expected up to {depth + 1} for "
                f"{depth} drafts; measure deeper or lower --depth"
            )
    return costs


def costs_of_json(given: object, where: str = "costs") -> Costs:
    """Costs from what `costs_json` wrote, or a person; raises SourceError naming `where` and key. Without a source `where` is it."""
    row = _object(where, given, KEYS, optional=OPTIONAL)
    source, batches = row.get("source", where), row["by_batch"]
    if not isinstance(source, str):
        raise _wrong(f"{where}, source", source, "a text that says where the costs come from")
    if not isinstance(batches, list) or not batches:
        raise _wrong(f"{where}, by_batch", batches, f"a list of objects with {', '.join(BATCH_KEYS)}")
    found = tuple(_batch_costs(f"{where}, by_batch[{place}]", batch) for place, batch in enumerate(batches))
    sizes = [one.batch_size for one in found]
    if twice := next((size for size in sizes if sizes.count(size) > 1), None):
        raise SourceError(f"{where}, by_batch: batch_size {twice} stands there twice, expected each once; leave one out")
    engine = _engine(f"{where}, engine", row["engine"]) if "engine" in row else None
    return Costs(source, _whole(f"{where}, context", row["context"]), found, engine)


def _engine(where: str, given: object) -> TimedIn:
    row = _object(where, given, ENGINE_KEYS, optional=ENGINE_KEYS[-2:])
    words = [row[key] for key in ENGINE_KEYS[:4]] + [row.get("settings") or ""]
    if odd := next((word for word in words if not isinstance(word, str)), None):
        raise _wrong(where, odd, f"texts for {', '.join(ENGINE_KEYS[:4])}")
    name, version, device, dtype, settings = map(str, words)
    threads = row.get("threads")
    return TimedIn(name, version, device, dtype, None if threads is None else _whole(f"{where}.threads", threads), settings)


def _batch_costs(where: str, given: object) -> BatchCosts:
    """Whole rounds where there are any, else steps."""
    return _round_costs(where, given) if isinstance(given, dict) and "rounds" in given else _step_costs(where, given)


def _round_costs(where: str, given: object) -> RoundCosts:
    row = _object(where, given, ROUND_KEYS, optional=("turns",))
    size = _whole(f"{where}.batch_size", row["batch_size"])
    if "turns" in row:
        by_drafts = _by_drafts(f"{where}.turns", row["turns"])
        columns = {drafts: _column(f"{where}.turns.{drafts}", values, signed=False) for drafts, values in by_drafts.items()}
        if odd := next((drafts for drafts, column in columns.items() if len(column) != len(columns[0])), None):
            raise SourceError(f"{where}.turns.{odd}: holds another number of turns than 0, expected {len(columns[0])}; correct it")
        return RoundCosts.timed(size, RoundTurns(tuple(columns), np.array(list(columns.values())).T))
    known = {drafts: _seconds(f"{where}.rounds.{drafts}", one) for drafts, one in _by_drafts(f"{where}.rounds", row["rounds"]).items()}
    every = np.interp(np.arange(max(known) + 1), list(known), list(known.values()))
    return RoundCosts(size, tuple(map(float, every)))


def _by_drafts(where: str, given: object) -> dict[int, object]:
    """What stands by a number of draft tokens, ordered by it; 0 and another must be among them."""
    expected = 'an object by number of draft tokens, with "0", a step of plain decoding, and at least another'
    if not isinstance(given, dict) or "0" not in given or len(given) < 2:
        raise _wrong(where, given, expected)
    if odd := next((key for key in given if key != "0" and not re.fullmatch(LENGTH, str(key))), None):
        raise _wrong(f"{where}, key", odd, "a number of draft tokens from 0 to 9999")
    return {int(key): given[key] for key in sorted(given, key=int)}


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
