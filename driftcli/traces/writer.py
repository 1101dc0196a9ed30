"""A run folder being written: one Parquet file a cell and table, written aside and renamed, so a killed run leaves whole files or none.

`run.json` says what was asked, with what, and whether it is complete. The same request in an existing folder resumes it; more prompts
grow it, in new batches beside the old ones; anything else is refused unless forced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftcli.domain import PairCard, Sourced
from driftcli.errors import RunError
from driftcli.printable import few
from driftcli.traces.layout import FINDINGS_FILE, MANIFEST, PIECES_FILE, cell_files, refuse_foreign, remove_leftovers, written_aside
from driftcli.traces.schema import COLUMNS, PIECES, TABLES, VERSION, Column, arrow_schema
from driftcli.traces.soundness import condition_in_full, damage, in_full, mark

Columns: TypeAlias = (
    "Mapping[str, Sequence[object] | np.ndarray | None]"  # by column name; None is all null, a masked array null where masked
)
Plain: TypeAlias = "None | bool | int | float | str | Sequence[Plain] | Mapping[str, Plain]"
UNASKED = ("target_prob", "target_entropy", "choices")  # what a target says of a text, which is no part of it


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run, opened for writing; `known` holds the conditions that it had cells of, by name, and `request` is the
    hash of what was asked, which every cell carries. room: for how much at once there was room in what it holds, where not as asked.
    """

    path: Path
    batches: tuple[tuple[str, ...], ...]
    known: Mapping[str, Plain] = field(default_factory=dict)
    request: str = ""
    room: Mapping[str, int] = field(default_factory=dict)

    def is_done(self, condition: str, batch: Sequence[str]) -> bool:
        """Whether the cell's last file, its steps, is there."""
        return self._file("steps", condition, batch).exists()

    def keeps(self, condition: str, batch: Sequence[str], tables: Collection[str], prompts: Collection[str]) -> bool:
        """Whether the cell is there and whole in all its tables, told by their footers; one that is damaged, or another's, goes.

        prompts: ids of those that it was measured on.
        """
        if not self.is_done(condition, batch):
            return False
        files = {table: self._file(table, condition, batch) for table in tables}
        sound = not any(damage(file, table, self.request, prompts) for table, file in files.items())
        if not sound:
            self.drop(condition, batch)
        return sound

    def drop(self, condition: str, batch: Sequence[str]) -> None:
        """Remove one cell."""
        for table in sorted(TABLES, key=lambda name: name != "steps"):
            self._file(table, condition, batch).unlink(missing_ok=True)

    def write_cell(self, condition: str, batch: Sequence[str], tables: Mapping[str, Sequence[Columns]]) -> None:
        """Write the tables of one cell, steps last."""
        for table in sorted(tables, key=lambda name: name == "steps"):
            write_parquet(self._file(table, condition, batch), table, tables[table], self.request)

    def _file(self, table: str, condition: str, batch: Sequence[str]) -> Path:
        return self.path / table / f"{condition}-{batch_key(batch)}.parquet"

    def written_texts(self, condition: str, batch: Sequence[str]) -> list[dict[str, Any]]:
        """The batch's texts, and their sinks, as a condition's cell holds them, one a row of `trajectories`."""
        columns = [column.name for column in COLUMNS["trajectories"] if column.name not in UNASKED]
        with self._file("trajectories", condition, batch).open("rb") as file:
            return pq.ParquetFile(file).read(columns=columns).to_pylist()  # type: ignore[no-any-return]

    def write_pieces(self, pieces: Columns) -> None:
        """Write what the target's tokens stand for, once more where it is there: it follows from the request."""
        write_parquet(self.path / PIECES_FILE, PIECES, [pieces], self.request)

    def forget(self, condition: str) -> None:
        """Remove every cell of a condition."""
        for table in sorted(TABLES, key=lambda name: name != "steps"):
            for file in (self.path / table).glob(f"{condition}-????????????.parquet"):
                file.unlink()

    def write_manifest(self, manifest: Mapping[str, Plain]) -> None:
        """Replace `run.json`."""
        write_json(self.path / MANIFEST, {**manifest, "batches": self.batches})


def batch_key(batch: Sequence[str]) -> str:
    """Name of a batch from the content hashes of its prompts."""
    return hashlib.sha256("\n".join(batch).encode()).hexdigest()[:12]


def open_run(path: Path, begun: Mapping[str, Plain], prompts: Sequence[str], batch_size: int, *, force: bool) -> RunFolder:
    """The folder at `path`, fresh, resumed or grown, with its `run.json` written.

    begun: the manifest of the unfinished run, as `manifest_of` makes it. prompts: content hashes of the prompts asked for, sorted. Raises
    RunError when the folder holds another request, unless `force`, or something else than a run.
    """
    request = begun["request"]
    assert isinstance(request, Mapping)
    refuse_foreign(path)
    old, conditions, room = ((), (), {}) if force else _kept(path, begun, prompts)
    path.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    _keep_cells(path, old)
    kept = {prompt for batch in old for prompt in batch}
    new = [prompt for prompt in prompts if prompt not in kept]
    grown = tuple(tuple(new[at : at + batch_size]) for at in range(0, len(new), batch_size))
    known = {str(condition["name"]): condition_in_full(condition) for condition in conditions if isinstance(condition, Mapping)}
    folder = RunFolder(path, (*old, *grown), known, mark(request), room)
    folder.write_manifest(
        {**begun, "conditions": [], "other_conditions": conditions, "room": room}
    )  # before anything else: a kill leaves a run, not a riddle
    (path / FINDINGS_FILE).unlink(missing_ok=True)
    for name in TABLES:
        (path / name).mkdir(exist_ok=True)
    return folder


def resumes(path: Path, begun: Mapping[str, Plain], prompts: Sequence[str]) -> bool:
    """Whether a run that is there may be gone on with by this one, as its manifest begins, on these prompts, by their content hashes."""
    try:
        _kept(path, begun, prompts)
    except RunError:
        return False
    return True


def _keep_cells(path: Path, batches: Sequence[Sequence[str]]) -> None:
    """Remove the cells of other batches than these: copies, or all where a run begins anew."""
    keys = set(map(batch_key, batches))
    for file, name in cell_files(path):
        if name["batch"] not in keys:
            file.unlink()


Kept: TypeAlias = tuple[tuple[tuple[str, ...], ...], Sequence[Plain], Mapping[str, int]]


def _kept(path: Path, begun: Mapping[str, Plain], prompts: Sequence[str]) -> Kept:
    """What of a run that is there is gone on with: nothing where it was killed before it said what it is."""
    if (path / MANIFEST).exists():
        return _to_keep(path / MANIFEST, begun, prompts)
    if next(cell_files(path), None):
        raise RunError(f"{path}: holds cells of a run but no run.json; name another folder with --out or overwrite it with --force")
    return (), (), {}


def _to_keep(manifest: Path, begun: Mapping[str, Plain], prompts: Sequence[str]) -> Kept:
    """The batches of the run that is there, all conditions that it may hold cells of, those that were measured last, and its room."""
    wanted = in_full(json.loads(json.dumps(begun["request"])))
    try:
        before = json.loads(manifest.read_text(encoding="utf-8"))
        schema = before["schema"]
        asked, batches = in_full(before["request"]), tuple(tuple(map(_text, batch)) for batch in before["batches"])
        conditions: list[Plain] = [*before.get("other_conditions", ()), *before.get("conditions", asked["conditions"])]
        room = {str(what): int(most) for what, most in before.get("room", {}).items()}
        changed = sorted(key for key in wanted.keys() | asked.keys() if wanted.get(key) != asked.get(key))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{manifest}: not a readable manifest of a run ({error!r}); name another folder with --out or overwrite it with --force"
        ) from error
    if schema != VERSION:
        raise RunError(
            f"{manifest.parent}: written with trace schema {schema}, this driftcli writes {VERSION}; "
            "name another folder with --out or overwrite it with --force"
        )
    if changed:
        raise RunError(
            f"{manifest.parent}: holds another request ({_changed(changed[0], {**before, 'request': asked}, begun)}); "
            "name another folder with --out or overwrite it with --force"
        )
    if lost := {prompt for batch in batches for prompt in batch} - set(prompts):
        raise RunError(
            f"{manifest.parent}: holds {len(lost)} prompts that are not asked for now; "
            "name another folder with --out or overwrite it with --force"
        )
    return batches, conditions, room


def _changed(key: str, before: Mapping[str, Any], begun: Mapping[str, Any]) -> str:
    """What of a request is another now than before; of a model which of its files, where the older run tells them."""
    if key in ("target", "drafter"):
        cards = (manifest["pair"].get(key) if isinstance(manifest.get("pair"), dict) else None for manifest in (before, begun))
        old, new = (card.get("files") if isinstance(card, dict) else None for card in cards)
        if isinstance(old, dict) and isinstance(new, dict) and old:
            files = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            return f"the {key}'s files changed: {few(files)}"
        return f"the {key}'s files changed"
    return f"{key} was {before['request'].get(key)!r}, now {begun['request'].get(key)!r}"


def _text(given: object) -> str:
    """A text as it is; TypeError for anything else."""
    if not isinstance(given, str):
        raise TypeError(f"{given!r} is no prompt's hash")
    return given


def write_parquet(path: Path, table: str, parts: Iterable[Columns], request: str = "") -> None:
    """Write rows of `table`, aside and renamed; the file says whose cell it is. Arrow gets an open file, since it reads paths as URLs."""
    rows = list(parts)
    columns = [_column(column, rows) for column in COLUMNS[table]]
    schema = arrow_schema(table, {"driftcli.cell": path.stem, "driftcli.request": request})
    with written_aside(path) as aside, aside.open("wb") as file:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), file, compression="zstd")


def _column(column: Column, parts: Sequence[Columns]) -> pa.Array:
    """One column of all parts, converted at once."""
    pieces, lengths = [part[column.name] for part in parts], list(map(_length, parts))
    kinds = [piece.dtype for piece in pieces if isinstance(piece, np.ndarray)]
    if all(piece is None for piece in pieces):
        return pa.nulls(sum(lengths), column.type)
    if not kinds:
        return _array([one for piece, n in zip(pieces, lengths, strict=True) for one in ([None] * n if piece is None else piece)], column)
    whole = [np.ma.array(np.zeros(n, kinds[0]), mask=True) if piece is None else piece for piece, n in zip(pieces, lengths, strict=True)]
    return _array(np.ma.concatenate(whole), column)  # type: ignore[no-untyped-call]


def _length(part: Columns) -> int:
    """Rows of a part."""
    return next(len(column) for column in part.values() if column is not None)


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
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


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
