"""The files of an EAGLE head with the wiring that its weights fit written into them, which takes no training.

Settings and tensors are those that `driftcli report` names for vLLM; keys that vLLM and SGLang read alike stand at the top level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from driftcli.errors import RunError
from driftcli.families.eagle.capture_layers import KEY, NEST
from driftcli.healing.places import HeadFiles
from driftcli.mitigations.serving import block_order, sglang_layer_ids, vllm_layer_ids
from driftcli.sources.files import Json, read_config
from driftcli.target.target import Target

ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
OF_NORM: Mapping[str, tuple[str, ...]] = {
    "embedding": ("layers.0.input_layernorm.", "midlayer.input_layernorm."),
    "hidden": ("hidden_norm.",),
    "fusion": ("input_norm.", "fc_norm."),
    "mlp": ("post_attention_layernorm.",),
    "final": ("norm.",),
}


@dataclass(frozen=True)
class _Mending:
    """Files being mended for a target."""

    files: HeadFiles
    target: Target

    def with_settings(self, **settings: Json) -> HeadFiles:
        """The files with keys set."""
        return replace(self.files, config={**self.files.config, **settings})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> HeadFiles:
        """The files with tensors in place of others."""
        return replace(self.files, tensors={**self.files.tensors, **tensors})

    def named(self, end: str) -> str:
        """The stored name that ends so."""
        return f"{self.files.prefix}{end}"

    def capture(self, value: tuple[int, ...]) -> HeadFiles:
        """Layer ids for both servers, and the column blocks of fc in ascending order."""
        sglang, order = sglang_layer_ids(value, self.target.config.model_type), block_order(value)
        nested = self.files.config.get(NEST)
        inside: dict[str, Json] = {**(nested if isinstance(nested, dict) else {}), KEY: list(sglang or ())}
        fc = self.named("fc.weight")
        blocks = self.files.tensors[fc].chunk(len(value), dim=1)
        norms = [self.files.tensors.get(self.named(f"fc_norm.{place}.weight")) for place in order]
        moved = {self.named(f"fc_norm.{number}.weight"): norm for number, norm in enumerate(norms) if norm is not None}
        made = self.with_tensors({fc: torch.cat([blocks[place] for place in order], dim=1), **moved})
        ids: dict[str, Json] = {KEY: list(vllm_layer_ids(value)), **({NEST: inside} if sglang else {})}
        return replace(made, config={**made.config, **ids})

    def feedback(self, value: str) -> HeadFiles:
        """The flag of what is fed back."""
        return self.with_settings(norm_output=value == "normed")

    def residual(self, value: str) -> HeadFiles:
        """The flag of what goes around the attention, which vLLM alone reads."""
        return self.with_settings(norm_before_residual=value == "normed")

    def rope(self, value: str) -> HeadFiles:
        """The rotation of the target, or the default one."""
        theirs = read_config(self.target.source)
        kept = {key: entry for key, entry in self.files.config.items() if key not in ROPE_KEYS}
        taken = {key: theirs[key] for key in ROPE_KEYS if key in theirs} if value == "target's" else {"rope_theta": 10000.0}
        return replace(self.files, config={**kept, **taken})

    def vocabulary(self, value: str) -> HeadFiles:
        """d2t as offsets."""
        held = self.files.tensors["d2t"]
        return self.with_tensors({"d2t": held - torch.arange(len(held))} if value == "absolute" else {})

    def embedding(self, value: str) -> HeadFiles:
        """Without embeddings of its own, so that the target's are shared."""
        left_out = self.named("embed_tokens.weight") if value == "target's" else ""
        return replace(self.files, tensors={name: tensor for name, tensor in self.files.tensors.items() if name != left_out})

    def head(self, value: str) -> HeadFiles:
        """The target's rows as output head."""
        name, held = self.named("lm_head.weight"), self.files.tensors
        if value != "target's":
            return self.files
        picked = torch.arange(len(held["d2t"])) + held["d2t"] if "d2t" in held else torch.arange(len(self.target.head))
        return self.with_tensors({name: self.target.head.cpu()[picked].to(held[name].dtype).contiguous()})

    def ones(self, value: str) -> HeadFiles:
        """Gains of 1 in some norms."""
        ends = [end for norm, found in OF_NORM.items() if value in (norm, "every") for end in found]
        gains = {name: one for name, one in self.files.tensors.items() if "norm" in name}
        at = {name: torch.ones_like(gain) for name, gain in gains.items() if any(f".{name}".find(f".{end}") >= 0 for end in ends)}
        return self.with_tensors(at)


def with_offsets(files: HeadFiles, to_target: Tensor) -> HeadFiles:
    """The files with the map from draft ids to target ids, (draft id,), as servers read it: offsets that are added."""
    offsets = to_target.cpu() - torch.arange(len(to_target))
    return replace(files, tensors={**files.tensors, "d2t": offsets.to(files.tensors["d2t"].dtype)})


def mended(files: HeadFiles, changes: Mapping[str, object], target: Target) -> HeadFiles:
    """The files with every change of a wiring written into them; RunError for one that files cannot say."""
    for name, value in changes.items():
        write: Callable[[object], HeadFiles] | None = getattr(_Mending(files, target), name, None)
        if write is None:
            raise RunError(
                f"{files.source.name}: {name} {value} cannot be written into the files of an EAGLE head; mend it where it is served"
            )
        files = write(value)
    return files
