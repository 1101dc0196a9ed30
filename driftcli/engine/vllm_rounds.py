"""Seconds of whole rounds in vLLM itself, by draft length: what a server that runs it takes for them.

vLLM does not tell its steps apart, so a round is timed from one output to the next: scheduling, the target's step, sampling and drafting.
An engine has one draft length for good; those of all lengths, and one without a drafter for plain decoding, are held at once and take
turns, so whatever else the machine does hits them alike. That costs memory for as many copies of the pair. Tried on a CPU alone.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
import torch

from driftcli.errors import RunError, UsageError
from driftcli.families.causal_lm.tokens import one_table
from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.families.formats import open_drafter
from driftcli.families.lookup.lookup import Lookup
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.families.without_files import without_files
from driftcli.scanned import Unread
from driftcli.sources.files import reason, resolve
from driftcli.statistics.costs import Costs, RoundCosts, TimedIn
from driftcli.statistics.round_turns import RoundTurns
from driftcli.target.aside import prints_aside

TURNS, WARM, ROUNDS = 12, 4, 16  # turns, and of each the rounds before the timed ones and those that are timed (chosen by us)
FEW = 4  # different tokens of a text that a lookup drafts on (chosen by us)
SHARE = 0.9  # of a GPU's memory that all engines take together, as vLLM takes for one
METHODS: Mapping[str, Mapping[str, object]] = {  # how vLLM is told a family
    "eagle3": {"method": "eagle3"},
    "eagle": {"method": "eagle"},
    "peagle": {"method": "eagle3", "parallel_drafting": True},
    "mtp": {"method": "mtp"},
    "block": {"method": "dflash"},
    "assistant": {"method": "mtp"},
    "causal-lm": {"method": "draft_model"},
    "lookup": {"method": "ngram"},
    "pard": {"method": "draft_model", "parallel_drafting": True},
}
OURS = ("model", "speculative_config", "max_model_len", "max_num_seqs", "dtype", "enable_prefix_caching", "disable_log_stats")
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # engines in this process: no other can be held beside them
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB an engine on a CPU
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be timed: draft lengths and batch sizes, behind so many tokens of context.

    settings: further arguments of vLLM's engine.
    """

    target: str
    drafter: str
    draft_lengths: Sequence[int]
    batch_sizes: Sequence[int]
    context: int
    dtype: str = "auto"
    remote_code: bool = False
    settings: Mapping[str, object] | None = None

    @property
    def looks_up(self) -> bool:
        """Whether the drafter is a lookup."""
        return isinstance(without_files(self.drafter), Lookup)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Draft lengths in order, 0 for plain decoding first."""
        return tuple(sorted({0, *self.draft_lengths}))


def time_rounds(asked: Asked, say: Callable[[str], None] = lambda _: None, turns: int = TURNS) -> Costs:
    """Seconds of rounds of each draft length at each batch size, in turns; raises UsageError and RunError where vLLM cannot be run so."""
    if odd := next((key for key in asked.settings or {} if key in OURS), None):
        raise UsageError(f"--engine-args: {odd} follows from the other options, expected other arguments of vLLM's engine; leave it out")
    speculation = _speculation(asked)
    with prints_aside():
        vllm = _vllm()
        engines = dict[int, Any]()
        for drafts in asked.lengths:
            say(f"starting vLLM {vllm.__version__} {f'with draft length {drafts}' if drafts else 'without a drafter'}")
            engines[drafts] = _engine(vllm, asked, {**speculation, "num_speculative_tokens": drafts} if drafts else None)
            _round(vllm, engines[drafts], 1, asked, 0)
            _check_drafted(engines[drafts], drafts)
        by_batch = tuple(_timed(vllm, engines, size, asked, turns, say) for size in asked.batch_sizes)
        facts = _facts(vllm, engines[0], asked)
    return Costs(_source(facts), asked.context, by_batch, facts)


def _speculation(asked: Asked) -> dict[str, object]:
    """How vLLM is told the drafter, but for the draft length."""
    if asked.drafter == OWN_HEAD:
        return {"method": "mtp"}
    if (own := without_files(asked.drafter)) is not None:
        return _unfiled(own)
    source = resolve(asked.drafter, remote_code=asked.remote_code)
    opened = open_drafter(source)
    if isinstance(opened, Unread):
        raise RunError(opened.refusal)
    family = opened[1].family
    if (method := METHODS.get(family)) is None:
        raise RunError(f"{asked.drafter}: vLLM 0.33 has no class for {opened[1].name}, expected a drafter that it serves; give --costs")
    other = family == "causal-lm" and not one_table(resolve(asked.target, remote_code=asked.remote_code), source)
    return {**method, "model": str(source.folder), **({"use_heterogeneous_vocab": True} if other else {})}


def _unfiled(drafter: Lookup | EarlyExit) -> dict[str, object]:
    if isinstance(drafter, EarlyExit):
        raise RunError(f"--drafter {drafter.name}: vLLM drafts with no layers of the target's own, expected a drafter that it serves")
    return {**METHODS["lookup"], "prompt_lookup_min": drafter.fewest, "prompt_lookup_max": drafter.most}


def _vllm() -> Any:
    """The package; RunError where it is not installed. Its environment is set first, as far as nobody has."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm  # noqa: PLC0415
    except ImportError as error:
        raise RunError(
            f"--engine vllm: the package vllm cannot be imported here ({reason(error)}), expected driftcli beside it; install "
            "driftcli[vllm], or driftcli in vLLM's own environment"
        ) from error
    return vllm


def _engine(vllm: Any, asked: Asked, speculation: Mapping[str, object] | None) -> Any:
    """An engine of one draft length, ready."""
    longest = asked.context + (WARM + ROUNDS + 2) * (max(asked.lengths) + 1)
    shared = {"gpu_memory_utilization": SHARE / len(asked.lengths)} if torch.accelerator.is_available() else {}
    extra = {} if speculation is None else {"speculative_config": dict(speculation)}
    try:
        return vllm.LLM(
            model=str(resolve(asked.target, remote_code=asked.remote_code).folder),
            dtype=asked.dtype,
            trust_remote_code=asked.remote_code,
            max_model_len=longest,
            max_num_seqs=max(asked.batch_sizes),
            enable_prefix_caching=False,  # every turn reads its prompts
            disable_log_stats=False,  # what it drafts is counted
            **{**shared, **(asked.settings or {})},
            **extra,
        )
    except (RuntimeError, ValueError, TypeError, OSError, AssertionError, NotImplementedError) as error:
        drafts = "without a drafter" if speculation is None else f"with draft length {speculation['num_speculative_tokens']}"
        raise RunError(
            f"{asked.target} and {asked.drafter}: vLLM {vllm.__version__} does not start {drafts} ({reason(error)}), expected an engine of "
            f"the pair for each of {len(asked.lengths)} draft lengths at once; name fewer with --draft-lengths, or set --engine-args"
        ) from error


def _timed(vllm: Any, engines: Mapping[int, Any], size: int, asked: Asked, turns: int, say: Callable[[str], None]) -> RoundCosts:
    """Rounds of one batch size: in each turn all engines, in an order that alternates; a first turn warms up."""
    rows = []
    for turn in range(turns + 1):
        say(f"timing rounds, batch {size}, repetition {turn} of {turns}" if turn else f"warming up, batch {size}")
        order = list(engines) if turn % 2 else list(reversed(engines))
        seconds = {drafts: _round(vllm, engines[drafts], size, asked, turn) for drafts in order}
        rows.append([seconds[drafts] for drafts in engines])
    return RoundCosts.timed(size, RoundTurns(tuple(engines), np.array(rows[1:])))


def _round(vllm: Any, llm: Any, size: int, asked: Asked, turn: int) -> float:
    """Mean seconds of a round of a batch that decodes without end, behind prompts of random tokens; for a lookup, which drafts only what it
    finds, of a few tokens, and no others are written.
    """
    engine, random = llm.llm_engine, Random(turn)
    among = range(llm.get_tokenizer().vocab_size)
    known = random.sample(among, FEW) if asked.looks_up else []
    settings = {"temperature": 0.0, "max_tokens": engine.model_config.max_model_len, "ignore_eos": True, "detokenize": False}
    sampling = vllm.SamplingParams(**settings, **({"allowed_token_ids": known} if known else {}))
    waiting = {f"{turn}-{place}" for place in range(size)}
    for name in sorted(waiting):
        prompt = [*known, *random.choices(known or among, k=asked.context - len(known))]
        engine.add_request(name, {"prompt_token_ids": prompt}, sampling)
    running = set[str]()
    while len(running) < size:
        running |= {output.request_id for output in engine.step()}
    for _ in range(WARM):
        _whole(engine, size)
    started = perf_counter()
    for _ in range(ROUNDS):
        _whole(engine, size)
    seconds = (perf_counter() - started) / ROUNDS
    engine.abort_request(sorted(running))
    while engine.has_unfinished_requests():
        engine.step()
    return seconds


def _whole(engine: Any, size: int) -> None:
    """One round of all sequences."""
    while not (outputs := engine.step()):
        continue
    if len(outputs) < size:
        raise RunError(
            f"--batch-sizes {size}: vLLM decoded {len(outputs)} sequences in a round, expected all; give it more room for keys and values, "
            "or ask for fewer"
        )


def _check_drafted(llm: Any, drafts: int) -> None:
    """RunError unless vLLM counts so many draft tokens for each round; its counters are those of the engine that was started last."""
    named = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    rounds, drafted = (named.get(f"vllm:spec_decode_num_{what}", 0) for what in ("drafts", "draft_tokens"))
    if drafted != drafts * rounds or (drafts > 0) != (rounds > 0):
        raise RunError(f"draft length {drafts}: vLLM counts {drafted} draft tokens in {rounds} rounds, expected {drafts} each; time others")


def _facts(vllm: Any, llm: Any, asked: Asked) -> TimedIn:
    """The engine as it was started."""
    on_cpu = not torch.accelerator.is_available()
    device = platform.processor() or platform.machine() if on_cpu else torch.cuda.get_device_name()
    dtype = str(llm.llm_engine.model_config.dtype).removeprefix("torch.")
    settings = " ".join(f"{key}={value!r}" for key, value in sorted((asked.settings or {}).items()))
    return TimedIn("vllm", vllm.__version__, device, dtype, torch.get_num_threads() if on_cpu else None, settings)


def _source(facts: TimedIn) -> str:
    threads = "" if facts.threads is None else f", threads: {facts.threads}"
    return f"rounds of vLLM {facts.version} on {facts.device}, {facts.dtype}{threads}{f', {facts.settings}' if facts.settings else ''}"
