"""What the file of heads without attention declares, before any weight is read: how many, how wide, and what each reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from driftcli.conditions import Wiring
from driftcli.domain import SIDE_BY_SIDE, Sourced, System
from driftcli.errors import FormatError, PairError, UsageError
from driftcli.families.feed_forward.formats import HYDRA, MEDUSA, SPECULATOR
from driftcli.families.layout import Format
from driftcli.families.record import Record
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts

AUTHORS = "who trained it"
STAGE = re.compile(r"^(\d+)\.(.+)$")
MOST = 64  # tokens that anybody guesses so (chosen by us): published speculators guess up to seven
PREFIX = "prefix_embeding_layer."  # so spelled by Hydra's authors
ALONE = "each of its heads reads the target's hidden state alone, and nothing of its own is fed back"
TOKENS = "each depth has a head of its own, which reads the target's hidden state and the tokens before it, and no state is fed back"
APART = "each depth has its own weights, so there is no chain of one head on its own state"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class FeedForwardDeclaration:
    """A checkpoint understood. stages: of each depth the stored names by part; width: of the target's state; tied: one set of weights does
    for every depth; blind: no head reads a token; halved: MLPSpeculator's `scale_input`.
    """

    checkpoint: Checkpoint
    format: Format
    target: TargetFacts
    stages: tuple[Mapping[str, str], ...]
    width: int
    inner: int
    vocabulary: int
    fields: Mapping[str, Sourced]
    tied: bool = False
    blind: bool = False
    halved: bool = False
    boundary: int | None = None
    pitfalls: tuple[str, ...] = ()

    @property
    def no_recursion(self) -> str | None:
        """Why drift cannot be defined, None where one set of weights is fed its own state."""
        if self.format.name == SPECULATOR:
            return None if self.tied else APART
        return ALONE if self.blind else TOKENS

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source; UsageError for a system that is not known to run them otherwise than who trained them."""
        if system not in (None, "as_trained"):
            raise UsageError(f"--reading {system}: not known to run {self.format.name}; expected declared or as_trained")
        return {**self.fields, "reading": Sourced("as_trained", "assumed:asked for" if system else f"default:{AUTHORS}")}

    def alternatives(self) -> tuple[Wiring, ...]:
        """The other side of the target's final norm, where it is known."""
        return () if self.target.layers is None else (Wiring(capture=(self.target.layers,)),)


def declare_feed_forward(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> FeedForwardDeclaration:
    """The heads that a checkpoint holds, for their target, or for none that is known; raises FormatError for some that are not whole, and
    PairError for a target of another size.
    """
    names = {format.canonical(stored): stored for stored in checkpoint.tensors}
    shapes = {name: checkpoint.tensors[stored].shape for name, stored in names.items()}
    record = Record(checkpoint.source.name, checkpoint.config)
    made = {MEDUSA: _medusa, HYDRA: _hydra, SPECULATOR: _speculator}[format.name](record, shapes)
    _require_target(record.where, target, made.width, made.vocabulary)
    depths = tuple({part: names[name] for part, name in stage.items()} for stage in made.stages)
    record.note("format", format.name, "tensor")
    record.note("tensors", len(shapes), "tensor")
    record.note("heads", len(depths), "tensor")
    record.note("width", made.width, "tensor")
    record.note("vocabulary", made.vocabulary, "tensor")
    record.note("guesses", SIDE_BY_SIDE if made.blind else "one after the other", "tensor")
    if format.name == SPECULATOR:
        record.note("inner_width", made.inner, "tensor")
    return FeedForwardDeclaration(
        checkpoint,
        format,
        target,
        depths,
        made.width,
        made.inner,
        made.vocabulary,
        record.fields,
        tied=made.tied,
        blind=made.blind,
        halved=made.halved,
        boundary=None if target.layers is None else (target.layers + 1 if made.offset == 0 else target.layers - made.offset),
        pitfalls=made.pitfalls,
    )


@dataclass(frozen=True)
class _Made:
    """What one kind of heads comes to: of each depth canonical names by part, and sizes. offset: layers before the last whose state is
    read, 0 for that behind the final norm.
    """

    stages: tuple[Mapping[str, str], ...]
    width: int
    inner: int
    vocabulary: int
    tied: bool = False
    blind: bool = False
    halved: bool = False
    offset: int = 0
    pitfalls: tuple[str, ...] = ()


def _parts(where: str, shapes: Shapes) -> list[dict[str, str]]:
    """Of each depth its canonical names by part; FormatError for names of no depth, and for depths left out."""
    found: dict[int, dict[str, str]] = {}
    odd = [name for name in shapes if not STAGE.match(name) and name != "lm_head.weight"]
    if odd:
        raise FormatError(f"{where}: {counted_names(odd, 'has no place', 'have no place')} in its heads, so it is not run")
    for name in shapes:
        if match := STAGE.match(name):
            found.setdefault(int(match[1]), {})[match[2]] = name
    if sorted(found) != list(range(len(found))):
        raise FormatError(f"{where}: heads {', '.join(map(str, sorted(found)))} are there, expected all from 0 on; export it again")
    return [found[number] for number in range(len(found))]


def _medusa(record: Record, shapes: Shapes) -> _Made:
    parts = _parts(record.where, shapes)
    if "lm_head.weight" in shapes:
        parts = [{"head.weight": "lm_head.weight", **one} for one in parts]
    stages, width, vocabulary = _of_blocks(record.where, shapes, parts, lambda _: 1)
    return _Made(stages, width, width, vocabulary, blind=True, pitfalls=tuple(_traps(record, stages)))


def _traps(record: Record, stages: tuple[Mapping[str, str], ...]) -> Iterator[str]:
    """The known traps that a file of Medusa heads walks into."""
    if "blocks.0.bias" in stages[0] and not record.is_on("medusa_fc_bias"):
        yield "vLLM up to 0.32 leaves the biases of the blocks out unless medusa_fc_bias is true in the config; later ones have no Medusa"
    said = next((value for key in ("medusa_num_heads", "num_heads") if isinstance(value := record.get(key), int)), len(stages))
    if said > len(stages):
        yield f"the config names {said} heads, the file holds {len(stages)}: the authors' code runs the rest as copies of the target's head"
    elif said < len(stages):
        yield f"the config names {said} heads, the file holds {len(stages)}, all of which are measured here"


def _hydra(record: Record, shapes: Shapes) -> _Made:
    if found := next((name for name in shapes if PREFIX in name or re.search(r"attn|attention", name)), None):
        raise FormatError(
            f"{record.where}: Hydra heads behind an attention layer ({found}), which are not measured here; those of hydra_head_arch "
            "mlp are"
        )
    parts = _parts(record.where, shapes)
    first = shapes.get(parts[0].get("blocks.0.weight", ""), (0, 0))
    grounded = len(first) == 2 and first[1] != first[0]
    stages, width, vocabulary = _of_blocks(record.where, shapes, parts, (lambda number: number + 2) if grounded else (lambda _: 1))
    offset = record.get("hidden_state_offset")
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int) or offset < 0):
        raise record.wrong("hidden_state_offset", offset, "a whole number, 0 for the last hidden state")
    return _Made(stages, width, width, vocabulary, blind=not grounded, offset=offset or 0)


def _of_blocks(
    where: str, shapes: Shapes, parts: list[dict[str, str]], inputs: Callable[[int], int]
) -> tuple[tuple[Mapping[str, str], ...], int, int]:
    """Stages of blocks and a head, their width and vocabulary. inputs: of a stage's first block, in widths, by the stage's number."""
    width = shapes.get(parts[0].get("blocks.0.weight", ""), (0,))[0]
    vocabulary = shapes.get(parts[0].get("head.weight", ""), (0,))[0]
    for number, stage in enumerate(parts):
        expected: dict[str, tuple[int, ...]] = {"head.weight": (vocabulary, width)}
        for place, block in enumerate(_numbers(stage)):
            into = width * (inputs(number) if place == 0 else 1)
            expected[f"blocks.{block}.weight"] = (width, into)
            if into != width:
                expected |= {f"around.{block}.weight": (width, into)}
        biases = [f"{name.removesuffix('.weight')}.bias" for name in expected]
        wrong = [name for name, shape in expected.items() if shapes.get(stage.get(name, "")) != shape]
        wrong += [part for part in stage if part not in expected and part not in biases]
        wrong += [part for part in biases if part in stage and shapes[stage[part]] != expected[f"{part.removesuffix('.bias')}.weight"][:1]]
        if wrong or not width or not vocabulary:
            said = counted_names(wrong or ["head.weight"], "is missing, of another shape or without a place", "do not make a head")
            raise FormatError(f"{where}: head {number}: {said}, expected whole heads of one size; export it again")
    return tuple(parts), width, vocabulary


def _numbers(stage: Mapping[str, str]) -> list[int]:
    """Numbers of a stage's blocks, which need not follow one another."""
    return sorted({int(part.split(".")[1]) for part in stage if part.startswith("blocks.")})


def _speculator(record: Record, shapes: Shapes) -> _Made:
    parts = _parts(record.where, shapes)
    count = record.integer("depth", "n_predict", None, SPECULATOR)
    if count > MOST:
        raise record.wrong("n_predict", count, f"at most {MOST} tokens")
    missing = [name for number in range(1, count) for name in ("emb", "proj", "head", "ln") if f"{number}.{name}.weight" not in shapes]
    said = record.get("tie_weights")
    tied = bool(missing) if said is None else record.is_on("tie_weights")
    record.note("tied", tied, "tensor" if said is None else "config:tie_weights")
    if len(parts) > count or (missing and not tied):
        raise FormatError(f"{record.where}/config.json: n_predict is {count}, the file holds {len(parts)} heads; export it again")
    stages = tuple(_tied(parts, number) if tied else parts[number] for number in range(count))
    inner, width = _size(shapes, parts[0], "proj.weight")
    vocabulary = _size(shapes, parts[0], "head.weight")[0]
    for number, stage in enumerate(stages):
        expected = {
            "emb.weight": (vocabulary, inner), "proj.weight": (inner, inner if number else width), "head.weight": (vocabulary, inner),
            "ln.weight": (inner,), "ln.bias": (inner,),
        }  # fmt: skip
        wrong = [name for name, shape in expected.items() if shapes.get(stage.get(name, "")) != shape]
        wrong += [part for part in stage if part not in expected]
        if wrong:
            said_of = counted_names(wrong, "is missing, of another shape or without a place", "do not make a head")
            raise FormatError(f"{record.where}: head {number}: {said_of}, expected whole heads of one size; export it again")
    halved = record.is_on("scale_input")
    record.note("scaled_input", halved, record.source("scale_input", AUTHORS))
    return _Made(stages, width, inner, vocabulary, tied=tied, halved=halved)


def _size(shapes: Shapes, stage: Mapping[str, str], part: str) -> tuple[int, int]:
    found = shapes.get(stage.get(part, ""), ())
    return (found[0], found[1]) if len(found) == 2 else (0, 0)


def _tied(parts: list[dict[str, str]], number: int) -> dict[str, str]:
    """The names of a tied stage: the first one's, but for the projection, whose second does for all behind the first."""
    second = parts[1] if len(parts) > 1 else {}
    return {**parts[0], "proj.weight": second.get("proj.weight", "")} if number else dict(parts[0])


def _require_target(where: str, target: TargetFacts, width: int, vocabulary: int) -> None:
    if target.named is None or (target.width == width and target.vocabulary is not None and vocabulary <= target.vocabulary):
        return
    raise PairError(
        f"{where}: reads states {width} wide and scores {vocabulary} tokens, {target.name} is {target.width} wide with "
        f"{target.vocabulary}; name the target it is for"
    )
