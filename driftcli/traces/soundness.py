"""Whether a cell's file is whole and is what its name says, told by its footer alone: whose cell of which request it is stands in it; and
whether all cells of a run are there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from driftcli.conditions import BASELINE
from driftcli.errors import RunError
from driftcli.traces.layout import cell_files
from driftcli.traces.schema import COLUMNS, VERSION

CAME_LATER: Mapping[str, object] = {
    "temperature": 0.0,
    "budget": None,
    "engine": None,
    "against": "",
    "against_target": None,
}  # settings of a request that older runs do not name, and what they were then
PARTS_CAME_LATER: Mapping[str, Mapping[str, object]] = {  # the same of how a condition drafts, and on which texts
    "settings": {"held": False},
    "text": {"twin": "nothing"},
}


def mark(request: Mapping[str, object]) -> str:
    """What every cell of a request carries: a hash of it, in which a setting that came later counts where it is another than before."""
    asked = {name: value for name, value in request.items() if name not in CAME_LATER or value != CAME_LATER[name]}
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def in_full(request: Mapping[str, object]) -> dict[str, object]:
    """A request with the settings that came after it was written as they were then."""
    return {**CAME_LATER, **request}


def condition_in_full(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition of a manifest with the settings that came after it was written as they were then."""
    parts = {name: {**later, **part} for name, later in PARTS_CAME_LATER.items() if isinstance(part := condition.get(name), Mapping)}
    return {**condition, **parts}


def damage(file: Path, table: str, request: str, prompts: Collection[str]) -> str:
    """What is wrong with a cell's file, empty where nothing is.

    request: the mark of the run's. prompts: ids of those that the cell was measured on. What the system refuses is raised: a file that
    cannot be opened just now is not damaged.
    """
    try:
        with file.open("rb") as opened:
            return _damage(pq.ParquetFile(opened), file, table, request, prompts)
    except FileNotFoundError:
        return "it is not there"
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        return f"it cannot be read ({error})"


def _damage(found: pq.ParquetFile, file: Path, table: str, request: str, prompts: Collection[str]) -> str:
    told = found.schema_arrow.metadata or {}
    expected = {"driftcli.table": table, "driftcli.schema": str(VERSION), "driftcli.cell": file.stem, "driftcli.request": request}
    wrong = [key for key, value in expected.items() if told.get(key.encode(), value.encode()) != value.encode()]
    if wrong or found.schema_arrow.names != [column.name for column in COLUMNS[table]]:
        return f"it is not the {table} of this cell ({', '.join(wrong) or 'its columns'} differ)"
    if table == "trajectories" and not found.metadata.num_rows:
        return "it holds no text"
    return _strangers(found, file, prompts)


def _strangers(found: pq.ParquetFile, file: Path, prompts: Collection[str]) -> str:
    """Which prompts or conditions of a file are not the cell's own."""
    names = [name for name in ("prompt", "condition") if name in found.schema_arrow.names]
    held = {name: set(found.read(columns=[name])[name].to_pylist()) for name in names}
    if strange := held["prompt"] - set(prompts):
        return f"it holds the prompt {sorted(map(str, strange))[0]}, which is not of its batch"
    if strange := held.get("condition", set()) - {file.stem[:-13]}:
        return f"it holds the condition {sorted(map(str, strange))[0]}"
    return ""


def check_cells(path: Path, keys: Collection[str]) -> None:
    """RunError for a cell of no batch of the run, whose rows would count twice, or for one that is gone, without which some would lack.

    keys: of the batches of a complete run.
    """
    files = list(cell_files(path))
    if strange := next((file for file, name in files if name["batch"] not in keys), None):
        raise RunError(f"{strange}: belongs to no batch of this run, so it is a copy or another run's; take it out of the folder")
    steps = {file.name for file, _ in files if file.parent.name == "steps"}
    wanted = {file.name for file, _ in files if file.parent.name == "trajectories"} | {f"{BASELINE}-{key}.parquet" for key in keys}
    if gone := sorted(wanted - steps):
        raise RunError(f"{path}/steps/{gone[0]}: is not there, though the run is complete; repeat the diagnosis, which measures it again")
