"""How much is simulated: enough to see every bound, or all that the page tells."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.calibration.regimes import AXES, Planted


@dataclass(frozen=True)
class Effort:
    """How much of everything.

    runs: of a cell where single numbers are looked at; verdicts: where a whole battery judges. prompts: of a population. sizes: prompts of
    runs whose intervals are looked at one by one, families: several at once. scenarios: of each regime. sound: regimes of sound pairs.
    verdict_sizes: of runs that are judged as a whole, each with whether by the quick battery. planted: regimes in which losses are planted,
    losses: which; plant_sizes: prompts of the runs that look for them, runs_of_axis: how many. bounded: whether only losses are planted
    that a bound is set for. open: regime, axis and loss of what is left open; open_sizes: prompts of runs that leave it so; most_prompts:
    up to which is tried how many are needed, runs_needed: runs of each number. timed: runs whose steps are timed anew, timed_sizes: their
    prompts, noises: by how much a step's seconds differ from turn to turn, in their logarithm.
    """

    runs: int
    verdicts: int
    prompts: int
    sizes: tuple[int, ...]
    families: tuple[int, ...]
    scenarios: int
    sound: tuple[str, ...]
    verdict_sizes: tuple[tuple[bool, int], ...]
    planted: tuple[str, ...]
    losses: tuple[float, ...]
    plant_sizes: tuple[int, ...]
    runs_of_axis: int
    bounded: bool
    open: tuple[tuple[str, Planted, float], ...]
    open_sizes: tuple[int, ...]
    most_prompts: int
    runs_needed: int
    timed: int
    timed_sizes: tuple[int, ...]
    noises: tuple[float, ...]


FULL = Effort(
    runs=1000,
    verdicts=100,
    prompts=4000,
    sizes=(8, 16, 24, 40, 80),
    families=(8, 16, 24, 40, 80),
    scenarios=2,
    sound=("tiny", "smol", "llama"),
    verdict_sizes=((False, 8), (False, 16), (False, 24), (False, 40), (False, 80), (True, 24), (True, 80)),
    planted=("smol", "llama"),
    losses=(0.1, 0.2, 0.4),
    plant_sizes=(8, 24, 40, 80),
    runs_of_axis=200,
    bounded=False,
    open=(
        *((name, axis, 0.0) for name in ("smol", "llama") for axis in AXES),
        ("llama", "drift", 0.03),
        ("llama", "template", 0.05),
        ("llama", "context", 0.05),
    ),
    open_sizes=(24, 40, 80),
    most_prompts=768,
    runs_needed=60,
    timed=300,
    timed_sizes=(24, 80),
    noises=(0.02, 0.1, 0.3, 0.5),
)
SHORT = Effort(
    runs=200,
    verdicts=40,
    prompts=1500,
    sizes=(8, 24),
    families=(16,),
    scenarios=1,
    sound=("llama",),
    verdict_sizes=((False, 80), (True, 24)),
    planted=("llama",),
    losses=(0.2, 0.4),
    plant_sizes=(24, 80),
    runs_of_axis=80,
    bounded=True,
    open=(("llama", "context", 0.0),),
    open_sizes=(24,),
    most_prompts=192,
    runs_needed=200,
    timed=100,
    timed_sizes=(80,),
    noises=(0.3,),
)
