"""Options from elsewhere than the command line: the environment, and a file. The command line goes first, then the environment, then the
file, then what an option is by itself; `--show-config` says which it was.

The file is the one that `--config` names, else `drift.toml` in the working folder, else `[tool.driftcli]` of `pyproject.toml` there. A key
is an option's name as on the command line: at the top for every command that has it, in a table with a command's name for that one. `plan`
is about a `diagnose`, so it also takes what is set for that, unless it is set for itself.

A file that merely lies in the working folder came with whatever was unpacked or cloned there. It may not bring code to be run, nor let
anything be overwritten: such options are refused from it, and taken from the command line, the environment, or a file that is named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from driftcli.errors import UsageError
from driftcli.printable import one_line, printable
from driftcli.served.key import KEY
from driftcli.suggestions import meant
from driftcli.toml import LARGEST, read_toml

PREFIX = "DRIFTCLI"
FOUND, PROJECT, SECTION = Path("drift.toml"), Path("pyproject.toml"), ("tool", "driftcli")
ABOUT = {"plan": "diagnose"}  # commands that are about another one
OURS = ("config", "show_config", "help")
WIDEST = 40  # columns of a value (chosen by us)
ASKED_FOR = {  # what a file that was only found may not say, and why
    "trust-remote-code": "runs Python that comes with a checkpoint",
    "force": "overwrites runs, or compares what is not comparable",
    "output": "writes files",
    "engine-args": "may have an engine run code of others",
}
SOURCES = {"COMMANDLINE": "command line", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file", "DEFAULT": "default"}


@dataclass(frozen=True)
class Settings:
    """What a file says, and where it is; named: it was asked for by --config."""

    path: Path
    content: Mapping[str, Any]
    named: bool

    def within(self, key: str, table: str) -> str:
        """A key with its file and its table, for messages."""
        return f"{self.path}: {table}.{key}" if table else f"{self.path}: {key}"


class Configured(TyperCommand):
    """A command whose options may also stand in the environment and in a file, with `--config` and `--show-config` of its own."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        for option in self._own():
            option.envvar = [variable(command, option) for command in self._commands()]
            option.show_envvar = False  # a line of the help tells them all
        self.params += _ours()
        self.epilog = f"Options may also be set as {PREFIX}_{str(name).upper()}_OPTION or in {FOUND}; --show-config tells which are."

    def _own(self) -> list[TyperOption]:
        return [option for option in self.params if isinstance(option, TyperOption) and option.name not in OURS]

    def _commands(self) -> list[str]:
        """The command and what it is about, which counts less."""
        return [str(self.name), *([ABOUT[str(self.name)]] if self.name in ABOUT else [])]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the file before anything else, so that its values stand in for those that the command line leaves out."""
        named, asks = _named(args) or os.environ.get(f"{PREFIX}_CONFIG"), "--show-config" in args
        ctx.meta["driftcli.show"] = asks
        for param in self.params:
            param.required = param.required and not asks
        if not _asks_for_help(args):
            self._refuse_unknown_variables()
            settings = read_settings(None if named is None else Path(named))
            ctx.default_map = {} if settings is None else self.taken(settings, ctx)
            ctx.meta["driftcli.settings"] = settings
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, or print what it would run with."""
        settings: Settings | None = ctx.meta.get("driftcli.settings")
        if ctx.meta.get("driftcli.show"):
            return _show(self._own(), ctx, settings)
        taken = [option for option in self._own() if _source(ctx, option) == "file"]
        if taken and settings is not None and not settings.named:
            typer.echo(f"from {settings.path}: {', '.join(_key(option) for option in taken)}", err=True)
        return super().invoke(ctx)

    def taken(self, settings: Settings, ctx: Any) -> dict[str, Any]:
        """The values of a file for this command, as words of a command line; UsageError for a key that is no option, or a wrong value."""
        commands = _all_commands(ctx)
        tables = {key: value for key, value in settings.content.items() if key in commands}
        loose = {key: value for key, value in settings.content.items() if key not in commands}
        every = {_key(option) for command in commands.values() for option in command._own()}
        _refuse_unknown(settings, "", loose, {*every, *commands})
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise UsageError(f"{settings.path}: {name} is {_shown(table)}, expected a table of options, as [{name}]")
            _refuse_unknown(settings, name, table, {_key(option) for option in commands[name]._own()})
        own = {_key(option): option for option in self._own()}
        found: dict[str, Any] = {}
        for name in ("", *reversed(self._commands())):
            for key, value in (tables.get(name, {}) if name else loose).items():
                if key in own:
                    found[str(own[key].name)] = _worded(settings, name, own[key], value, ctx)
        return found

    def _refuse_unknown_variables(self) -> None:
        """UsageError for a variable that begins as this command's do and is none of them."""
        prefix = f"{PREFIX}_{str(self.name).upper()}_"
        known = [variable(str(self.name), option) for option in self._own()]
        if odd := next((name for name in sorted(os.environ) if name.startswith(prefix) and name not in (*known, KEY)), None):
            raise UsageError(f"{odd}: a variable of no option; {meant(odd, known)}unset it, or see driftcli {self.name} --help")


def variable(command: str, option: TyperOption) -> str:
    """The environment variable of an option."""
    return f"{PREFIX}_{command}_{option.name}".upper()


def read_settings(named: Path | None) -> Settings | None:
    """The file that --config names, or the one in the working folder, None where there is none; UsageError for what cannot be read."""
    if named is not None:
        return Settings(named, _section(_read(named), named), named=True)
    if FOUND.is_file():
        return Settings(FOUND, _read(FOUND), named=False)
    if PROJECT.is_file() and (content := _section(_read(PROJECT), PROJECT)):
        return Settings(PROJECT, content, named=False)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        held = read_toml(path)
    except (OSError, ValueError, RecursionError) as error:
        said = one_line(str(getattr(error, "strerror", None) or error), 120)
        raise UsageError(f"{path}: cannot be read as TOML ({said}), expected options as key = value; correct it") from error
    if held is None:
        raise UsageError(f"{path}: holds more than {LARGEST >> 10} KiB, expected a file of options")
    return held


def _section(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The options in a file: all of it, or of a `pyproject.toml` its own table."""
    if path.name != PROJECT.name:
        return content
    inner: object = content
    for key in SECTION:
        inner = inner.get(key, {}) if isinstance(inner, dict) else {}
    if not isinstance(inner, dict):
        raise UsageError(f"{path}: {'.'.join(SECTION)} is {_shown(inner)}, expected a table of options")
    return inner


def _all_commands(ctx: Any) -> dict[str, Configured]:
    """Every command by its name."""
    group = ctx.parent.command if ctx.parent is not None else None
    commands = getattr(group, "commands", {})
    return {name: command for name, command in commands.items() if isinstance(command, Configured)}


def _refuse_unknown(settings: Settings, table: str, given: Mapping[str, object], known: set[str]) -> None:
    if odd := next((key for key in given if key not in known), None):
        of = f"driftcli {table} has no such option" if table else "no such option, and no command"
        raise UsageError(f"{settings.within(odd, table)}: {of}; {meant(odd, sorted(known))}see driftcli {table or 'COMMAND'} --help")


def _worded(settings: Settings, table: str, option: TyperOption, value: object, ctx: Any) -> Any:
    """A value of a file as the command line would give it; UsageError for one of another kind, or that only a person may ask for."""
    where = settings.within(_key(option), table)
    _refuse_unasked(settings, where, option, value)
    expected = "true or false" if option.is_flag else "a list of texts" if option.multiple else "one text or number"
    fits = isinstance(value, bool) if option.is_flag else _is_list(value) if option.multiple else _is_word(value)
    if not fits:
        raise UsageError(f"{where} is {_shown(value)}, expected {expected}; correct it")
    words: Any = value if option.is_flag else [str(one) for one in _items(value)] if option.multiple else str(value)
    try:
        option.process_value(ctx, words)
    except (typer.BadParameter, UsageError) as error:
        raise UsageError(f"{where}: {one_line(str(getattr(error, 'message', error)), 300).rstrip('.')}; correct it") from error
    return words


def _refuse_unasked(settings: Settings, where: str, option: TyperOption, value: object) -> None:
    """UsageError for what a file may not say that nobody named."""
    if settings.named or value is False:
        return
    why = ASKED_FOR.get(_key(option), "")
    if _key(option) == "probe" and any(":" in str(one) for one in _items(value)):
        why = "runs code of your own"
    if why:
        raise UsageError(
            f"{where}: {why}, which a file that merely lies in this folder may not ask for; give --{_key(option)} on the command line, or "
            f"name the file: --config {settings.path}"
        )


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _is_word(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _shown(value: object) -> str:
    return one_line(repr(value), 60)


def _key(option: TyperOption) -> str:
    """An option's name as on the command line, without its dashes."""
    return str(option.name).replace("_", "-")


def _named(args: Sequence[str]) -> str | None:
    """The file that --config names among the words of a command line."""
    for place, word in enumerate(args):
        if word == "--config" and place + 1 < len(args):
            return args[place + 1]
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def _asks_for_help(args: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") for word in args)


@cache
def _ours() -> list[Any]:
    """The two options that every command has besides its own, made as typer makes them of a function."""
    shared = typer.Typer(add_completion=False)

    @shared.command()
    def _(
        config: Annotated[
            Path | None, typer.Option(expose_value=False, help=f"Take options from this file, not from {FOUND} or {PROJECT} here.")
        ] = None,
        show_config: Annotated[
            bool, typer.Option("--show-config", expose_value=False, help="Print what each option is and where that comes from; do nothing.")
        ] = False,
    ) -> None: ...

    return list(typer.main.get_command(shared).params)


def _source(ctx: Any, option: TyperOption) -> str:
    found = ctx.get_parameter_source(option.name)
    return SOURCES.get(getattr(found, "name", ""), "default")


def _show(options: Sequence[TyperOption], ctx: Any, settings: Settings | None) -> None:
    """Print each option, its value and where it comes from; as JSON where the command would print JSON."""
    rows = [(_key(option), _plain(ctx.params.get(option.name)), _place(ctx, option, settings)) for option in options]
    if ctx.params.get("format") == "json":
        options_said = {name: {"value": value, "source": source} for name, value, source in rows}
        file = None if settings is None else str(settings.path)
        typer.echo(json.dumps({"schema": 1, "command": ctx.info_name, "file": file, "options": options_said}, indent=1))
        return
    shown = [(name, printable(_written(value)), printable(source)) for name, value, source in rows]
    wide, long = (max(len(row[place]) for row in shown) for place in (0, 1))
    for name, value, source in shown:
        typer.echo(f"{name:{wide}}  {value:{min(long, WIDEST)}}  {source}")


def _place(ctx: Any, option: TyperOption, settings: Settings | None) -> str:
    """Where a value comes from, by the name of the variable or the file where it is one of them."""
    source = _source(ctx, option)
    if source == "environment":
        return next(name for name in option.envvar or () if os.environ.get(name))
    return str(settings.path) if source == "file" and settings is not None else source


def _plain(value: object) -> Any:
    """A value as JSON has it."""
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value) if isinstance(value, Path) else value


def _written(value: object) -> str:
    if value in (None, []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)
