"""Pairs of synthetic runs, and what they come to by loops that share no code with the tool."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import t

from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import Life, Recipe, write_run

SOUND, WORSE = Life(), Life(fresh=0.5)


def written(folder: Path, recipe: Recipe, name: str) -> Run:
    """A run of a recipe in a folder, its drafter named for it; the rows of a recipe are written once for all tests of a session."""
    kept = folder.parent / f"recipe-{sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if not kept.exists():
        write_run(kept, recipe)
    return linked(kept, folder / name, lambda held: held["pair"]["drafter"].update(name=f"some/{name}"))


def linked(run: Path, folder: Path, edit: Callable[[dict[str, Any]], object]) -> Run:
    """The rows of a run under another manifest."""
    folder.mkdir(parents=True)
    for part in run.iterdir():
        if part.name != "run.json":
            (folder / part.name).symlink_to(part)
    held = json.loads((run / "run.json").read_text())
    edit(held)
    (folder / "run.json").write_text(json.dumps(held))
    return read_run(folder)


def chains(run: Run) -> dict[str, dict[int, list[bool]]]:
    """By prompt and anchor whether each draft of the chain is right, straight from the files."""
    found: dict[str, dict[int, dict[int, bool]]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted((run.path / "steps").glob("baseline-*.parquet")):
        for row in pq.ParquetFile(file).read().to_pylist():
            if row["feed"] == "forced":
                found[row["prompt"]][row["anchor"]][row["depth"]] = row["match"]
    return {
        prompt: {anchor: [by_depth[d] for d in sorted(by_depth)] for anchor, by_depth in anchors.items()}
        for prompt, anchors in found.items()
    }


def walked(anchors: dict[int, list[bool]], depth: int) -> tuple[int, int]:
    """Rounds and kept drafts of decoding one reply."""
    at, rounds, kept = min(anchors), 0, 0
    while at in anchors:
        right = 0
        while right < depth and anchors[at][right]:
            right += 1
        rounds, kept, at = rounds + 1, kept + right, at + right + 1
    return rounds, kept


def length_change(before: Run, after: Run, depth: int) -> tuple[float, float, float]:
    """Acceptance length of the second minus that of the first with its 95% interval, prompt by prompt and draw by draw."""
    own = [{prompt: walked(anchors, depth) for prompt, anchors in chains(run).items()} for run in (before, after)]
    shared = sorted(own[0].keys() & own[1].keys())
    count = len(shared)
    draws = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=2000)

    def difference(weights: list[int]) -> float:
        lengths = []
        for side in own:
            rounds = sum(weight * side[prompt][0] for prompt, weight in zip(shared, weights, strict=True))
            kept = sum(weight * side[prompt][1] for prompt, weight in zip(shared, weights, strict=True))
            lengths.append(1 + kept / rounds)
        return lengths[1] - lengths[0]

    value, drawn = difference([1] * count), [difference(weights) for weights in draws.tolist()]
    low, high = np.quantile(drawn, [0.025, 0.975])
    wider = (count / (count - 1)) ** 0.5 * t.ppf(0.975, count - 1) / 1.959964
    return value, value - wider * (value - low), value + wider * (high - value)
