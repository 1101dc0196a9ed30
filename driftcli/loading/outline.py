"""A pair as far as configs, headers and the tokenizer tell: its card, and the sizes of what computes; no weight is read.

What only weights tell is taken as if it were so: that embeddings which a head brings are others than the target's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import nn

from driftcli.domain import ModelCard, PairCard, Sourced, System
from driftcli.errors import FormatError, SourceError
from driftcli.families.assistant.declaration import AssistantDeclaration, declare_assistant
from driftcli.families.block.alternatives import alternatives as block_wirings
from driftcli.families.block.declaration import BlockDeclaration, declare_block
from driftcli.families.causal_lm.loading import token_record, words
from driftcli.families.causal_lm.tokens import shared_tokens
from driftcli.families.eagle.alternatives import alternatives
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.early_exit.cut import cut
from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration, declare_feed_forward
from driftcli.families.formats import open_drafter
from driftcli.families.layout import LANGUAGE_MODELS, Format
from driftcli.families.lookup.lookup import COPIES, Lookup
from driftcli.families.mask_token import other_masks, parallel_mask
from driftcli.families.mtp.alternatives import alternatives as other_wirings
from driftcli.families.mtp.declaration import MtpDeclaration, declare_mtp
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.families.mtp.shapes import UNREAD
from driftcli.families.without_files import without_files
from driftcli.loading.card import BY_DEPTH, NO_STATE, ONE_PASS, Told, pair_card
from driftcli.loading.pair import require_no_head, require_no_reading
from driftcli.printable import masked
from driftcli.scanned import Unread
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint, stored_tensors
from driftcli.sources.files import Source, holds_weights, resolve
from driftcli.sources.gguf import scheme
from driftcli.target.facts import read_facts
from driftcli.target.heads import heads_of
from driftcli.target.language_model import LanguageModel, outline_language_model
from driftcli.texts.rendering import special_ids

BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
EXPERT = re.compile(r"\.experts\.(\d+)\.")
Shape = tuple[int, int]


@dataclass(frozen=True)
class Network:
    """What a token goes through: the products (outputs, inputs) of every step, those of a first step alone, and the output head.

    layers: how many decoder layers; heads, keys, size: query and key heads, and numbers of one. parameters: all of them. stored: bytes by
    dtype, as the headers have them, or the config where there are none.
    """

    products: tuple[Shape, ...]
    first: tuple[Shape, ...]
    head: Shape
    layers: int
    heads: int
    keys: int
    size: int
    parameters: int
    stored: Mapping[str, int]


@dataclass(frozen=True)
class Outline:
    """A pair that was not loaded: the target's modules without numbers, the sizes of both, the card, and how many streams are captured.

    modules: of a drafter with weights of its own for every depth, 1 for any other.
    """

    model: LanguageModel
    target: Network
    drafter: Network
    card: PairCard
    streams: int
    modules: int = 1


def outline_pair(target_name: str, drafter_name: str, *, remote_code: bool = False, reading: System | None = None) -> Outline:
    """What is known of a pair before a weight is read; raises the same refusals as loading it, as far as this tells.

    A target on the hub gives its config and tokenizer alone, a drafter its file.
    """
    source = resolve(target_name, remote_code=remote_code, weights=False)
    if drafter_name == OWN_HEAD:
        if not holds_weights(source):
            raise SourceError(f"{target_name}: --drafter {OWN_HEAD} lies in the target's weights, which are not here; fetch them first")
        declaration = declare_mtp(open_checkpoint(source), read_facts(source))
        return _with_mtp(declaration, source, remote_code=remote_code, reading=reading)
    if own := without_files(drafter_name, reading):
        model = _whole(source, remote_code=remote_code)
        return _with_lookup(own, model) if isinstance(own, Lookup) else _with_exit(own, model)
    opened = open_drafter(resolve(drafter_name, remote_code=remote_code))
    if isinstance(opened, Unread):
        raise FormatError(opened.refusal)
    checkpoint, format = opened
    if holds_weights(source):
        require_no_head(source)
    if (made := _of_family(checkpoint, format, source, remote_code=remote_code, reading=reading)) is not None:
        return made
    if format.family in LANGUAGE_MODELS:
        require_no_reading(reading, f"{drafter_name} is a causal language model, computed alike everywhere; leave it out")
        return _with_language_model(source, checkpoint, format, remote_code=remote_code)
    declare(checkpoint, format, read_facts(source))
    model = outline_language_model(source, remote_code=remote_code)
    declaration_of_head = declare(checkpoint, format, model.facts)
    return _with_eagle(declaration_of_head, model, reading)


def _of_family(checkpoint: Checkpoint, format: Format, source: Source, *, remote_code: bool, reading: System | None) -> Outline | None:
    """A pair whose drafter is declared by its files and the target's config; None for an EAGLE head or a language model."""
    facts = read_facts(source)
    if format.family == "mtp":
        return _with_mtp(declare_mtp(checkpoint, facts, apart=True), source, remote_code=remote_code, reading=reading)
    if format.family == "feed-forward":
        return _with_heads(declare_feed_forward(checkpoint, format, facts), source, remote_code=remote_code, reading=reading)
    if format.family == "assistant":
        return _with_assistant(declare_assistant(checkpoint, format, facts), source, remote_code=remote_code, reading=reading)
    if format.family == "block":
        return _with_block(declare_block(checkpoint, format, facts), source, remote_code=remote_code, reading=reading)
    return None


def _with_eagle(d: Declaration, model: LanguageModel, reading: System | None) -> Outline:
    a, tensors = d.anatomy, d.checkpoint.tensors
    shapes = {name: tensors[stored].shape for name, stored in d.names.items()}
    inside = [name for name in shapes if len(shapes[name]) == 2 and name not in ("embed_tokens.weight", "lm_head.weight")]
    once = [name for name in inside if name == "fc.weight" and a.family == "eagle3"]
    network = Network(
        products=_shapes(shapes[name] for name in inside if name not in once),
        first=_shapes(shapes[name] for name in once),
        head=(a.draft_vocabulary, a.width),
        layers=max(1, a.layers),
        heads=a.heads.count,
        keys=a.heads.keys,
        size=a.heads.size,
        parameters=_count(shapes.values()),
        stored=_stored(d.checkpoint),
    )
    wirings = alternatives(d, reading, masks=special_ids(model.tokenizer))
    family, alone = ("peagle", ONE_PASS) if a.parallel else (a.family, None)
    told = Told(family, d.record(reading), alone, d.differences(reading), wirings)
    return Outline(model, _of_model(model), network, _card(model, d.checkpoint, told), a.streams)


def _with_block(d: BlockDeclaration, source: Source, *, remote_code: bool, reading: System | None) -> Outline:
    d.reading(reading)
    model = outline_language_model(source, remote_code=remote_code)
    a, tensors = d.anatomy, d.checkpoint.tensors
    shapes = {name: tensors[stored].shape for name, stored in a.names.items()}
    network = Network(
        products=_shapes(shape for name, shape in shapes.items() if name.startswith("layers.")),
        first=_shapes([shapes["fc.weight"]]),
        head=(a.draft_vocabulary, a.width),
        layers=a.layers,
        heads=a.heads,
        keys=a.keys,
        size=a.size,
        parameters=_count(shapes.values()),
        stored=_stored(d.checkpoint),
    )
    wirings = block_wirings(d, reading, special_ids(model.tokenizer))
    told = Told("block", d.record(reading), ONE_PASS, d.differences(reading), wirings)
    return Outline(model, _of_model(model), network, _card(model, d.checkpoint, told), a.streams)


def _with_assistant(d: AssistantDeclaration, source: Source, *, remote_code: bool, reading: System | None) -> Outline:
    d.served(reading)
    model = outline_language_model(source, remote_code=remote_code)
    shapes = {name: d.checkpoint.tensors[stored].shape for name, stored in d.names.items()}
    network = Network(
        products=_shapes(shape for name, shape in shapes.items() if name not in ("embed_tokens.weight", "lm_head.weight")),
        first=(),
        head=(d.vocabulary, d.width),
        layers=len(d.layers),
        heads=d.heads,
        keys=d.heads,
        size=max(kind.size for kind in d.kinds.values()),
        parameters=_count(shapes.values()),
        stored=_stored(d.checkpoint),
    )
    told = Told("assistant", d.record(reading), None, d.differences(reading), d.alternatives(reading))
    return Outline(model, _of_model(model), network, _card(model, d.checkpoint, told), 1 + len(d.kinds))


def _with_heads(d: FeedForwardDeclaration, source: Source, *, remote_code: bool, reading: System | None) -> Outline:
    """Of heads without attention, whose one layer attends with nothing; the first stands for the others, which are about as large."""
    record = d.record(reading)
    model = outline_language_model(source, remote_code=remote_code)
    shapes = {part: d.checkpoint.tensors[stored].shape for part, stored in d.stages[0].items()}
    every = {stored for stage in d.stages for stored in stage.values()}
    network = Network(
        products=_shapes(shape for part, shape in shapes.items() if part not in ("head.weight", "emb.weight")),
        first=(),
        head=(d.vocabulary, d.inner),
        layers=1,
        heads=1,
        keys=1,
        size=1,
        parameters=_count(d.checkpoint.tensors[stored].shape for stored in every),
        stored=_stored(d.checkpoint, every),
    )
    told = Told("feed-forward", record, d.no_recursion, alternatives=d.alternatives())
    return Outline(model, _of_model(model), network, _card(model, d.checkpoint, told), 1, len(d.stages))


def _with_mtp(d: MtpDeclaration, source: Source, *, remote_code: bool, reading: System | None) -> Outline:
    d.served(reading)
    model = outline_language_model(source, remote_code=remote_code)
    tensors, sizes, count = d.checkpoint.tensors, d.modules[0].sizes, d.count(reading)
    shapes = {part: tensors[stored].shape for part, stored in d.modules[0].parts.items() if not UNREAD.search(part)}
    taken = d.config.get("num_experts_per_tok")
    used = _used(shapes, taken if isinstance(taken, int) else 1)
    network = Network(
        products=_shapes(used),
        first=(),
        head=(len(model.head), model.head.shape[1]),
        layers=1,
        heads=sizes.heads,
        keys=sizes.heads,
        size=sizes.size,
        parameters=count * _count(shapes.values()),
        stored=_stored(d.checkpoint, {stored for module in d.modules for stored in module.parts.values()}),
    )
    told = Told("mtp", d.record(reading), BY_DEPTH if count > 1 else None, d.differences(reading), other_wirings(d, reading))
    return Outline(model, _of_model(model), network, _card(model, d.checkpoint, told), 1, count)


def _with_language_model(source: Source, checkpoint: Checkpoint, format: Format, *, remote_code: bool) -> Outline:
    model = outline_language_model(source, remote_code=remote_code)
    drafting = outline_language_model(checkpoint.source, remote_code=remote_code)
    shared = shared_tokens(words(model), words(drafting))
    record = {"format": Sourced(format.name, "tensor"), **token_record(shared)}
    told = Told("causal-lm", record, NO_STATE)
    if format.family == "pard":
        mask, noted = parallel_mask(checkpoint, len(model.head))
        told = Told("pard", record | noted, ONE_PASS, alternatives=other_masks(mask, special_ids(model.tokenizer)))
    return Outline(model, _of_model(model), _of_model(drafting), _card(model, checkpoint, told), 0)


def _with_lookup(lookup: Lookup, model: LanguageModel) -> Outline:
    nothing = Network((), (), (0, 0), 0, 0, 0, 0, 0, {})
    return Outline(model, _of_model(model), nothing, _drawn(model, lookup.card, Told("lookup", lookup.record, COPIES)), 0)


def _with_exit(exit: EarlyExit, model: LanguageModel) -> Outline:
    exit.check(model.source.name, len(model.layers))
    told = Told("early-exit", exit.record(len(model.layers)), NO_STATE)
    shared = replace(_of_model(cut(model, exit)), layers=exit.layers, parameters=0, stored={})
    return Outline(model, _of_model(model), shared, _drawn(model, exit.card(_model_card(model)), told), 0)


def _whole(source: Source, *, remote_code: bool) -> LanguageModel:
    """A target that drafts without anybody's files."""
    if holds_weights(source):
        require_no_head(source)
    return outline_language_model(source, remote_code=remote_code)


def _card(model: LanguageModel, checkpoint: Checkpoint, told: Told) -> PairCard:
    """The card of a pair whose files were not read, so without fingerprints."""
    drafter = checkpoint.source
    own = ModelCard(masked(drafter.name), drafter.revision, str(checkpoint.config.get("model_type", "not named")), "")
    return _drawn(model, own, told)


def _model_card(model: LanguageModel) -> ModelCard:
    return ModelCard(masked(model.source.name), model.source.revision, str(model.config.model_type), "")


def _drawn(model: LanguageModel, drafter: ModelCard, told: Told) -> PairCard:
    return pair_card(model, _model_card(model), drafter, told)


def _of_model(model: LanguageModel) -> Network:
    """The sizes of a language model by its modules; of experts those that a token is sent to."""
    config = model.config
    taken = getattr(config, "num_experts_per_tok", None) or 1
    linears = [module.weight for module in model.decoder.modules() if isinstance(module, nn.Linear)]
    experts = [parameter for name, parameter in model.decoder.named_parameters() if ".experts." in name and parameter.ndim == 3]
    heads = heads_of(config)[0]
    return Network(
        products=_shapes([*(weight.shape for weight in linears), *(one.shape[1:] for one in experts for _ in range(taken))]),
        first=(),
        head=(len(model.head), model.head.shape[1]),
        layers=int(config.num_hidden_layers),
        heads=heads.queries,
        keys=heads.keys,
        size=heads.size,
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        stored=_stored_of(model),
    )


def _stored_of(model: LanguageModel) -> dict[str, int]:
    if (gguf := model.source.gguf) is not None:
        path = model.source.folder / gguf
        return {f"GGUF {scheme(path)}": path.stat().st_size}
    if holds_weights(model.source):
        return _bytes((stored.shape, stored.dtype) for stored in stored_tensors(model.source).values())
    dtype = str(getattr(model.config, "dtype", None) or "float32").removeprefix("torch.")
    return {dtype: sum(parameter.numel() for parameter in model.model.parameters()) * (4 if dtype == "float32" else 2)}


def _stored(checkpoint: Checkpoint, names: Collection[str] | None = None) -> dict[str, int]:
    return _bytes((one.shape, one.dtype) for name, one in checkpoint.tensors.items() if names is None or name in names)


def _bytes(tensors: Iterable[tuple[tuple[int, ...], str]]) -> dict[str, int]:
    """Bytes by dtype, the most first."""
    found: Counter[str] = Counter()
    for shape, dtype in tensors:
        found[dtype] += prod(shape) * BYTES.get(dtype, 4)
    return dict(found.most_common())


def _shapes(shapes: Iterable[Sequence[int]]) -> tuple[Shape, ...]:
    return tuple((int(shape[0]), int(shape[1])) for shape in shapes if len(shape) == 2)


def _used(shapes: Mapping[str, tuple[int, ...]], taken: int) -> list[tuple[int, ...]]:
    """Shapes of what one token goes through, of experts so many, stored one by one or all in one."""
    found = []
    for name, shape in shapes.items():
        expert = EXPERT.search(name)
        if expert is None or int(expert[1]) < taken:
            found += [shape] if len(shape) < 3 else [shape[1:]] * taken
    return found


def _count(shapes: Iterable[Sequence[int]]) -> int:
    return sum(map(prod, shapes))
