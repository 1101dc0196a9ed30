"""Rows of one condition of a run as they are, reply by reply, for whoever looks at single tokens and chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from driftcli.traces.parquet import Holding
from driftcli.traces.plans import ANCHOR, walked
from driftcli.traces.schema import COLUMNS
from driftcli.traces.sums import cells, read_rows

KEPT_REPLIES = 8  # whose rows are kept once read (chosen by us): chain after chain of one reply is asked for


@dataclass(frozen=True)
class ReplyRows:
    """Rows of a condition that has texts of its own. path: the run's folder; depth: of its chains."""

    path: Path
    condition: str
    depth: int
    _steps: dict[tuple[str, int], pa.Table] = field(default_factory=dict)  # by prompt and turn

    @cached_property
    def _cell_of(self) -> Mapping[str, str]:
        """The name of the file, in every table, that holds each prompt."""
        files = cells(self.path / "trajectories", self.condition)
        return {prompt: file.name for file in files for prompt in read_rows(file, ["prompt"])["prompt"].to_pylist()}

    def steps(self, columns: Sequence[str], where: Holding) -> pa.Table:
        """Those rows of `steps` that hold such values."""
        files = cells(self.path / "steps", self.condition)
        return pa.concat_tables([read_rows(file, columns, where) for file in files]).unify_dictionaries()

    @cached_property
    def walks(self) -> Mapping[tuple[str, int], Mapping[str, int]]:
        """Rounds of the walk and draft tokens accepted in them, by prompt and turn, of those with an anchor."""
        steps = self.steps([*ANCHOR, "depth", "match"], {"feed": ["forced"], "on_walk": [True]})
        return walked(steps, self.depth)

    def steps_of(self, prompt: str, turn: int) -> pa.Table:
        """The rows of `steps` of one reply, all columns; the last replies asked for are kept."""
        key = (prompt, turn)
        if key not in self._steps:
            if len(self._steps) >= KEPT_REPLIES:
                del self._steps[next(iter(self._steps))]
            self._steps[key] = self._rows_of("steps", prompt, turn)
        return self._steps[key]

    def text_of(self, prompt: str, turn: int) -> Mapping[str, Any]:
        """The row of `trajectories` of one reply, with its token ids."""
        row: Mapping[str, Any] = self._rows_of("trajectories", prompt, turn).to_pylist()[0]
        return row

    def _rows_of(self, table: str, prompt: str, turn: int) -> pa.Table:
        names = [column.name for column in COLUMNS[table]]
        return read_rows(self.path / table / self._cell_of[prompt], names, {"prompt": [prompt], "turn": [turn]})
