"""What the drafter says of its chains against what survives, for people by depth and in lines, and as plain values for scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from driftcli.domain import Absent, Estimate
from driftcli.mitigations.early_stop import OF_CHAIN, EarlyStop
from driftcli.mitigations.exports import confidence_settings
from driftcli.mitigations.trials import Outcome, tokens_a_round
from driftcli.printable import printable
from driftcli.report.evidence import Form, written
from driftcli.report.speeds import gain_text
from driftcli.report.tables import Row
from driftcli.statistics.payoff import deciding, speed
from driftcli.statistics.survival import TOLD, Chains, Statistic, Told, auroc, brier, calibration_error, promised, survived
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

HEADING = "Survival"
STOPPING = "Stopping by it"
SCORES: Mapping[str, Statistic] = {"promised": promised, "calibration_error": calibration_error, "brier": brier, "auroc": auroc}
NAMES: Mapping[str, tuple[str, str]] = {  # of a score: what it is called, and a remark
    "promised": ("promised", "by {}"),
    "calibration_error": ("calibration error", "how far that is off"),
    "brier": ("Brier score", "less is better"),
    "auroc": ("AUROC", "how well it tells them apart"),
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
        rows.append(Row("temperature", written(chains.temperatures(), "number"), "above 1: too far from 50%"))
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
    lines, own = [], {one.trial: one for one in found if one.trial in _trials()}
    for trial, one in own.items():
        if one.option is None or one.option.plan.stop is None:
            continue
        lines.append(f"{one.option.words}: {gain_text(one.gain)} against draft length {one.option.over.drafts}")
        raw = own.get(trial.removesuffix(CALIBRATED))
        if trial.endswith(CALIBRATED) and raw is not None and raw.option is not None:
            lines.append(f"{lines.pop()}, {gain_text(_against(run, one, raw))} against the same without temperatures")
    return lines


CALIBRATED = "-calibrated"


def _trials() -> set[str]:
    name = EarlyStop().name
    return {f"{name}-confidence", *(f"{name}-{measure}{end}" for measure in OF_CHAIN.values() for end in ("", CALIBRATED))}


def _against(run: Run, one: Outcome, raw: Outcome) -> Estimate | Absent:
    """How many times the speed one rule gives of another, or the tokens a round where no costs are known, on the half that judges."""
    assert one.option is not None
    assert raw.option is not None
    costs = deciding(run)
    return run.planned(speed(costs, "judging") if costs else tokens_a_round, one.option.plan, raw.option.plan, "judging")


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
    chosen = {
        one.trial.removeprefix(f"{EarlyStop().name}-"): one.option.plan.stop for one in found if one.trial in _trials() and one.option
    }
    kept: dict[str, Plain] = {}
    for told, chains in known(run).items():
        measure, temperatures = OF_CHAIN[told], [] if chains.unfitted else list(chains.whole.temperatures)
        rules = {name: chosen.get(key) for name, key in (("product", measure), ("product_calibrated", f"{measure}{CALIBRATED}"))}
        calibrated = rules["product_calibrated"]
        token = chosen.get("confidence") if told == "draft_prob" else None
        thresholds = {name: stop.low for name, stop in (*rules.items(), ("token", token)) if stop is not None}
        kept[told] = {
            "temperatures": list(temperatures),
            "threshold_temperatures": list(calibrated.temperatures) if calibrated else [],
            "thresholds": dict(thresholds),
            "settings": dict(confidence_settings(told, thresholds.get("token"), run.pair)),
        }
    return kept
