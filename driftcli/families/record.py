"""Reading a raw `config.json` field by field, so that every value knows where it came from.

A missing key takes the documented default of the class that produced or serves the checkpoint, never the target's value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.sources.files import Json

Bound = tuple[str, Mapping[str, Json]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """A switch's value and its source."""

    value: T
    source: str


@dataclass
class Record:
    """A config being read: each call notes the field, its value and its provenance.

    defaults: the class that fills what the config leaves out, and its values, before a call's own default. inside: the object of
    `config.json` that `config` is, as a prefix of its keys.
    """

    where: str
    config: Mapping[str, Json]
    fields: dict[str, Sourced] = field(default_factory=dict)
    defaults: Bound = ("", {})
    inside: str = ""

    def within(self, key: str, defaults: Bound = ("", {})) -> Record:
        """The object under `key`, empty where there is none, noting into the same fields; raises FormatError when it is something else."""
        nested = self.config.get(key)
        if nested is not None and not isinstance(nested, dict):
            raise FormatError(f"{self.where}/config.json: {self.inside}{key} is {nested!r}, expected an object")
        return Record(self.where, nested or {}, self.fields, defaults, f"{self.inside}{key}.")

    def note(self, name: str, value: bool | int | float | str | tuple[int, ...] | None, source: str) -> None:
        """Set down a field that was found elsewhere than in the config."""
        self.fields[name] = Sourced(value, source)

    def integer(self, name: str, key: str, default: int | None, system: str) -> int:
        """A positive whole number; without a default a missing key is an error."""
        value = self._value(name, key, default, system)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, value, "a positive whole number")
        return value

    def number(self, name: str, key: str, default: float, system: str) -> float:
        """A positive number."""
        value = self._value(name, key, default, system)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
            raise self.wrong(key, value, "a positive number")
        return float(value)

    def is_on(self, key: str, default: bool = False) -> bool:
        """A flag's value, noted nowhere."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return default if value is None else value

    def text(self, name: str, key: str, default: str, system: str) -> str:
        """A word."""
        value = self._value(name, key, default, system)
        if not isinstance(value, str):
            raise self.wrong(key, value, "text")
        return value

    def wrong(self, key: str, value: Json, expected: str) -> FormatError:
        """The refusal of a key's value."""
        return FormatError(f"{self.where}/config.json: {self.inside}{key} is {value!r}, expected {expected}")

    def get(self, key: str) -> Json:
        """A key's value, the class's default where the config leaves it out; nothing is noted."""
        value = self.config.get(key)
        return self.defaults[1].get(key) if value is None else value

    def source(self, key: str, default: str) -> str:
        """Where a key's value comes from: the config, or the default's owner."""
        return f"config:{self.inside}{key}" if self.config.get(key) is not None else f"default:{default}"

    def _value(self, name: str, key: str, default: float | bool | str | None, system: str) -> Json:
        value = self.get(key)
        if value is None and default is None:
            raise FormatError(
                f"{self.where}/config.json: {self.inside}{key} is missing, and {system} has no safe default; add it as it was in training"
            )
        value = default if value is None else value
        source = self.source(key, self.defaults[0] if self.defaults[1].get(key) is not None else system)
        self.fields[name] = Sourced(value if isinstance(value, (bool, int, float, str)) else str(value), source)
        return value


def otherwise(systems: Mapping[str, Mapping[str, Sourced]], ours: Mapping[str, Sourced]) -> dict[str, dict[str, Sourced]]:
    """For each of some systems the fields that it has another value of, or why it has none; those that do as we do are left out."""
    found = {
        system: {name: field for name, field in fields.items() if name == "refused" or field.value != ours[name].value}
        for system, fields in systems.items()
    }
    return {system: fields for system, fields in found.items() if fields}
