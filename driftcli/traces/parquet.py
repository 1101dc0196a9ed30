"""Rows of a Parquet file as a table of ours, and those of them that hold given values.

Neither Arrow's datasets nor its expressions are used: what a report needs of them is done as fast without, and they take long to import.
Nor are its threads: cells are small, so one thread is faster, and a pool that still starts while a short command ends can abort it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Holding: TypeAlias = Mapping[str, Sequence[object]]  # the values of a column, one of which a row holds


def read_columns(file: pq.ParquetFile, columns: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Columns of a file in the types of a schema, null where the file lacks them."""
    names = set(file.schema_arrow.names)
    held = file.read(columns=[name for name in columns if name in names], use_threads=False)
    kinds = pa.schema([schema.field(name) for name in columns], schema.metadata)
    return pa.Table.from_arrays([_column(held, field) for field in kinds], schema=kinds)


def _column(held: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in held.column_names:
        return pa.chunked_array([pa.nulls(len(held), field.type)])
    column = held[field.name]
    return column if column.type == field.type else column.cast(field.type)


def holding(rows: pa.Table, values: Holding) -> pa.Table:
    """The rows that hold one of the values in every column that is named."""
    return rows.filter(reduce(pc.and_, [is_one(rows[name], those) for name, those in values.items()]))


def is_one(column: pa.ChunkedArray, values: Sequence[object]) -> pa.ChunkedArray:
    """Whether each entry is one of the values."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return pc.is_in(column, value_set=pa.array(values, kind))
