"""A policy read from a TOML file; what is wrong with one is a sentence that names the file and the key.

```toml
fail-on = "moderate"                 # as --fail-on; strict = true as --strict, band = 0.02 as --band

[limits]                             # as --min and --max
acceptance-length = { min = 2.5 }
"joint@3" = { min = 0.3 }
"acceptance-length[category=*]" = { min = 2.0 }                        # on the prompts of each category; the last one that fits decides
"acceptance-length[category=code-*]" = { min = 1.8, level = "warn" }   # off, warn or error
"acceptance-length[length=2048]" = { min = 1.5 }                       # on prompts that were filled up to so many tokens

[[rules]]                            # the last one that matches decides, limits among them
axis = "capacity"                    # or code, category, condition, length, rule: patterns with * and ?, all that are given must match
level = "error"                      # off, warn or error

[[accepted]]                         # does not fail until the end of that day
code = "TEMPLATE-SENSITIVE"
condition = "no-bos"
reason = "we always serve the BOS"
until = 2026-12-31
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from sys import float_info
from typing import TypeVar, get_args

from driftcli.comparison.words import why_no_band
from driftcli.domain import AXES
from driftcli.errors import SourceError
from driftcli.gate.limits import Limit, Side
from driftcli.gate.numbers import why_unknown
from driftcli.gate.policy import LEVELS, SELECTING, Accepted, Policy, Rule, Selector, why_no_code
from driftcli.printable import one_line
from driftcli.report.choices import FailOn
from driftcli.suggestions import meant
from driftcli.toml import LARGEST, read_toml

KEYS = ("fail-on", "strict", "band", "limits", "rules", "accepted")
Row = TypeVar("Row")
SIDES: tuple[Side, ...] = ("min", "max")
LONGEST_SHOWN = 60  # characters of a wrong value that an error repeats (chosen by us)


def read_policy(path: Path) -> Policy:
    """The policy of a file; raises SourceError for anything that is none."""
    held = _table(str(path), _loaded(path), KEYS)
    fail_on = None if "fail-on" not in held else _one_of(f"{path}, fail-on", held["fail-on"], get_args(FailOn))
    strict = held.get("strict", False)
    if not isinstance(strict, bool):
        raise _wrong(f"{path}, strict", strict, "true or false")
    rules = _each(f"{path}, rules", held.get("rules", []), _rule)
    accepted = _each(f"{path}, accepted", held.get("accepted", []), _accepted)
    _refuse_twice([(rule.where, rule.selector) for rule in rules])
    _refuse_twice([(one.where, one.selector) for one in accepted])
    band = None if "band" not in held else _number(f"{path}, band", held["band"])
    if band is not None and (why := why_no_band(band)):
        raise SourceError(f"{path}, band: {why}; correct it")
    return Policy(fail_on, strict, band, _limits(f"{path}, limits", held.get("limits", {})), rules, accepted)  # type: ignore[arg-type]


def _loaded(path: Path) -> dict[str, object]:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise SourceError(f"{path}: is no plain file, expected a policy in TOML; name the file")
        held = read_toml(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}), expected a policy in TOML; check the name") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: no TOML ({error}), expected a policy; correct it") from error
    if held is None:
        raise SourceError(f"{path}: is larger than {LARGEST} bytes, expected a policy in TOML; check the name")
    return held


def _limits(where: str, given: object) -> list[Limit]:
    """`NAME = { min = 0.3, max = 0.5 }`, either of them or both, and how they count."""
    return [limit for name, sides in _table(where, given).items() for limit in _sides(f"{where}.{name}", name, sides)]


def _sides(where: str, name: str, given: object) -> list[Limit]:
    if why := why_unknown(name):
        raise SourceError(f"{where}: {why}; correct the name")
    sides = _table(where, given, (*SIDES, "level"))
    level = _one_of(f"{where}.level", sides.get("level", "error"), LEVELS)
    found = [Limit(side, name, _number(f"{where}.{side}", sides[side]), where, level) for side in SIDES if side in sides]  # type: ignore[arg-type]
    if not found:
        raise _wrong(where, given, "min or max, as { min = 0.3 }")
    if len(found) == 2 and found[0].value > found[1].value:
        raise SourceError(f"{where}: min {found[0].value:g} is above max {found[1].value:g}, which nothing could pass; correct one of them")
    return found


def _rule(where: str, given: object) -> Rule:
    held = _table(where, given, (*SELECTING, "level"), needed=("level",))
    return Rule(_selector(where, held), _one_of(f"{where}.level", held["level"], LEVELS), where)  # type: ignore[arg-type]


def _accepted(where: str, given: object) -> Accepted:
    held = _table(where, given, (*SELECTING, "reason", "until"), needed=("reason", "until"))
    reason = held["reason"]
    if not isinstance(reason, str) or not reason.strip():
        raise _wrong(f"{where}.reason", reason, "why it is accepted, in a few words")
    return Accepted(_selector(where, held), reason.strip(), _day(f"{where}.until", held["until"]), where)


def _selector(where: str, held: Mapping[str, object]) -> Selector:
    """What of the rules is meant, at least one key of it."""
    given = {key: _pattern(f"{where}.{key}", held[key]) for key in SELECTING if key in held}
    if not given:
        raise SourceError(f"{where}: says not what it is about, expected one or more of {', '.join(SELECTING)}; add one")
    if "axis" in given:
        _one_of(f"{where}.axis", given["axis"], AXES)
    if "code" in given and "axis" in given:
        raise SourceError(f"{where}: has both code and axis, but each code is of one axis; leave one out")
    if "code" in given and (why := why_no_code(given["code"])):
        raise SourceError(f"{where}.code: {_shown(given['code'])} {why}")
    return Selector(**given)  # type: ignore[arg-type]


def _pattern(where: str, given: object) -> str:
    if not isinstance(given, str) or not given:
        raise _wrong(where, given, "a text, in which * and ? stand for any others")
    return given


def _day(where: str, given: object) -> date:
    """A date, as TOML has them or as a text; a time of day is none."""
    if isinstance(given, date) and not isinstance(given, datetime):
        return given
    try:
        return date.fromisoformat(given if isinstance(given, str) else "")
    except ValueError:
        raise _wrong(where, given, "a day, as 2026-12-31") from None


def _each(where: str, given: object, read: Callable[[str, object], Row]) -> list[Row]:
    if not isinstance(given, list):
        raise _wrong(where, given, f"tables, each begun by [[{where.rpartition(' ')[2]}]]")
    return [read(f"{where}[{place}]", one) for place, one in enumerate(given)]


def _refuse_twice(given: Sequence[tuple[str, Selector]]) -> None:
    """SourceError where two entries are about the same, so that one of them says nothing."""
    seen: dict[Selector, str] = {}
    for where, selector in given:
        if selector in seen:
            raise SourceError(f"{where}: is about the same as {seen[selector].rpartition(' ')[2]} ({selector}); leave one out")
        seen[selector] = where


def _table(where: str, given: object, keys: Sequence[str] = (), needed: Sequence[str] = ()) -> dict[str, object]:
    """A table with these keys and no others, any where none are named."""
    if not isinstance(given, dict):
        raise _wrong(where, given, f"a table with {', '.join(keys)}" if keys else "a table")
    if unknown := next((key for key in given if keys and key not in keys), None):
        raise SourceError(f"{where}: unknown key {_shown(unknown)}; {meant(unknown, keys)}expected only {', '.join(keys)}; take it out")
    if lost := next((key for key in needed if key not in given), None):
        raise SourceError(f"{where}: has no {lost}, expected {', '.join(needed)}; add it")
    return given


def _number(where: str, given: object) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not abs(given) <= float_info.max:
        raise _wrong(where, given, "a finite number")
    return float(given)


def _one_of(where: str, given: object, known: Sequence[str]) -> str:
    if given not in known:
        near = meant(given, known) if isinstance(given, str) else ""
        raise SourceError(f"{where}: saw {_shown(given)}; {near}expected one of {', '.join(known)}; correct it")
    return str(given)


def _wrong(where: str, given: object, expected: str) -> SourceError:
    return SourceError(f"{where}: saw {_shown(given)}, expected {expected}; correct it")


def _shown(given: object) -> str:
    return one_line(str(given), LONGEST_SHOWN)
