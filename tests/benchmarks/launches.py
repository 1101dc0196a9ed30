"""Operations that a baseline diagnosis hands to the device, by stage: `python -m tests.benchmarks.launches [--target T --drafter D]`.

Any family of drafters, in any dtype: bundled:pre-norm, bundled:mtp, bundled:dflash, or bundled:target as a language model that drafts.

On a GPU each of them is a launch or more, and the host waits for them long before the device has anything to do; their number is the same on
a CPU, so no GPU is needed to count, and as much is computed at once as there. What only views or makes room for numbers launches nothing
and is left out.

Counted for 40 prompts but for writing replies, texts drafted on one by one and then side by side: language model 290,568 and 20,969,
DFlash 59,292 and 6,549. In bfloat16 the bundled EAGLE head takes as many as in float32 (6,588 and 6,509; a whole battery on 6 prompts
1,080,511 and 1,080,914, conversions among them 128,249 and 128,045), so a run in bfloat16 that takes longer does so for another reason.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import isgeneratorfunction
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from driftcli.domain import RunSpec
from driftcli.engine import attention, batches, block_chains, cells, trajectories
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target import in_process, together
from driftcli.target.together import AT_ONCE_ELSEWHERE, ELSEWHERE, SCORES_ELSEWHERE
from driftcli.texts.prompts import builtin_prompts, limited
from probes import BATTERY

STAGES = {  # what a cell calls and by whose name for it, by the name that is printed
    "writing replies": ((batches, "write_texts"), (batches, "write_together")),
    "reading texts": ((cells, "read_texts"), (trajectories, "read_texts")),
    "chains": ((cells, "draft"),),
    "rows": tuple((cells, name) for name in ("find_sinks", "cell_rows", "rounds_to_end", "trajectory_columns")),
    "streams": ((cells, "stream_columns"),),
}
FREE = ("view", "reshape", "expand", "permute", "transpose", "t", "slice", "select", "unsqueeze", "squeeze", "split", "unbind", "detach",
        "alias", "empty", "as_strided", "unfold", "empty_strided", "_unsafe_view", "lift_fresh", "new_empty", "empty_like")  # fmt: skip


class Counting(TorchDispatchMode):
    """Context that counts operations by the stage under way."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts, self.stage = Counter[str](), "else"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.counts[self.stage] += func.overloadpacket.__name__ not in FREE
        return func(*args, **(kwargs or {}))

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Operations count for a stage inside."""
        before, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.stage = before

    def watched(self, stage: str, function: Callable[..., object]) -> Callable[..., object]:
        """A function whose operations count for a stage, also those of a generator each time that it goes on."""

        def call(*args: object, **options: object) -> object:
            with self.on(stage):
                return function(*args, **options)

        def going_on(*args: object, **options: object) -> Iterator[object]:
            made = function(*args, **options)
            assert isinstance(made, Iterator)
            while True:
                with self.on(stage):
                    one = next(made, None)
                if one is None:
                    return
                yield one

        return going_on if isgeneratorfunction(function) else call


@contextmanager
def as_elsewhere() -> Iterator[None]:
    """As much is computed at once inside as on an accelerator."""
    with ExitStack() as stack:
        for name, value in (("ON_CPU", ELSEWHERE), ("SCORES_ON_CPU", SCORES_ELSEWHERE), ("AT_ONCE_ON_CPU", AT_ONCE_ELSEWHERE)):
            stack.enter_context(patch.object(together, name, value))
        stack.enter_context(patch.object(in_process, "WORTH_SHARING", {}))
        stack.enter_context(patch.object(attention, "BLOCK_ON_CPU", attention.BLOCK))
        stack.enter_context(patch.object(block_chains, "TOGETHER_ON_CPU", block_chains.TOGETHER))
        yield


def counted(job: Job) -> Counter[str]:
    """Operations of a run by stage."""
    with Counting() as counting, ExitStack() as stack:
        for stage, places in STAGES.items():
            for module, name in places:
                stack.enter_context(patch.object(module, name, counting.watched(stage, getattr(module, name))))
        measure(job, lambda *_: None)
    found: Counter[str] = counting.counts
    return found


def baseline(pair: LoadedPair, limit: int, depth: int, folder: Path) -> Job:
    """A baseline diagnosis on the first built-in prompts."""
    spec = RunSpec(depth=depth)
    battery = tuple(probe for probe in BATTERY if not probe.conditions(pair.card, spec))
    return Job(pair, limited(builtin_prompts(), limit), battery, spec, folder, [])


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, count and print."""
    parser = argparse.ArgumentParser(description="Operations that a baseline diagnosis hands to the device, by stage.")
    parser.add_argument("--target", default="bundled:target")
    parser.add_argument("--drafter", default="bundled:pre-norm")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    asked = parser.parse_args(arguments)
    pair = load_pair(asked.target, asked.drafter, torch.device("cpu"), asked.dtype)
    with TemporaryDirectory() as folder, as_elsewhere():
        counts = counted(baseline(pair, asked.limit, asked.depth, Path(folder)))
    print(f"{asked.target} <- {asked.drafter}, baseline, {asked.limit} prompts, depth {asked.depth}, {asked.dtype}: operations by stage")
    for stage in (*STAGES, "else"):
        print(f"  {stage:<18}{counts[stage]:>10,}")
    print(f"  {'but for writing':<18}{counts.total() - counts['writing replies']:>10,}")


if __name__ == "__main__":
    main()
