"""The verifying model: any `AutoModelForCausalLM`, loaded whole or refused.

transformers fills what a checkpoint lacks with random numbers and only logs it; here that is an error. The dtype `auto` is float32 on a
CPU and the config's elsewhere; a model that does not fit on one GPU is spread over all of them by accelerate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from driftcli.errors import FormatError, SourceError, UsageError
from driftcli.loading.files import Source, check_safetensors, require_finite, weight_files

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
ROOM_ON_A_GPU = 0.8  # share of a GPU's free memory that weights may fill before the model is spread; the rest is for caches (chosen by us)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer and where it came from."""

    source: Source
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def config(self) -> PretrainedConfig:
        """The text model's settings, also of a multimodal model."""
        return self.model.config.get_text_config()

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order."""
        decoder = self.model.get_decoder()  # type: ignore[no-untyped-call]
        layers = getattr(decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList) or len(layers) != self.config.num_hidden_layers:
            raise FormatError(
                f"{self.source.name}: {type(decoder).__name__} has no list of {self.config.num_hidden_layers} decoder layers to read streams from"
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


def choose_device(name: str) -> torch.device:
    """The device that `--device` means: `auto` takes the first accelerator, else the CPU; raises UsageError when it is not there."""
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(found.type, 0) if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--device {name}: not usable here ({reason}); expected auto, cpu, cuda or cuda:N of a GPU that is there"
        ) from error
    return device


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype | Literal["auto"]:
    """The dtype that `--dtype` means on this device; `auto` elsewhere than on a CPU is left to the config."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return cast(torch.dtype, getattr(torch, name))


def load_language_model(source: Source, device: torch.device, dtype: Dtype, *, remote_code: bool = False) -> LanguageModel:
    """Weights and tokenizer of `source`, in evaluation mode.

    Raises SourceError when transformers cannot read the folder and FormatError when weights are truncated, missing, of another shape or
    not finite.
    """
    for path in weight_files(source):
        if path.suffix == ".safetensors":
            check_safetensors(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=remote_code)
        loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(  # type: ignore[assignment]
            source.folder,
            dtype=choose_dtype(dtype, device),
            device_map=_placement(source, device),
            trust_remote_code=remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise SourceError(f"{source.name}: transformers cannot load this as a causal language model ({_first_line(error)})") from error
    model, report = loaded
    lost = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    if lost:
        raise FormatError(
            f"{source.name}: {len(lost)} weights are missing or of another shape and would be random ({', '.join(sorted(lost)[:3])}); fetch it again"
        )
    require_finite(source.name, dict(model.named_parameters()))
    model.requires_grad_(False)  # from_pretrained already put it in evaluation mode
    return LanguageModel(source, model, tokenizer)


def _placement(source: Source, device: torch.device) -> str | dict[str, torch.device]:
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return {"": device}
    size = sum(path.stat().st_size for path in weight_files(source))
    free, _ = torch.cuda.mem_get_info(device)
    return "auto" if size > ROOM_ON_A_GPU * free else {"": device}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
