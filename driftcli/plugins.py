"""Probes and report formats of other packages, by their entry points: told from metadata alone, imported where one is used.

Whose code runs: what is installed in this environment was put there by its owner and is trusted as driftcli itself is, which imports
numpy from the same place. A run folder is not trusted; of installed code it can name a probe by its entry point's name, which runs what
the owner chose under that name and nothing else. A module's path in a run folder stays a stranger, whether it can be imported or not.
Our own names cannot be taken: what is called as one of ours is refused and listed as such, so no package changes what a name means.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Generic, Literal, TypeVar

from driftcli.printable import one_line

Group = Literal["driftcli.probes", "driftcli.formats"]
LISTED = "entry_points.txt"
REFERENCE = r"[\w.]+(:[\w.]+)?\s*(\[.*\])?"  # what an entry point's value is, extras and all
LONGEST_REASON = 300  # characters of a foreign message that are repeated (chosen by us)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a package, by its name and version, offers under a name. refused: why it is not taken though nothing of it was imported."""

    name: str
    package: str
    entry: EntryPoint
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A plugin and the object that it turned out to be."""

    plugin: Plugin
    thing: T


@dataclass(frozen=True, slots=True)
class Failed:
    """A plugin that cannot be used, and why in a few words."""

    plugin: Plugin
    reason: str


def offered(group: Group, own: Collection[str]) -> list[Plugin]:
    """All that is installed for a group, by name and package; refused is what has one of our `own` names, or another package's."""
    found: dict[str, Plugin] = {}
    clashing = []
    for plugin in sorted(_installed(group), key=lambda one: (one.name, one.package)):
        if plugin.refused:
            clashing.append(plugin)
        elif plugin.name in own:
            clashing.append(replace(plugin, refused="has the name of one of driftcli's own, which is kept"))
        elif plugin.name in found:
            clashing.append(replace(plugin, refused=f"has the name of one of {found[plugin.name].package}, which is kept"))
        else:
            found[plugin.name] = plugin
    return [*found.values(), *clashing]


def named(group: Group, own: Collection[str], name: str) -> Plugin | None:
    """What is installed under a name that is not one of our `own`, None where nothing is."""
    return next((plugin for plugin in offered(group, own) if plugin.name == name and not plugin.refused), None)


def loaded(plugin: Plugin, checked: Callable[[object], T | str]) -> Loaded[T] | Failed:
    """The plugin imported and `checked`, which gives it back or says what is wrong with it.

    Whatever is raised meanwhile is the plugin's: somebody else's module may raise anything, and the rest of the tool goes on without it.
    """
    if plugin.refused:
        return Failed(plugin, plugin.refused)
    if not re.fullmatch(REFERENCE, plugin.entry.value):
        return Failed(plugin, f"points to {one_line(plugin.entry.value, LONGEST_REASON)!r}, expected module:object")
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results, whatever a module prints when it is imported
            thing = checked(plugin.entry.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = one_line(str(error), LONGEST_REASON)
        return Failed(plugin, f"cannot be imported ({type(error).__name__}{': ' if said else ''}{said})")
    return Failed(plugin, thing) if isinstance(thing, str) else Loaded(plugin, thing)


def _installed(group: Group) -> Iterator[Plugin]:
    """Entry points of a group; of a package that is there twice, those that would be imported."""
    seen = set()
    for package in distributions():
        listed = _listed(package)
        if group not in listed:
            continue
        name, version = _known_as(package)
        if name not in seen:
            seen.add(name)
            yield from _of_package(package, group, f"{name} {version}")


def _listed(package: Distribution) -> str:
    try:
        return package.read_text(LISTED) or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _known_as(package: Distribution) -> tuple[str, str]:
    """A package's name and version, on one line each whatever its metadata holds."""
    told = package.metadata
    name, version = ((told.get_all(key) or [f"(no {key.lower()})"])[0] for key in ("Name", "Version"))
    return one_line(name, LONGEST_REASON), one_line(version, LONGEST_REASON)


def _of_package(package: Distribution, group: Group, known_as: str) -> Iterator[Plugin]:
    try:
        entries = [entry for entry in package.entry_points if entry.group == group]
    except (TypeError, ValueError) as error:  # a line without `=`
        why = f"cannot be read ({one_line(str(error), LONGEST_REASON)}); each line is `name = module:object`"
        yield Plugin(LISTED, known_as, EntryPoint(LISTED, "", group), why)
        return
    yield from (Plugin(entry.name, known_as, entry) for entry in entries)
