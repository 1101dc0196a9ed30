"""Rows of two targets on the same texts, and their own replies, counted a unit, which is all that `driftcli.statistics.shift` sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftcli.conditions import Wiring
from driftcli.domain import ModelCard, RunSpec, TwinCard
from driftcli.errors import RunError
from driftcli.statistics.shift import TWIN, TWIN_REPLIES, Shift, parting
from driftcli.statistics.walks import Floats
from driftcli.traces.manifest import twin_of
from driftcli.traces.sums import of_units, places, read_table
from driftcli.traces.units import Units

KEYS = ("prompt", "turn", "anchor", "depth")
Key = tuple[str, int]  # prompt and turn
Text = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and of the reply to it


def shift_of(path: Path, manifest: Mapping[str, Any], here: TwinCard, units: Units, spec: RunSpec, reference: str) -> Shift | None:
    """What changes against a run's twin; None where it is held against none, or where one of the conditions for it was not measured.

    here: the run's own target. reference: the condition that its own replies are drafted on.
    """
    twin = twin_of(manifest)
    if twin is None or not {TWIN, TWIN_REPLIES} <= {one["name"] for one in manifest["conditions"]}:
        return None
    same = (
        replace(here, run=twin.run, wiring=twin.wiring, target=twin.target) == twin and here.target.fingerprint == twin.target.fingerprint
    )
    other = "" if here.wiring == twin.wiring else f"{twin.wiring or 'as declared'} there, {here.wiring or 'as declared'} here"
    return Shift(shift_sums(path, reference, units, spec.depth), computed(twin), computed(here), same, other, spec.seed)


def twin_card(name: str, manifest: Mapping[str, Any], target: ModelCard, wiring: Wiring) -> TwinCard:
    """The target of a run as its manifest tells it, for others that are held against it. name: of the run's folder."""
    request = manifest["request"]
    served = request.get("engine") or {}
    engine = f"{served['engine']} {served['version']}" if served else "transformers"
    scheme = manifest.get("target_quantisation") or served.get("quantisation")
    return TwinCard(name, target, engine, str(request["dtype"]), str(request["device"]), scheme, wiring)


def computed(card: TwinCard) -> str:
    """A target and what computed it, in words."""
    scheme = f", {card.quantisation}" if card.quantisation else ""
    return f"{card.target.name} ({card.dtype} on {card.device} in {card.engine}{scheme})"


def shift_sums(path: Path, reference: str, units: Units, depth: int) -> dict[str, Floats]:
    """All counts of a run that is held against its twin: drafts on the twin's replies, and the replies of both."""
    twin, here = (_drafted(path, name, units) for name in (TWIN, TWIN_REPLIES))
    return {**parted_sums(texts(path, TWIN), texts(path, reference), units), **drafts_sums(twin, here, units, depth)}


def texts(path: Path, condition: str) -> dict[Key, Text]:
    """The texts of a condition that has some of its own, by prompt and turn."""
    table = read_table(path / "trajectories", ["prompt", "turn", "prompt_length", "ids"], condition)
    return {
        (row["prompt"], row["turn"]): (row["ids"][: row["prompt_length"]], row["ids"][row["prompt_length"] :]) for row in table.to_pylist()
    }


def parted_sums(first: Mapping[Key, Text], second: Mapping[Key, Text], units: Units) -> dict[str, Floats]:
    """Replies of both behind the same tokens, those of them that differ, and the tokens that these have in common; (unit,)."""
    found = {name: np.zeros(units.count) for name in ("replies", "parted", "common")}
    for unit, place in _partings(first, second, units):
        found["replies"][unit] += 1
        found["parted"][unit] += place is not None
        found["common"][unit] += place or 0
    return found


def _partings(first: Mapping[Key, Text], second: Mapping[Key, Text], units: Units) -> Iterator[tuple[int, int | None]]:
    """The unit of each reply behind the same tokens, and where the two part."""
    unit_of = dict(zip(units.prompts, units.unit.tolist(), strict=True))
    for key, (prompt, reply) in first.items():
        if key[0] in unit_of and key in second and list(second[key][0]) == list(prompt):
            yield unit_of[key[0]], parting(reply, second[key][1])


def _drafted(path: Path, condition: str, units: Units) -> pa.Table:
    """What a condition's chains drafted, in order."""
    table = of_units(read_table(path / "steps", [*KEYS, "feed", "drafted", "match"], condition), units)
    table = table.filter(pc.field("feed") == "forced").drop_columns("feed")
    return table.set_column(0, "prompt", table["prompt"].cast(pa.string())).sort_by([(key, "ascending") for key in KEYS])


def drafts_sums(first: pa.Table, second: pa.Table, units: Units, depth: int) -> dict[str, Floats]:
    """Anchors, (unit,), and draft tokens that differ, that the first alone guesses right and that the second alone does, (unit, depth).

    The tables hold the same chains in the same order: prompt, turn, anchor, depth, drafted and match.
    """
    if not first.select(list(KEYS)).equals(second.select(list(KEYS))):
        raise RunError("the twin's replies have other chains here than in its own run; run the diagnosis again with --force")
    unit = units.unit[places(first["prompt"], units.prompts)]
    column = first["depth"].to_numpy().astype(np.int64) - 1
    drafted, match = ([table[name].to_numpy() for table in (first, second)] for name in ("drafted", "match"))

    def counted(those: np.ndarray) -> Floats:
        found: Floats = np.zeros((units.count, depth))
        np.add.at(found, (unit, column), those)
        return found

    return {
        "anchors": counted(np.ones(len(unit)))[:, 0],
        "other_drafts": counted(drafted[0] != drafted[1]),
        "lost": counted(match[0] & ~match[1]),
        "gained": counted(~match[0] & match[1]),
    }
