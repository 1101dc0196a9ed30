"""What a text costs by its length: `python -m tests.benchmarks.long_contexts [--target DIR --drafter DIR] [--lengths 1024,2048,...]`.

One text, most of it prompt, goes through the stages of a diagnosis: its reply is written, it is read with its streams, chains are drafted on
it with what is measured of their attention, and rows are made of them. Each length has a process of its own, which tells by stage the
seconds of its own computing and the peak of its resident memory above the loaded pair, freed blocks being given back at once, since
holes of the heap say nothing of what is kept. Attention of the target over its own text grows with
the square of the length in any server too, so its seconds stand apart; everything else must grow as the length does. Without names it is
the bundled pair, copied with its positions extended: what it says there means nothing, and costs what it would cost otherwise.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import log2
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from time import process_time
from typing import TypeVar
from unittest.mock import patch

import torch
import torch.nn.functional as F

from driftcli.conditions import BASELINE, Condition, DraftSettings
from driftcli.engine import chains, lm_attention
from driftcli.engine.cells import draft
from driftcli.engine.rows import cell_rows
from driftcli.engine.texts import Text
from driftcli.engine.trajectories import read_text
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import resolve
from driftcli.target.language_model import quiet_transformers
from driftcli.target.target import Writing
from driftcli.texts.prompts import builtin_prompts
from driftcli.texts.rendering import REPLY

ROOT = Path(__file__).resolve().parents[2]
DEPTH, WRITTEN = 8, 64  # draft tokens a chain, tokens of the reply
REAL, BUNDLED = (1024, 2048, 4096, 8192), (4096, 8192, 16384, 32768)
ATTENTION = {"write": "the target's attention, writing", "read": "the target's attention, reading", "chains": "measured attention"}
STEEPEST = 1.5  # power of the length with which what a doubling adds may grow: it is 1 when linear, 2 when quadratic (chosen by us)
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}  # glibc: larger blocks lie outside its heap
Made = TypeVar("Made")


def extended(folder: Path, positions: int) -> tuple[str, str]:
    """The bundled pair in `folder`, with so many positions: the target's turned more slowly, as linear scaling does."""
    for name, source in (("target", "bundled:target"), ("drafter", "bundled:pre-norm")):
        copytree(resolve(source).folder, folder / name)
        config = json.loads((folder / name / "config.json").read_text())
        if "rope_parameters" in config:
            factor = positions / config["max_position_embeddings"]
            config["rope_parameters"] |= {"rope_type": "linear", "factor": factor}
        config["max_position_embeddings"] = positions
        (folder / name / "config.json").write_text(json.dumps(config))
    return str(folder / "target"), str(folder / "drafter")


# ---- one length, in a process of its own


def status(name: str) -> float:
    """A size that the system tells of this process, in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024


class Stages:
    """Seconds and peaks by stage; calls of functions that are timed apart add to a name of their own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.peaks: dict[str, float] = {}
        gc.collect()
        self._before = status("VmRSS")

    def run(self, name: str, stage: Callable[[], Made]) -> Made:
        """What a stage gives. What an earlier one has freed goes back to the system first, and the peak begins anew."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        started = process_time()
        made = stage()
        self.seconds[name] = process_time() - started
        self.peaks[name] = status("VmHWM") - self._before
        return made

    @contextmanager
    def apart(self, name: str, owner: object, functions: Sequence[str]) -> Iterator[None]:
        """The seconds of these functions are told by a name of their own inside."""

        def timed(function: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **options: object) -> object:
                started = process_time()
                try:
                    return function(*args, **options)
                finally:
                    self.seconds[name] += process_time() - started

            return call

        with patch.multiple(owner, **{name: timed(getattr(owner, name)) for name in functions}):
            yield


def text_of(pair: LoadedPair, length: int) -> Text:
    """A text of so many tokens, of the built-in prompts' words, whose last ones are taken for the reply."""
    words = "\n\n".join(message.content for prompt in builtin_prompts() for message in prompt.messages)
    ids = pair.target.tokenizer(words, add_special_tokens=False).input_ids
    ids = (ids * (length // len(ids) + 1))[:length]
    labels = [1] * (length - WRITTEN) + [REPLY] * WRITTEN
    return Text(builtin_prompts()[0], 0, tuple(ids), tuple(labels), length - WRITTEN, True, 0, "")


def measured(pair: LoadedPair, length: int) -> dict[str, dict[str, float]]:
    """Seconds and peaks of every stage on one text."""
    text, drafter, stages = text_of(pair, length), pair.drafter, Stages()
    boundaries = [] if isinstance(drafter, CausalLm) else drafter.boundaries
    with stages.apart(ATTENTION["write"], F, ["scaled_dot_product_attention"]):
        stages.run("write", lambda: pair.target.write([text.ids[: text.prompt_length]], Writing(WRITTEN)))
    with stages.apart(ATTENTION["read"], F, ["scaled_dot_product_attention"]):
        trajectory = stages.run("read", lambda: read_text(pair.target, text, boundaries))
    owner = lm_attention if isinstance(drafter, CausalLm) else chains
    with stages.apart(ATTENTION["chains"], owner, ["attend", "attend_unmeasured"]):
        drafted = stages.run("chains", lambda: draft(pair, [trajectory], DraftSettings(DEPTH), DEPTH, free=True, to_end=True))
    condition = Condition(BASELINE, DraftSettings(DEPTH))
    stages.run("rows", lambda: cell_rows(condition, [trajectory], drafted, [None], pair.card.token_offset))
    return {"seconds": stages.seconds, "peaks": stages.peaks}


def once(target: str, drafter: str, length: int) -> dict[str, dict[str, float]]:
    """The same in a new process."""
    line = [sys.executable, "-m", "tests.benchmarks.long_contexts", "--target", target, "--drafter", drafter, "--once", str(length)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **GIVING_BACK}
    ran = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    found: dict[str, dict[str, float]] = json.loads(ran.stdout.splitlines()[-1])
    return found


# ---- what is printed


def compare(target: str, drafter: str, lengths: Sequence[int]) -> None:
    """A table of seconds and one of peaks by length, with how steeply each grows in the end."""
    found = {}
    for length in lengths:
        found[length] = apart(once(target, drafter, length))
        print(f"{length:,} tokens measured", file=sys.stderr, flush=True)
    for kind, unit, allowed in (("seconds", "seconds", ATTENTION.values()), ("peaks", "peak above the loaded pair, MiB", ())):
        print(f"\n{unit:34}{''.join(f'{length:>9,}' for length in lengths)}   grows")
        for name in next(iter(found.values()))[kind]:
            row(name, [found[length][kind][name] for length in lengths], lengths, judged=name not in allowed or name == ATTENTION["chains"])


def apart(told: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Seconds of stages without those of the attention inside them, which stand by themselves."""
    seconds = dict(told["seconds"])
    for stage, name in ATTENTION.items():
        seconds[name] = seconds.get(name, 0.0)
        seconds[stage] -= seconds[name]
    return {**told, "seconds": seconds}


def row(name: str, numbers: Sequence[float], lengths: Sequence[int], *, judged: bool) -> None:
    """A line: a stage's numbers, and the power of the length with which the last two steps grew, whatever is there from the start."""
    steps = [
        (after - before) / (end - start) for before, after, start, end in zip(numbers, numbers[1:], lengths, lengths[1:], strict=False)
    ]
    power = 1 + log2(max(steps[-1], 1e-9) / max(steps[-2], 1e-9)) / log2(lengths[-1] / lengths[-2])
    verdict = "as it must" if not judged else "linear" if power <= STEEPEST else "STEEPER THAN LINEAR"
    print(f"{name:34}{''.join(f'{number:9.2f}' for number in numbers)}   {power:.2f} {verdict}", flush=True)


def main() -> None:
    """Measure every length, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target")
    parser.add_argument("--drafter")
    parser.add_argument("--lengths", type=lambda told: [int(one) for one in told.split(",")])
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    quiet_transformers()
    if asked.once:
        print(json.dumps(measured(load_pair(asked.target, asked.drafter, torch.device("cpu"), "float32"), asked.once)))
        return
    lengths = asked.lengths or (REAL if asked.target else BUNDLED)
    with TemporaryDirectory() as folder:
        compare(*((asked.target, asked.drafter) if asked.target else extended(Path(folder), max(lengths))), lengths)


if __name__ == "__main__":
    main()
