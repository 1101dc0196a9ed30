"""What was tried against the baseline, as forest plots: conditions, other wirings, mitigations."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.conditions import BASELINE
from driftcli.domain import REWIRED
from driftcli.mitigations.probe import MITIGATED
from driftcli.report.html.charts import Bar, Forest
from driftcli.report.html.numbers import Node, length, read
from driftcli.statistics.payoff import deciding
from driftcli.traces.reader import Run

WIRING = "wiring"
STANDINGS = {"helps": 2, "costs": 1, "no effect shown": 0, "diagnostic": 3}  # each with its look
KEPT = "acceptance length, against the baseline's on the same prompts"


def conditions(report: Node) -> Forest | None:
    """Acceptance length of every condition over the baseline's, paired; wirings and mitigations have plots of their own."""
    apart = (WIRING, MITIGATED)
    rows = [one for one in report["conditions"] if one["probe"] not in apart and one["name"] not in (BASELINE, REWIRED)]
    return Forest("conditions", "Acceptance length under each condition", KEPT, "percent", _bars(rows)) if rows else None


def wirings(report: Node) -> Forest | None:
    """The same of every other wiring that was tried."""
    rows = [one for one in report["conditions"] if one["probe"] == WIRING and one["name"] != REWIRED]
    return Forest("wirings", "Other wirings that were tried", KEPT, "percent", _bars(rows), heads=("wiring", "")) if rows else None


def _bars(rows: Sequence[Node]) -> list[Bar]:
    return [Bar(one["name"], read(one["ratio_to_baseline"]), one["probe"], 0, f"{length(one).text('number')}") for one in rows]


def mitigations(run: Run, report: Node) -> Forest | None:
    """The gain of every mitigation's best option, chosen on half of the prompts and measured on the other."""
    rows: Sequence[Node] = report["mitigations"]
    if not rows:
        return None
    what = "expected speed" if deciding(run) else "tokens a round"
    bars = [Bar(one["name"], read(one["gain"]), one["standing"], STANDINGS[one["standing"]], one["option"] or "") for one in rows]
    along = f"{what}, against draft length {run.spec.depth}"
    return Forest("mitigations", "Gain of each mitigation's best option", along, "times", bars, heads=("mitigation", "best option"))
