"""Probes by name: the battery's own, or anybody's as `package.module:NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from driftcli.errors import ProbeError, UsageError
from driftcli.mitigations.probe import Mitigations
from driftcli.probe import Probe
from driftcli.suggestions import meant
from probes import BATTERY

WHOLE: tuple[Probe, ...] = (*BATTERY, Mitigations())  # what runs where nothing is named; mitigations look at what the others measured
OWN = {probe.name: probe for probe in WHOLE}


def load_battery(names: Sequence[str]) -> tuple[Probe, ...]:
    """The probes that `names` mean, each once, the whole battery for none; raises UsageError for an unknown name and ProbeError for one
    that is no probe.
    """
    return tuple(_load(name) for name in dict.fromkeys(names)) if names else WHOLE


def trusted_battery(names: Sequence[str], trusted: Sequence[str]) -> tuple[tuple[Probe, ...], list[str]]:
    """The probes that a run folder names, as far as they are the tool's own or trusted too, and the names of the others, which are code of
    somebody else; raises as `load_battery` does.
    """
    strangers = [name for name in dict.fromkeys(names) if name not in OWN and name not in trusted]
    return tuple(_load(name) for name in dict.fromkeys(names) if name not in strangers), strangers


def probe_names(battery: Sequence[Probe], asked: Sequence[str]) -> list[str]:
    """The names under which `load_battery` finds these probes again."""
    return list(asked) or [probe.name for probe in battery]


def _load(name: str) -> Probe:
    if name in OWN:
        return OWN[name]
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UsageError(
            f"--probe {name}: no such probe; {meant(name, OWN)}expected one of {', '.join(OWN)}, or package.module:NAME of your own"
        )
    try:
        probe = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ProbeError(f"--probe {name}: cannot be imported ({error}); check the module's name and that it is installed") from error
    if isinstance(probe, type):
        raise ProbeError(f"--probe {name}: is a class, expected an object; name an instance of it, such as PROBE = {attribute}()")
    if missing := [member for member in ("name", "axes", "conditions", "judge") if not hasattr(probe, member)]:
        raise ProbeError(
            f"--probe {name}: has no {missing[0]}, expected an object with name, axes, conditions and judge (see driftcli.probe.Probe)"
        )
    return probe  # type: ignore[no-any-return]
