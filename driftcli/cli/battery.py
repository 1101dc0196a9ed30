"""Probes by name: the battery's own, those of installed packages, or anybody's as `package.module:NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

from driftcli.errors import ProbeError, UsageError
from driftcli.mitigations.probe import Mitigations
from driftcli.plugins import Failed, Group, Loaded, Plugin, loaded, named, offered
from driftcli.printable import printable
from driftcli.probe import Probe, lacking
from driftcli.suggestions import meant
from driftcli.traces.reader import Run
from probes import BATTERY

WHOLE: tuple[Probe, ...] = (*BATTERY, Mitigations())  # what runs where nothing is named; mitigations look at what the others measured
OWN = {probe.name: probe for probe in WHOLE}
GROUP: Group = "driftcli.probes"


def load_battery(names: Sequence[str]) -> tuple[Probe, ...]:
    """The probes that `names` mean, each once, the battery's own for none; raises UsageError for an unknown name and ProbeError for one
    that is no probe or cannot be loaded.
    """
    return tuple(_load(name) for name in dict.fromkeys(names)) if names else WHOLE


def trusted_battery(names: Sequence[str], trusted: Sequence[str]) -> tuple[tuple[Probe, ...], list[str]]:
    """The probes that a run folder names, as far as they are the tool's own, installed (`driftcli.plugins` says why), or trusted too; and
    the names of the others, which are code of somebody else or cannot be loaded here. Raises as `load_battery` does for `trusted` ones.
    """
    found = {name: _load(name) if name in OWN or name in trusted else _installed(name) for name in dict.fromkeys(names)}
    return tuple(one for one in found.values() if one is not None), [name for name, one in found.items() if one is None]


def battery_of(run: Run, trusted: Sequence[str]) -> tuple[Probe, ...]:
    """The probes of a run that may be asked, those that are left out said on stderr; raises as `trusted_battery` does."""
    battery, strangers = trusted_battery(run.probe_names, trusted)
    for name in strangers:
        typer.echo(printable(f"{name} is left out: code that a run folder names is run only if --probe {name} says so too"), err=True)
    return battery


def probe_names(battery: Sequence[Probe], asked: Sequence[str]) -> list[str]:
    """The names under which `load_battery` finds these probes again."""
    return list(asked) or [probe.name for probe in battery]


def installed_probes() -> list[Loaded[Probe] | Failed]:
    """The probes of all installed packages, imported, and those that cannot be with the reason."""
    return [_loaded(plugin) for plugin in offered(GROUP, OWN)]


def as_probe(thing: object, name: str) -> Probe | str:
    """What an entry point holds as a probe, or what is wrong with it; it is called as its entry point is, by which reports find it."""
    wrong = lacking(thing)
    if not wrong and getattr(thing, "name", name) != name:
        wrong = f"calls itself {getattr(thing, 'name', name)!s}, expected {name} as its entry point"
    return wrong or thing  # type: ignore[return-value]


def _loaded(plugin: Plugin) -> Loaded[Probe] | Failed:
    return loaded(plugin, lambda thing: as_probe(thing, plugin.name))


def _installed(name: str) -> Probe | None:
    """An installed package's probe, None where none of that name can be used."""
    plugin = named(GROUP, OWN, name)
    found = None if plugin is None else _loaded(plugin)
    return found.thing if isinstance(found, Loaded) else None


def _load(name: str) -> Probe:
    if name in OWN:
        return OWN[name]
    if plugin := named(GROUP, OWN, name):
        found = _loaded(plugin)
        if isinstance(found, Failed):
            raise ProbeError(f"--probe {name}, of {plugin.package}: {found.reason}; `driftcli probes` lists what can be used")
        return found.thing
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        known = [*OWN, *(plugin.name for plugin in offered(GROUP, OWN) if not plugin.refused)]
        raise UsageError(
            f"--probe {name}: no such probe; {meant(name, known)}expected one of {', '.join(known)}, or package.module:NAME of your own"
        )
    try:
        probe = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ProbeError(f"--probe {name}: cannot be imported ({error}); check the module's name and that it is installed") from error
    if wrong := lacking(probe):
        raise ProbeError(f"--probe {name}: {wrong}")
    return probe  # type: ignore[no-any-return]
