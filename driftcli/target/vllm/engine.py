"""vLLM's engine in this process: started, asked, stepped and ended, with what it raises and prints kept in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine in this process: its errors and its steps are ours to see
for _name, _value in {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are those of --threads
}.items():
    os.environ.setdefault(_name, _value)

import torch
from vllm import LLM, SamplingParams
from vllm import __version__ as VERSION
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from driftcli.errors import RunError, SourceError, UsageError
from driftcli.sources.files import Json, reason
from driftcli.suggestions import meant
from driftcli.target.aside import prints_aside

OURS = {  # arguments that driftcli gives
    "model": "--target",
    "tokenizer": "--target",
    "dtype": "--dtype",
    "trust_remote_code": "--trust-remote-code",
    "speculative_config": "",
    "spec_method": "",
    "spec_model": "",
    "spec_tokens": "",
    "kv_transfer_config": "",
    "scheduler_cls": "",
    "enable_prefix_caching": "",
    "generation_config": "",
    "skip_tokenizer_init": "",
    "hf_token": "HF_TOKEN in the environment",  # which no run may hold
}
FAILURES = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ImportError, AssertionError, ArithmeticError)

Settings = Mapping[str, Any]  # arguments of vLLM's engine


@dataclass(frozen=True)
class Request:
    """Token ids that the engine is asked to go on from, and how."""

    ids: Sequence[int]
    sampling: SamplingParams


@dataclass
class Engine:
    """A running engine on the target `name`; eager: told to compile nothing."""

    name: str
    llm: LLM
    eager: bool
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def quantisation(self) -> str | None:
        """The scheme of quantised weights."""
        scheme = self.llm.llm_engine.model_config.quantization
        return None if scheme is None else str(scheme)

    @property
    def room(self) -> int:
        """Positions that a request may have."""
        return int(self.llm.llm_engine.model_config.max_model_len)

    def answers(self, requests: Sequence[Request], told: Callable[[Sequence[int]], None] | None = None) -> list[Any]:
        """What the engine says to requests that it runs together, in their order.

        told: how many tokens each has got, after every step. Raises RunError where the engine gives up; none of the requests goes on then.
        """
        found: dict[str, Any] = {}
        with self.stepping(), self._added(requests) as names:
            while self.llm.llm_engine.has_unfinished_requests():
                found |= {output.request_id: output for output in self.llm.llm_engine.step()}
                if told is not None:
                    told([len(found[name].outputs[0].token_ids) if name in found else 0 for name in names])
            return [found[name] for name in names]

    def step(self) -> None:
        """One step without a request, by which the engine does what it put off."""
        with self.stepping():
            self.llm.llm_engine.step()

    @contextmanager
    def _added(self, requests: Sequence[Request]) -> Iterator[list[str]]:
        """The names of requests that run inside, and nowhere else."""
        engine = self.llm.llm_engine
        names = [f"driftcli-{next(self._numbers)}" for _ in requests]
        try:
            for name, request in zip(names, requests, strict=True):
                engine.add_request(name, {"prompt_token_ids": list(request.ids)}, request.sampling)
            yield names
        finally:
            engine.abort_request(names)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Around steps of the engine: what it raises leaves as RunError, what it prints goes aside, and nothing is compiled where it was
        told to run eagerly, not even the small parts that it would compile all the same.
        """
        try:
            with prints_aside(), torch.compiler.set_stance("force_eager" if self.eager else "default"):
                yield
        except FAILURES as error:
            raise RunError(f"{self.name}: vLLM {VERSION} gave up ({reason(error)}); use --engine transformers") from error

    def close(self) -> None:
        """End it."""
        with prints_aside():
            self.llm.llm_engine.engine_core.shutdown()
            cleanup_dist_env_and_memory()


def start(name: str, settings: Settings) -> Engine:
    """A running engine; SourceError where vLLM does not run this target so."""
    kept = torch.set_num_threads  # which vLLM puts out of action on a CPU
    try:
        with loading(name), prints_aside():
            return Engine(name, LLM(**settings), bool(settings["enforce_eager"]))
    except SourceError:
        cleanup_dist_env_and_memory()
        raise
    finally:
        torch.set_num_threads = kept


def dtype_computed(name: str, settings: Settings) -> torch.dtype:
    """In what vLLM would compute; SourceError where it does not run this target so."""
    with loading(name), prints_aside():
        dtype: torch.dtype = EngineArgs(**settings).create_model_config().dtype
    return dtype


def check_args(args: Mapping[str, Json]) -> None:
    """UsageError for arguments that vLLM's engine does not have, or that are not the user's to give."""
    if args.get("data_parallel_size", 1) != 1:
        raise UsageError(
            "--engine-args: data_parallel_size above 1 needs a process of its own for each replica of the target, and "
            "driftcli runs one; spread that one by tensor_parallel_size, with enable_expert_parallel where there are experts"
        )
    known = {field.name for field in fields(EngineArgs)}
    for name in args:
        if name in OURS:
            said = f"{OURS[name]} says it" if OURS[name] else "driftcli sets it"
            raise UsageError(f"--engine-args: {name} is not to be given, since {said}; leave it out")
        if name not in known:
            raise UsageError(f"--engine-args: vLLM {VERSION} has no argument {name!r}; {meant(name, sorted(known))}see vllm.EngineArgs")


def check_device(device: torch.device) -> None:
    """UsageError unless vLLM, which chooses for itself, runs on the device that was asked for."""
    own = str(current_platform.device_type)
    if device.type != own or device.index not in (None, 0):
        raise UsageError(
            f"--device {device}: vLLM runs on {own} here, on the first one that it sees; use --device {own}, and CUDA_VISIBLE_DEVICES for "
            "another GPU"
        )


@contextmanager
def loading(name: str) -> Iterator[None]:
    """What vLLM raises on a target that it cannot run leaves as SourceError."""
    try:
        yield
    except FAILURES as error:
        raise SourceError(
            f"{name}: vLLM {VERSION} does not run this target as asked ({reason(error)}), expected one that it serves; correct "
            "--engine-args or use --engine transformers"
        ) from error
