"""The manifest of a run, `run.json`, checked while it is read: what comes out has the types that the rest of the tool relies on.

The file may have been written by an older driftcli, cut off, edited or made up: each value is held against the type of the field that it
becomes, and what does not fit is a RunError that names the place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, cast, get_args, get_origin, get_type_hints

from driftcli.conditions import Wiring
from driftcli.domain import PairCard, RunSpec, Sourced, System, TwinCard
from driftcli.errors import RunError
from driftcli.statistics.rounding import Rounding
from driftcli.traces.layout import CONDITION, MANIFEST
from driftcli.traces.schema import VERSION
from driftcli.traces.writer import Plain

DEEPEST = 127  # proposals a chain that the traces' int8 can number
LARGEST = 1 << 62  # of any whole number in it (chosen by us)
LONGEST_SHOWN = 60  # characters of a wrong value that an error repeats (chosen by us)
RECORD: Mapping[str, object] = {  # fields of a drafter's record that are more than words
    "reading": System,
    "capture": tuple[int, ...],
    "max_position_embeddings": int | None,
}
VALUE = bool | int | float | str | tuple[int, ...] | None  # of a sourced field


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose values have been checked, with the pair and the request that it holds."""

    content: dict[str, Plain]
    complete: bool
    pair: PairCard
    spec: RunSpec


class Misfit(ValueError):
    """A value that is not of its field's type."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder; raises RunError where there is none, it is not whole, or a newer driftcli wrote it."""
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise RunError(f"{path}: this is no plain file, expected the manifest of a run; name the folder that diagnose wrote")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number, parse_float=_finite)
        if isinstance(content, dict) and isinstance(content.get("schema"), int) and content["schema"] > VERSION:
            raise RunError(f"{folder}: written with trace schema {content['schema']}, this driftcli reads up to {VERSION}; update driftcli")
        return _checked(content)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder}: no run.json, expected the folder of a driftcli run; name the folder that diagnose wrote") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}), expected the manifest of a run; check the folder") from error
    except RecursionError:
        raise RunError(f"{path}: not a readable manifest of a run (nested too deep); run the diagnosis again") from None
    except ValueError as error:
        raise RunError(f"{path}: not a readable manifest of a run ({error}); run the diagnosis again") from error


def _checked(content: object) -> Manifest:
    held = _object("the whole", content)
    request = _object("request", _item(held, "request"))
    complete = _built("complete", bool, _item(held, "complete"))
    _built("schema", int, _item(held, "schema"))
    held.setdefault("conditions", request.get("conditions", []))  # as runs were written before probes asked in rounds
    for name in ("conditions", "other_conditions"):
        for place, condition in enumerate(_list(name, held.get(name, []))):
            _check_condition(f"{name}[{place}]", condition)
    for kind in ("failed", "dropped"):
        for place, absent in enumerate(_list(kind, held.get(kind, []))):
            for key in ("name", "reason"):
                _built(f"{kind}[{place}].{key}", str, _item(_object(f"{kind}[{place}]", absent), key, f"{kind}[{place}]."))
    _built("request.probes", tuple[str, ...], _item(request, "probes", "request."))
    _built("batches", tuple[tuple[str, ...], ...], held.get("batches", []))
    _check_facts(held, request, finished=bool(complete))
    twin_of(held)
    rounding_of(held)
    return Manifest(cast("dict[str, Plain]", held), bool(complete), _pair(_item(held, "pair")), _spec(request))


def _check_facts(held: dict[str, object], request: dict[str, object], *, finished: bool) -> None:
    """What is told of a run besides its numbers, all of it where the run is finished."""
    kinds = {"versions": Mapping[str, str], "device_name": str, "notes": tuple[str, ...], "ignored_generation_settings": tuple[str, ...]}
    for name, kind in kinds.items():
        if finished or name in held:
            _built(name, kind, _item(held, name))
    for name in ("started", "finished"):
        if finished or name in held:
            _check_time(name, _item(held, name))
    for name in ("dtype", "device"):
        _built(f"request.{name}", str, _item(request, name, "request."))
    _built("target_quantisation", str | None, held.get("target_quantisation"))


def _check_time(name: str, given: object) -> None:
    try:
        aware = datetime.fromisoformat(str(_built(name, str, given))).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise _misfit(name, given, "a time with its zone, as 2026-01-02T03:04:05+00:00")


def _check_condition(where: str, given: object) -> None:
    condition = _object(where, given)
    for key in ("name", "probe"):
        word = _built(f"{where}.{key}", str, _item(condition, key, f"{where}."))
        if key == "name" and not re.fullmatch(CONDITION, str(word)):
            raise _misfit(f"{where}.name", word, "letters, digits and . _ + - only")
    settings, text = (_object(f"{where}.{key}", condition.get(key, {})) for key in ("settings", "text"))
    if settings:
        _depth(f"{where}.settings.depth", _item(settings, "depth", f"{where}.settings."))
        wiring_of(settings.get("wiring", {}), f"{where}.settings.wiring")
        _built(f"{where}.settings.window", int | None, settings.get("window"))
    _built(f"{where}.text.temperature", float, text.get("temperature", 0))
    _built(f"{where}.text.length", int, text.get("length", 0))


def wiring_of(given: object, where: str = "wiring") -> Wiring:
    """The wiring that a manifest holds; raises Misfit naming the place."""
    return cast("Wiring", _built(where, Wiring, given))


def twin_of(held: Mapping[str, object]) -> TwinCard | None:
    """The twin that a manifest's run is held against, None where it is held against none; raises Misfit naming the place."""
    given = held.get("twin")
    return None if given is None else cast("TwinCard", _built("twin", TwinCard, given))


def rounding_of(held: Mapping[str, object]) -> Rounding | None:
    """What float32 changes by a manifest, None where it was not asked; raises Misfit naming the place."""
    given = held.get("rounding")
    return None if given is None else cast("Rounding", _built("rounding", Rounding, given))


def _pair(given: object) -> PairCard:
    card = cast("PairCard", _built("pair", PairCard, given))
    for name, kind in RECORD.items():
        if name in card.record:
            _built(f"pair.record.{name}", kind, _as_json(card.record[name].value))
    for name in card.readings:
        _built("pair.readings", System, name)
    return card


def _as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _spec(request: dict[str, object]) -> RunSpec:
    names = [field.name for field in fields(RunSpec)]
    spec = cast("RunSpec", _built("request", RunSpec, {name: request[name] for name in names if name in request}))
    _depth("request.depth", spec.depth)
    if least := next((name for name in ("max_new_tokens", "batch_size", "seed", "temperature") if getattr(spec, name) < 0), None):
        raise _misfit(f"request.{least}", getattr(spec, least), "a number that is not negative")
    return spec


def _depth(where: str, given: object) -> None:
    if not 1 <= cast("int", _built(where, int, given)) <= DEEPEST:
        raise _misfit(where, given, f"1 to {DEEPEST}")


def _built(where: str, kind: object, given: object) -> object:
    """A JSON value as a value of `kind`: plain, `Literal`, tuple, mapping, union or dataclass; raises Misfit naming the place."""
    if is_dataclass(kind):
        return _dataclass(where, cast("type", kind), _object(where, given))
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _any_of(where, inner, given)
    if origin is Literal:
        if not isinstance(given, str) or given not in inner:
            raise _misfit(where, given, f"one of {', '.join(map(str, inner))}")
        return given
    if origin is tuple:
        return tuple(_built(f"{where}[{place}]", inner[0], one) for place, one in enumerate(_list(where, given)))
    if origin is not None:
        return {name: _built(f"{where}.{name}", inner[1], one) for name, one in _object(where, given).items()}
    return _plain(where, cast("type", kind), given)


def _any_of(where: str, kinds: Sequence[object], given: object) -> object:
    """A value of the first kind that it fits."""
    for kind in kinds:
        try:
            return _built(where, kind, given)
        except Misfit as error:
            last = error
    raise last


def _plain(where: str, kind: type, given: object) -> object:
    fits = isinstance(given, int | float) and not isinstance(given, bool) if kind is float else type(given) is kind
    if not fits or (isinstance(given, int) and abs(given) > LARGEST):
        raise _misfit(where, given, "null" if kind is NoneType else kind.__name__)
    return given


def _dataclass(where: str, kind: type, given: dict[str, object]) -> object:
    hints = _hints(kind)
    if unknown := given.keys() - hints.keys():
        raise Misfit(f"{where}.{sorted(unknown)[0][:LONGEST_SHOWN]}: no such field")
    for field in fields(kind):
        if field.default is MISSING and field.default_factory is MISSING:
            _item(given, field.name, f"{where}.")
    return kind(**{name: _built(f"{where}.{name}", hints[name], value) for name, value in given.items()})


@cache
def _hints(kind: type) -> dict[str, object]:
    return {"value": VALUE, "source": str} if kind is Sourced else get_type_hints(kind)


def _object(where: str, given: object) -> dict[str, object]:
    if not isinstance(given, dict):
        raise _misfit(where, given, "an object")
    return given


def _list(where: str, given: object) -> list[object]:
    if not isinstance(given, list):
        raise _misfit(where, given, "a list")
    return given


def _item(held: Mapping[str, object], key: str, where: str = "") -> object:
    if key not in held:
        raise Misfit(f"{where}{key} is missing")
    return held[key]


def _no_number(word: str) -> float:
    raise Misfit(f"{word} is no number")


def _finite(word: str) -> float:
    if not isfinite(number := float(word)):
        raise Misfit(f"{word[:LONGEST_SHOWN]} is no finite number")
    return number


def _misfit(where: str, given: object, expected: str) -> Misfit:
    shown = repr(given)
    return Misfit(f"{where}: saw {shown[:LONGEST_SHOWN]}{'...' * (len(shown) > LONGEST_SHOWN)}, expected {expected}")
