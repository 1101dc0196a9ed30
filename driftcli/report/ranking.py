"""Drafters ranked, on a terminal, in Markdown and as JSON: the same sentences and rows in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from driftcli.comparison.answers import along, answer, depths, facts, remarks, rows
from driftcli.comparison.losses import Losses
from driftcli.comparison.ranking import Place, Ranking
from driftcli.report.choices import CompareFormat
from driftcli.report.comparison import differences_json, pairing_json
from driftcli.report.json import estimate_json
from driftcli.report.markdown import escaped, table
from driftcli.report.tables import hanging, listed
from driftcli.traces.writer import Plain

SCHEMA = 1


class Shown:
    """A ranking laid out for the width that there is when it is shown."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(answer(self.ranking), style="bold", overflow="fold")
        yield Text(facts(self.ranking), style="dim", overflow="fold")
        for heads, body in tables(self.ranking):
            yield Text()
            yield from listed(heads, [tuple(map(Text, row)) for row in body], 1, options.max_width)
        yield Text()
        yield from map(hanging, remarks(self.ranking))


def tables(ranking: Ranking) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Heads and rows: by speed where that is known, by accepted draft tokens at the same draft length, and what is lost along a chain."""
    by_speed = [(("PLACE", "BY SPEED", "times plain decoding", "draft length", "family"), list(rows(ranking.by_speed, timed=True)))]
    by_length = (
        ("PLACE", "BY ACCEPTED DRAFT TOKENS", "acceptance length", "drafts accepted", "family"),
        list(rows(ranking.by_length, timed=False)),
    )
    return [*(by_speed if ranking.by_speed else []), by_length, *_along(ranking)]  # type: ignore[list-item]


def _along(ranking: Ranking) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Heads and rows of what is lost along a chain or block; none where there is one draft token."""
    if (last := ranking.pairing.depth) == 1:
        return []
    heads = "BY DEPTH", f"right at {', '.join(map(str, depths(ranking)))}", f"lost at {last}", "lost of accepted", "lost to"
    return [(heads, list(along(ranking)))]


def terminal(ranking: Ranking) -> RenderableType:
    """A page."""
    return Shown(ranking)


def markdown(ranking: Ranking) -> str:
    """The same for an issue or a pull request, without a trailing newline."""
    shown = ["\n".join(_lines(heads, body)) for heads, body in tables(ranking)]
    said = "\n".join(f"- {escaped(line)}" for line in remarks(ranking))
    return "\n\n".join([f"## {escaped(answer(ranking))}", escaped(facts(ranking)), *shown, said])


def _lines(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return table([head.lower() for head in heads], ["---"] * len(heads), [[escaped(cell) for cell in row] for row in body])


def as_json(ranking: Ranking) -> str:
    """All of it, indented, ASCII only, without a trailing newline."""
    pairing = ranking.pairing
    plain: Mapping[str, Plain] = {
        "schema": SCHEMA,
        "answer": answer(ranking),
        "runs": [{"name": name, "path": str(run.path)} for name, run in zip(ranking.names, pairing.runs, strict=True)],
        **pairing_json(pairing),
        "by_speed": None if ranking.untimed else [_place(one) for one in ranking.by_speed],
        "no_speed": ranking.untimed or None,
        "by_acceptance_length": [_place(one) for one in ranking.by_length],
        "against_first": [
            {"name": name, "word": one.word, "difference": estimate_json(one.difference), "more_prompts": one.more_prompts}
            for name, one in zip(ranking.names[1:], ranking.against_first, strict=True)
        ],
        "losses": [_losses(one) for one in ranking.losses],
        "band": ranking.band,
        "differences": differences_json(ranking.differences),
        "forced": bool(ranking.forced),
    }
    return json.dumps(plain, indent=2, allow_nan=False)


def _place(one: Place) -> Mapping[str, Plain]:
    return {
        "name": one.name,
        "family": one.family,
        "places": [one.first, one.last],
        "draft_length": one.drafts,
        "value": estimate_json(one.value),
        "not_told_from": list(one.like),
        "more_prompts": one.more_prompts,
    }


def _losses(one: Losses) -> Mapping[str, Plain]:
    rows = zip(one.right, one.first, one.lost, strict=True)
    by_depth: list[Plain] = [
        {"depth": depth, "right": estimate_json(right), "right_as_first": estimate_json(first), "lost": estimate_json(lost)}
        for depth, (right, first, lost) in enumerate(rows, 1)
    ]
    return {"name": one.name, "to": one.to, "by_depth": by_depth, "accepted_lost_at_most": estimate_json(one.accepted)}


RENDERERS: Mapping[CompareFormat, Callable[[Ranking], str | RenderableType]] = {
    "terminal": terminal,
    "json": as_json,
    "markdown": markdown,
}
