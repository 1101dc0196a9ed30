"""What the engine costs, side by side in one run: `python tests/benchmarks/engine.py --target DIR --drafter DIR [--prompts N]`.

Figures that are compared come from runs that take turns, and each counts by the fastest of its runs, because other work on the machine
only ever adds time. Two loops draft naively, a chain at a time, with plain tensor operations, a growing cache and nothing measured:

    lone chains    the target's rows are projected once a text; an anchor then drafts K steps from a cropped copy of them
    from scratch   an anchor first projects the rows before it, then drafts K steps

Both must draft the very tokens that the engine drafts; they are timed on every fourth anchor. Memory is what a baseline diagnosis of one
long prompt adds to the loaded pair at its peak, in a process of its own (Linux only), once with what glibc's heap keeps in its holes and
once with freed blocks given back at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from driftcli.conditions import DraftSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine import batches, cells, chains
from driftcli.engine.attention import CANDIDATES, LABELS, Keys, Masses, Shared, Sight, attention_blocks
from driftcli.engine.chains import draft_together
from driftcli.engine.packing import Packing
from driftcli.engine.run import Job, measure
from driftcli.engine.texts import write_texts
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.self_feeding import RopeTables
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report.json import render
from driftcli.report.verdict import judge
from driftcli.target import in_process
from driftcli.target.in_process import plain_decoding
from driftcli.target.language_model import quiet_transformers
from driftcli.target.together import room, together
from driftcli.texts.prompts import builtin_prompts, content_hash, limited
from driftcli.traces.reader import read_run
from driftcli.traces.writer import RunFolder
from probes import BATTERY

DEPTH = 8
SPEC = RunSpec(depth=DEPTH)
CONTEXTS = (512, 1024, 2048, 4096)
LONG_REPLY = 64
STRIDE = 4  # of the anchors that the naive loops draft from
SENTENCE = "The committee met again on Tuesday, and the minutes of that meeting were longer than anybody had wished. "
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}  # glibc: larger blocks lie outside its heap, so none stays in a hole
NAIVE_GOAL, STATISTICS_GOAL, DIAGNOSIS_GOAL = 20.0, 1.5, 1.5
LINEAR = 1.25  # the last increment over the mean of the increments from 512 tokens on: 1 when linear, 1.7 when quadratic (chosen by us)
STAGES = {  # what a baseline diagnosis calls, by the name that the profile prints
    "generation": (batches, "write_texts"),
    "reading the texts": (in_process, "read"),
    "chains": (cells, "draft"),
    "rows": (cells, "cell_rows"),
    "streams": (cells, "stream_columns"),
    "writing": (RunFolder, "write_cell"),
}


# ---- drafting


@dataclass(frozen=True)
class Cache:
    """Keys and values (1, key head, row, size) of the target's rows, the states (row, width) that they come from, and RoPE."""

    key: Tensor
    value: Tensor
    states: Tensor
    rope: RopeTables


@torch.inference_mode()
def lone_chains(drafter: Eagle3, trajectory: Trajectory, *, from_scratch: bool) -> Tensor:
    """Drafted target ids (anchor, depth) of chains drafted one by one, on the target's tokens and their own states."""
    anchors = range(trajectory.prompt_length, trajectory.prompt_length + trajectory.n_anchors(DEPTH), STRIDE)
    whole = None if from_scratch else project_rows(drafter, trajectory, anchors[-1])
    return torch.stack([lone_chain(drafter, trajectory, a, whole or project_rows(drafter, trajectory, a)) for a in anchors])


def project_rows(drafter: Eagle3, trajectory: Trajectory, rows: int) -> Cache:
    """The cache of the first `rows` rows of a head with one layer."""
    (layer,), rope = drafter.layers, drafter.rope(rows + DEPTH)
    states = drafter.fuse({boundary: stream[:rows] for boundary, stream in trajectory.streams.items()})
    step = layer.project(
        drafter.begin(drafter.embed(trajectory.ids[1 : 1 + rows], torch.arange(rows)), states).inputs, torch.arange(rows), rope
    )
    return Cache(step.key[None], step.value[None], states, rope)


def lone_chain(drafter: Eagle3, trajectory: Trajectory, anchor: int, cache: Cache) -> Tensor:
    """Drafted target ids (depth,) from one anchor."""
    (layer,), guesses = drafter.layers, list[int]()
    key, value, state = cache.key[:, :, : anchor - 1], cache.value[:, :, : anchor - 1], cache.states[anchor - 1 : anchor]
    for at in range(anchor, anchor + DEPTH):
        flow = drafter.begin(drafter.embed(trajectory.ids[at : at + 1], torch.tensor([at - 1])), state)
        step = layer.project(flow.inputs, torch.tensor([at - 1]), cache.rope)
        key, value = torch.cat([key, step.key[None]], dim=2), torch.cat([value, step.value[None]], dim=2)
        attended = F.scaled_dot_product_attention(step.query[None], key, value, scale=layer.scale, enable_gqa=True)
        done = drafter.finish(layer.leave(flow.residual, attended.flatten().view(1, -1)))
        state = done.state
        guesses.append(drafter.to_target(drafter.logits(done.output).argmax(-1)))
    return torch.cat(guesses)


def bare_attend(
    query: Tensor, queries: Packing, shared: Shared, chain: Keys | None, sight: Sight, tail: int, scale: float, _: Tensor | None = None
) -> tuple[Tensor, Masses]:
    """What `attend` gives, with nothing measured: the masses are empty."""
    heads, count, _size = query.shape
    label, first, last = (query.new_zeros(1, heads, count, n) for n in (len(LABELS), CANDIDATES, tail))
    masses, outputs = Masses(label, first, last, query.new_zeros(1, heads, count)), []
    for block in attention_blocks(queries, heads, max(sight.reach) + (0 if chain is None else chain.key.shape[2])):
        keys, padded = shared.part(block.texts, sight.reach), block.packing.side_by_side(query[:, block.items], 1).transpose(0, 1)
        seen, values = ~sight.part(block).hidden(keys.key.shape[2]), keys.value[..., : keys.size]
        if chain is None:
            out = F.scaled_dot_product_attention(padded, keys.key, values, seen[:, None], scale=scale, enable_gqa=True)
            outputs.append(block.packing.behind_one_another(out.transpose(1, 2), 0).flatten(1))
            continue
        own = [block.packing.side_by_side(part[:, block.items], 1).transpose(0, 1) for part in (chain.key, chain.value)]
        outputs.append(block.packing.behind_one_another(bare_block(padded * scale, keys.key, values, seen, own), 0))
    return torch.cat(outputs), masses


def bare_block(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, own: Sequence[Tensor]) -> Tensor:
    """Attention output (text, query, head * size) of a block's chains."""
    grouped = torch.unflatten(query, 1, (key.shape[1], -1))
    scores = torch.unflatten(grouped.flatten(2, 3) @ key.transpose(2, 3), 2, grouped.shape[2:4])
    scores = scores.masked_fill_(~seen[:, None, None], -torch.inf)
    ahead = (grouped.transpose(2, 3) @ own[0].transpose(3, 4)).transpose(2, 3)
    shares = torch.cat([scores, ahead], dim=-1).softmax(-1)
    rows = key.shape[2]
    out = torch.unflatten(shares[..., :rows].flatten(2, 3) @ value, 2, grouped.shape[2:4])
    out = out + (shares[..., rows:].transpose(2, 3) @ own[1]).transpose(2, 3)
    return out.flatten(1, 2).transpose(1, 2).flatten(2)


def measured(drafter: Eagle3, texts: Sequence[Trajectory], *, free: bool = False) -> Tensor:
    """The engine's chains as a diagnosis drafts them: target ids (anchor, depth) of the forced feed."""
    most = room(drafter.head.device, len(drafter.embedding))
    parts = [texts[some] for some in together([len(text.ids) for text in texts], most)]
    drafted = [draft_together(drafter, some, DraftSettings(depth=DEPTH), DEPTH, free=free) for some in parts]
    return torch.cat([torch.stack([queries.guesses.drafted for queries in one.forced], dim=1) for one in drafted])


def bare(drafter: Eagle3, texts: Sequence[Trajectory]) -> Tensor:
    """The same without attention statistics."""
    with patch.object(chains, "attend", bare_attend):
        return measured(drafter, texts)


def naive(drafter: Eagle3, texts: Sequence[Trajectory], *, from_scratch: bool) -> Tensor:
    """The same of every so many anchors, drafted one by one."""
    return torch.cat([lone_chains(drafter, text, from_scratch=from_scratch) for text in texts])


def drafting(drafter: Eagle3, texts: Sequence[Trajectory], repeats: int) -> None:
    """Print anchors a second of the engine, bare and measured, and of the naive loops."""
    texts = sorted((text for text in texts if text.n_anchors(DEPTH)), key=lambda text: len(text.ids))
    loops: dict[str, Callable[[], Tensor]] = {
        "engine": partial(measured, drafter, texts),
        "and free feed": partial(measured, drafter, texts, free=True),
        "bare": partial(bare, drafter, texts),
        "lone chains": partial(naive, drafter, texts, from_scratch=False),
        "from scratch": partial(naive, drafter, texts, from_scratch=True),
    }
    expected, drafted = measured(drafter, texts), dict[str, int]()
    strided = torch.cat([part[::STRIDE] for part in torch.split(expected, [text.n_anchors(DEPTH) for text in texts])])
    for name, loop in loops.items():
        ids = loop()
        assert torch.equal(ids, expected if len(ids) == len(expected) else strided), f"{name}: other tokens"
        drafted[name] = len(ids)
    seconds = fastest(loops, repeats)
    rates = {name: drafted[name] / seconds[name] for name in loops}
    print(f"\ndrafting, depth {DEPTH}, {len(texts)} texts, {drafted['engine']} anchors; anchors a second")
    for name, rate in rates.items():
        print(f"  {name:<26}{rate:>8.0f}")
    verdict("engine over lone chains", rates["engine"] / rates["lone chains"], NAIVE_GOAL, at_least=True)
    verdict("engine over from scratch", rates["engine"] / rates["from scratch"], NAIVE_GOAL, at_least=True)
    alone = drafted["engine"] / fastest({"products": products(drafter, texts)}, repeats)["products"]
    print(
        f"  its products of matrices alone  {alone / rates['from scratch']:>7.2f}x   over from scratch: more cannot be had of these numbers here"
    )
    verdict("statistics over bare drafting", rates["bare"] / rates["engine"], STATISTICS_GOAL)


def products(drafter: Eagle3, texts: Sequence[Trajectory]) -> Callable[[], object]:
    """The matrix products that the engine's chains come to, on the very numbers, and nothing else."""
    found = list[Callable[[], Tensor]]()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, made: Any, _: object, args: Any = (), options: Any = None) -> object:
            if made in (torch.ops.aten.mm.default, torch.ops.aten.linear.default):
                found.append(partial(made, *args))
            return made(*args, **(options or {}))

    with Noting():
        measured(drafter, texts)
    return torch.inference_mode()(lambda: [product() for product in found])


def profiled(drafter: Eagle3, texts: Sequence[Trajectory]) -> None:
    """Print the operations that the chains spend their time in."""
    with torch.profiler.profile() as profile:
        measured(drafter, texts)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    print("\nwhere the chains' time goes, by operation (mm: projections, MLP and output head; bmm: attention)")
    for event in events[:10]:
        print(f"  {event.key:<26}{event.self_cpu_time_total / whole:>8.1%}{event.count:>8} calls")


# ---- a baseline diagnosis


@torch.inference_mode()
def plain_generation(pair: LoadedPair, texts: Sequence[Trajectory]) -> list[Tensor]:
    """What the target alone writes, turn by turn in the engine's batches: no hooks, nothing noted, nothing chunked."""
    replies: list[Tensor] = []
    with plain_decoding(pair.target) as settings:
        for turn in sorted({text.turn for text in texts}):
            prompts = [text.ids[: text.prompt_length] for text in texts if text.turn == turn]
            longest = max(len(ids) for ids in prompts)
            padded = torch.stack([F.pad(ids, (longest - len(ids), 0), value=settings.pad_token_id) for ids in prompts])
            mask = torch.stack([F.pad(torch.ones_like(ids), (longest - len(ids), 0)) for ids in prompts])
            out = pair.target.model.generate(padded, attention_mask=mask, max_new_tokens=SPEC.max_new_tokens, do_sample=False)
            replies += list(out[:, longest:])
    return replies


class Diagnosis:
    """A baseline diagnosis without its free feed, each time into a new folder; `seconds` holds the stages of the fastest one."""

    def __init__(self, pair: LoadedPair, prompts: Sequence[Prompt], folder: Path) -> None:
        battery = tuple(probe for probe in BATTERY if not probe.conditions(pair.card, SPEC))
        self._job, self._best = Job(pair, prompts, battery, SPEC, folder, []), float("inf")
        self._folders = (folder / str(number) for number in count())
        self.seconds: dict[str, float] = {}

    def __call__(self) -> None:
        """Measure, read back, judge and write the report."""
        started, seconds = perf_counter(), defaultdict[str, float](float)
        with staged(seconds), without_free_feed():
            path = measure(replace(self._job, out=next(self._folders)), lambda *_: None)
        measured = perf_counter()
        found = read_run(path)
        render(found, judge(found, self._job.battery))
        ended = perf_counter()
        seconds["reading and judging"] = ended - measured
        seconds["else"] = ended - started - sum(seconds.values())
        if ended - started < self._best:
            self._best, self.seconds = ended - started, seconds


@contextmanager
def staged(seconds: dict[str, float]) -> Iterator[None]:
    """The stages of a diagnosis add their time to `seconds` inside."""

    def timed(name: str, stage: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            started = perf_counter()
            made = stage(*args, **options)
            seconds[name] += perf_counter() - started
            return made

        return call

    with ExitStack() as stack:
        for name, (place, attribute) in STAGES.items():
            stack.enter_context(patch.object(place, attribute, timed(name, getattr(place, attribute))))
        yield


@contextmanager
def without_free_feed() -> Iterator[None]:
    """The baseline drafts no free feed inside."""
    draft = cells.draft
    with patch.object(cells, "draft", lambda *args, **options: draft(*args, **{**options, "free": False})):
        yield


def diagnosing(pair: LoadedPair, prompts: Sequence[Prompt], texts: Sequence[Trajectory], repeats: int) -> None:
    """Print the time of a baseline diagnosis over that of the target's plain generation, and where it goes."""
    for text, reply in zip(texts, plain_generation(pair, texts), strict=True):
        assert torch.equal(text.ids[text.prompt_length :], reply[: len(text.ids) - text.prompt_length]), text.prompt.id
    with TemporaryDirectory() as folder:
        diagnosis = Diagnosis(pair, prompts, Path(folder))
        seconds = fastest({"generation": partial(plain_generation, pair, texts), "diagnosis": diagnosis}, repeats)
    tokens = sum(len(text.ids) - text.prompt_length for text in texts)
    print(f"\nbaseline diagnosis without the free feed, {len(prompts)} prompts, {tokens} tokens; seconds, and over plain generation")
    for name, spent in {"plain generation": seconds["generation"], **diagnosis.seconds}.items():
        print(f"  {name:<26}{spent:>8.2f}{spent / seconds['generation']:>8.3f}")
    verdict("diagnosis over generation", seconds["diagnosis"] / seconds["generation"], DIAGNOSIS_GOAL)


# ---- memory


def remembering(target: str, drafter: str) -> None:
    """Print the peak memory of a diagnosis by context length, each length in a process of its own."""
    print(f"\npeak memory above the loaded pair, one text, {LONG_REPLY} new tokens; MiB, and MiB a further 1k tokens")
    print(f"  {'tokens':>6}{'resident':>12}{'a 1k':>8}{'without holes':>16}{'a 1k':>8}")
    before, slopes = (0.0, 0.0, 0.0), []
    for context in CONTEXTS:
        command = [sys.executable, __file__, "--target", target, "--drafter", drafter, "--context", str(context)]
        (tokens, held), (_, live) = (_spoken(command, environment) for environment in ({}, GIVING_BACK))
        further = (tokens - before[0]) / 1024
        slopes.append(((held - before[1]) / further, (live - before[2]) / further))
        before = tokens, held, live
        print(f"  {tokens:>6.0f}{held:>12.0f}{slopes[-1][0]:>8.0f}{live:>16.0f}{slopes[-1][1]:>8.0f}")
    for name, increments in zip(("resident", "without holes"), zip(*slopes[1:], strict=True), strict=True):
        verdict(f"last increment, {name}", increments[-1] * len(increments) / sum(increments), LINEAR)


def _spoken(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}).stdout.split()
    return float(said[-2]), float(said[-1])


def remember(pair: LoadedPair, context: int) -> None:
    """Print the tokens of a prompt of about `context` tokens and the peak memory that its diagnosis adds, in MiB."""
    sentence = len(pair.target.tokenizer(SENTENCE, add_special_tokens=False).input_ids)
    prompt = Prompt("long", text=SENTENCE * (context // sentence))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
    before = peak_memory()
    with TemporaryDirectory() as folder:
        spec = replace(SPEC, max_new_tokens=LONG_REPLY)
        measure(Job(pair, [prompt], (), spec, Path(folder) / "run", []), lambda *_: None)
    print(len(pair.target.tokenizer(prompt.text).input_ids), peak_memory() - before)


def peak_memory() -> float:
    """Most memory that was resident, in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


# ---- the run


def fastest(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each run, the least of `repeats` rounds in which they take turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, one in runs.items():
            started = perf_counter()
            one()
            best[name] = min(best[name], perf_counter() - started)
    return best


def verdict(name: str, value: float, goal: float, *, at_least: bool = False) -> None:
    """Print a figure beside its goal."""
    met = value >= goal if at_least else value <= goal
    print(f"  {name:<32}{value:>8.2f}x   goal {'at least' if at_least else 'at most'} {goal:g}x: {'met' if met else 'MISSED'}")


def main() -> None:
    """Read the command line, run every part and print."""
    parser = argparse.ArgumentParser(description="What the engine costs, side by side.")
    parser.add_argument("--target", required=True)
    parser.add_argument("--drafter", required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("drafting", "diagnosis", "memory"))
    parser.add_argument("--context", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    quiet_transformers()
    pair = load_pair(asked.target, asked.drafter, torch.device("cpu"), "float32")
    if asked.context is not None:
        remember(pair, asked.context)
        return
    assert isinstance(pair.drafter, Eagle3), "the naive loops are written for an EAGLE-3 head"
    print(f"{asked.target} <- {asked.drafter}, float32 on {torch.get_num_threads()} threads, fastest of {asked.repeats}")
    if asked.only != "memory":
        prompts = limited(builtin_prompts(), asked.prompts)
        prompts.sort(key=content_hash)
        written = write_texts(pair.target, prompts, SPEC.max_new_tokens)
        texts = [read_text(pair.target, text, pair.drafter.boundaries) for text in written]
    if asked.only in (None, "drafting"):
        drafting(pair.drafter, texts, asked.repeats)
        profiled(pair.drafter, texts)
    if asked.only in (None, "diagnosis"):
        diagnosing(pair, prompts, texts, asked.repeats)
    if asked.only in (None, "memory"):
        remembering(asked.target, asked.drafter)


if __name__ == "__main__":
    main()
