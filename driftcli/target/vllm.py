"""A target that vLLM runs in this process: what is measured of it is the target as served, with that engine's kernels and quantisation.

Replies come by continuous batching. A text is read as a request of its own that holds prompt and reply: its streams by vLLM's
`extract_hidden_states`, written to a folder and removed from there as they are read, its probabilities as log-probabilities of the prompt.
The only module that imports vllm; it is imported where a target in vLLM is asked for and nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
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
from safetensors.torch import load, save_file
from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase
from vllm import LLM, SamplingParams
from vllm import __version__ as VERSION
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.distributed.kv_transfer.kv_connector.v1.example_hidden_states_connector import (
    ExampleHiddenStatesConnector,
    PendingSave,
    extract_from_kv_cache,
)
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from driftcli.errors import FormatError, RunError, SourceError, UsageError
from driftcli.sources.files import Json, Source, reason
from driftcli.suggestions import meant
from driftcli.target.facts import TargetFacts
from driftcli.target.in_process import until_end
from driftcli.target.language_model import Dtype, LanguageModel, choose_dtype, name_of, outline_language_model
from driftcli.target.parts import Parts, read_parts
from driftcli.target.target import Reading, Served, Writing

STREAMS = "driftcli_streams"  # by which a request asks for its streams
SHARE = 0.7  # of a GPU's memory that vLLM may take, which leaves room for the drafter (chosen by us)
CPU_CACHE = 1 << 30  # bytes of its cache on a CPU (chosen by us)
STEPS = 64  # of the engine within which a finished request's streams must be there (chosen by us: one or two are enough)
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
    "enable_prefix_caching": "",
    "generation_config": "",
    "skip_tokenizer_init": "",
    "hf_token": "HF_TOKEN in the environment",  # which no run may hold
}
FAILURES = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ImportError, AssertionError, ArithmeticError)


class StreamsConnector(ExampleHiddenStatesConnector):  # type: ignore[misc]
    """Writes the streams of the requests that ask for them, and of no other; a file is whole when the step that writes it is done.

    vLLM's own connector copies through a CUDA stream in the background and writes every request's; this one also runs on a CPU.
    """

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Whether the request's blocks are still needed, and where its streams will be."""
        if not (request.kv_transfer_params or {}).get(STREAMS):
            self._request_filenames.pop(request.request_id, None)
            return False, None
        return super().request_finished(request, block_ids)  # type: ignore[no-any-return]

    def _submit_async_write(self, pending: PendingSave) -> None:
        if not self._is_tp_rank_zero:
            return
        assert self._kv_cache is not None
        blocks = torch.tensor(pending.block_ids, dtype=torch.long)
        slots = (torch.arange(self._block_size) + blocks[:, None] * self._block_size).flatten().to(self._kv_cache.device)
        streams = extract_from_kv_cache(self._kv_cache, slots, len(pending.token_ids)).cpu().contiguous()
        path = Path(pending.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"streams": streams}, path)
        self._req_copy_events[pending.req_id] = _Done()


class _Done:
    """A copy that is over."""

    def query(self) -> bool:
        return True


class VllmTarget:
    """A target whose engine runs once it is told which streams it is asked for; `outline` has its config and tokenizer, no numbers."""

    def __init__(self, outline: LanguageModel, parts: Parts, settings: Mapping[str, Any], args: Mapping[str, Json], folder: Path) -> None:
        self._outline, self._parts, self._settings, self._args, self._folder = outline, parts, settings, args, folder
        self._engine: LLM | None = None
        self._boundaries: tuple[int, ...] = ()

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return self._outline.source

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._outline.tokenizer

    @property
    def unread(self) -> tuple[str, ...]:
        """None: what has no place in the model is vLLM's to refuse."""
        return ()

    @property
    def config(self) -> PretrainedConfig:
        """The text model's settings."""
        return self._outline.config

    @property
    def facts(self) -> TargetFacts:
        """What a drafter's checkpoint is held against."""
        return self._outline.facts

    @property
    def generation_config(self) -> GenerationConfig:
        """How it is to be decoded by its files."""
        if (self.source.folder / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(self.source.folder)
        return self._outline.generation_config

    @property
    def has_rotary_positions(self) -> bool:
        """As its config has it."""
        return self._outline.has_rotary_positions

    @property
    def embedding(self) -> Tensor:
        """Input embeddings (vocabulary, width), from its files."""
        return self._parts.embedding

    @property
    def head(self) -> Tensor:
        """Output projection (vocabulary, width), from its files."""
        return self._parts.head

    @property
    def device(self) -> torch.device:
        """Where its drafter is."""
        return self._parts.embedding.device

    @property
    def device_name(self) -> str:
        """What vLLM runs on, in the device's own words."""
        return name_of(self.device)

    @property
    def served(self) -> Served:
        """The engine, and how it was told to run the target."""
        engine = self._running()
        scheme = engine.llm_engine.model_config.quantization
        return Served("vLLM", VERSION, None if scheme is None else str(scheme), dict(self._args))

    def start(self, boundaries: Sequence[int]) -> None:
        """Run the engine, ready to hand out the streams at these boundaries; SourceError where vLLM cannot."""
        layers = self._layers()
        self._boundaries = tuple(sorted({min(boundary, layers) for boundary in boundaries}))
        self._clear()  # of a run that was killed
        kept = torch.set_num_threads  # which vLLM puts out of action on a CPU
        try:
            with _loading(self.source.name), prints_aside():
                self._engine = LLM(**self._settings, **self._streaming())
        finally:
            torch.set_num_threads = kept

    def close(self) -> None:
        """End the engine; its files go."""
        engine, self._engine = self._engine, None
        if engine is not None:
            with prints_aside():
                engine.llm_engine.engine_core.shutdown()
                cleanup_dist_env_and_memory()
        self._clear()

    def _clear(self) -> None:
        """Remove the folder with what requests left there."""
        for file in self._folder.glob("*.safetensors"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds something else
            self._folder.rmdir()

    def write(self, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        """As the contract of a target, by continuous batching; RunError for drawn replies, and for those beyond the engine's room."""
        if writing.temperature:
            raise RunError(
                f"replies at temperature {writing.temperature:g} are not drawn in vLLM yet, expected greedy ones; use --engine transformers"
            )
        self._require_room(max(map(len, prompts)) + writing.most)
        ends = self._ends()
        sampling = SamplingParams(temperature=0.0, max_tokens=writing.most, ignore_eos=True, stop_token_ids=ends, detokenize=False)
        if writing.say is not None:
            writing.say(0)
        return [until_end(list(done.outputs[0].token_ids), ends) for done in self._answered(prompts, sampling)]

    @torch.inference_mode()
    def read(self, ids: Sequence[int], prompt_length: int, boundaries: Sequence[int], temperature: float = 1.0) -> Reading:
        """As the contract of a target, without entropies; RunError for streams that the engine was not started for."""
        layers = self._layers()
        lost = sorted({min(boundary, layers) for boundary in boundaries} - set(self._boundaries))
        if lost or temperature != 1.0:
            what = f"streams at boundaries {', '.join(map(str, lost))}" if lost else f"probabilities at temperature {temperature:g}"
            raise RunError(f"{what} are not among what vLLM was started for; use --engine transformers")
        self._require_room(len(ids))
        asked = {"kv_transfer_params": {STREAMS: True}} if boundaries else None
        sampling = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False, extra_args=asked)
        (done,) = self._answered([ids], sampling)
        told = [(found[token], found) for token, found in zip(ids[prompt_length:], done.prompt_logprobs[prompt_length:], strict=True)]
        probs = torch.tensor([own.logprob for own, _ in told]).exp()
        agrees = torch.tensor([own.logprob >= max(one.logprob for one in found.values()) for own, found in told])
        return Reading(probs, None, agrees, self._taken(done, len(ids) - 1, boundaries) if boundaries else {})

    def _taken(self, done: Any, rows: int, boundaries: Sequence[int]) -> dict[int, Tensor]:
        """The streams of a request that is done, and its file is gone."""
        path, engine = Path(done.kv_transfer_params["hidden_states_path"]), self._running()
        for _ in range(STEPS):
            if path.exists():
                break
            with self._stepping():
                engine.llm_engine.step()  # the last request's streams are written with the engine's next step
        else:
            raise RunError(
                f"{path}: vLLM wrote no streams there, expected those of a text; is the folder on a disk that all its workers see?"
            )
        streams = load(path.read_bytes())["streams"][:rows].to(self.device)
        path.unlink()
        found = {boundary: streams[:, place] for place, boundary in enumerate(self._boundaries)}
        return {boundary: self._normed(found[self._layers()]) if boundary > self._layers() else found[boundary] for boundary in boundaries}

    def _normed(self, last: Tensor) -> Tensor:
        """The stream behind the final norm, boundary L + 1, from the one before it, which is the last that vLLM hands out."""
        if self._parts.final_norm is None:
            raise FormatError(f"{self.source.name}: its decoder has no final norm by a known name, expected one; use --engine transformers")
        normed: Tensor = self._parts.final_norm(last)
        return normed

    def _layers(self) -> int:
        layers = self.facts.layers
        assert layers is not None, "an outline's layers are known"
        return layers

    def _ends(self) -> list[int]:
        own = self.generation_config.eos_token_id
        end = self.tokenizer.eos_token_id if own is None else own
        return [int(token) for token in (end if isinstance(end, list) else [end]) if token is not None]

    def _running(self) -> LLM:
        assert self._engine is not None, "the target was started"
        return self._engine

    def _answered(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams) -> list[Any]:
        """What the engine says to the prompts, in their order; RunError where it gives up."""
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        with self._stepping():
            found: list[Any] = self._running().generate(asked, sampling, use_tqdm=False)
        return found

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        """Around steps of the engine: what it raises leaves as RunError, what it prints goes aside, and nothing is compiled where it was
        told to run eagerly, not even the small parts that it would compile all the same.
        """
        stance = "force_eager" if self._settings["enforce_eager"] else "default"
        try:
            with prints_aside(), torch.compiler.set_stance(stance):
                yield
        except FAILURES as error:
            raise RunError(f"{self.source.name}: vLLM {VERSION} gave up ({reason(error)}); use --engine transformers") from error

    def _require_room(self, tokens: int) -> None:
        """RunError for a text of more tokens than the engine has positions; one more is kept free, for the token that ends a reading."""
        room = int(self._running().llm_engine.model_config.max_model_len)
        if tokens + 1 > room:
            raise RunError(
                f"a text of up to {tokens} tokens does not fit the {room} positions of vLLM's engine, with one kept free; shorten it, "
                "or give the engine more memory, or --engine-args '{\"max_model_len\": ...}'"
            )

    def _streaming(self) -> dict[str, Any]:
        """The arguments by which vLLM hands out streams."""
        if not self._boundaries:
            return {}
        ids = {"eagle_aux_hidden_state_layer_ids": list(self._boundaries)}
        extra = {"shared_storage_path": str(self._folder.absolute()), "use_synchronization_lock": False}
        return {
            "speculative_config": {
                "method": "extract_hidden_states",
                "num_speculative_tokens": 1,
                "draft_model_config": {"hf_config": ids},
            },
            "kv_transfer_config": {
                "kv_connector": StreamsConnector.__name__,
                "kv_connector_module_path": __name__,
                "kv_role": "kv_producer",
                "kv_connector_extra_config": extra,
            },
        }


def prepare(
    source: Source, device: torch.device, dtype: Dtype, args: Mapping[str, Json], folder: Path, *, remote_code: bool = False
) -> VllmTarget:
    """A target that is ready to be started: what of it can be refused before the engine runs is refused.

    args: of vLLM's engine. folder: for its files, made and removed here. Raises UsageError for arguments or a device that cannot be, and
    SourceError for a target that vLLM does not run.
    """
    _check_args(args)
    _check_device(device)
    outline = outline_language_model(source, remote_code=remote_code)
    on_cpu = device.type == "cpu"
    chosen = choose_dtype(dtype, device)
    settings = {
        "max_model_len": -1,  # as much as the memory has room for, up to what the config admits
        "enforce_eager": on_cpu,
        "seed": 0,
        **({"kv_cache_memory_bytes": CPU_CACHE} if on_cpu else {"gpu_memory_utilization": SHARE}),
        **args,
        "model": str(source.folder),
        "dtype": chosen if isinstance(chosen, str) else str(chosen).removeprefix("torch."),
        "trust_remote_code": remote_code,
        "enable_prefix_caching": False,  # a text that was seen before would give neither streams nor probabilities of what is cached
        "generation_config": "vllm",
    }
    with _loading(source.name), prints_aside():
        computed = EngineArgs(**settings).create_model_config().dtype
    return VllmTarget(outline, read_parts(outline, device, computed), settings, args, folder)


def _check_args(args: Mapping[str, Json]) -> None:
    known = {field.name for field in fields(EngineArgs)}
    for name in args:
        if name in OURS:
            said = f"{OURS[name]} says it" if OURS[name] else "driftcli sets it"
            raise UsageError(f"--engine-args: {name} is not to be given, since {said}; leave it out")
        if name not in known:
            raise UsageError(f"--engine-args: vLLM {VERSION} has no argument {name!r}; {meant(name, sorted(known))}see vllm.EngineArgs")


def _check_device(device: torch.device) -> None:
    """UsageError unless vLLM, which chooses for itself, runs on the device that was asked for."""
    own = str(current_platform.device_type)
    if device.type != own or device.index not in (None, 0):
        raise UsageError(
            f"--device {device}: vLLM runs on {own} here, on the first one that it sees; use --device {own}, and CUDA_VISIBLE_DEVICES for "
            "another GPU"
        )


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """What vLLM raises on a target that it cannot run leaves as SourceError."""
    try:
        yield
    except FAILURES as error:
        raise SourceError(
            f"{name}: vLLM {VERSION} does not run this target as asked ({reason(error)}), expected one that it serves; correct "
            "--engine-args or use --engine transformers"
        ) from error


@contextmanager
def prints_aside() -> Iterator[None]:
    """What is printed inside goes to standard error, also by code below Python, since results alone go to standard output."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)
