"""`driftcli check RUN`: hold a run that was measured before against limits, a policy and a baseline. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from driftcli.cli.outputs import OutputChoice, outputs_asked
from driftcli.report.choices import BAND, STRICT, FailOn

BASELINE = "A run of the drafter to hold this one against, on the same prompts: fails where the acceptance length regressed."
AGAINST = "Compare with a baseline that is not comparable, and warn of what differs; a dead one is still refused."
POLICY = (
    "TOML: fail-on, strict, band, [limits] NAME = { min, max, level }; [[rules]] with level off, warn or error by code, axis, category, "
    "condition, length or rule, of which the last match decides; [[accepted]], likewise, with reason and until."
)
MIN = (
    "The least a number may be, by its whole interval, as acceptance-length=2.5 or joint@3=0.3; condition:NAME for what one keeps. Behind "
    "a name [category=code-*] takes the prompts of each such category alone, [length=2048] those filled up to so many tokens of context; "
    "of several that fit the last decides."
)
FAIL_ON = "Fail when the verdict is at this severity or above. Default: none where a limit or a baseline is named, else mild."
SELECT = "Only findings of this code count, whatever their axis; may be repeated, and * stands for any letters."


def check(
    run: Annotated[Path, typer.Argument(help="Run folder to judge.")],
    baseline: Annotated[Path | None, typer.Option(help=BASELINE)] = None,
    band: Annotated[float | None, typer.Option(help=f"{BAND} Default: the policy's, else 0.02.")] = None,
    force: Annotated[bool, typer.Option("--force", help=AGAINST)] = False,
    policy: Annotated[Path | None, typer.Option(help=POLICY)] = None,
    min: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help=MIN)] = None,
    max: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="The most, likewise, as compounding=0.1.")] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help=FAIL_ON)] = None,
    strict: Annotated[bool, typer.Option("--strict", help=STRICT)] = False,
    select: Annotated[list[str] | None, typer.Option(metavar="CODE", help=SELECT)] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Findings of this code do not count; likewise.")] = None,
    probe: Annotated[list[str] | None, typer.Option(help="A probe of your own that RUN was measured with, as package.module:NAME.")] = None,
    format: Annotated[Literal["terminal", "json"], typer.Option(help="How to print.")] = "terminal",
    output: OutputChoice = None,
) -> None:
    """Judge RUN as a gate: exit 4 where a rule fails, 5 where one cannot be told, with how many more prompts would tell."""
    from driftcli.cli.checking import Asked, end, outcome

    outputs = outputs_asked(output, format)
    asked = Asked(baseline, band, force, policy, min or [], max or [], fail_on, strict, select or [], ignore or [], probe or [])
    end(outcome(run, asked), format, outputs)
