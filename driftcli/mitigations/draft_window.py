"""A window on what the drafter sees of the text, with the sink or the system prompt kept or without, by length of the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftcli.conditions import Condition, DraftSettings, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import draft_window
from driftcli.probe import Trace
from probes.context_length import ContextLength

WINDOWS = (64, 256)  # rows, on the run's own texts: where a window may cost (chosen by us)
KEPT: tuple[Literal["nothing", "sink", "system"], ...] = ("nothing", "sink", "system")


@dataclass(frozen=True)
class DraftWindow:
    """On the run's own texts, and at every length at which the probe of context length drafted through windows."""

    name: str = "draft-window"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Windows on the run's own texts, for a drafter whose windows can be set; none in a hurry."""
        if spec.quick or not pair.steers_attention:
            return ()
        settings = [DraftSettings(spec.depth, window, kept) for window in WINDOWS for kept in KEPT]
        return [Condition(f"{self.name}-{_suffix(one.window, one.kept)}", one) for one in settings]

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One trial a length of context."""
        own = [one for one in self.conditions(trace.pair, trace.spec) if one.name in trace.measured]
        found = [Trial(self.name, [_option(trace, one, usual(trace)) for one in own])] if own else []
        longer = [one for one in ContextLength().conditions(trace.pair, trace.spec) if one.name in trace.measured]
        for length in sorted({one.text.length for one in longer}):
            full, *windows = sorted((one for one in longer if one.text.length == length), key=lambda one: one.settings.window is not None)
            if windows:
                over = Plan(full.name, trace.spec.depth)
                found.append(Trial(f"{self.name}-at-{length}", [_option(trace, one, over) for one in windows]))
        return found


def _option(trace: Trace, one: Condition, over: Plan) -> Option:
    window, kept = one.settings.window, one.settings.kept
    assert window is not None
    words = f"window of {window}{'' if kept == 'nothing' else f', {kept} kept'}"
    changes = {} if one.text.length else {"window": window, "kept": kept}
    return Option(words, Plan(one.name, over.drafts), over, draft_window(window, kept, family=trace.pair.family), changes)


def _suffix(window: int | None, kept: str) -> str:
    return f"{window}" if kept == "nothing" else f"{window}-keep-{kept}"
