"""The verifying model: any `AutoModelForCausalLM`, loaded whole or refused.

transformers fills what a checkpoint lacks with random numbers and only logs it; here that is an error. The dtype `auto` is float32 on a
CPU and the config's elsewhere; a model that does not fit on one GPU is spread over all of them by accelerate.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from inspect import signature
from io import StringIO
from pickle import UnpicklingError
from types import TracebackType
from typing import Any, Literal, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Cache,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from driftcli.errors import FormatError, MachineError, SourceError, UsageError
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import stored_tensors
from driftcli.sources.files import Json, Source, holds_weights, read_config, reason
from driftcli.sources.tensors import require_finite
from driftcli.target.facts import TargetFacts, check_declared, read_facts
from driftcli.target.gpus import fits
from driftcli.target.in_process import read_all, written
from driftcli.target.quantised import computed_as, method_of, require_packages, require_whole_blocks
from driftcli.target.target import Reading, Unread, Writing

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
LOADING_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, ArithmeticError, AssertionError, EOFError,
    UnpicklingError, SafetensorError, StrictDataclassError,
)  # fmt: skip


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer and where it came from; `unread` names the tensors that its class has no place for."""

    source: Source
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    unread: tuple[str, ...] = ()

    @property
    def config(self) -> PretrainedConfig:
        """The text model's settings, also of a multimodal model."""
        return self.model.config.get_text_config()

    @property
    def facts(self) -> TargetFacts:
        """What a drafter's checkpoint is held against."""
        config = self.config
        sizes = int(config.hidden_size), self._counted, int(config.vocab_size)
        return TargetFacts(
            self.source.name, *sizes, getattr(config, "max_position_embeddings", None), str(config.model_type), config.to_dict()
        )

    @property
    def room(self) -> int | None:
        """Positions of a table of embeddings, None where they are rotations, which can be computed beyond those that the config admits."""
        return None if getattr(self.config, "rope_parameters", None) is not None else self.facts.positions

    @property
    def device_name(self) -> str:
        """What the model runs on, in the device's own words."""
        return name_of(self.device)

    @property
    def decoder(self) -> nn.Module:
        """The text model below the output head; its output is behind the final norm."""
        return cast(nn.Module, self.model.get_decoder())  # type: ignore[no-untyped-call]

    @property
    def _counted(self) -> int:
        """Decoder layers by the config; LongCat's, of two attentions each, count twice there."""
        count, double = int(self.config.num_hidden_layers), getattr(self.config, "num_layers", None)
        return int(double) if isinstance(double, int) and count == 2 * double else count

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order."""
        layers = getattr(self.decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList) or len(layers) != self._counted:
            raise FormatError(
                f"{self.source.name}: {type(self.decoder).__name__} has no list of {self._counted} decoder layers, "
                "expected one to read streams from; use another target"
            )
        return cast(Sequence[nn.Module], layers)

    @property
    def embedding(self) -> Tensor:
        """Input embeddings (vocabulary, width)."""
        return cast(Tensor, self.model.get_input_embeddings().weight)

    @property
    def head(self) -> Tensor:
        """Output projection (vocabulary, width)."""
        return cast(Tensor, self.model.get_output_embeddings().weight)  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""
        return self.embedding.device

    @property
    def generation_config(self) -> GenerationConfig:
        """How it is to be decoded by its files, of which the end tokens are used."""
        return self.model.generation_config

    @property
    def served(self) -> None:
        """No engine: transformers runs it in this process."""
        return None

    @property
    def computed_as(self) -> str | None:
        """As what quantised weights are computed with, None where none are."""
        config = read_config(self.source)
        return None if method_of(config) is None else computed_as(self.model, config)

    @property
    def untold(self) -> None:
        """Nothing: its logits are here."""
        return None

    def start(self, boundaries: Sequence[int]) -> None:
        """As the contract of a target: it is loaded, and any stream can be read."""

    def close(self) -> None:
        """As the contract of a target: it holds memory alone."""

    def write(self, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        """As the contract of a target, all in one batch."""
        return written(self, prompts, writing)

    def read_all(
        self, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float = 1.0, most: int | None = None
    ) -> Iterator[Reading]:
        """As the contract of a target, some side by side, in chunks."""
        return read_all(self, texts, boundaries, temperature, most)

    def continuing(self, cache: Cache | None) -> dict[str, Cache | None]:
        """The argument by which the model goes on from a cache: transformers 5.24 renamed it, and warns of the old name."""
        renamed = "cache" in signature(type(self.model).forward).parameters
        return {"cache" if renamed else "past_key_values": cache}


def name_of(device: torch.device) -> str:
    """A device in its own words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def quiet_transformers() -> None:
    """Let transformers show no progress, and say nothing but errors."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def choose_device(name: str) -> torch.device:
    """The device that `--device` means: `auto` takes the first accelerator, else the CPU; raises UsageError when it is not there."""
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(found.type, 0) if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        said = reason(error).split(". ")[0]
        raise UsageError(f"--device {name}: not usable here ({said}); expected auto, cpu, cuda or cuda:N of a GPU that is there") from error
    if device.type == "meta":
        raise UsageError(f"--device {name}: holds no numbers, expected auto, cpu, cuda or cuda:N of a GPU that is there")
    return device


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype | Literal["auto"]:
    """The dtype that `--dtype` means on this device; `auto` elsewhere than on a CPU is left to the config."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return cast(torch.dtype, getattr(torch, name))


class _Loading:
    """Context in which whatever transformers raises on a model it cannot read becomes a SourceError.

    `tokenizers` raises the bare class Exception; that class alone is taken, none of its subclasses but those listed.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            raise MachineError(
                f"{self._where}: its weights do not fit on the device ({reason(error)}), expected room for them and for caches; one "
                "process spreads them over all GPUs that it sees (--num-processes 1), --engine vllm with tensor_parallel_size too, "
                "--dtype bfloat16 halves float32, and --device cpu takes the host's memory"
            ) from error
        if error is not None and (kind is Exception or isinstance(error, LOADING_ERRORS)):
            raise SourceError(
                f"{self._where}: transformers cannot load this as a causal language model ({reason(error)}), "
                "expected one with its tokenizer; fetch it again or name another"
            ) from error


def load_language_model(
    source: Source, device: torch.device, dtype: Dtype, *, remote_code: bool = False, spread: bool = True
) -> LanguageModel:
    """Weights and tokenizer of `source`, in evaluation mode. spread: over all GPUs where it does not fit on one.

    Raises SourceError when transformers cannot read the folder, or only by code that the folder brings, and FormatError when weights are
    truncated, missing, of another shape or not finite.
    """
    config, stored = _trusted_config(source, remote_code=remote_code), stored_tensors(source)
    check_declared(source.name, config, {name: one.shape for name, one in stored.items()})
    require_packages(source.name, config)
    require_whole_blocks(source.name, config, stored, device, read_facts(source).layers)
    with _Loading(source.name):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=remote_code, **_file(source))
        settings = {
            "dtype": choose_dtype(dtype, device),
            "device_map": _placement(source, device, spread=spread),
            "trust_remote_code": remote_code,
        }
        model, report = _model(source, settings)
    _check_whole(source, model, report)
    if not tokenizer.is_fast:
        raise SourceError(f"{source.name}: {type(tokenizer).__name__} tells no character offsets, expected a model with a tokenizer.json")
    model.requires_grad_(False)  # from_pretrained already put it in evaluation mode
    return LanguageModel(source, model, tokenizer, tuple(sorted(report["unexpected_keys"])))


def outline_language_model(source: Source, *, remote_code: bool = False) -> LanguageModel:
    """The same model with its tokenizer and without a weight: its modules have shapes and hold no numbers.

    Raises SourceError for what transformers cannot build or that has no fast tokenizer.
    """
    declared = _trusted_config(source, remote_code=remote_code)
    if holds_weights(source):
        check_declared(source.name, declared, {name: stored.shape for name, stored in stored_tensors(source).items()})
    require_packages(source.name, declared)
    with _Loading(source.name), torch.device("meta"):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=remote_code, **_file(source))
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=remote_code, **_file(source))
        config._attn_implementation = "eager"
        model = _class_of(config).from_config(config, trust_remote_code=remote_code)  # type: ignore[no-untyped-call]
    return LanguageModel(source, model, tokenizer)


def _file(source: Source) -> dict[str, str]:
    """The argument by which transformers reads one file for all, where a model is one."""
    return {} if source.gguf is None else {"gguf_file": source.gguf}


def _trusted_config(source: Source, *, remote_code: bool) -> dict[str, Json]:
    """The config as written; SourceError for a model that is code which nobody trusted."""
    config = read_config(source)
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING and not remote_code:
        raise SourceError(
            f"{source.name}: model_type {config.get('model_type')!r} is code that the model brings itself (auto_map in config.json), which "
            "is never run unasked; read that code, then use --trust-remote-code"
        )
    return config


def _class_of(config: PretrainedConfig) -> type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]:
    """The class that builds a model: of some families the text model is known with its eyes alone."""
    known = type(config) in AutoModelForCausalLM._model_mapping or type(config) not in AutoModelForImageTextToText._model_mapping
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def _model(source: Source, settings: Mapping[str, Any]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and what transformers says of its weights. Its attention is torch's own, whatever its config asks for, which wins over an
    argument of `from_pretrained`: that may name a kernel on the hub, and so somebody's code.
    """
    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=settings["trust_remote_code"], **_file(source))
    built = _class_of(config)
    reported = {"ignore_mismatched_sizes": True, "output_loading_info": True}  # what does not fit is refused later, by its names
    for attention in ("sdpa", "eager"):
        config._attn_implementation = attention
        try:
            with nullcontext() if source.gguf is None else redirect_stderr(StringIO()):  # where it draws a bar that nothing turns off
                return built.from_pretrained(source.folder, config=config, **settings, **reported, **_file(source))  # type: ignore[return-value]
        except ValueError as error:
            if attention == "eager" or "attn_implementation" not in str(error):
                raise
    raise AssertionError("the last way to compute attention returns or raises")


def _check_whole(source: Source, model: PreTrainedModel, report: dict[str, Any]) -> None:
    lost = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    if lost:
        said = counted_names(sorted(lost), "is missing or of another shape", "are missing or of another shape")
        raise FormatError(f"{source.name}: {said} and would be random, expected a whole model; fetch it again")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise SourceError(f"{source.name}: does not fit here and would stay on disk, expected room for all of it; use --device cpu")
    require_finite(source.name, dict(model.named_parameters()))


def _placement(source: Source, device: torch.device, *, spread: bool) -> str | dict[str, torch.device]:
    if device.type != "cuda" or torch.cuda.device_count() < 2 or not spread:
        return {"": device}
    free, _ = torch.cuda.mem_get_info(device)
    return {"": device} if fits(source, free) else "auto"
