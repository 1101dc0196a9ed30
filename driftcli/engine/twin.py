"""What a run takes over from that of its target's twin: its rows as they are, and its replies, to be read by this target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from driftcli.conditions import Condition
from driftcli.domain import Prompt
from driftcli.engine.texts import Text
from driftcli.traces.reader import Run
from driftcli.traces.schema import COLUMNS
from driftcli.traces.sums import cells, read_rows
from driftcli.traces.writer import Columns

TAKEN = ("trajectories", "steps", "heads")  # tables of which rows are taken over, of the forced feed alone


def texts_of(rows: Sequence[Mapping[str, Any]], prompts: Sequence[Prompt]) -> list[Text]:
    """Rows of `trajectories` as the texts that they hold, of these prompts."""
    by_id = {prompt.id: prompt for prompt in prompts}
    names = [field.name for field in fields(Text) if field.name != "prompt"]
    return [Text(by_id[row["prompt"]], **{name: row[name] for name in names}) for row in rows if row["prompt"] in by_id]


def twin_texts(twin: Run, prompts: Sequence[Prompt]) -> list[Text]:
    """The twin's replies to these prompts, none of which this target wrote."""
    return [replace(text, generated=False) for text in texts_of(_rows(twin, "trajectories", prompts).to_pylist(), prompts)]


def twin_tables(twin: Run, prompts: Sequence[Prompt], condition: Condition) -> dict[str, list[Columns]]:
    """The tables of a condition that is the twin's reference on these prompts, under the condition's own name."""
    return {table: [_renamed(_rows(twin, table, prompts), table, condition)] for table in TAKEN}


def _rows(twin: Run, table: str, prompts: Sequence[Prompt]) -> pa.Table:
    """What the twin's reference has in a table of these prompts, by prompt and turn."""
    names = [column.name for column in COLUMNS[table]]
    where = {"prompt": [prompt.id for prompt in prompts], **({"feed": ["forced"]} if "feed" in names else {})}
    found = pa.concat_tables([read_rows(file, names, where) for file in cells(twin.path / table, twin.reference)]).unify_dictionaries()
    order = {prompt.id: place for place, prompt in enumerate(prompts)}
    placed = found.append_column("place", pa.array([order[name] for name in found["prompt"].to_pylist()], pa.int32()))
    return placed.sort_by([("place", "ascending"), ("turn", "ascending")]).drop_columns("place")


def _renamed(rows: pa.Table, table: str, condition: Condition) -> Columns:
    own = {"probe": condition.probe, "condition": condition.name}
    return {column.name: [own[column.name]] * len(rows) if column.name in own else _values(rows[column.name]) for column in COLUMNS[table]}


def _values(column: pa.ChunkedArray) -> Sequence[object] | np.ndarray:
    """A column as cells are written from: numbers as a masked array, all else as a list."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        found: list[object] = column.to_pylist()
        return found
    filled = column.fill_null(pa.scalar(0, pa.int8()).cast(kind))
    return np.ma.array(filled.to_numpy(), mask=column.is_null().to_numpy())
