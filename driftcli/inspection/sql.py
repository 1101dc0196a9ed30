"""SQL over the tables of a run, by DuckDB, which sees those tables and nothing else: no file, no network, no extension, no setting.

Tables are handed over as Arrow datasets, which pyarrow reads; DuckDB's own access to the outside is off and cannot be put on again. One
thread, so that the same query gives the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from driftcli.errors import UsageError
from driftcli.printable import one_line
from driftcli.traces.schema import COLUMNS
from driftcli.traces.tables import dataset

ROWS = 10_000  # of a result that are held at once (chosen by us)
CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "1",
}
LOCKED = ("SET enable_external_access = false", "SET lock_configuration = true")
EXAMPLE = "select feed, avg(rms) from steps group by feed"
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@contextmanager
def answered(path: Path, query: str) -> Iterator[tuple[pa.Schema, Iterator[pa.Table]]]:
    """The result of a query over the run's tables, `steps`, `heads` and so on by name: its schema and its rows part by part.

    Raises UsageError for anything but one query that reads, and for what DuckDB refuses.
    """
    with closing(duckdb.connect(":memory:", config=CLOSED)) as connection:
        for table in COLUMNS:
            connection.register(table, dataset(path, table))
        for setting in LOCKED:
            connection.execute(setting)
        with _told(query):
            reader = connection.sql(_only(connection, query)).to_arrow_reader(ROWS)
            yield reader.schema, (pa.Table.from_batches([batch], reader.schema) for batch in reader)


def _only(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """The query, if it is one and reads."""
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in READING:
        raise UsageError(f"--sql {one_line(query, 60)}: expected one query that reads, such as: {EXAMPLE}")
    return statements[0]


@contextmanager
def _told(query: str) -> Iterator[None]:
    """What DuckDB, or Arrow beneath it, refuses as an error of ours."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise UsageError(f"--sql {one_line(query, 60)}: {one_line(str(error), 500)}; tables are {', '.join(COLUMNS)}") from error
