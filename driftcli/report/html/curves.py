"""The charts by depth, by position in the reply and by context length, from the numbers of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.domain import SHARES, Absent
from driftcli.report.evidence import REGION_MEANING
from driftcli.report.html.charts import Lines, Series
from driftcli.report.html.numbers import Node, Number, at_depth, length, of, read
from driftcli.statistics.curves import forced_accuracy
from driftcli.statistics.survival import TOLD
from driftcli.traces.reader import Run

HELD, HELD_NAME = "held", "accuracy, held state"  # the condition of which the floor under any repair of the state is read
LEAST_TOP = 0.1  # of the axis of a share, so that what hardly moves looks so (chosen by us)
CONTEXT = "context-length"  # the probe whose conditions differ in the length of the prompt


@dataclass(frozen=True, slots=True)
class Named:
    """A column of `by_depth`, what it is called, and its look."""

    column: str
    name: str
    look: int


GUESSES = (
    Named("fresh_accuracy", "accuracy, target state", 0),
    Named("forced_accuracy", "accuracy, own state", 1),
    Named("joint_walk", "accepted to this depth", 2),
)
OF_BLOCKS = (
    Named("fresh_accuracy", "accuracy, first of a block", 0),
    Named("forced_accuracy", "accuracy, in its block", 1),
    GUESSES[2],
)
MEANINGS = {
    "accuracy, first of a block": "the same token, those before it verified",
    "accuracy, in its block": "what guessing side by side leaves",
    "proposed": "share of anchors where a lookup finds so many tokens",
    "accuracy, target state": "fresh: the head at its best",
    "accuracy, own state": "forced: what feeding on itself leaves",
    "accepted to this depth": "kept: share of verify rounds",
    "accuracy, held state": "held: the floor any repair must beat",
}


def by_depth(run: Run, baseline: Node) -> Lines:
    """Right guesses by depth: fresh, forced, held where it was measured, and kept."""
    rows: Sequence[Node] = baseline["by_depth"]
    alone = run.pair.no_recursion is not None
    named = [Named("forced_accuracy", "accuracy", 1), GUESSES[2]] if alone else GUESSES
    if run.pair.guesses_side_by_side:
        named = OF_BLOCKS
    if run.pair.copies:
        named = [Named("proposed", "proposed", 0), *named]
    series = [_series(rows, one) for one in named]
    if HELD in run.measured and not alone:
        series.insert(2, Series(HELD_NAME, _held(run), 3, MEANINGS[HELD_NAME]))
    ticks = [str(row["depth"]) for row in rows]
    return Lines("guesses", "Accuracy and acceptance by depth", "depth", "share of guesses", "percent", ticks, series, low=0, top=1)


def _held(run: Run) -> list[Number]:
    if reason := run.failed.get(HELD):
        return [of(Absent(f"held failed: {reason}"))] * run.spec.depth
    return [of(value) for value in run.by_depth(forced_accuracy, HELD)]


def survival(report: Node) -> list[Lines]:
    """By what says something of a chain, what it promises and what survives, by depth."""
    charts = []
    for told, words in TOLD.items():
        if not (rows := report["survival"][told]["by_depth"]):
            continue
        named = {"survived": "accepted, all anchors", "promised": f"promised by {words}", "promised_scaled": "the same, with temperatures"}
        series = [Series(name, [read(row[column]) for row in rows], look) for look, (column, name) in enumerate(named.items())]
        title = f"What {words} promise{'s' * (told == 'confidence')} of a chain, and what is accepted"
        charts.append(Lines(f"survival-{told}", title, "depth", "share of chains", "percent", _depths(rows), series, low=0, top=1))
    return charts


def compounding(baseline: Node) -> Lines:
    """What feeding on itself costs beyond the hand-off."""
    rows: Sequence[Node] = baseline["by_depth"]
    series = [_series(rows, Named("compounding", "lost by compounding", 1))]
    return Lines("compounding", "Lost by compounding", "depth", "share of the accuracy", "percent", _depths(rows), series, rule=0)


def state(baseline: Node) -> list[Lines]:
    """Size of the state over the target-fed one, and the cosine between both, by depth."""
    rows: Sequence[Node] = baseline["by_depth"]
    grown = [_series(rows, Named("rms_ratio", "hidden state RMS", 1))]
    turned = [_series(rows, Named("state_cosine", "hidden state cosine", 0))]
    return [
        Lines("rms", "Hidden state RMS", "depth", "times the target-fed state's", "times", _depths(rows), grown, rule=1, low=0),
        Lines("cosine", "Hidden state cosine", "depth", "with the target-fed state", "number", _depths(rows), turned, rule=1, low=0),
    ]


def attention(run: Run, baseline: Node) -> list[Lines]:
    """Attention by region over depth, chain against control where that tells something, one chart a region, each on a scale of its own;
    none for a drafter without attention.
    """
    if not run.pair.attends:
        return []
    rows: Sequence[Node] = baseline["by_depth"]
    meaning = {**REGION_MEANING, "sink": "a first row that draws much"}
    charts = []
    for name in SHARES:
        if name == "ahead" and run.pair.no_attention:
            continue
        series = [_series(rows, Named(name, "block" if run.pair.guesses_side_by_side else "chain", 1))]
        if run.pair.attention_controlled:
            series.append(_series(rows, Named(f"control_{name}", "control", 0)))
        title = f"{name}: {meaning[name]}"
        charts.append(
            Lines(f"attention-{name}", title, "depth", "share of attention", "share", _depths(rows), series, low=0, top=LEAST_TOP)
        )
    return charts


def positions(baseline: Node) -> Lines | None:
    """Acceptance length by position in the reply; None where all replies end in the first part."""
    parts: Sequence[Node] = baseline["by_position"]
    if len(parts) < 2:
        return None
    ticks = [f"{part['from']}–{part['to']}" for part in parts]
    remark = "replies that reach it: " + ", ".join(str(part["replies"]) for part in parts)
    series = [Series("acceptance length", [length(part) for part in parts], 1, remark)]
    return Lines(
        "positions", "Acceptance length by position in the reply", "reply tokens", "tokens a round", "number", ticks, series, low=1
    )


def kept_by_position(baseline: Node) -> Lines | None:
    """Accepted draft tokens of later parts over those of the first part of the same replies."""
    parts: Sequence[Node] = baseline["by_position"][1:]
    if not parts:
        return None
    ticks = [f"{part['from']}–{part['to']}" for part in parts]
    series = [Series("accepted draft tokens", [read(part["against_first"]["accepted_drafts"]) for part in parts], 1)]
    title = "Accepted draft tokens, against the first part of the same replies"
    return Lines("kept-by-position", title, "reply tokens", "ratio", "percent", ticks, series, rule=1, low=0)


def contexts(report: Node) -> Lines | None:
    """Acceptance length by the length of the prompt, with full attention and through each window; None where it was not measured."""
    measured: dict[str, Node] = {one["name"]: one for one in report["run"]["request"]["conditions"] if one["probe"] == CONTEXT}
    found = {one["name"]: length(one) for one in report["conditions"] if one["name"] in measured}
    if not found:
        return None
    lengths = sorted({measured[name]["text"]["length"] for name in found})
    kinds = list(dict.fromkeys(_window(measured[name]["settings"]) for name in found))
    missing = Number(None, reason="not measured at this length")
    series = []
    for look, kind in enumerate(kinds):
        own = {measured[name]["text"]["length"]: found[name] for name in found if _window(measured[name]["settings"]) == kind}
        series.append(Series(kind, [own.get(one, missing) for one in lengths], look))
    title = "Acceptance length by context length"
    return Lines("contexts", title, "prompt tokens", "tokens a round", "number", list(map(str, lengths)), series, low=1)


def _window(settings: Node) -> str:
    if settings["window"] is None:
        return "full attention"
    kept = {"nothing": "", "sink": " and the sink", "system": " and the system prompt"}[settings["kept"]]
    return f"window of {settings['window']}{kept}"


def speeds(report: Node) -> list[Lines]:
    """Expected speed over plain decoding by draft length, a line a batch size."""
    timed = [one for one in report["payoff"] if "by_draft_length" in one]
    if not timed:
        return []
    ticks = [str(row["drafts"]) for row in timed[0]["by_draft_length"]]
    speed = [
        Series(f"batch {one['batch_size']}", [read(row["speed_up"]) for row in one["by_draft_length"]], look)
        for look, one in enumerate(timed)
    ]
    lengths = [Series("acceptance length", [read(row["acceptance_length"]) for row in timed[0]["by_draft_length"]], 1)]
    even = [
        Series(f"break-even, batch {one['batch_size']}", [_even(row["break_even_length"]) for row in one["by_draft_length"]], 4 + look)
        for look, one in enumerate(timed)
    ]
    return [
        Lines("speed", "Expected speed by draft length", "draft length", "times plain decoding", "times", ticks, speed, rule=1, low=0),
        Lines(
            "lengths", "Acceptance length against break-even", "draft length", "tokens a round", "number", ticks, [*lengths, *even], low=1
        ),
    ]


def _even(value: float | None) -> Number:
    return Number(value, reason="" if value is not None else "no acceptance length makes this draft length pay")


def _series(rows: Sequence[Node], named: Named) -> Series:
    return Series(named.name, [at_depth(row, named.column) for row in rows], named.look, MEANINGS.get(named.name, ""))


def _depths(rows: Sequence[Node]) -> list[str]:
    return [str(row["depth"]) for row in rows]
