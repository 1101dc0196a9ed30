"""What speculation pays, before people and scripts: expected speed by draft length and batch size, and how engines are told the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from driftcli.domain import Absent, Estimate
from driftcli.mitigations.serving import ENGINES, by_batch_size
from driftcli.mitigations.trials import tokens_a_round
from driftcli.mitigations.unfiled_serving import unfiled_length
from driftcli.printable import printable
from driftcli.report.evidence import written
from driftcli.report.tables import Row
from driftcli.statistics.costs import TRANSFORMERS, BatchCosts, Costs, RoundCosts, break_even_length, pays_from
from driftcli.statistics.costs_file import engine_json
from driftcli.statistics.payoff import advised_length, at_length, best_length, equally_fast, priced, speed, undecided, withheld
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

NO_SERVER = (
    "these are steps of transformers, not of a server, whose best draft length may be another: time rounds in the engine that serves with "
    "driftcli costs --engine vllm, and give them by --costs"
)
UNKNOWN_ENGINE = (
    "the costs do not say which engine was timed, and a server's best draft length may be another: time rounds in the engine that serves "
    "with driftcli costs --engine vllm"
)
ENOUGH_GAIN = 0.9  # where no step was timed a shorter draft is advised when it keeps this share of the accepted drafts (chosen by us)


def speed_rows(run: Run) -> list[Row]:
    """By draft length the acceptance length, and at each batch size the one from which it pays and the expected speed."""
    if not priced(run):
        return []
    lengths = range(1, run.spec.depth + 1)
    rows = [Row("acceptance length", written([run.planned(tokens_a_round, at_length(run, one)) for one in lengths], "number"))]
    for costs in priced(run):
        speeds = [run.planned(speed(costs), at_length(run, one)) for one in lengths]
        rows += [
            Row(f"batch {costs.batch_size}, break-even", [_break_even(costs, one) for one in lengths], "acceptance length"),
            Row("  expected speed", written(speeds, "times"), "over plain decoding"),
        ]
    return rows


def _break_even(costs: BatchCosts, drafts: int) -> str:
    length = break_even_length(costs, drafts)
    return f"{length:.2f}" if length <= drafts + 1 else "never"


def payoff_json(run: Run, number: Callable[[Estimate | Absent], Plain]) -> list[Plain]:
    """At each batch size the best draft length, its speed over plain decoding, what is advised (0 where even the best is surely slower, the
    run's own length where it is hardly slower), the lengths that are as fast, and the speed of every length; or why none is told.
    """
    absent = [{"batch_size": costs.batch_size, "speed_up": number(Absent(why))} for costs, why in withheld(run)]
    return [*(_batch_json(run, costs, number) for costs in priced(run)), *absent]


def _batch_json(run: Run, costs: BatchCosts, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    plan, worth = best_length(run, costs)
    return {
        "batch_size": costs.batch_size,
        "timed": "rounds" if isinstance(costs, RoundCosts) else "steps",
        "engine": None if run.costs is None or run.costs.engine is None else engine_json(run.costs.engine),
        "best_draft_length": plan.drafts,
        "speed_up": number(worth),
        "advised_draft_length": advised_length(run, costs),
        "equally_fast": list(equally_fast(run, costs)),
        "by_draft_length": [_length_json(run, costs, drafts, number) for drafts in range(1, run.spec.depth + 1)],
    }


def _length_json(run: Run, costs: BatchCosts, drafts: int, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    plan, pays = at_length(run, drafts), break_even_length(costs, drafts)
    return {
        "drafts": drafts,
        "acceptance_length": number(run.planned(tokens_a_round, plan)),
        "break_even_length": pays if isfinite(pays) else None,
        "speed_up": number(run.planned(speed(costs), plan)),
    }


def payoff_lines(run: Run) -> list[str]:
    """At each batch size the best draft length, what it gives over plain decoding, and from which acceptance length on it pays."""
    lines = []
    for costs in priced(run):
        plan, worth = best_length(run, costs)
        chosen = f"batch {costs.batch_size}: draft length {plan.drafts}, the fastest on half of the prompts, gives {gain_text(worth)}"
        lines.append(f"{chosen} the speed of plain decoding on the other half; {pays_from(costs, plan.drafts)}")
        if len(same := equally_fast(run, costs)) > 1:
            told = f"draft lengths {_listed(same)} are not told apart by these prompts and times; any of them may be the best"
            lines.append(f"batch {costs.batch_size}: {told}")
    for costs, why in withheld(run):
        lines.append(f"batch {costs.batch_size}: no speed is told: {why}; time the steps again, or give others (--costs)")
    if lines and run.costs:
        what = "round" if isinstance(run.costs.deciding, RoundCosts) else "step"
        lines.append(f"{what} times: {run.costs.source}, after {run.costs.context} tokens of context{_turns(run.costs.deciding)}")
        lines += whose(run.costs)
    return list(map(printable, lines))


def whose(costs: Costs) -> list[str]:
    """That the times are not a server's, or that nothing says whose; nothing where they are."""
    if costs.engine is None:
        return [UNKNOWN_ENGINE]
    return [NO_SERVER] if costs.engine.name == TRANSFORMERS else []


def why_none(run: Run) -> str:
    """Why no expected speed is drawn, empty where one is."""
    if run.costs is None:
        return "no step was timed in this run"
    return printable(undecided(run)) or ("" if priced(run) else "the step times cannot be true, see below")


def shorter_draft(run: Run) -> str:
    """Advice to draft fewer tokens where no step was timed: the shortest draft length that keeps nearly all of the gain; empty where it is
    the run's own, or no acceptance is claimed.
    """
    lengths = [run.planned(tokens_a_round, at_length(run, one)) for one in range(1, run.spec.depth + 1)]
    gains = [length.value - 1 for length in lengths if isinstance(length, Estimate)]
    if run.argmax_share < EXACT_TEXT or len(gains) < run.spec.depth or gains[-1] <= 0:
        return ""
    draft = next(number for number, gain in enumerate(gains, 1) if gain >= ENOUGH_GAIN * gains[-1])
    if draft == run.spec.depth:
        return ""
    kept, now, before = gains[draft - 1] / gains[-1], 1 - gains[draft - 1] / draft, 1 - gains[-1] / len(gains)
    rejected = f"{now:.0%} of all are rejected instead of {before:.0%}"
    return f"draft length {draft} instead of {len(gains)}: keeps {kept:.0%} of the accepted draft tokens, and {rejected}"


def _listed(lengths: Sequence[int]) -> str:
    """`4 to 7` for lengths in a row, else one by one."""
    if len(lengths) > 2 and lengths[-1] - lengths[0] == len(lengths) - 1:
        return f"{lengths[0]} to {lengths[-1]}"
    return f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]}"


def _turns(costs: BatchCosts) -> str:
    """In how many turns the steps were timed, where that is known."""
    return ", taken as exact" if costs.turns is None else f", {len(costs.turns)} repetitions"


def lengths_typed(run: Run, helped: int | None) -> list[str]:
    """How each engine is told the draft length by batch size, where several were asked for, or to draft nothing at all. helped: the draft
    length that helps at the batch size that decides, so that both say the same.
    """
    best = [(costs.batch_size, advised_length(run, costs)) for costs in priced(run)]
    if best and best[0][1] and helped:
        best[0] = best[0][0], helped
    drafting = any(drafts for _, drafts in best)
    if all(drafts == run.spec.depth for _, drafts in best) or (len(best) == 1 and drafting):
        return []
    if drafting and unfiled_length(run.spec.depth, run.pair) is not None:
        return []  # no engine is known to draft by batch size without a checkpoint
    settings = by_batch_size(best, self_feeding=run.pair.no_recursion is None and not run.pair.keyless)
    what = "by batch size" if drafting else "no speculation"
    return [printable(f"{what}, {engine} {ENGINES[engine]}: {text}") for engine, text in settings.items()]


def gain_text(gain: Estimate | Absent) -> str:
    """How many times something is another, with the interval."""
    return f"unknown ({gain.reason})" if isinstance(gain, Absent) else f"{gain.value:.2f}x [{gain.low:.2f}, {gain.high:.2f}]"
