"""A finished run for Python: the numbers of its report as data frames, its tables as Arrow datasets, its replies and chains as objects.

    import driftcli

    run = driftcli.open_run("runs/llama")
    run.headline                            # value, low, high, n_prompts and reason of each number of the first screen
    run.by_depth                            # the same for every curve, a row a depth and number
    run.table("steps").to_table(columns=["depth", "feed", "match"])     # or duckdb.sql("...") over it, or polars.scan_pyarrow_dataset
    run.samples.losing(depth=3)[0]          # the reply that loses most there

Everything is read when it is first asked for. Numbers are those of `driftcli report RUN --format json`, made by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import pyarrow as pa
import pyarrow.dataset as ds

from driftcli.cli.battery import trusted_battery
from driftcli.conditions import BASELINE
from driftcli.domain import PairCard, RunSpec, Verdict
from driftcli.errors import MachineError, UsageError
from driftcli.report.json import baseline_json, condition_json, estimate_json, finding_json
from driftcli.report.remedies import remedies_json, tried
from driftcli.report.verdict import judge
from driftcli.suggestions import meant
from driftcli.traces import samples
from driftcli.traces.reader import Run, read_run
from driftcli.traces.samples import Chain, Reply, ReplyHead
from driftcli.traces.schema import COLUMNS
from driftcli.traces.tables import dataset
from driftcli.traces.writer import Plain

if TYPE_CHECKING:
    import pandas as pd

FrameName = Literal["headline", "by_depth", "conditions", "findings", "mitigations"]
HEADLINE = (
    *("acceptance_length", "text_match_length", "acceptance_length_sampled_drafts", "emitted_per_round"),
    *("self_feeding_tax", "handoff"),
)


def _schema(words: str, **others: pa.DataType) -> pa.Schema:
    """Columns of text by their names, and then the others."""
    return pa.schema({**dict.fromkeys(words.split(), pa.string()), **others})


BOUNDS = {"value": pa.float64(), "low": pa.float64(), "high": pa.float64()}
NUMBER = {**BOUNDS, "n_prompts": pa.int64(), "reason": pa.string()}
FINDING = {"estimate": pa.float64(), "low": pa.float64(), "high": pa.float64(), "unit": pa.string(), "n_prompts": pa.int64()}
SCHEMAS: Mapping[FrameName, pa.Schema] = {
    "headline": _schema("name", **NUMBER),
    "by_depth": pa.schema({"depth": pa.int64(), "name": pa.string(), **BOUNDS, "reason": pa.string()}),
    "conditions": _schema("probe condition name", **NUMBER),
    "findings": _schema("code severity most_likely claim", **FINDING, condition=pa.string(), fix=pa.string()),
    "mitigations": _schema("trial kind", helps=pa.bool_(), standing=pa.string(), option=pa.string(), name=pa.string(), **NUMBER),
}
PANDAS = "data frames: pandas is not installed, expected it for them; pip install pandas, or take .arrow(name), which needs it not"


def as_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a data frame; ImportError where pandas is not installed."""
    return table.to_pandas()


@dataclass(frozen=True)
class Samples:
    """Replies and chains of a run as they can be shown: tokens as text, what was drafted beside what was wanted."""

    run: Run

    def heads(self) -> list[ReplyHead]:
        """Every reply, by prompt and turn, with the rounds of its walk and the draft tokens accepted in them."""
        return samples.reply_heads(self.run)

    def reply(self, prompt: str, turn: int = 0) -> Reply:
        """A reply as text, with its prompt and its verify rounds; raises RunError where there is none."""
        return samples.reply(self.run, prompt, turn)

    def chain(self, prompt: str, anchor: int, turn: int = 0) -> Chain:
        """The chain from an anchor, depth by depth, its control beside it; raises RunError where there is none."""
        return samples.chain(self.run, prompt, turn, anchor)

    def losing(self, depth: int) -> list[tuple[ReplyHead, float]]:
        """Replies by the control's accuracy at a depth minus the chain's, a share of their anchors, most first."""
        return samples.losing(self.run, depth)


@dataclass(frozen=True)
class OpenRun:
    """A finished run; `open_run` makes it."""

    run: Run

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.run.path

    @property
    def pair(self) -> PairCard:
        """Target and drafter as they were read."""
        return self.run.pair

    @property
    def spec(self) -> RunSpec:
        """What was asked: depth, reply tokens, seed, temperature."""
        return self.run.spec

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict of the run's own probes; those that are code of somebody else are left out, as in `driftcli report`."""
        return judge(self.run, trusted_battery(self.run.probe_names, [])[0])

    @property
    def headline(self) -> pd.DataFrame:
        """Acceptance length, tokens a round over whole replies, self-feeding tax and hand-off: name, value, low, high, n_prompts, reason.

        Intervals are of 95%, over prompts; a number that does not exist is null with its reason.
        """
        return self._frame("headline")

    @property
    def by_depth(self) -> pd.DataFrame:
        """Every curve of the report: depth, name, value, low, high, reason."""
        return self._frame("by_depth")

    @property
    def conditions(self) -> pd.DataFrame:
        """Acceptance length of every condition, and its ratio to the baseline, paired prompt by prompt."""
        return self._frame("conditions")

    @property
    def findings(self) -> pd.DataFrame:
        """What the probes found, with number, interval, unit and what to do."""
        return self._frame("findings")

    @property
    def mitigations(self) -> pd.DataFrame:
        """What was tried: trial, kind, helps, standing, the option chosen, and its numbers by name (gain, ratio_to_baseline, ...)."""
        return self._frame("mitigations")

    def arrow(self, name: FrameName) -> pa.Table:
        """One of the frames as an Arrow table, for which pandas is not needed."""
        if name not in SCHEMAS:
            raise UsageError(f"{name}: no such frame; {meant(name, SCHEMAS)}expected {', '.join(SCHEMAS)}")
        rows = {
            "headline": self._headline,
            "by_depth": self._by_depth,
            "conditions": self._conditions,
            "findings": lambda: map(finding_json, self.verdict.findings),
            "mitigations": self._mitigations,
        }[name]
        return pa.Table.from_pylist(list(rows()), schema=SCHEMAS[name])

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(COLUMNS)

    def table(self, name: str) -> ds.Dataset:
        """A table of the run, all conditions and batches, as an Arrow dataset that is read when it is asked for."""
        if name not in COLUMNS:
            raise UsageError(f"{name}: no such table; {meant(name, COLUMNS)}expected {', '.join(COLUMNS)}")
        return dataset(self.path, name)

    @property
    def samples(self) -> Samples:
        """Its replies and chains as text."""
        return Samples(self.run)

    def _frame(self, name: FrameName) -> pd.DataFrame:
        try:
            return as_frame(self.arrow(name))
        except ImportError as error:
            raise MachineError(PANDAS) from error

    @cached_property
    def _baseline(self) -> dict[str, Plain]:
        return baseline_json(self.run.against(BASELINE))

    def _headline(self) -> Iterator[Mapping[str, Plain]]:
        for name in HEADLINE:
            if isinstance(number := self._baseline.get(name), Mapping):
                yield {"name": name, **number}

    def _by_depth(self) -> Iterator[Mapping[str, Plain]]:
        for row in cast("Sequence[Mapping[str, Plain]]", self._baseline["by_depth"]):
            intervals, absent = (cast("Mapping[str, Plain]", row[name]) for name in ("intervals", "absent"))
            for name in (name for name in row if name not in ("depth", "intervals", "absent")):
                low, high = cast("Sequence[float]", intervals.get(name, (None, None)))
                yield {"depth": row["depth"], "name": name, "value": row[name], "low": low, "high": high, "reason": absent.get(name)}

    def _conditions(self) -> Iterator[Mapping[str, Plain]]:
        for probe, condition in self.run.conditions:
            for name, number in condition_json(self.run, probe, condition).items():
                if isinstance(number, Mapping):
                    yield {"probe": probe, "condition": condition, "name": name, **number}

    def _mitigations(self) -> Iterator[Mapping[str, Plain]]:
        for one in cast("Sequence[Mapping[str, Plain]]", remedies_json(self.run, tried(self.run), estimate_json)):
            head = {"trial": one["name"], **{name: one[name] for name in ("kind", "helps", "standing", "option")}}
            for name, number in one.items():
                if isinstance(number, Mapping) and "value" in number:
                    yield {**head, "name": name, **number}


def open_run(path: str | Path) -> OpenRun:
    """The finished run in a folder; raises RunError where there is none, only a begun one, or one that a newer driftcli wrote."""
    return OpenRun(read_run(Path(path)))
