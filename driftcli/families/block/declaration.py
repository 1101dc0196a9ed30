"""What the file of a block drafter declares, before any weight is read: sizes, block, vocabulary map and every system's reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftcli.domain import APART, Sourced, System
from driftcli.errors import DriftError, FormatError, UsageError
from driftcli.families.block.anatomy import Anatomy, dissect
from driftcli.families.block.readings import DRAFTS, FILL_IN, Head, Reading, declared, readings
from driftcli.families.layer_config import layer_config
from driftcli.families.layout import Format
from driftcli.families.mask_token import mask_token
from driftcli.families.record import Record, otherwise
from driftcli.families.vocab_map import target_ids
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts

QWEN3, GEMMA4 = "transformers Qwen3Config", "transformers Gemma4TextConfig"
GELU = "gelu_pytorch_tanh"
OWN_CONFIG = "dflash_config"
OWN_MASK = "mask_embedding.pt"  # beside the weights of some, in the place of the target's row
LARGEST_BLOCK = 512  # rows (chosen by us): published blocks have 4 to 16
QWEN3_EPS = 1e-6  # beside the mean square in norms, where a config says nothing
EPS = (1e-30, 1.0)  # below it float32 rounds to 0; above it nothing is left of a state (chosen by us)


@dataclass(frozen=True)
class BlockDeclaration:
    """A checkpoint understood. block_size: rows of a block in training. mask: the id whose embedding fills a block's rows behind the
    anchor's. to_target: target id of each draft id. system: whose reading stands for the file. candidates: of each row that a selector
    chooses among, 0 without one.
    """

    checkpoint: Checkpoint
    head: Head
    block_size: int
    mask: int
    to_target: np.ndarray
    eps: float
    positions: int
    readings: Mapping[System, Reading | DriftError]
    system: System
    candidates: int = 0

    @property
    def anatomy(self) -> Anatomy:
        """Sizes and tensors."""
        return self.head.anatomy

    @property
    def has_confidence(self) -> bool:
        """Whether a confidence head is there and in use, as it is in speculators' class where nothing is said; DeepSpec always says so."""
        return bool(self.anatomy.confidence) and self.head.record.is_on("enable_confidence_head", default=True)

    def guesses(self, system: System | None = None) -> int:
        """Draft tokens of a block as it was trained."""
        return self.block_size - (self.reading(system).slots.value == FILL_IN)

    def reading(self, system: System | None = None) -> Reading:
        """The reading of `system`, the declared one for None; raises why it cannot run the file."""
        found = self.readings.get(system or self.system)
        if found is None:
            raise UsageError(f"--reading {system}: not known to run block drafters; expected declared or one of {', '.join(self.readings)}")
        if isinstance(found, DriftError):
            raise found
        return found

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source, in the reading of `system`."""
        chosen = Sourced(system or self.system, "assumed:asked for" if system else "default:vLLM where it can, else who trained it")
        lengths = Sourced(APART if self.lengths_apart(system) else "one the beginning of another", f"default:{system or self.system}")
        return {"reading": chosen, **self.head.record.fields, **self.reading(system).fields(), "draft_lengths": lengths}

    def lengths_apart(self, system: System | None = None) -> bool:
        """Whether a block has as many rows as its draft length asks for, and each number of rows gives other guesses."""
        reading = self.reading(system)
        return reading.rows.value == DRAFTS and not all(reading.causal.value)

    def others(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """Every other system's fields; `refused` alone where it cannot run the file."""
        return {
            other: {"refused": Sourced(str(found), f"default:{other}")} if isinstance(found, DriftError) else found.fields()
            for other, found in self.readings.items()
            if other != (system or self.system)
        }

    def differences(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """For each other system the fields that it computes otherwise, and why it cannot run the file where it cannot."""
        return otherwise(self.others(system), self.reading(system).fields())


def declare_block(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> BlockDeclaration:
    """What the checkpoint is, held against what is known of its target; raises a DriftError for what cannot be run by anybody."""
    record = Record(checkpoint.source.name, checkpoint.config)
    record.note("format", format.name, "tensor")
    layers, own = layer_config(record, format.producer), record.within(OWN_CONFIG)
    if (checkpoint.source.folder / OWN_MASK).is_file():
        raise FormatError(f"{record.where}: {OWN_MASK} holds the mask's embedding, which is not read here yet; vLLM and SGLang serve it")
    anatomy = dissect(checkpoint, format, layers, target)
    _note_sizes(record, anatomy, len(checkpoint.tensors))
    head = Head(record, own, layers, format, anatomy, target)
    _require_activation(layers, anatomy)
    to_target = target_ids(checkpoint, anatomy.draft_vocabulary, anatomy.vocabulary, record)
    if "d2t" not in anatomy.names and anatomy.draft_vocabulary != anatomy.vocabulary:
        raise FormatError(
            f"{record.where}: {anatomy.names['lm_head.weight']} has {anatomy.draft_vocabulary} rows for a target of {anatomy.vocabulary} "
            "tokens, and no d2t says which; export it again"
        )
    found = readings(head)
    return BlockDeclaration(
        checkpoint,
        head,
        _block_size(head),
        mask_token((own, record), anatomy.vocabulary),
        to_target,
        _eps(layers),
        layers.integer("max_position_embeddings", "max_position_embeddings", *((131072, GEMMA4) if anatomy.sandwiched else (32768, QWEN3))),
        found,
        declared(found),
        _candidates(head) if head.is_dflash2 else 0,
    )


def _require_activation(layers: Record, anatomy: Anatomy) -> None:
    if anatomy.sandwiched:
        key, known, owner, said = "hidden_activation", GELU, GEMMA4, f"{GELU}, Gemma 4's"
    else:
        key, known, owner, said = "hidden_act", "silu", QWEN3, "silu, the only one that block drafters are served with"
    activation = layers.text("activation", key, known, owner)
    if activation != known:
        raise layers.wrong(key, activation, said)


def _candidates(head: Head) -> int:
    """How many tokens of a row its selector chooses among, and that the config's convolutions are those of the file."""
    a = head.anatomy
    if a.draft_vocabulary != a.vocabulary:
        raise FormatError(f"{head.record.where}: DFlash2 has rows for {a.draft_vocabulary} of {a.vocabulary} tokens, expected all of them")
    for key, stored in (("conv_kernel_size", a.taps), ("conv_group_size", a.width // a.groups), ("selector_rank", a.rank)):
        if (said := head.value(key)[0]) not in (None, stored):
            raise head.record.wrong(key, said, f"{stored}, as its tensors have it")
    value, source = head.value("selector_top_k")
    if value is None and head.is_speculators:
        value, source = 16, "default:speculators"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= a.vocabulary:
        raise head.record.wrong("selector_top_k", value, f"a number of candidates from 1 to {a.vocabulary}")
    head.record.note("candidates", value, source)
    return value


def _note_sizes(record: Record, a: Anatomy, tensors: int) -> None:
    for name, value in (("layers", a.layers), ("width", a.width), ("heads", a.heads), ("keys", a.keys), ("size", a.size)):
        record.note(name, value, "tensor")
    record.note("streams", a.streams, "tensor")
    record.note("correction", a.correction, "tensor")
    if a.confidence:
        record.note("confidence", "by its output and the token before" if a.confidence > a.width else "by its output", "tensor")
    record.note("draft_vocabulary", a.draft_vocabulary, "tensor")
    record.note("tensors", tensors, "tensor")


def _block_size(head: Head) -> int:
    value, source = head.value("block_size")
    if value is None:
        value, source = 8 if head.is_speculators else 16, f"default:{'speculators' if head.is_speculators else 'z-lab DFlashDraftModel'}"
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= LARGEST_BLOCK:
        raise head.record.wrong("block_size", value, f"a whole number from 2 to {LARGEST_BLOCK}")
    head.record.note("block_size", value, source)
    return value


def _eps(layers: Record) -> float:
    eps = layers.number("rms_norm_eps", "rms_norm_eps", QWEN3_EPS, QWEN3)
    if not EPS[0] <= eps <= EPS[1]:
        raise layers.wrong("rms_norm_eps", eps, f"a number from {EPS[0]} to {EPS[1]}: norms are computed in float32")
    return eps
