"""What `driftcli heal` mends: which heads, which wrong wirings and which findings, told before a weight is loaded."""

from __future__ import annotations

from driftcli.domain import Verdict
from driftcli.families.map_kinds import ABSOLUTE, MARKED
from driftcli.mitigations.treatment import CALLED_FOR_BY, OF_EAGLE3
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.traces.reader import Run

FLAGS = {"feedback": "norm_output", "residual": "norm_before_residual"}
WRITTEN = frozenset({*FLAGS, "capture", "ones", "vocabulary", "rope", "embedding", "head"})  # of a wiring, what EAGLE-3 files can say
STORED_OTHERWISE = {  # maps that are read here as they are meant, by vocab_map
    ABSOLUTE: "as target ids",
    MARKED: "in t2d alone",
}
TAUGHT = 0.5  # of a run's prompts, whose replies are trained on; the others judge (chosen by us)


def taught(prompts: int) -> int:
    """How many of so many prompts are learned from."""
    return int(prompts * TAUGHT)


def healable(run: Run, verdict: Verdict) -> bool:
    """Whether `driftcli heal --run` has something to do for a run: files to mend, or a finding that training of its head treats."""
    if not run.pair.heal_trains or run.n_prompts - taught(run.n_prompts) < MINIMAL_PROMPTS:
        return False
    eagle3 = run.pair.family == "eagle3"
    if run.wiring.changes:
        return eagle3 and run.wiring.changes.keys() <= WRITTEN
    stored = run.pair.record.get("vocab_map")
    if eagle3 and stored is not None and stored.value in STORED_OTHERWISE:
        return True
    codes = {finding.code for finding in verdict.findings if finding.severity != "healthy"}
    return any(codes.intersection(calling) for treatment, calling in CALLED_FOR_BY.items() if eagle3 or treatment not in OF_EAGLE3)
