"""How often is a wrong RoPE base found, left undecided or open, or not seen at all, by how many prompts?
`python -m tests.benchmarks.wrong_rope_base [--draws N] [--prompts 24 40]`

The bundled heads are diagnosed as they are and with a base 20 times too small and too large. Prompts are drawn from each of these runs,
without putting them back while enough are left, and the wiring search judges every draw as a run of its own. Seeded.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from driftcli.conditions import BASELINE, Plan, Wiring
from driftcli.domain import Absent, Finding, Open, Prompt, RunSpec, Skipped
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import load_pair
from driftcli.statistics.intervals import Mapped
from driftcli.statistics.pooled import Pooled
from driftcli.statistics.walks import Sums
from driftcli.target.language_model import quiet_transformers
from driftcli.texts.prompts import bundled_prompts
from driftcli.traces.reader import Run, read_run
from probes.wiring import WiringSearch
from tests.benchmarks.planted_faults import BUNDLED, Fault, answered, nothing, other_base, planted

TARGET, HEADS = BUNDLED
BASE = 50_000.0  # of the bundled heads
CASES = (Fault("sound", None, nothing), *(Fault(f"base {times:g}x", "ROPE-MISMATCH", other_base(BASE * times)) for times in (1 / 20, 20)))
SEARCH, LONGEST = WiringSearch(), 96
OUTCOMES = ("found", "undecided", "open", "not seen")


class Drawn(Pooled):
    """Some prompts of a run, read as a run of their own."""

    reference, argmax_share, wiring = BASELINE, 1.0, Wiring()

    def __init__(self, run: Run, rows: np.ndarray) -> None:
        self.run, self.rows, self.pair, self.spec = run, rows, run.pair, run.spec
        self._taken: dict[str, Sums] = {}

    @property
    def n_prompts(self) -> int:
        return len(self.rows)

    @property
    def measured(self) -> frozenset[str]:
        return self.run.measured

    def sums(self, condition: str) -> Sums:
        if condition not in self._taken:
            self._taken[condition] = Mapped(self.run.sums(condition), lambda values: values[self.rows])
        return self._taken[condition]

    def plan_sums(self, plan: Plan) -> Sums:
        raise NotImplementedError

    def cannot_plan(self, plan: Plan) -> Absent | None:
        raise NotImplementedError

    def within_category(self, category: str) -> np.ndarray:
        raise NotImplementedError


def outcome(trace: Drawn) -> str:
    """What the search comes to on some prompts."""
    said = list(SEARCH.judge(trace))  # type: ignore[arg-type]
    kinds: Mapping[type, str] = {Finding: "found", Skipped: "undecided", Open: "open"}
    return next((word for kind, word in kinds.items() if any(isinstance(one, kind) for one in said)), "not seen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--prompts", type=int, nargs="+", default=(16, 24, 40))
    asked = parser.parse_args()
    quiet_transformers()
    prompts: list[Prompt] = []
    print(f"{'% of draws':24} {'prompts':>7} " + " ".join(f"{word:>10}" for word in OUTCOMES))
    for head in HEADS:
        for case in CASES:
            with TemporaryDirectory() as scratch:
                copy = str(planted(case, head, TARGET, Path(scratch) / "copy"))
                pair = load_pair(TARGET, copy, torch.device("cpu"), "float32")
                prompts = prompts or answered(pair.target, bundled_prompts(), LONGEST)
                job = Job(pair, prompts, [SEARCH], RunSpec(quick=True), Path(scratch) / "run", [SEARCH.name])
                run, random = read_run(measure(job, lambda *_: None)), np.random.default_rng(1)
                for size in asked.prompts:
                    rows = (np.sort(random.choice(run.n_prompts, size, replace=size > run.n_prompts - 4)) for _ in range(asked.draws))
                    found = Counter(outcome(Drawn(run, row)) for row in rows)
                    shares = " ".join(f"{100 * found[word] / asked.draws:10.0f}" for word in OUTCOMES)
                    print(f"{head.removeprefix('bundled:'):10} {case.name:13} {size:7} {shares}", flush=True)


if __name__ == "__main__":
    main()
