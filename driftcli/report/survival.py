"""What the drafter says of its chains against what survives, for people by depth and in lines, and as plain values for scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from driftcli.conditions import StopMeasure
from driftcli.domain import Absent, Estimate
from driftcli.mitigations.exports import confidence_settings
from driftcli.mitigations.mitigation import Option
from driftcli.mitigations.trials import Outcome, tokens_a_round
from driftcli.printable import printable
from driftcli.report.evidence import Form, written
from driftcli.report.speeds import gain_text
from driftcli.report.tables import Row
from driftcli.statistics.payoff import deciding, speed
from driftcli.statistics.survival import PRODUCTS, TOLD, Chains, Statistic, Told, auroc, brier, calibration_error, promised, survived
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

HEADING = "Survival"
STOPPING = "Stopping by it"
SCORES: Mapping[str, Statistic] = {"promised": promised, "calibration_error": calibration_error, "brier": brier, "auroc": auroc}
NAMES: Mapping[str, tuple[str, str]] = {  # of a score: what it is called, and a remark
    "promised": ("promised", "by {}"),
    "calibration_error": ("calibration error", "how far that is off"),
    "brier": ("Brier score", "less is better"),
    "auroc": ("AUROC", "how well it tells survivors"),
}
SCALED = "  with temperatures"


def known(run: Run) -> dict[Told, Chains]:
    """The chains of a run by what says something of them."""
    return {told: one for told, one in run.survival.items() if isinstance(one, Chains)}


def survival_tables(run: Run) -> list[tuple[str, list[Row]]]:
    """By what says it a heading and the rows of a table by depth, each score as it is and under temperatures of the other half."""
    found = known(run)
    return [(HEADING if len(found) == 1 else f"{HEADING}: {TOLD[told]}", _rows(told, chains)) for told, chains in found.items()]


def _rows(told: Told, chains: Chains) -> list[Row]:
    rows = [Row("accepted, all anchors", written(chains.by_depth(survived), "percent"), "of the chains")]
    for name, statistic in SCORES.items():
        words, remark = NAMES[name]
        form: Form = "percent" if name == "promised" else "score"
        rows.append(Row(words, written(chains.by_depth(statistic), form), remark.format(TOLD[told])))
        if not chains.unfitted:
            rows.append(Row(SCALED, written(chains.by_depth(statistic, scaled=True), form)))
    if not chains.unfitted:
        rows.append(Row("temperature", written(chains.temperatures(), "number"), "above 1: overconfident"))
    return rows


def survival_lines(run: Run, found: Sequence[Outcome]) -> list[str]:
    """What temperatures give, and what stopping by either gives; nothing of a run whose drafter says nothing."""
    lines = [telling(told, chains) for told, chains in known(run).items()]
    return [printable(line) for line in (*lines, *_stopped(run, found))]


def telling(told: Told, chains: Chains) -> str:
    """Whether a temperature a depth makes the forecast better on prompts that it was not fitted on."""
    if chains.unfitted:
        return f"{TOLD[told]}: no temperatures, {chains.unfitted}"
    gains = {depth: gain for depth, gain in enumerate(chains.gains, 1) if isinstance(gain, Estimate)}
    sure = {depth: gain for depth, gain in gains.items() if gain.low > 0}
    if not sure:
        most = max((gain.high for gain in gains.values()), default=0.0)
        return f"{TOLD[told]}: no gain by calibration is shown, a temperature a depth lowers the Brier score by {max(most, 0):.3f} at most"
    most = max(sure, key=lambda depth: sure[depth].low)
    at = f"at depth {', '.join(map(str, sure))}{f', most surely at {most}' * (len(sure) > 1)}, by {sure[most]:.3f}"
    return f"{TOLD[told]}: a temperature a depth lowers the Brier score on other prompts {at}"


def _stopped(run: Run, found: Sequence[Outcome]) -> list[str]:
    """What each rule by the drafter's own word gave, chosen on one half and measured on the other, and what temperatures add to it."""
    lines, own = [], _chosen(found)
    for (measure, calibrated), (option, gain) in own.items():
        line = f"{option.words}: {gain_text(gain)} against draft length {option.over.drafts}"
        if calibrated and (measure, False) in own:
            line += f", {gain_text(_against(run, option, own[measure, False][0]))} against the same without temperatures"
        lines.append(line)
    return lines


def _chosen(found: Sequence[Outcome]) -> dict[tuple[StopMeasure, bool], tuple[Option, Estimate | Absent]]:
    """The best option of each rule by the drafter's own word with its gain, by what the rule looks at and whether under temperatures."""
    stopping = ((one.option, one.option.plan.stop, one.gain) for one in found if one.option is not None)
    own = ("confidence", *PRODUCTS.values())
    return {
        (stop.measure, bool(stop.temperatures)): (option, gain)
        for option, stop, gain in stopping
        if stop is not None and stop.measure in own
    }


def _against(run: Run, one: Option, raw: Option) -> Estimate | Absent:
    """How many times the speed one rule gives of another, or the tokens a round where no costs are known, on the half that judges."""
    costs = deciding(run)
    return run.planned(speed(costs, "judging") if costs else tokens_a_round, one.plan, raw.plan, "judging")


def survival_json(run: Run, found: Sequence[Outcome], number: Callable[[Estimate | Absent], Plain]) -> dict[str, Plain]:
    """All of it as plain values: by what says it the numbers by depth, or why there are none, and what to export."""
    return {
        **{told: _plain(chains, number) for told, chains in run.survival.items()},
        "telling": [telling(told, chains) for told, chains in known(run).items()],
        "stopping": list(_stopped(run, found)),
        "export": _export(run, found),
    }


def _plain(chains: Chains | Absent, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    if isinstance(chains, Absent):
        return {"by_depth": [], "reason": chains.reason}
    columns = {
        "survived": chains.by_depth(survived),
        **{name: chains.by_depth(statistic) for name, statistic in SCORES.items()},
        **{f"{name}_scaled": chains.by_depth(statistic, scaled=True) for name, statistic in SCORES.items()},
        "brier_gain": chains.gains,
        "temperature": chains.temperatures(),
    }
    rows: list[Plain] = [
        {"depth": depth, **{name: number(values[depth - 1]) for name, values in columns.items()}} for depth in range(1, chains.depth + 1)
    ]
    return {"by_depth": rows, "reason": None}


def _export(run: Run, found: Sequence[Outcome]) -> dict[str, Plain]:
    """For what says something: the temperatures that fit all prompts, the thresholds that were chosen on half of them, with the
    temperatures that fit that half, and what engines call them.
    """
    chosen = {rule: option.plan.stop for rule, (option, _) in _chosen(found).items()}
    kept: dict[str, Plain] = {}
    for told, chains in known(run).items():
        measure, temperatures = PRODUCTS[told], [] if chains.unfitted else list(chains.whole.temperatures)
        calibrated = chosen.get((measure, True))
        token = chosen.get(("confidence", False)) if told == "draft_prob" else None
        rules = {"product": chosen.get((measure, False)), "product_calibrated": calibrated, "token": token}
        thresholds = {name: stop.low for name, stop in rules.items() if stop is not None}
        kept[told] = {
            "temperatures": list(temperatures),
            "threshold_temperatures": list(calibrated.temperatures) if calibrated else [],
            "thresholds": dict(thresholds),
            "settings": dict(confidence_settings(told, thresholds.get("token"), run.pair)),
        }
    return kept
