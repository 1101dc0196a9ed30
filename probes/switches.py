"""How many draft tokens hang on what engines compute otherwise?

Engines put one and the same head together in different ways: which state is handed in and fed back, whether the first embedding is
zeroed, which numbers turn together, at which position an assistant is asked. The first guess is blind to the feedback and text never shows
any of it, so each such switch drafts at full depth on the same replies, and what it gives or takes is paired prompt by prompt with the
wiring that is run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings, Wiring, worded
from driftcli.domain import SYSTEM_NAMES, Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.walks import MINIMAL_PROMPTS

FIELDS = ("capture", "feedback", "first_row", "rotation", "position")  # of a reading, which are also a wiring's
WORDS = {
    "capture": "with the target's state of boundary {} handed in",
    "feedback": "with the {} state fed back",
    "first_row": "with the embedding of position 0 {}",
    "rotation": "with {} of each head turned together",
    "position": "with its queries at the position of {}",
}
DEEPER = ("feedback",)  # which the first guess does not see


@dataclass(frozen=True)
class Switches:
    """Each switch on which another engine differs, at full depth."""

    name: str = "switches"
    axes: tuple[Axis, ...] = ()  # notes: which way is right is asked by the wiring probe
    minimal: float = 0.02  # share of accepted drafts from which a switch is told; chosen by us

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """One a switch; none for a drafter that all engines compute alike."""
        wirings = [wiring for wiring in by_switch(pair) if spec.depth > 1 or not set(wiring.changes) & set(DEEPER)]
        return [Condition(f"switch-{wiring}", DraftSettings(spec.depth, wiring=wiring), self.name) for wiring in wirings]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note for every switch that surely gives or takes draft tokens, by an interval for all of them at once."""
        if trace.n_prompts < MINIMAL_PROMPTS:
            return
        asked = {wiring: systems for wiring, systems in by_switch(trace.pair).items() if f"switch-{wiring}" in trace.measured}
        for wiring, systems in asked.items():
            worth = trace.ratio_to_baseline(accepted_drafts, f"switch-{wiring}", tries=len(asked))
            if isinstance(worth, Absent) or (worth.low <= 1 + self.minimal and worth.high >= 1 - self.minimal):
                continue
            yield self._noted(wiring, systems, worth)

    def _noted(self, wiring: Wiring, systems: Sequence[str], worth: Estimate) -> Finding:
        ((field, value),) = wiring.changes.items()
        who = " and ".join(SYSTEM_NAMES[system] for system in systems)
        does = WORDS[field].format(worded(value))
        gain = f"{worth.value - 1:+.0%} accepted draft tokens [{worth.low - 1:+.0%}, {worth.high - 1:+.0%}]"
        better = worth.value > 1
        fix = (
            f"serve it so, as {who} would"
            if better
            else f"do not serve it with {who} as it is; patch its class, or serve it as it is run here"
        )
        claim = f"as computed by {who}, {does}: {gain} against the way that is run here ({worth.n_prompts} prompts)"
        return Finding("SWITCH-WORTH", "healthy", claim, worth, "share of accepted drafts", fix, f"switch-{wiring}")


def by_switch(pair: PairCard) -> Mapping[Wiring, list[str]]:
    """One-change wirings by which other engines differ, and which do."""
    found: dict[Wiring, list[str]] = {}
    if pair.family not in ("mtp", "assistant"):
        return found
    for system, fields in pair.readings.items():
        for name in FIELDS:
            if name in fields:
                found.setdefault(Wiring(**{name: fields[name].value}), []).append(system)  # type: ignore[arg-type]
    return found
