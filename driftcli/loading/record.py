"""Reading a raw `config.json` field by field, so that every value knows where it came from.

A missing key takes the documented default of the class that produced or serves the checkpoint, never the target's value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.loading.files import Json


@dataclass
class Record:
    """A config being read: each call notes the field, its value and its provenance."""

    where: str
    config: Mapping[str, Json]
    fields: dict[str, Sourced] = field(default_factory=dict)

    def note(self, name: str, value: bool | int | float | str | tuple[int, ...] | None, source: str) -> None:
        """Set down a field that was found elsewhere than in the config."""
        self.fields[name] = Sourced(value, source)

    def integer(self, name: str, key: str, default: int | None, system: str) -> int:
        """A positive whole number; without a default a missing key is an error."""
        value = self._value(name, key, default, system)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FormatError(f"{self.where}/config.json: {key} is {value!r}, expected a positive whole number")
        return value

    def number(self, name: str, key: str, default: float, system: str) -> float:
        """A positive number."""
        value = self._value(name, key, default, system)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
            raise FormatError(f"{self.where}/config.json: {key} is {value!r}, expected a positive number")
        return float(value)

    def flag(self, name: str, key: str, default: bool, system: str) -> bool:
        """True or false."""
        value = self._value(name, key, default, system)
        if not isinstance(value, bool):
            raise FormatError(f"{self.where}/config.json: {key} is {value!r}, expected true or false")
        return value

    def text(self, name: str, key: str, default: str, system: str) -> str:
        """A word."""
        value = self._value(name, key, default, system)
        if not isinstance(value, str):
            raise FormatError(f"{self.where}/config.json: {key} is {value!r}, expected text")
        return value

    def _value(self, name: str, key: str, default: float | bool | str | None, system: str) -> Json:
        value = self.config.get(key)
        if value is not None:
            self.fields[name] = Sourced(value if isinstance(value, (bool, int, float, str)) else str(value), f"config:{key}")
            return value
        if default is None:
            raise FormatError(f"{self.where}/config.json: {key} is missing, and {system} has no safe default; add it as it was in training")
        self.fields[name] = Sourced(default, f"default:{system}")
        return default
