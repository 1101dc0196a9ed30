"""A sliding window on an EAGLE-3 head's attention, with which it is then trained.

It counts rows back from the query's own, that included, in chains as in the target-fed rows: as vLLM serves it (model_executor/models/
llama.py, which reads `layer_types` and `sliding_window`), as conditions with a window measure it, and as the unrolled step trains it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.mitigations.serving import draft_window
from driftcli.sources.files import Json
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.intervals import Mapped
from driftcli.statistics.walks import Sums
from driftcli.traces.reader import Run
from probes.context_length import ContextLength

USUAL = 1024  # rows where a run has tried none: arXiv:2605.09992 finds that so many keep all of the acceptance
NEST = "transformer_layer_config"  # where a speculators config says what its layers are


@dataclass(frozen=True)
class Window:
    """Rows that a query sees, its own included; measured_at: tokens of the context at which they did best, None where none were tried."""

    rows: int
    measured_at: int | None = None

    def __str__(self) -> str:
        """It, and where it comes from, in words."""
        why = "the usual one, since the run tried none" if self.measured_at is None else f"the best tried at {self.measured_at} tokens"
        return f"a window of {self.rows} rows, {why}"

    def facts(self) -> dict[str, Json]:
        """What is to be known of it, and what each engine makes of it in the files."""
        at: dict[str, Json] = {} if self.measured_at is None else {"window_measured_at": self.measured_at}
        return {"window": self.rows, **at, **{f"window_in_{engine}": words for engine, words in draft_window(self.rows, "nothing").items()}}


def require_chains_in_window(rows: int | None, unroll: int) -> None:
    """UsageError for chains in training that are longer than the window of so many rows through which they are drafted, if there is one."""
    if rows is not None and rows < unroll:
        raise UsageError(f"--unroll {unroll}: longer than the window of {rows} rows that is to be trained; unroll fewer draft tokens")


def best_window(run: Run, taught: Collection[str]) -> Window:
    """The window with nothing kept besides that accepts most at the longest context through which a run drafted so, by the prompts that may
    be learned from alone; the usual one where a run has none.
    """
    of_length: dict[int, dict[int, float]] = {}
    own = [unit for unit, members in enumerate(run.units.members) if set(members) <= set(taught)]
    for one in ContextLength().conditions(run.pair, run.spec):
        window, length = one.settings.window, one.text.length
        if window is None or length is None or one.settings.kept != "nothing" or one.name not in run.measured:
            continue
        sums = run.sums(one.name)
        if sums["anchors"][own].any():
            of_length.setdefault(length, {})[window] = _accepted(sums, own)
    if not of_length:
        return Window(USUAL)
    longest = max(of_length)
    return Window(max(of_length[longest], key=of_length[longest].__getitem__), longest)


def _accepted(sums: Sums, units: Sequence[int]) -> float:
    """Accepted draft tokens a round on some units."""
    return float(accepted_drafts(Mapped(sums, lambda values: values[list(units)].sum(0, keepdims=True)))[0])


def windowed(drafter: Eagle3, rows: int) -> Eagle3:
    """The head whose layers see so many rows."""
    return replace(drafter, layers=tuple(replace(layer, window=rows, from_anchor=False) for layer in drafter.layers))


def settings_of(config: Mapping[str, Json], drafter: Eagle3) -> dict[str, Json]:
    """The keys of a config that say the window of a drafter's layers, where its layers are described; Qwen3's class needs the last one."""
    rows = drafter.layers[0].window
    said: dict[str, Json] = {
        "layer_types": ["sliding_attention"] * len(drafter.layers),
        "sliding_window": rows,
        "use_sliding_window": True,
    }
    nested = config.get(NEST)
    return {NEST: {**nested, **said}} if isinstance(nested, dict) else said
