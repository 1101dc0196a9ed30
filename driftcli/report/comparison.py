"""Runs held against one another on a terminal, in Markdown and as JSON: the same sentences and rows in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from driftcli.comparison.changes import Change
from driftcli.comparison.comparability import Difference
from driftcli.comparison.pairing import Pairing
from driftcli.comparison.pairwise import Comparison
from driftcli.comparison.telling import banner, facts, headline, remarks, rows, shown_times
from driftcli.comparison.words import Word
from driftcli.report.choices import CompareFormat
from driftcli.report.json import estimate_json
from driftcli.report.markdown import escaped, table
from driftcli.report.tables import hanging, listed
from driftcli.traces.writer import Plain

SCHEMA = 1
COLOURS: Mapping[Word, str] = {"improved": "green", "regressed": "red", "cannot tell": "cyan", "no difference seen": "cyan"}
HEADS = ("RUN0", "RUN1", "difference, 95% interval", "")


class Shown:
    """A comparison laid out for the width that there is when it is shown."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        one = self.comparison
        colour = COLOURS.get(one.length.word, "")
        yield Text.assemble((banner(one), f"bold {colour}"), f": {headline(one)}", overflow="fold")
        yield Text(facts(one), style="dim", overflow="fold")
        for head, changes in (("", [one.length, *one.others]), ("EFFECTS", one.effects)):
            if changes:
                yield Text()
                yield from _table(head, changes, options.max_width)
        yield Text()
        yield from map(hanging, remarks(one))


def tables(comparison: Comparison) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Heads and rows: the numbers of the headline, what decides first, then the effects of texts."""
    of_drafter, of_texts = (list(rows(changes)) for changes in ([comparison.length, *comparison.others], comparison.effects))
    return [(("number", *HEADS[:-1], "change"), of_drafter), *([(("effect", *HEADS[:-1], "change"), of_texts)] if of_texts else [])]  # type: ignore[list-item]


def _table(head: str, changes: Sequence[Change], width: int) -> list[RenderableType]:
    cells = [
        (*map(Text, row[:-1]), Text(row[-1], style=COLOURS.get(one.word, ""))) for one, row in zip(changes, rows(changes), strict=True)
    ]
    return listed((head, *HEADS), cells, 0, width)


def terminal(comparison: Comparison) -> RenderableType:
    """A page."""
    return Shown(comparison)


def markdown(comparison: Comparison) -> str:
    """The same for an issue or a pull request, without a trailing newline."""
    head = ["", *HEADS[:3], "ratio", "", "more prompts to settle it"]
    body = [
        [*map(escaped, row[:-1]), escaped(shown_times(one)), row[-1], str(one.more_prompts or "")]
        for one, row in zip(comparison.changes, rows(comparison.changes), strict=True)
    ]
    changes = table(head, ["---", *["--:"] * 4, "---", "--:"], body)
    said = [f"- {escaped(line)}" for line in remarks(comparison)]
    return "\n\n".join(
        [f"## {banner(comparison)}: {escaped(headline(comparison))}", escaped(facts(comparison)), "\n".join(changes), "\n".join(said)]
    )


def as_json(comparison: Comparison) -> str:
    """All of it, indented, ASCII only, without a trailing newline."""
    return json.dumps(_plain(comparison), indent=2, allow_nan=False)


def _plain(one: Comparison) -> Mapping[str, Plain]:
    pairing = one.pairing
    return {
        "schema": SCHEMA,
        "word": one.length.word,
        "headline": headline(one),
        "runs": [_run_json(one, place) for place in (0, 1)],
        "band": one.band,
        "paired_by": _paired_by(pairing),
        **pairing_json(pairing),
        "changes": [{"decides": change is one.length, **_change_json(change)} for change in one.changes],
        "missing": [{"number": gone.words, "reason": gone.reason} for gone in one.missing],
        "differences": differences_json(one.differences),
        "forced": bool(one.forced),
    }


def _paired_by(pairing: Pairing) -> list[Plain]:
    """The keys by which rows of the runs meet: rendered prompts, unless that was forced, and anchors where all replies are alike."""
    rendered = ["rendered prompt"] if pairing.rendered == pairing.shared else []
    return ["prompt", "turn", *rendered, *(["anchor"] if pairing.alike == pairing.replies else [])]


def pairing_json(pairing: Pairing) -> Mapping[str, Plain]:
    """On what runs are compared: how many prompts, as how many units, of how many each run has, and how many are rendered to the same text;
    how many replies, and how many are the same text; the depth.
    """
    own: list[Plain] = [len(run.prompts) for run in pairing.runs]
    return {
        "prompts": {"shared": pairing.shared, "units": pairing.units.count, "own": own, "rendered_alike": pairing.rendered},
        "replies": {"shared": pairing.replies, "same_text": pairing.alike},
        "depth": pairing.depth,
    }


def differences_json(found: Sequence[Difference]) -> list[Plain]:
    """What differs between runs besides their drafters."""
    return [{"what": one.what, "seen": list(one.seen), "effect": one.effect} for one in found]


def _run_json(one: Comparison, place: int) -> Mapping[str, Plain]:
    run = one.pairing.runs[place]
    card = run.pair.drafter
    return {
        "name": one.names[place],
        "path": str(run.path),
        "drafter": card.name,
        "fingerprint": card.fingerprint,
        "family": run.pair.family,
    }


def _change_json(one: Change) -> Mapping[str, Plain]:
    return {
        "number": one.number.name,
        "words": one.number.words,
        "better": one.number.better,
        "scale": one.number.scale,
        "before": estimate_json(one.before),
        "after": estimate_json(one.after),
        "difference": estimate_json(one.difference),
        "ratio": None if one.times is None else estimate_json(one.times),
        "band": one.band,
        "word": one.word,
        "more_prompts": one.more_prompts,
        "no_prompt_differs": one.none_differs,
    }


RENDERERS: Mapping[CompareFormat, Callable[[Comparison], str | RenderableType]] = {
    "terminal": terminal,
    "json": as_json,
    "markdown": markdown,
}
