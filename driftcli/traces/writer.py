"""A run folder being written: one Parquet file a cell and table, written aside and renamed, so a killed run leaves whole files or none.

`run.json` says what was asked, with what, and whether it is complete. The same request in an existing folder resumes it; more prompts
grow it, in new batches beside the old ones; anything else is refused unless forced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftcli.domain import PairCard, Sourced
from driftcli.errors import RunError
from driftcli.traces.schema import COLUMNS, TABLES, VERSION, Column, arrow_schema

Columns: TypeAlias = (
    "Mapping[str, Sequence[object] | np.ndarray | None]"  # by column name; None is all null, a masked array null where masked
)
Plain: TypeAlias = "None | bool | int | float | str | Sequence[Plain] | Mapping[str, Plain]"


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run, opened for writing; `known` holds the conditions that it had cells of, by name."""

    path: Path
    batches: tuple[tuple[str, ...], ...]
    known: Mapping[str, Plain] = field(default_factory=dict)

    def is_done(self, condition: str, batch: Sequence[str]) -> bool:
        """Whether the cell's last file, its steps, is there."""
        return self._file("steps", condition, batch).exists()

    def write_cell(self, condition: str, batch: Sequence[str], tables: Mapping[str, Sequence[Columns]]) -> None:
        """Write the tables of one cell, steps last."""
        for table in sorted(tables, key=lambda name: name == "steps"):
            write_parquet(self._file(table, condition, batch), table, tables[table])

    def _file(self, table: str, condition: str, batch: Sequence[str]) -> Path:
        return self.path / table / f"{condition}-{batch_key(batch)}.parquet"

    def written_texts(self, condition: str, batch: Sequence[str]) -> list[dict[str, Any]]:
        """The batch's texts, and their sinks, as a condition's cell holds them, one a row of `trajectories`."""
        columns = [column.name for column in COLUMNS["trajectories"] if column.name not in ("target_prob", "target_entropy")]
        return pq.read_table(self._file("trajectories", condition, batch), columns=columns).to_pylist()  # type: ignore[no-any-return]

    def forget(self, condition: str) -> None:
        """Remove every cell of a condition."""
        for table in sorted(TABLES, key=lambda name: name != "steps"):
            for file in (self.path / table).glob(f"{condition}-????????????.parquet"):
                file.unlink()

    def write_manifest(self, manifest: Mapping[str, Plain]) -> None:
        """Replace `run.json`."""
        write_json(self.path / "run.json", {**manifest, "batches": self.batches})


def batch_key(batch: Sequence[str]) -> str:
    """Name of a batch from the content hashes of its prompts."""
    return hashlib.sha256("\n".join(batch).encode()).hexdigest()[:12]


def open_run(path: Path, begun: Mapping[str, Plain], prompts: Sequence[str], batch_size: int, *, force: bool) -> RunFolder:
    """The folder at `path`, fresh, resumed or grown, with its `run.json` written.

    begun: the manifest of the unfinished run, as `manifest_of` makes it. prompts: content hashes of the prompts asked for, sorted. Raises
    RunError when the folder holds another request or something else, unless `force`.
    """
    manifest, request = path / "run.json", begun["request"]
    assert isinstance(request, Mapping)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: this is a file, expected a folder to write the run to; name another with --out")
    old: tuple[tuple[str, ...], ...] = ()
    conditions: Sequence[Plain] = ()
    if manifest.is_file() and not force:
        old, conditions = _to_keep(manifest, request, prompts)
    elif path.is_dir() and not manifest.is_file() and any(path.iterdir()):
        raise RunError(f"{path}: holds files that are no driftcli run; name an empty or new folder with --out")
    path.mkdir(parents=True, exist_ok=True)
    kept = {prompt for batch in old for prompt in batch}
    new = [prompt for prompt in prompts if prompt not in kept]
    grown = tuple(tuple(new[at : at + batch_size]) for at in range(0, len(new), batch_size))
    known = {str(condition["name"]): condition for condition in conditions if isinstance(condition, Mapping)}
    folder = RunFolder(path, (*old, *grown), known)
    folder.write_manifest(
        {**begun, "conditions": [], "other_conditions": conditions}
    )  # before anything else: a kill leaves a run, not a riddle
    (path / "findings.json").unlink(missing_ok=True)
    for name in TABLES:
        if force:
            shutil.rmtree(path / name, ignore_errors=True)
        (path / name).mkdir(exist_ok=True)
    return folder


def _to_keep(manifest: Path, request: Mapping[str, Plain], prompts: Sequence[str]) -> tuple[tuple[tuple[str, ...], ...], Sequence[Plain]]:
    """The batches of the run that is there and all conditions that it may hold cells of, those that were measured last."""
    try:
        before = json.loads(manifest.read_text(encoding="utf-8"))
        schema = before["schema"]
        asked, batches = before["request"], tuple(tuple(batch) for batch in before["batches"])
        conditions: list[Plain] = [*before.get("other_conditions", ()), *before.get("conditions", asked["conditions"])]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{manifest}: not a readable manifest of a run ({error!r}); name another folder with --out or overwrite it with --force"
        ) from error
    if schema != VERSION:
        raise RunError(
            f"{manifest.parent}: written with trace schema {schema}, this driftcli writes {VERSION}; "
            "name another folder with --out or overwrite it with --force"
        )
    wanted = json.loads(json.dumps(request))
    if changed := sorted(key for key in wanted.keys() | asked.keys() if wanted.get(key) != asked.get(key)):
        key = changed[0]
        raise RunError(
            f"{manifest.parent}: holds another request ({key} was {asked.get(key)!r}, now {wanted.get(key)!r}); "
            "name another folder with --out or overwrite it with --force"
        )
    if lost := {prompt for batch in batches for prompt in batch} - set(prompts):
        raise RunError(
            f"{manifest.parent}: holds {len(lost)} prompts that are not asked for now; "
            "name another folder with --out or overwrite it with --force"
        )
    return batches, conditions


def write_parquet(path: Path, table: str, parts: Iterable[Columns]) -> None:
    """Write rows of `table`, aside and renamed."""
    schema, rows = arrow_schema(table), list(parts)
    aside = path.with_suffix(".tmp")
    columns = [_column(column, rows) for column in COLUMNS[table]]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), aside, compression="zstd")
    os.replace(aside, path)


def _column(column: Column, parts: Sequence[Columns]) -> pa.Array:
    """One column of all parts, converted at once."""
    pieces, lengths = [part[column.name] for part in parts], [len(part["prompt"]) for part in parts]  # type: ignore[arg-type]
    kinds = [piece.dtype for piece in pieces if isinstance(piece, np.ndarray)]
    if all(piece is None for piece in pieces):
        return pa.nulls(sum(lengths), column.type)
    if not kinds:
        return _array([one for piece, n in zip(pieces, lengths, strict=True) for one in ([None] * n if piece is None else piece)], column)
    whole = [np.ma.array(np.zeros(n, kinds[0]), mask=True) if piece is None else piece for piece, n in zip(pieces, lengths, strict=True)]
    return _array(np.ma.concatenate(whole), column)  # type: ignore[no-untyped-call]


def _array(values: Sequence[object] | np.ndarray, column: Column) -> pa.Array:
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    data = values.data if isinstance(values, np.ma.MaskedArray) else values
    if pa.types.is_floating(column.type) and not np.isfinite(np.ma.asarray(values).compressed()).all():
        raise RunError(f"{column.name}: the models computed NaN or infinity, expected finite numbers; use --dtype float32 or bfloat16")
    if pa.types.is_dictionary(column.type):
        return pa.array(data, pa.string()).cast(column.type)
    return pa.array(data, column.type, mask=mask)


def write_json(path: Path, content: Plain) -> None:
    """Write JSON, aside and renamed; NaN is refused."""
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def card_json(card: PairCard) -> dict[str, Plain]:
    """The pair's card as it stands in `run.json`."""
    readings: dict[str, Plain] = {name: _fields_json(found) for name, found in card.readings.items()}
    return {**asdict(card), "record": _fields_json(card.record), "readings": readings}


def _fields_json(fields: Mapping[str, Sourced]) -> dict[str, Plain]:
    """Fields of a record, each with its value and source."""
    return {name: {"value": field.value, "source": field.source} for name, field in fields.items()}


def manifest_of(request: Mapping[str, Plain], pair: Mapping[str, Plain], facts: Mapping[str, Plain]) -> dict[str, Plain]:
    """The content of `run.json` for a run that has begun; it is finished by `complete` and `finished`."""
    return {"schema": VERSION, "complete": False, "request": request, "pair": pair, **facts}
