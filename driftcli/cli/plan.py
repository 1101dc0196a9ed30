"""`driftcli plan`: what a diagnosis would take, before any weight is loaded."""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import Any

from driftcli.cli.diagnose import diagnose, requested
from driftcli.errors import UsageError

ASKED = tuple(signature(requested).parameters)


@wraps(diagnose, assigned=("__annotations__",))
def plan(**options: Any) -> None:
    """Say what a diagnosis with these options would take: prompts, conditions, tokens, memory, disk, time; loads no weight.

    Takes what `diagnose` takes, so that a command line can be tried by this name.
    """
    if (format := options["format"]) not in ("terminal", "json"):
        raise UsageError(f"--format {format}: a plan is printed for a terminal or as json; use one of them")
    request = requested(**{name: options[name] for name in ASKED})
    from driftcli.cli.planning import plan_of
    from driftcli.report.console import put
    from driftcli.report.plan import render, render_json

    found = plan_of(request)
    put(render_json(found) if format == "json" else render(found))
