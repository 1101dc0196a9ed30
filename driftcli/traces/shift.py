"""Rows of two targets on the same texts, and their own replies, counted a unit, which is all that `driftcli.statistics.shift` sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from driftcli.conditions import Wiring
from driftcli.domain import ModelCard, RunSpec, TwinCard
from driftcli.errors import RunError
from driftcli.statistics.shift import TWIN, TWIN_REPLIES, Shift, parting
from driftcli.statistics.walks import Floats, by_unit, leading_matches, walk
from driftcli.traces.manifest import twin_of
from driftcli.traces.parquet import holding
from driftcli.traces.sums import of_units, places, read_table
from driftcli.traces.units import Units

Key = tuple[str, int]  # prompt and turn
NOTHING = -1  # in place of a token where nothing was drafted
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
    """All counts of a run that is held against its twin."""
    there, here, own = (_guesses(path, name, units, depth) for name in (TWIN, TWIN_REPLIES, reference))
    wanted = here.wanted_by(_choices(path))
    return {
        **parted_sums(texts(path, TWIN), texts(path, reference), units),
        **guess_sums(there, here, wanted),
        **_walked("here", own, own.drafted == own.wanted),
    }


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


def _choices(path: Path) -> dict[Key, Sequence[int]]:
    """What this target chooses at each token of the twin's replies, by prompt and turn."""
    table = read_table(path / "trajectories", ["prompt", "turn", "choices"], TWIN_REPLIES)
    return {(row["prompt"], row["turn"]): row["choices"] for row in table.to_pylist()}


@dataclass(frozen=True)
class Guesses:
    """The chains of a condition as drafted and wanted token ids, (anchor, depth), ordered by prompt, turn and anchor.

    prompt: its place among the prompts of `units`; turn; anchor; (anchor,) each.
    """

    drafted: np.ndarray
    wanted: np.ndarray
    prompt: np.ndarray
    turn: np.ndarray
    anchor: np.ndarray
    units: Units

    def is_of(self, other: Guesses) -> bool:
        """Whether both are of the same anchors of the same texts."""
        names = ("prompt", "turn", "anchor", "wanted")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    @property
    def unit(self) -> np.ndarray:
        """The unit of each anchor; (anchor,)."""
        found: np.ndarray = self.units.unit[self.prompt]
        return found

    @property
    def replies(self) -> list[slice]:
        """The anchors of each reply, the first of which is its first token."""
        begins = np.flatnonzero((np.diff(self.prompt, prepend=-1) != 0) | (np.diff(self.turn, prepend=-1) != 0)).tolist()
        return [slice(start, stop) for start, stop in zip(begins, [*begins[1:], len(self.prompt)], strict=False)]

    def wanted_by(self, choices: Mapping[Key, Sequence[int]]) -> np.ndarray:
        """What a target that chooses so wants at each place of the same text; (anchor, depth)."""
        found = np.empty_like(self.wanted)
        for reply in self.replies:
            own = np.asarray(choices[self.units.prompts[self.prompt[reply.start]], int(self.turn[reply.start])])
            place = self.anchor[reply, None] - self.anchor[reply.start] + np.arange(1, self.wanted.shape[1] + 1)
            found[reply] = own[place]
        return found

    def total(self, values: np.ndarray) -> Floats:
        """Sum over the anchors of each unit; (anchor, ...) -> (unit, ...)."""
        return by_unit(self.unit, values, self.units.count)


def _guesses(path: Path, condition: str, units: Units, depth: int) -> Guesses:
    names = ["prompt", "turn", "anchor", "depth", "feed", "drafted", "wanted"]
    table = holding(of_units(read_table(path / "steps", names, condition), units), {"feed": ["forced"]})
    prompt = places(table["prompt"], units.prompts)
    table = table.set_column(names.index("drafted"), "drafted", pc.fill_null(table["drafted"], NOTHING))
    turn, anchor, at, drafted, wanted = (table[name].to_numpy() for name in ("turn", "anchor", "depth", "drafted", "wanted"))
    order = np.lexsort((at, anchor, turn, prompt)).reshape(-1, depth)
    first = order[:, 0]
    return Guesses(drafted[order], wanted[order], prompt[first], turn[first], anchor[first], units)


def guess_sums(there: Guesses, here: Guesses, wanted: np.ndarray) -> dict[str, Floats]:
    """What differs on the twin's replies, and what that costs. there, here: drafts on the twin's and on this target's streams; wanted: what
    this target wants there, (anchor, depth).
    """
    if not there.is_of(here):
        raise RunError("the twin's replies have other chains here than in its own run; run the diagnosis again with --force")
    right = there.drafted == there.wanted, here.drafted == wanted
    other = {"drafted": there.drafted != here.drafted, "wanted": there.wanted != wanted}
    by_cause = {
        "drafted": other["drafted"] & ~other["wanted"],
        "wanted": other["wanted"] & ~other["drafted"],
        "both": other["wanted"] & other["drafted"],
    }
    return {
        "anchors": there.total(np.ones(len(there.anchor))),
        **{name: there.total(those) for name, those in other.items()},
        **{f"lost_{cause}": there.total(those & right[0] & ~right[1]) for cause, those in by_cause.items()},
        **{f"gained_{cause}": there.total(those & right[1] & ~right[0]) for cause, those in by_cause.items()},
        **_walked("twin", there, right[0]),
        **_walked("streams", there, np.where(other["wanted"], right[0], right[1])),
        **_walked("tokens", there, right[1]),
    }


def _walked(stage: str, guesses: Guesses, right: np.ndarray) -> dict[str, Floats]:
    """Rounds of the walk over each reply where these guesses are right, and drafts kept in them; (unit,) each."""
    kept = leading_matches(right)
    on_walk = np.zeros(len(kept), dtype=bool)
    for reply in guesses.replies:
        on_walk[reply] = walk(kept[reply])
    return {f"{stage}_rounds": guesses.total(on_walk), f"{stage}_kept": guesses.total(kept * on_walk)}
