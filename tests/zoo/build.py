"""Published checkpoints without their weights: true config files, tensor names, dtypes and shapes, and plausible maps of integers.

    python -m tests.zoo.build OUT [NUMBER...]

`cases.jsonl` holds a line a target's config, then a line a drafter: the files beside its weights (JSON, or a length in bytes), and of each
weights file its tensors by name, where `{0-3}` stands for the numbers 0 to 3, with the content of small integer tensors. Weights files are
sparse: they show their full size and take no disk.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
TYPES = {"I64": np.int64, "I32": np.int32, "BOOL": np.uint8}


@dataclass(frozen=True)
class Case:
    """A published drafter: its files, and the config of its target, None where it has none."""

    name: str
    weights: Mapping[str, Any]
    files: Mapping[str, Any]
    target: Mapping[str, Any] | None

    @property
    def number(self) -> str:
        """What its name begins with."""
        return self.name.partition("-")[0]


@cache
def cases() -> tuple[Case, ...]:
    """All of them."""
    rows = [json.loads(line) for line in (Path(__file__).parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    targets = {row["target"]: row["config"] for row in rows if "config" in row}
    drafters = (row for row in rows if "name" in row)
    return tuple(Case(row["name"], row.get("weights", {}), row["files"], targets.get(row.get("target"))) for row in drafters)


def write(case: Case, folder: Path) -> Path:
    """The case in a folder of its name, its target in `target` inside."""
    made = folder / case.name
    made.mkdir(parents=True)
    for name, held in case.files.items():
        (made / name).write_bytes(b"\0" * held if isinstance(held, int) else json.dumps(held).encode())
    for name, held in case.weights.items():
        _write_safetensors(made / name, held["tensors"], held.get("ints", {}))
    if case.target is not None:
        (made / "target").mkdir()
        (made / "target" / "config.json").write_text(json.dumps(case.target), encoding="utf-8")
    return made


def _tensors(grouped: Mapping[str, str]) -> dict[str, tuple[str, list[int]]]:
    found = {}
    for pattern, told in grouped.items():
        dtype, _, sizes = told.partition(" ")
        for name in _names(pattern):
            found[name] = (dtype, [int(size) for size in sizes.split("x") if size])
    return found


def _names(pattern: str) -> Iterator[str]:
    found = re.search(r"\{(.*?)\}", pattern)
    if found is None:
        yield pattern
        return
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        yield from (pattern.replace(found[0], str(number)) for number in range(int(first), int(last or first) + 1))


def _write_safetensors(path: Path, grouped: Mapping[str, str], ints: Mapping[str, Any]) -> None:
    tensors, header, at = _tensors(grouped), dict[str, Any](), 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype] * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    rows = {name: tensors[name][1][0] for name in ("d2t", "t2d") if name in tensors}
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        start = file.tell()
        file.truncate(start + at)
        for name, rule in ints.items():
            file.seek(start + header[name]["data_offsets"][0])
            file.write(_integers(rule, *tensors[name], rows).tobytes())


def _integers(rule: str | list[int], dtype: str, shape: list[int], rows: Mapping[str, int]) -> np.ndarray:
    """Content of a map: the numbers themselves, zeros or ones, offsets of evenly spread tokens, or the mask of the same ones."""
    count = int(np.prod(shape))
    if isinstance(rule, list):
        return np.array(rule, TYPES[dtype])
    if rule in ("zeros", "ones"):
        return np.full(count, rule == "ones", TYPES[dtype])
    drafted, whole = (rows.get("d2t", 0), count) if rule == "mask" else (count, max(rows.get("t2d", 0), count))
    ids = np.linspace(0, whole - 1, drafted).astype(np.int64)
    if rule == "offsets":
        return (ids - np.arange(count)).astype(TYPES[dtype])
    mask = np.zeros(count, np.uint8)
    mask[ids] = 1
    return mask


if __name__ == "__main__":
    for each in cases():
        if not sys.argv[2:] or each.number in sys.argv[2:]:
            print(write(each, Path(sys.argv[1])))
