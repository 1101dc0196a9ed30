"""The experts of an MTP head's layer by transformers' own module: that of the target's last layer which has some, with the head's weights.

Checkpoints store one tensor an expert, modules stack them; nothing is loaded that does not fit name for name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from driftcli.errors import FormatError
from driftcli.printable import counted_names
from driftcli.target.target import Target

PLACES = ("mlp", "moe", "mixer", "feed_forward")  # where decoder layers keep their experts
RENAMED = (  # as files name what modules name otherwise
    (r"^expert_bias$", "e_score_correction_bias"),
    (r"^gate\.expert_bias$", "gate.e_score_correction_bias"),
    (r"^router\.gate\.", "gate."),
    (r"^shared_mlp\.", "shared_experts."),
)
STACKED = re.compile(r"^experts\.(gate_up_proj|gate_proj|up_proj|down_proj)$")


def experts_like(where: str, target: Target, tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The module with `tensors`, stored names behind `mlp.`, in the place of the target's; raises FormatError for what does not fit."""
    module = _empty(where, target)
    names = module.state_dict().keys()
    left = {stored if stored in names else _renamed(stored): tensor for stored, tensor in tensors.items()}
    held = {name: _taken(name, left) for name in names}
    lost = sorted(name for name, tensor in held.items() if tensor is None)
    if lost or left:
        said = [counted_names(lost, "is missing", "are missing")] if lost else []
        said += [counted_names(sorted(left), "has no place", "have no place")] if left else []
        raise FormatError(f"{where}: {'; '.join(said)} in the experts of its MTP head, expected {type(module).__name__}'s; export it again")
    found = {name: tensor for name, tensor in held.items() if tensor is not None}
    for name, tensor in found.items():
        if tensor.shape != (expected := module.state_dict()[name].shape):
            raise FormatError(f"{where}: mlp.{name} has shape {tuple(tensor.shape)}, expected {tuple(expected)}; it is of another head")
    module.load_state_dict(found, strict=True, assign=True)
    module.requires_grad_(False)

    def run(x: Tensor) -> Tensor:
        out = module(x[None])
        return (out if isinstance(out, Tensor) else out[0]).reshape(x.shape)

    return run


def _empty(where: str, target: Target) -> nn.Module:
    """A copy of the target's module with nothing in it: no number is copied."""
    for layer in reversed(target.layers):
        for place in PLACES:
            module = getattr(layer, place, None)
            if module is not None and getattr(module, "experts", None) is not None:
                bare = {id(tensor): tensor.to("meta") for tensor in module.buffers()}
                weights = {
                    id(tensor): nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False) for tensor in module.parameters()
                }
                kept = {id(buffer): buffer for buffer in _unsaved(where, module)}
                made: nn.Module = copy.deepcopy(module, {**bare, **weights, **kept})
                return made
    raise FormatError(f"{where}: its MTP head has experts and none of the target's layers has; head and target do not belong together")


def _unsaved(where: str, module: nn.Module) -> list[Tensor]:
    """Buffers that no file holds, which are the class's own; FormatError where the target's modules are here without their numbers."""
    saved = module.state_dict().keys()
    found = {name: buffer for name, buffer in module.named_buffers() if name not in saved}
    if any(buffer.is_meta for buffer in found.values()):
        raise FormatError(
            f"{where}: the experts of its MTP head are computed with {', '.join(found)}, which {type(module).__name__} makes "
            "as it is loaded and no file holds; use --engine transformers"
        )
    return list(found.values())


def _renamed(stored: str) -> str:
    for pattern, name in RENAMED:
        stored = re.sub(pattern, name, stored)
    return stored


def _taken(name: str, left: dict[str, Tensor]) -> Tensor | None:
    """The tensor of a module's name, taken out of what is left: as it stands, or stacked over experts."""
    if name in left:
        return left.pop(name)
    match = STACKED.match(name)
    if match is None:
        return None
    parts = ("gate_proj", "up_proj") if match[1] == "gate_up_proj" else (match[1],)
    stacks = [_stack(part, left) for part in parts]
    found = [stack for stack in stacks if stack is not None]
    return torch.cat(found, dim=1) if len(found) == len(parts) else None


def _stack(part: str, left: dict[str, Tensor]) -> Tensor | None:
    """(expert, outputs, inputs) of one projection."""
    if (whole := left.pop(f"experts.{part}.weight", None)) is not None:
        return whole
    numbered = {int(found[1]): name for name in left if (found := re.match(rf"^experts\.(\d+)\.{part}\.weight$", name))}
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        return None
    return torch.stack([left.pop(numbered[number]) for number in range(len(numbered))])
