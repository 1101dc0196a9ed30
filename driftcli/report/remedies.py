"""Mitigations before people and scripts: what was tried, what it gave, and what to type for what helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from driftcli.domain import REGIONS, Absent, Estimate, Verdict
from driftcli.mitigations.draft_length import DraftLength
from driftcli.mitigations.exports import exports
from driftcli.mitigations.healable import healable
from driftcli.mitigations.probe import MITIGATED, outcomes
from driftcli.mitigations.serving import ENGINES, NO_SWITCH, Engine
from driftcli.mitigations.training import Advice, Producer, recipes
from driftcli.mitigations.trials import Outcome, tokens_a_round, verified_in_vain
from driftcli.printable import printable
from driftcli.report.speeds import gain_text, lengths_typed
from driftcli.statistics.curves import forced_accuracy, joint_walk, log_likelihood, share
from driftcli.statistics.payoff import deciding, paying_length, priced, speed, surely_slower
from driftcli.statistics.walks import EXACT_TEXT, Floats, Sums
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

Standing = Literal["helps", "costs", "no effect shown", "diagnostic"]


def tried(run: Run) -> list[Outcome]:
    """The outcomes of a run that tried mitigations, those that help first, then by their gain."""
    found = outcomes(run) if MITIGATED in run.probe_names else []
    return sorted(found, key=lambda one: (not recommended(one), -one.gain.value if isinstance(one.gain, Estimate) else 0.0))


def recommended(one: Outcome) -> bool:
    """Whether it helps and somebody could use it."""
    return one.helps and one.kind != "diagnostic"


def standing(one: Outcome) -> Standing:
    """What a trial came to, in a word or two."""
    if one.kind == "diagnostic":
        return "diagnostic"
    return "helps" if one.helps else "costs" if one.costs else "no effect shown"


def summary(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> list[str]:
    """What speculation pays here, and what was tried to what end, in a few lines."""
    payoff = verdict.axes["payoff"].reason if "payoff" in verdict.axes and found else ""
    by_standing = {word: [printable(one.trial) for one in found if standing(one) == word] for word in get_args(Standing)}
    tried_so = [f"{word}: {', '.join(trials)}" for word, trials in by_standing.items() if trials]
    return [line for line in (printable(payoff), answer(run, verdict, found), "; ".join(tried_so)) if line]


def heading(run: Run, found: Sequence[Outcome]) -> str:
    """What the gain is that the rows show."""
    judging = _judging(found)
    half = f"the other half{f' ({judging} prompts)' if judging else ''}"
    what = "expected speed" if deciding(run) else "tokens a round"
    one = f"{what} against draft length {run.spec.depth}, or against what stands behind `over`"
    return f"{one}; options are chosen on half of the prompts and measured on {half}, intervals for all trials at once"


def answer(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> str:
    """What all trials come to where none is to be typed: speculation does not pay, or nothing at inference helps, and which training may;
    empty elsewhere.
    """
    if _off(run, found):
        (costs, *_) = priced(run)
        return f"Turn speculation off at batch {costs.batch_size}: even its best draft length is slower than plain decoding."
    if not found or typed(run, found):
        return ""
    timed = "" if deciding(run) else " (shorter drafts aside, which only step times can judge)"
    first = any(axis.fix for axis in verdict.axes.values())
    ways = ["heal it (driftcli heal)"] * healable(run, verdict) + ["train again"] * bool(recipes(run, verdict.findings))
    rest = f": {'settle the wiring first, then ' * first}{', or '.join(ways)}" if ways else ""
    return f"Nothing that was tried at inference helps here{timed}{rest}."


def _off(run: Run, found: Sequence[Outcome]) -> bool:
    """Whether neither the best draft length nor anything that helps is as fast as plain decoding at the batch size that decides."""
    return _slower(run) and not worth_it(run, found)


def _slower(run: Run) -> bool:
    return any(paying_length(run, costs) == 0 for costs in priced(run)[:1])


def _pays(run: Run, one: Outcome) -> bool:
    """Whether an option may be as fast as plain decoding."""
    costs = deciding(run)
    assert costs is not None and one.option is not None
    return not surely_slower(run.planned(speed(costs, "judging"), one.option.plan, half="judging"))


def training_lines(run: Run, verdict: Verdict) -> list[str]:
    """For what only training can mend: the recipe, and what it could give at most here."""
    asked: dict[str, list[str]] = {}
    for one in recipes(run, verdict.findings):
        asked.setdefault(f"{one.what}: at most {_most(one)}", []).append(one.code)
    return [printable(f"{recipe}  ({', '.join(codes)})") for recipe, codes in asked.items()]


def _most(one: Advice) -> str:
    if isinstance(one.most, Absent):
        return f"unknown, {one.most.reason}"
    return f"{one.most:.0%}, {one.unit}"


def training_json(run: Run, verdict: Verdict, number: Callable[[Estimate | Absent], Plain]) -> list[Plain]:
    """Recipes with their keys by trainer."""
    return [
        {"code": one.code, "what": one.what, "at_most": number(one.most), "unit": one.unit, "keys": _texts(one.keys)}
        for one in recipes(run, verdict.findings)
    ]


def exports_json(run: Run) -> dict[str, Plain]:
    """What each engine takes to pretend the acceptance of this run; nothing where none is claimed."""
    rates = [one.value for one in run.by_depth(joint_walk) if isinstance(one, Estimate)]
    if len(rates) < run.spec.depth or run.argmax_share < EXACT_TEXT:
        return {}
    return _texts(exports(rates))


def further_parts(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    """What follows the trials, each part a heading and its lines; a part without lines is left out."""
    parts = [("What to type", typed(run, found)), ("If you train again", training_lines(run, verdict))]
    return [(head, lines) for head, lines in parts if lines]


def remedy_rows(run: Run, found: Sequence[Outcome]) -> list[tuple[str, str, str, str]]:
    """Of each trial: what it came to, its name, its best option in words, and the gain."""
    return [
        (standing(one), printable(one.trial), printable(option_words(run, one)), printable(f"{gain_text(one.gain)}{_of(one, found)}"))
        for one in found
    ]


def _judging(found: Sequence[Outcome]) -> int | None:
    """How many prompts judged the trials, None where not all were judged by as many."""
    counts = {one.gain.n_prompts for one in found if isinstance(one.gain, Estimate)}
    return counts.pop() if len(counts) == 1 else None


def _of(one: Outcome, found: Sequence[Outcome]) -> str:
    """Of how many prompts its gain is, where the heading does not say it."""
    return f" of {one.gain.n_prompts}" if isinstance(one.gain, Estimate) and _judging(found) is None else ""


def typed(run: Run, found: Sequence[Outcome]) -> list[str]:
    """What to type for each that is worth it, an engine a line, and by batch size; to draft nothing where nothing pays."""
    lines: list[str] = []
    by_length = lengths_typed(run, next((one.option.plan.drafts for one in found if of_length(one) and one.option), None))
    for one in worth_it(run, found):
        told = of_length(one) and by_length  # by batch size, the one that decides among them
        if one.option is not None and not told:
            lines += [printable(f"{one.option.words}, {engine} {ENGINES[engine]}: {text}") for engine, text in one.option.settings.items()]
    return [*lines, *(by_length if not _slower(run) or not lines else [])]


def settable(lines: Sequence[str]) -> list[str]:
    """What to type without the engines that have no such switch, unless none has."""
    return [line for line in lines if NO_SWITCH not in line] or list(lines)


def worth_it(run: Run, found: Sequence[Outcome]) -> list[Outcome]:
    """The trials that help; where even the best draft length does not pay, only those with which speculation may."""
    slower = _slower(run)
    return [one for one in found if recommended(one) and (not slower or _pays(run, one))]


def of_length(one: Outcome) -> bool:
    """Whether it is a draft length that helps."""
    return recommended(one) and one.trial == DraftLength().name


def option_words(run: Run, one: Outcome) -> str:
    """Its best option, and what that is held against where that is another draft length than the run's."""
    if one.option is None:
        return "-"
    over = one.option.over.drafts
    return one.option.words if over == run.spec.depth else f"{one.option.words}, over draft length {over}"


def remedies_json(run: Run, found: Sequence[Outcome], number: Callable[[Estimate | Absent], Plain]) -> list[Plain]:
    """Every trial as plain values; number: how an estimate is written."""
    return [_plain(run, one, number) for one in found]


def _plain(run: Run, one: Outcome, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    option, costs = one.option, deciding(run)
    head: dict[str, Plain] = {
        "name": one.trial,
        "kind": one.kind,
        "deployable": one.kind == "deployable",
        "helps": recommended(one),
        "standing": standing(one),
        "gain": number(one.gain),
    }
    if option is None:
        return {**head, "option": None, "settings": {}}
    plan, over = option.plan, option.over
    lengths = run.planned(tokens_a_round, plan), run.planned(tokens_a_round, plan, over)
    return {
        **head,
        "option": option.words,
        "acceptance_length": number(lengths[0]),
        "ratio_to_baseline": number(lengths[1]),
        "speed_up": number(run.planned(speed(costs), plan) if costs else Absent("no costs of a step are known, or they cannot be true")),
        "verified_in_vain": number(run.planned(verified_in_vain, plan)),
        "verified_in_vain_before": number(run.planned(verified_in_vain, over)),
        "settings": _texts(option.settings),
        "by_depth": [] if plan.condition == over.condition else _by_depth(run, plan.condition, over.condition, number),
    }


def _texts(named: Mapping[Engine, str] | Mapping[Producer, str]) -> dict[str, Plain]:
    """Texts by engine or trainer as plain values."""
    return {str(name): text for name, text in named.items()}


def _by_depth(run: Run, condition: str, over: str, number: Callable[[Estimate | Absent], Plain]) -> list[Plain]:
    """With and without it: perplexity over the wanted tokens that the draft vocabulary holds, and their share; accuracy on the target's
    text; RMS of the state; the shares of attention. As deep as both of them draft.
    """
    statistics: dict[str, Callable[[Sums], Floats]] = {
        "perplexity": lambda sums: np.exp(-log_likelihood(sums)),
        "covered": lambda sums: sums["forced_covered"] / sums["anchors"][:, None],
        "accuracy": forced_accuracy,
        "rms": lambda sums: sums["forced_rms"] / sums["anchors"][:, None],
        **{name: share("forced", name) for name in REGIONS},
    }
    deepest = min(run.depth_of(condition), run.depth_of(over))
    rows: list[dict[str, Plain]] = [{"depth": depth} for depth in range(1, deepest + 1)]
    for name, statistic in statistics.items():
        for suffix, which in (("", condition), ("_before", over)):
            for row, value in zip(rows, run.by_depth(statistic, which)[:deepest], strict=True):
                row[f"{name}{suffix}"] = number(value)
    return list(rows)
