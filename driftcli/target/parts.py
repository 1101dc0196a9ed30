"""The parts of a target that a drafter takes over, read from its files: embedding, output head and final norm, and nothing else.

So they are here whatever runs the target, and wherever.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from driftcli.errors import FormatError
from driftcli.sources.checkpoint import Stored, stored_tensors
from driftcli.sources.tensors import read_some, require_finite
from driftcli.target.language_model import LanguageModel

NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "norm_f")  # as decoders call the norm behind their last layer
FLOATS = ("F32", "BF16", "F16")


@dataclass(frozen=True)
class Parts:
    """Embedding and head (vocabulary, width), and the norm behind the last layer, None where the decoder has none by a known name."""

    embedding: Tensor
    head: Tensor
    final_norm: nn.Module | None


def read_parts(outline: LanguageModel, device: torch.device, dtype: torch.dtype) -> Parts:
    """The parts of the target that `outline` is the outline of, whose modules hold no numbers.

    Raises FormatError for a part that the files do not hold, hold twice, or hold quantised, and for numbers that are not finite.
    """
    stored, named = stored_tensors(outline.source), dict(outline.model.named_parameters(remove_duplicate=False))
    norm = next((found for name in NORMS if isinstance(found := getattr(outline.decoder, name, None), nn.Module)), None)
    inside = {} if norm is None else dict(norm.named_parameters())
    wanted = {"embedding": outline.embedding, "head": outline.head, **{f"norm.{name}": tensor for name, tensor in inside.items()}}
    if outline.head is outline.embedding:
        del wanted["head"]
    names = {part: _stored_name(outline.source.name, named, tensor, stored) for part, tensor in wanted.items()}
    read = read_some(outline.source, set(names.values()))
    require_finite(outline.source.name, read)
    found = {part: read[name].to(device, dtype) for part, name in names.items()}
    embedding = found["embedding"]
    return Parts(embedding, found.get("head", embedding), None if norm is None else _filled(norm, found, device))


def _filled(norm: nn.Module, found: dict[str, Tensor], device: torch.device) -> nn.Module:
    """A copy of a module without numbers, with those found."""
    filled = copy.deepcopy(norm).to_empty(device=device)
    filled.load_state_dict({name: found[f"norm.{name}"] for name, _ in norm.named_parameters()}, strict=True, assign=True)
    filled.requires_grad_(False)
    return filled


def _stored_name(where: str, named: dict[str, nn.Parameter], tensor: Tensor, stored: dict[str, Stored]) -> str:
    """The name by which files hold a parameter: its own, or another one that ends like it, as of models with parts besides the text."""
    own = next(name for name, parameter in named.items() if parameter is tensor)
    end = ".".join(own.split(".")[-2:])
    alike = [name for name, one in stored.items() if (name == end or name.endswith(f".{end}")) and one.shape == tuple(tensor.shape)]
    found = own if own in stored else alike[0] if len(alike) == 1 else None
    if found is None or stored[found].shape != tuple(tensor.shape):
        raise FormatError(
            f"{where}: {own} is {'not among' if not alike else 'not told apart in'} its files, expected it there for a drafter"
        )
    if stored[found].dtype not in FLOATS:
        raise FormatError(f"{where}: {found} is stored as {stored[found].dtype}, expected plain numbers that a drafter can take over")
    return found
