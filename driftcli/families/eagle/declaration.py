"""What a checkpoint of the EAGLE family declares, before any weight is read: its sizes, its vocabulary map and every system's reading.

`scan` prints it and the loader builds a drafter from it, so what is shown is what is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftcli.domain import Sourced, System
from driftcli.errors import DriftError, FormatError, UsageError
from driftcli.families.eagle.anatomy import Anatomy
from driftcli.families.eagle.dissection import DEEPSEEK, LLAMA, canonical, dissect
from driftcli.families.eagle.readings import Head, Reading, asks_for_joint_norm, asks_for_stream_norms, declared, readings
from driftcli.families.layer_config import layer_config
from driftcli.families.layout import Format
from driftcli.families.mask_token import mask_token
from driftcli.families.record import Record, otherwise
from driftcli.families.vocab_map import target_ids
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts

SOFTCAP = "final_logit_softcapping"
GELU = "gelu_pytorch_tanh"
EPS = (1e-30, 1.0)  # below it float32 rounds to 0, and a row of zeros becomes NaN; above it nothing is left of a state (chosen by us)


@dataclass(frozen=True)
class Declaration:
    """A checkpoint understood.

    names: stored name of each canonical one. to_target: target id of each draft id. softcap: bound on its scores, None without. system:
    whose reading stands for the file. mask: the token that the rows of P-EAGLE read in the place of those to be guessed, None without them.
    trained_depths: tokens that such rows were trained to guess, None where the config does not say.
    """

    checkpoint: Checkpoint
    head: Head
    names: Mapping[str, str]
    to_target: np.ndarray
    eps: float
    positions: int
    softcap: float | None
    readings: Mapping[System, Reading | DriftError]
    system: System
    mask: int | None = None
    trained_depths: int | None = None

    @property
    def anatomy(self) -> Anatomy:
        """Sizes and tensors."""
        return self.head.anatomy

    def reading(self, system: System | None = None) -> Reading:
        """The reading of `system`, the declared one for None; raises why it cannot run the file."""
        found = self.readings.get(system or self.system)
        if found is None:
            raise UsageError(f"--reading {system}: not known to run EAGLE heads; expected declared or one of {', '.join(self.readings)}")
        if isinstance(found, DriftError):
            raise found
        return found

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source, in the reading of `system`."""
        chosen = Sourced(
            system or self.system, "assumed:asked for" if system else "default:vLLM where it can, else SGLang, else the producer"
        )
        return {"reading": chosen, **self.head.record.fields, **self._told(self.reading(system))}

    def _told(self, reading: Reading) -> dict[str, Sourced]:
        """A reading's switches; a feedback is none of those of P-EAGLE."""
        return {name: field for name, field in reading.fields().items() if not (self.anatomy.parallel and name == "feedback")}

    def others(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """Every other system's fields; `refused` alone where it cannot run the file. vLLM's V1 runner is left out where it does as V2."""
        others = [(other, found) for other, found in self.readings.items() if other != (system or self.system)]
        if _alike(self.readings["as_served:vllm"], self.readings["as_served:vllm-v1"]):
            others = [(other, found) for other, found in others if other != "as_served:vllm-v1"]
        return {
            other: {"refused": Sourced(str(found), f"default:{other}")} if isinstance(found, DriftError) else self._told(found)
            for other, found in others
        }

    def differences(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """For each other system the fields that it computes otherwise, and why it cannot run the file where it cannot."""
        return otherwise(self.others(system), self._told(self.reading(system)))


def declare(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> Declaration:
    """What the checkpoint is, held against what is known of its target; raises a DriftError for what cannot be run by anybody."""
    record = Record(checkpoint.source.name, checkpoint.config)
    record.note("format", format.name, "tensor")
    layers = layer_config(record, format.producer)
    anatomy = dissect(checkpoint, format, layers, record, target)
    _require_activation(layers, anatomy)
    _require_norms(record, anatomy)
    to_target = target_ids(checkpoint, anatomy.draft_vocabulary, anatomy.vocabulary, record)
    record.note("attention", f"{anatomy.heads.kind} keys", "tensor")
    eps = _eps(layers)
    latent = anatomy.heads.kind == "latent"
    positions = layers.integer("max_position_embeddings", "max_position_embeddings", *((4096, DEEPSEEK) if latent else (2048, LLAMA)))
    head = Head(record, layers, format, anatomy, frozenset(checkpoint.tensors), target)
    found = readings(head)
    softcap = layers.number("softcap", SOFTCAP, 0.0, LLAMA) if anatomy.sandwiched and layers.get(SOFTCAP) is not None else None
    names, mask = canonical(checkpoint, format), mask_token((record,), anatomy.vocabulary) if anatomy.parallel else None
    depths = _trained_depths(record) if anatomy.parallel else None
    return Declaration(checkpoint, head, names, to_target, eps, positions, softcap, found, declared(found), mask, depths)


def _trained_depths(record: Record) -> int | None:
    """The most tokens that the config names: of training, or of the proposals that its trainer foresees."""
    methods = record.within("speculators_config").config.get("proposal_methods")
    foreseen = [one.get("speculative_tokens") for one in methods if isinstance(one, dict)] if isinstance(methods, list) else []
    named = [one for one in (record.get("num_depths"), *foreseen) if isinstance(one, int) and not isinstance(one, bool) and one > 0]
    if named:
        record.note("trained_depths", max(named), "config:num_depths, speculators_config")
    return max(named, default=None)


def _alike(one: Reading | DriftError, other: Reading | DriftError) -> bool:
    """Whether two readings compute the same, or refuse for the same reason."""
    if isinstance(one, DriftError) or isinstance(other, DriftError):
        return str(one) == str(other)
    return not otherwise({"other": one.fields()}, other.fields())


def _eps(layers: Record) -> float:
    eps = layers.number("rms_norm_eps", "rms_norm_eps", 1e-6, LLAMA)
    if not EPS[0] <= eps <= EPS[1]:
        raise layers.wrong("rms_norm_eps", eps, f"a number from {EPS[0]} to {EPS[1]}: norms are computed in float32")
    return eps


def _require_activation(layers: Record, anatomy: Anatomy) -> None:
    if anatomy.sandwiched:
        key, known, said = "hidden_activation", GELU, f"{GELU}, Gemma 4's"
    else:
        key, known, said = "hidden_act", "silu", "silu, the only one that EAGLE heads are served with"
    activation = layers.text("activation", key, known, LLAMA)
    if activation != known:
        raise layers.wrong(key, activation, said)


def _require_norms(record: Record, anatomy: Anatomy) -> None:
    """Refuse a norm that the config turns on and the file lacks: servers would run it with gain 1 and not say so."""
    for asked, key, tensor in (
        (asks_for_joint_norm(record), "norm_before_fc", "input_norm.weight"),
        (asks_for_stream_norms("as_served:sglang", record), "fc_norm", "fc_norm.0.weight"),
    ):
        if asked and tensor not in anatomy.names:
            raise FormatError(
                f"{record.where}/config.json: {key} is true, but there is no {tensor}, and servers would norm with gain 1; export it again"
            )
    if anatomy.has(r"self_attn\.[qk]_norm") and not (anatomy.has(r"self_attn\.q_norm") and anatomy.has(r"self_attn\.k_norm")):
        raise FormatError(f"{record.where}: has one of q_norm and k_norm, expected both or none; export it again")
