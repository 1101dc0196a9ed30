"""The tables of a run as a whole, every condition and batch: how many rows they hold, and their rows part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from driftcli.errors import RunError
from driftcli.traces.layout import PIECES_FILE, cell_files
from driftcli.traces.schema import COLUMNS, PIECES, arrow_schema
from driftcli.traces.sums import read_rows


def files_of(path: Path, table: str) -> list[Path]:
    """The Parquet files of a table of the run at `path`, by name; none of one that the run does not have."""
    if table == PIECES:
        return [path / PIECES_FILE] if (path / PIECES_FILE).exists() else []
    return [file for file, _ in cell_files(path) if file.parent.name == table]


def rows_of(path: Path, table: str) -> int:
    """How many rows a table holds, by the footers of its files; raises RunError where one cannot be read."""
    return sum(map(_rows, files_of(path, table)))


def _rows(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            return int(pq.ParquetFile(opened).metadata.num_rows)
    except (OSError, ValueError, pa.ArrowException) as error:
        said = "; ".join(str(error).splitlines())
        raise RunError(f"{file}: cannot be read ({said}); remove it and repeat the diagnosis, which measures it again") from error


def parts_of(path: Path, table: str, columns: Sequence[str], where: pc.Expression | None = None) -> Iterator[pa.Table]:
    """The rows of a table that a filter admits, a part a file, names as plain text and null in what older runs lack."""
    schema = plain_schema(table)
    for file in files_of(path, table):
        rows = read_rows(file, columns, where, table)
        yield rows.cast(pa.schema([schema.field(name) for name in columns]))


def dataset(path: Path, table: str) -> ds.Dataset:
    """A table as an Arrow dataset, read when it is asked for; names are plain text, and what older runs lack is null."""
    files = [str(file.absolute()) for file in files_of(path, table)]
    return ds.dataset(files, schema=plain_schema(table), format="parquet", filesystem=LocalFileSystem())


def plain_schema(table: str) -> pa.Schema:
    """The schema of a table with names as plain text instead of a dictionary of them, and all columns nullable, as readers expect it."""
    kinds = {one.name: pa.string() if pa.types.is_dictionary(one.type) else one.type for one in COLUMNS[table]}
    told = arrow_schema(table)
    return pa.schema([pa.field(name, kind, metadata=told.field(name).metadata) for name, kind in kinds.items()])
