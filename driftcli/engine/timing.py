"""Seconds of every step of a pair on this machine, as `driftcli.statistics.costs` wants them, in the order in which a round takes them.

All kinds of steps take turns, so whatever else the machine does hits them alike; the first turn only warms up. A text of random tokens is
as good as any to a model without experts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from statistics import median
from time import perf_counter

import numpy as np
import torch
import transformers

from driftcli.engine.serving import ServedTarget, serve
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair
from driftcli.statistics.costs import TRANSFORMERS, Costs, StepCosts, TimedIn
from driftcli.statistics.turns import Turns
from driftcli.target.heads import heads_of
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Target

TURNS, FEWEST, SECONDS = 25, 6, 30.0  # most and fewest turns, and the time after which there are no more (chosen by us): half of them judge
READ = 5  # newly verified tokens of the longer of the first steps that are timed (chosen by us)
CHAIN = 4  # further steps that are timed together, since nobody waits between them (chosen by us)
PLAIN = 3  # steps of plain decoding that are timed together, behind one that is not (chosen by us)
EACH = 9  # target steps over up to so many tokens are all timed, then every fourth (chosen by us)


def measure_costs(
    pair: LoadedPair, batch_sizes: Sequence[int], depth: int, context: int, say: Callable[[str], None] = lambda _: None
) -> Costs:
    """Seconds of the steps of rounds of up to `depth` drafts, behind `context` tokens, for each batch size.

    Medians of some turns; context: at least 2. say: told which turn is timed. Raises RunError for a model whose cache cannot take tokens
    back, or has no room for so many.
    """
    target = in_process(pair.target)
    for size in batch_sizes:
        _check_memory(target, size, depth, context)
    steps = tuple(_step_costs(StepTimer(pair, size, depth, context), say) for size in batch_sizes)
    return Costs(source(target), context, steps, timed_in(target))


def in_process(target: Target) -> LanguageModel:
    """A target whose own steps can be taken here; RunError for one that an engine serves."""
    if not isinstance(target, LanguageModel):
        served = "an engine" if target.served is None else target.served.engine
        raise RunError(
            f"{target.source.name}: {served} takes the target's steps, which are not timed from here; give --costs of its server"
        )
    return target


def _check_memory(target: LanguageModel, size: int, depth: int, context: int) -> None:
    """Raise RunError where the target's keys and values of so many sequences would not fit the memory that is free."""
    kept = sum(one.keys * one.size for one in heads_of(target.config)) * target.head.dtype.itemsize
    wanted = 2 * size * (context + depth + 1) * kept
    free = free_memory(target.device)
    if free is not None and wanted > free:
        raise RunError(
            f"--batch-sizes {size}: keys and values of so many sequences would take {wanted / 2**30:,.0f} GiB, {free / 2**30:,.0f} GiB are "
            "free; ask for fewer"
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def step_lengths(depth: int) -> list[int]:
    """Numbers of tokens whose target step is timed: all of the first nine, then every fourth, and `depth + 1`."""
    deepest = depth + 1
    return sorted({*range(1, min(EACH, deepest) + 1), *range(EACH, deepest, 4), deepest})


def timed_in(target: LanguageModel) -> TimedIn:
    """The engine that steps are timed in here: transformers, which is no server."""
    threads = torch.get_num_threads() if target.device.type == "cpu" else None
    dtype = str(target.head.dtype).removeprefix("torch.")
    return TimedIn(TRANSFORMERS, transformers.__version__, target.device_name, dtype, threads)


def source(target: LanguageModel) -> str:
    """Where costs that are measured now come from: device, precision, threads."""
    threads = f", threads: {torch.get_num_threads()}" if target.device.type == "cpu" else ""
    return f"measured on {target.device_name}, {str(target.head.dtype).removeprefix('torch.')}{threads}"


def _step_costs(timer: StepTimer, say: Callable[[str], None]) -> StepCosts:
    started = perf_counter()
    while timer.turns < FEWEST or (timer.turns < TURNS and perf_counter() - started < SECONDS):
        say(f"timing single steps, batch {timer.size}, repetition {timer.turns + 1} of up to {TURNS}")
        timer.turn()
    return timer.costs()


@dataclass
class _Turn:
    """Seconds of one turn: a target step by its number of tokens, and the drafter's steps, a round's first by the tokens that it reads."""

    verify: dict[int, float] = field(default_factory=dict)
    first: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    further: list[float] = field(default_factory=list)


class StepTimer:
    """Times the steps of one batch, a pair behind `context` tokens of text in each of its `size` places, in as many turns as are asked for.

    Raises RunError for a model whose cache cannot take tokens back.
    """

    def __init__(self, pair: LoadedPair, size: int, depth: int, context: int) -> None:
        assert context >= 2 and depth >= 1
        self.size, self._context, self._lengths = size, context, step_lengths(depth)
        target = in_process(pair.target)
        self._reads = 1, min(READ, context)  # newly verified tokens that first steps read, in turn
        self._drafter = serve(pair.drafter, context + READ + CHAIN, depth)
        self._target = ServedTarget(target, self._drafter.boundaries)
        random = torch.Generator().manual_seed(0)
        ids = torch.randint(0, target.config.vocab_size, (1, max(context, depth + 1)), generator=random).to(target.device)
        streams = self._target.read(ids[:, :context], 1).streams
        self._drafter.read(ids[:, :context], streams)
        self._target.repeat(size)
        self._drafter.repeat(size)
        self._ids = ids.expand(size, -1)
        self._streams = {boundary: stream.expand(size, -1, -1) for boundary, stream in streams.items()}
        self._turns: list[_Turn] = []
        self._take()  # to warm up

    @property
    def turns(self) -> int:
        """Turns that were timed so far."""
        return len(self._turns)

    def turn(self) -> None:
        """Time every step once more."""
        self._turns.append(self._take())

    def costs(self) -> StepCosts:
        """The steps as these turns have them."""
        return StepCosts.timed(self.size, Turns(tuple(self._lengths), np.array([self._row(turn) for turn in self._turns])))

    def _row(self, turn: _Turn) -> list[float]:
        """One turn's seconds, as `Turns` has them; of a kind of step that was timed more than once the median."""
        one, more = (median(turn.first[read]) for read in self._reads)
        each = (more - one) / (self._reads[1] - self._reads[0])
        return [one, each, median(turn.further), *(turn.verify[length] for length in self._lengths)]

    def _take(self) -> _Turn:
        """A round of every length, and some steps of plain decoding in a row, as such decoding takes them.

        A round has one first step, since a second one would find the drafter's weights where the first has brought them.
        """
        taken, reads = _Turn(), cycle(self._reads if len(self._turns) % 2 else reversed(self._reads))  # so that none keeps to even lengths
        for length in self._lengths:
            if length == 1:
                self._verify(1)
                taken.verify[length] = seconds(self._plain) / PLAIN
            else:
                taken.verify[length] = seconds(partial(self._verify, length))
                read = next(reads)
                taken.first[read].append(seconds(partial(self._first, read)))
                taken.further.append(seconds(self._further) / CHAIN)
                self._drafter.crop(self._context)
        for read in self._reads:
            if not taken.first[read]:  # a chain of one has a single round a turn
                taken.first[read].append(seconds(partial(self._first, read)))
                self._drafter.crop(self._context)
        return taken

    def _verify(self, length: int) -> None:
        self._target.read(self._ids[:, :length], length).choices.tolist()
        self._target.crop(self._context)

    def _plain(self) -> None:
        for _ in range(PLAIN):
            self._verify(1)

    def _first(self, read: int) -> None:
        streams = {boundary: stream[:, -read:] for boundary, stream in self._streams.items()}
        self._guesses = self._drafter.read(self._ids[:, :read], streams)

    def _further(self) -> None:
        for _ in range(CHAIN):
            self._guesses = self._drafter.follow(self._guesses)


def seconds(step: Callable[[], object]) -> float:
    """Seconds until the device is done with a step."""
    started = perf_counter()
    step()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return perf_counter() - started
