"""Target and drafter loaded together and proved to belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch

from driftcli.domain import ModelCard, PairCard, Sourced, System
from driftcli.errors import FormatError, PairError, SourceError, UsageError
from driftcli.families.assistant.declaration import AssistantDeclaration, declare_assistant
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.assistant.loading import read_assistant
from driftcli.families.assistant.scan import left_open as open_of_assistant
from driftcli.families.block.alternatives import alternatives as block_wirings
from driftcli.families.block.declaration import BlockDeclaration, declare_block
from driftcli.families.block.drafter import Block
from driftcli.families.block.loading import read_block
from driftcli.families.block.scan import pitfalls as block_pitfalls
from driftcli.families.block.scan import selected
from driftcli.families.carried import carried
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.causal_lm.loading import read_causal_lm, sliding_window, token_notes, token_record
from driftcli.families.eagle.alternatives import alternatives
from driftcli.families.eagle.declaration import declare
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.eagle.pitfalls import pitfalls
from driftcli.families.early_exit.cut import cut
from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration, declare_feed_forward
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.feed_forward.loading import read_feed_forward
from driftcli.families.feed_forward.scan import left_open as open_of_heads
from driftcli.families.formats import FORMATS, open_drafter
from driftcli.families.layout import LANGUAGE_MODELS, Format
from driftcli.families.lookup.lookup import COPIES, Lookup
from driftcli.families.mask_token import other_masks, parallel_mask
from driftcli.families.mtp.alternatives import alternatives as other_wirings
from driftcli.families.mtp.declaration import MtpDeclaration, declare_mtp
from driftcli.families.mtp.head import Mtp, MtpModules
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.families.mtp.loading import read_mtp
from driftcli.families.mtp.names import mtp_tensors
from driftcli.families.mtp.scan import left_open
from driftcli.families.without_files import without_files
from driftcli.loading.card import BY_DEPTH, NO_STATE, ONE_PASS, Told, pair_card
from driftcli.printable import counted_names, masked
from driftcli.scanned import Unread
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint, tensor_names
from driftcli.sources.files import Json, Source, resolve
from driftcli.sources.fingerprint import hashes
from driftcli.sources.packed import multiplied_out
from driftcli.target.facts import TargetFacts, read_facts
from driftcli.target.language_model import Dtype, LanguageModel, load_language_model
from driftcli.target.target import Target
from driftcli.texts.rendering import CLOCK, TODAY, special_ids

Drafter: TypeAlias = Eagle3 | Eagle | Mtp | MtpModules | Block | Assistant | FeedForward | CausalLm | Lookup


@dataclass(frozen=True)
class LoadedPair:
    """A pair on its devices, and its card."""

    target: Target
    drafter: Drafter
    card: PairCard

    @property
    def boundaries(self) -> list[int]:
        """Of the target's streams that the drafter reads, in its own wiring or any other that its files leave open."""
        return sorted({*streams_of(self.drafter), *(boundary for one in self.card.alternatives for boundary in one.capture or ())})


def streams_of(drafter: Drafter) -> tuple[int, ...]:
    """Boundaries of the target's streams that a drafter as it is wired needs, those that the target's keys are made of too."""
    if isinstance(drafter, CausalLm | Lookup):
        return ()
    return drafter.read if isinstance(drafter, Assistant) else drafter.boundaries


@dataclass(frozen=True)
class InVllm:
    """A target in vLLM: arguments of its engine, and the folder for its files, which is made and removed."""

    args: Mapping[str, Json]
    folder: Path


@dataclass(frozen=True)
class Loading:
    """How models are loaded: on what device, in what dtype, with code of their own or not; vllm: where vLLM runs the target, None for
    transformers in this process. spread: over all GPUs where they do not fit on one.
    """

    device: torch.device
    dtype: Dtype
    remote_code: bool = False
    vllm: InVllm | None = None
    spread: bool = True

    def target(self, source: Source) -> Target:
        """The verifying model."""
        if self.vllm is None:
            return self.model(source)
        if source.gguf is not None:
            raise UsageError(f"--engine vllm: {source.name} is a GGUF file, which transformers alone reads here; leave --engine out")
        from driftcli.target.vllm.target import prepare

        return prepare(source, self.device, self.dtype, self.vllm.args, self.vllm.folder, remote_code=self.remote_code)

    def model(self, source: Source) -> LanguageModel:
        """A model whose weights are here."""
        return load_language_model(source, self.device, self.dtype, remote_code=self.remote_code, spread=self.spread)


def load_pair(
    target_name: str,
    drafter_name: str,
    device: torch.device,
    dtype: Dtype,
    *,
    remote_code: bool = False,
    reading: System | None = None,
    vllm: InVllm | None = None,
    spread: bool = True,
) -> LoadedPair:
    """Load both models; raises a DriftError naming what does not fit. The drafter's headers are read before the target's weights.

    reading: whose way to compute a head's step is taken, None for the declared one. vllm: where vLLM runs the target, whose engine is
    started last; `pair.target.close()` ends it. spread: over all GPUs where a model does not fit on one.
    """
    pair = _loaded(target_name, drafter_name, Loading(device, dtype, remote_code, vllm, spread), reading)
    pair.target.start(pair.boundaries)
    return pair


def _loaded(target_name: str, drafter_name: str, loading: Loading, reading: System | None) -> LoadedPair:
    remote_code = loading.remote_code
    if drafter_name == OWN_HEAD:
        return _with_own_head(resolve(target_name, remote_code=remote_code), loading, reading)
    if own := without_files(drafter_name, reading):
        source = resolve(target_name, remote_code=remote_code)
        return _with_lookup(own, source, loading) if isinstance(own, Lookup) else _with_exit(own, source, loading)
    opened = open_drafter(resolve(drafter_name, remote_code=remote_code))
    if isinstance(opened, Unread):
        raise FormatError(opened.refusal)
    checkpoint, format = opened
    source = resolve(target_name, remote_code=remote_code)
    require_no_head(source)
    facts = read_facts(source)  # what can be refused without the target's weights is refused before they are read
    if (made := _of_family(checkpoint, format, facts, source, loading, reading)) is not None:
        return made
    if format.family not in LANGUAGE_MODELS:
        declare(checkpoint, format, facts)
    target = loading.target(source)
    if format.family in LANGUAGE_MODELS:
        require_no_reading(reading, f"{drafter_name} is a causal language model, which every system computes alike; leave it out")
        return _with_language_model(target, checkpoint, format, loading)
    declaration = declare(checkpoint, format, target.facts)
    drafter, record = read_eagle(declaration, target, reading)
    told = Told(
        format.family,
        record,
        ONE_PASS if declaration.anatomy.parallel else None,
        declaration.differences(reading),
        alternatives(declaration, reading, drafter.others.embeddings, special_ids(target.tokenizer)),
        (*pitfalls(declaration), *multiplied_out(checkpoint)),
    )
    return _paired(target, drafter, told, _of_files(checkpoint))


def _of_family(
    checkpoint: Checkpoint, format: Format, facts: TargetFacts, source: Source, loading: Loading, reading: System | None
) -> LoadedPair | None:
    """A pair whose drafter is declared by its files and the target's config; None for an EAGLE head or a language model."""
    if format.family == "mtp":
        return _with_mtp(declare_mtp(checkpoint, facts, apart=True), source, loading, reading)
    if format.family == "block":
        return _with_block(declare_block(checkpoint, format, facts), source, loading, reading)
    if format.family == "feed-forward":
        return _with_heads(declare_feed_forward(checkpoint, format, facts), source, loading, reading)
    if format.family == "assistant":
        return _with_assistant(declare_assistant(checkpoint, format, facts), source, loading, reading)
    return None


def require_no_reading(reading: System | None, why: str) -> None:
    """Raise UsageError where a way to compute a step is asked for of a drafter that has one alone."""
    if reading is not None:
        raise UsageError(f"--reading {reading}: {why}")


def _with_lookup(lookup: Lookup, source: Source, loading: Loading) -> LoadedPair:
    """A target and the texts themselves."""
    require_no_head(source)
    target = loading.target(source)
    return _paired(target, lookup, Told("lookup", lookup.record, COPIES), lambda _: lookup.card)


def _with_exit(exit: EarlyExit, source: Source, loading: Loading) -> LoadedPair:
    """A target whose first layers draft."""
    require_no_head(source)
    exit.check(source.name, read_facts(source).layers)  # before the weights are read
    if loading.vllm is not None:
        raise PairError(f"--drafter {exit.name}: the layers are the target's own, which vLLM holds; use --engine transformers")
    target = loading.model(source)
    exit.check(source.name, len(target.layers))
    drafter, shared = read_causal_lm(cut(target, exit), target)
    told = Told("early-exit", {**exit.record(len(target.layers)), **token_record(shared)}, NO_STATE)
    return _paired(target, drafter, told, exit.card)


def _with_language_model(target: Target, checkpoint: Checkpoint, format: Format, loading: Loading) -> LoadedPair:
    lm = loading.model(checkpoint.source)
    parallel = format.family == "pard"
    mask, noted = parallel_mask(checkpoint, len(lm.embedding)) if parallel else (None, {})
    drafter, shared = read_causal_lm(lm, target, mask)
    record = {
        "format": Sourced(format.name, "tensor"),
        **noted,
        **token_record(shared),
        "window": Sourced(sliding_window(lm), "config:sliding_window, layer_types"),
    }
    told = Told(
        format.family,
        record,
        ONE_PASS if parallel else NO_STATE,
        alternatives=other_masks(mask, special_ids(target.tokenizer)) if mask is not None else (),
        notes=token_notes(shared, target, lm),
    )
    return _paired(target, drafter, told, _of_files(checkpoint), beside=lm)


def _with_own_head(source: Source, loading: Loading, reading: System | None) -> LoadedPair:
    """A target that drafts with the MTP head that it carries."""
    declaration = declare_mtp(open_checkpoint(source), read_facts(source))
    return _with_mtp(declaration, source, loading, reading)


def _with_mtp(d: MtpDeclaration, source: Source, loading: Loading, reading: System | None) -> LoadedPair:
    """A target with an MTP head, its own or one in another folder."""
    d.served(reading)  # refused before the weights are read
    target = loading.target(source)
    drafter, record = read_mtp(d, target, reading)
    apart = d.checkpoint.source != source
    said = () if apart else (f"drafts with the target's own {d.kind.name} ({record['tensors'].value} tensors)",)
    told = Told(
        "mtp",
        record,
        BY_DEPTH if isinstance(drafter, MtpModules) else None,
        d.differences(reading),
        other_wirings(d, reading),
        (*said, *left_open(d, reading), *multiplied_out(d.checkpoint)),
    )
    return _paired(target, drafter, told, _of_files(d.checkpoint) if apart else _own_head, own_head=not apart)


def _own_head(target: ModelCard) -> ModelCard:
    return replace(target, name=f"{target.name}, its MTP head")


def _with_block(d: BlockDeclaration, source: Source, loading: Loading, reading: System | None) -> LoadedPair:
    """A target with a drafter of blocks."""
    d.reading(reading)  # refused before the weights are read
    target = loading.target(source)
    drafter, record = read_block(d, target, reading)
    wirings = block_wirings(d, reading, special_ids(target.tokenizer), record)
    notes = (*selected(d), *block_pitfalls(d), *multiplied_out(d.checkpoint))
    told = Told("block", record, ONE_PASS, d.differences(reading), wirings, notes)
    return _paired(target, drafter, told, _of_files(d.checkpoint))


def _with_assistant(d: AssistantDeclaration, source: Source, loading: Loading, reading: System | None) -> LoadedPair:
    """A target with an assistant that reads its keys."""
    d.served(reading)  # refused before the weights are read
    target = loading.target(source)
    drafter, record = read_assistant(d, target, reading)
    notes = (*open_of_assistant(d), *multiplied_out(d.checkpoint))
    told = Told("assistant", record, None, d.differences(reading), d.alternatives(reading), notes)
    return _paired(target, drafter, told, _of_files(d.checkpoint))


def _with_heads(d: FeedForwardDeclaration, source: Source, loading: Loading, reading: System | None) -> LoadedPair:
    """A target with heads without attention."""
    d.record(reading)  # refused before the weights are read
    target = loading.target(source)
    drafter, record = read_feed_forward(d, target, reading)
    notes = (*open_of_heads(d), *multiplied_out(d.checkpoint))
    told = Told("feed-forward", record, d.no_recursion, alternatives=d.alternatives(), notes=notes)
    return _paired(target, drafter, told, _of_files(d.checkpoint))


def require_no_head(target: Source) -> None:
    """Raise SourceError for a drafter's head in the target's place."""
    found = open_checkpoint(target)
    heads = [format.name for format in FORMATS if format.family not in LANGUAGE_MODELS and format.matches(found.config, found.shapes)]
    if heads:
        raise SourceError(
            f"{target.name}: holds a head in {heads[0]}, expected a causal language model; are --target and --drafter exchanged?"
        )


def _unread(model: Target, *, own_head: bool = False) -> tuple[str, ...]:
    """Which drafters a model carries, but for its own MTP head where that drafts, and what else its class has no place for."""
    names = tensor_names(model.source)
    heads = carried(names, model.facts.model_type)
    of_heads = {*(name for head in heads for name in head.tensors), *mtp_tensors([*names, *model.unread])}  # as the class renames them, too
    left = [name for name in model.unread if name not in of_heads]
    said = counted_names(left, "has no place in the model and was not read", "have no place in the model and were not read")
    beside = [head for head in heads if not (own_head and head.is_mtp)]
    return (*(f"the target carries {head}" for head in beside), *([f"{model.source.name}: {said}"] if left else []))


def _dated(target: Target) -> tuple[str, ...]:
    """That the template writes the date, and which."""
    if CLOCK not in str(target.tokenizer.chat_template):
        return ()
    return (f"the target's chat template asks for the date: rendered as of {TODAY:%d %B %Y}, so that runs of other days can be compared",)


def _paired(
    target: Target,
    drafter: Drafter,
    told: Told,
    named: Callable[[ModelCard], ModelCard],
    *,
    beside: LanguageModel | None = None,
    own_head: bool = False,
) -> LoadedPair:
    """A pair with its card. named: the drafter's card by the target's; beside: a drafter that is a model of its own; own_head: the target
    carries the drafter.
    """
    unread = (*_unread(target, own_head=own_head), *(() if beside is None else _unread(beside)))
    one = _card(target.source, target.config.model_type)
    told = replace(told, notes=(*told.notes, *unread, *_dated(target)))
    return LoadedPair(target, drafter, pair_card(target, one, named(one), told))


def _of_files(checkpoint: Checkpoint) -> Callable[[ModelCard], ModelCard]:
    """The card of a drafter with files of its own, whatever the target's is."""
    return lambda _: _card(checkpoint.source, str(checkpoint.config.get("model_type", "not named")))


def _card(source: Source, model_type: str) -> ModelCard:
    whole, files = hashes(source)
    return ModelCard(masked(source.name), source.revision, model_type, whole, files)
