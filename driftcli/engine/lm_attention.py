"""Attention of a language model that drafts, computed and reduced here while the model runs its own forward.

transformers lets attention and masks be swapped by name. While one of the forwards below is under way, every layer hands its queries, keys
and values over, in the order of the layers: on whole texts side by side, then on chains of all anchors, one token each a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from driftcli.engine.attention import Keys, Masses, Seen, Shared, Sight, attend, attend_unmeasured, tail_length
from driftcli.engine.drafted import row_labels
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import RunError
from driftcli.families.causal_lm.drafter import CausalLm

MEASURED = "driftcli_measured"


@dataclass(frozen=True, slots=True)
class Handed:
    """What a layer hands over: query (text, head, row, size), key and value (text, key head, row, size), a bound on scores and a score of
    no key a head, (head,), where it has them, and what scores are multiplied with. mask: what `Reading.mask` or `Chaining.mask` gave.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    softcap: float | None
    sinks: Tensor | None


@dataclass(frozen=True, slots=True)
class Mask:
    """What transformers makes a mask of: whether a row sees another, by numbers of text, head and both rows. one_by_one: it takes single
    numbers only, so that what it says is laid out for all rows.
    """

    function: Callable[..., Tensor]
    device: torch.device | None
    one_by_one: bool

    def seen(self, rows: int) -> Seen:
        """Whether rows of a text see others."""
        if not self.one_by_one:
            first = torch.zeros((), dtype=torch.long, device=self.device)
            return lambda row, other: self.function(first, first, row, other)
        told = sdpa_mask(1, rows, rows, mask_function=self.function, allow_is_causal_skip=False, use_vmap=True, device=self.device or "cpu")
        assert told is not None, "nothing is skipped"
        whole = told[0, 0]
        return lambda row, other: whole[row, other]


@dataclass(frozen=True)
class _Laid:
    """Where the rows of some texts lie on a device: side by side, those that guess at the replies, `asked`, and those before them.

    asking, others: their places among the rows side by side. last, early: their numbers, (row,) each. columns: one-hot labels of rows.
    """

    rows: Packing
    asked: Packing
    before: Packing
    asking: Tensor
    others: Tensor
    last: Tensor
    early: Tensor
    columns: Tensor

    @classmethod
    def of(cls, texts: Sequence[Trajectory], device: torch.device) -> _Laid:
        """Of all tokens of the texts but the last of each."""
        starts = tuple(text.prompt_length for text in texts)
        rows = Packing(tuple(len(text.text.ids) - 1 for text in texts), device)
        late, beside = rows.places >= rows.spread(starts), rows.texts * rows.longest + rows.places
        asked = Packing(tuple(count - start for count, start in zip(rows.counts, starts, strict=True)), device)
        asking, others, last, early = (rows.sent(numbers[some]) for numbers in (beside, rows.places) for some in (late, ~late))
        return cls(rows, asked, Packing(starts, device), asking, others, last, early, row_labels(texts, rows, 0))


@dataclass
class Reading:
    """The forward over whole texts, side by side and filled up behind their ends.

    depth: of the chains that will stand behind its rows. What the layers leave fills up: shared keys, which row sees which, and the
    attention of the rows that guess at the replies. masks: what they are asked for which row sees which, by kind of layer.
    """

    texts: Sequence[Trajectory]
    depth: int
    shared: list[Shared] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    masks: list[Seen] = field(default_factory=list)
    masses: list[Masses] = field(default_factory=list)
    _laid: dict[torch.device, _Laid] = field(default_factory=dict)

    def on(self, device: torch.device) -> _Laid:
        """Where the rows lie on a device."""
        if device not in self._laid:
            self._laid[device] = _Laid.of(self.texts, device)
        return self._laid[device]

    def mask(self, made: Mask, rows: int) -> Tensor:
        """The number of a mask among `masks`, in place of one as long as the text both ways: which row sees which, of a text and of the
        chains behind it, the same in every text, since none is filled up in front.
        """
        self.masks.append(made.seen(rows + self.depth))
        return torch.full((1, 1, 1, 1), len(self.masks) - 1, device=made.device)

    def attend(self, handed: Handed) -> Tensor:
        """A layer's output, (text, row, head, size)."""
        here, query = self.on(handed.query.device), handed.query.transpose(0, 1).flatten(1, 2)
        self.shared.append(Shared.beside(here.rows, handed.key, handed.value, here.columns))
        self.seen.append(self._known(handed.mask))
        shared, seen = self.shared[-1], self.seen[-1]
        bounds = handed.scale, handed.sinks
        late, early = (
            Sight(torch.zeros_like(last), last, reach, seen=seen)
            for last, reach in ((here.last, here.rows.counts), (here.early, here.before.counts))
        )
        found, masses = attend(
            query[:, here.asking], here.asked, shared, None, late, tail_length(self.depth), *bounds, softcap=handed.softcap
        )
        self.masses.append(masses)
        whole = found.new_zeros(query.shape[1], found.shape[1])
        whole[here.asking] = found
        if handed.softcap is None:
            whole[here.others] = attend_unmeasured(query[:, here.others], here.before, shared, early, *bounds)
        else:
            whole[here.others], _ = attend(query[:, here.others], here.before, shared, None, early, 1, *bounds, softcap=handed.softcap)
        return whole.view(*handed.query.shape[::2], handed.query.shape[1], -1)

    def _known(self, mask: Tensor | None) -> Seen:
        """The mask of such a number."""
        if mask is None or mask.dtype != torch.long or mask.shape != (1, 1, 1, 1):
            raise RunError("the drafter builds attention masks of its own, expected those of transformers; use another drafter")
        return self.masks[int(mask)]


@dataclass
class Chaining:
    """The forwards of chains behind texts that were read, one more token of each at a time.

    queries: chains of each text; anchors: theirs, (chain,). masses: what the layers left of the step under way.
    """

    behind: Reading
    queries: Packing
    anchors: Whole
    own: list[list[Keys]] = field(default_factory=list)
    masses: list[Masses] = field(default_factory=list)
    _on: dict[torch.device, tuple[Packing, Tensor]] = field(default_factory=dict)

    def on(self, device: torch.device) -> tuple[Packing, Tensor]:
        """How the chains lie on a device, and their anchors there."""
        if device not in self._on:
            queries = Packing(self.queries.counts, device)
            self._on[device] = queries, queries.sent(self.anchors)
        return self._on[device]

    @property
    def reach(self) -> tuple[int, ...]:
        """How many rows of each text its chains see."""
        ends = [self.anchors[start:end] for start, end in zip(self.queries.offsets, self.queries.offsets[1:], strict=False)]
        return tuple(int(some.max()) + 1 if len(some) else 1 for some in ends)

    def mask(self, _made: Mask, _rows: int) -> None:
        """None: what chains see follows from what rows see."""

    def attend(self, handed: Handed) -> Tensor:
        """A layer's output, (1, chain, head, size)."""
        number, (queries, anchors) = len(self.masses), self.on(handed.query.device)
        if number == len(self.own):
            self.own.append([])
        own = self.own[number]
        own.append(Keys(handed.key[0], handed.value[0]))
        chain = Keys(torch.stack([one.key for one in own], dim=2), torch.stack([one.value for one in own], dim=2))
        sight = Sight(torch.zeros_like(anchors), anchors, self.reach, seen=self.behind.seen[number], own=len(own))
        found, masses = attend(
            handed.query[0], queries, self.behind.shared[number], chain, sight, tail_length(self.behind.depth), handed.scale, handed.sinks,
            handed.softcap,
        )  # fmt: skip
        self.masses.append(masses)
        return found.view(1, len(found), handed.query.shape[1], -1)


_ACTIVE: ContextVar[Reading | Chaining] = ContextVar("forward")


def measured_attention(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **options: object
) -> tuple[Tensor, None]:
    """Attention as transformers' eager path computes it, reduced on the way; (text, head, row, size) -> (text, row, head, size)."""
    softcap, sinks = options.get("softcap"), options.get("s_aux")
    bound = softcap if isinstance(softcap, float) else None
    handed = Handed(query, key, value, attention_mask, scaling, bound, sinks if isinstance(sinks, Tensor) else None)
    return _ACTIVE.get().attend(handed), None


def measured_mask(
    q_length: int, mask_function: Callable[..., Tensor], device: torch.device | None = None, use_vmap: bool = False, **_: object
) -> Tensor | None:
    """What the forward under way wants of a mask that transformers would make."""
    return _ACTIVE.get().mask(Mask(mask_function, device, use_vmap), q_length)


AttentionInterface.register(MEASURED, measured_attention)
AttentionMaskInterface.register(MEASURED, measured_mask)


@contextmanager
def measured(drafter: CausalLm) -> Iterator[None]:
    """The drafter's attention is computed here inside this context; its own implementation is put back after it."""
    model = drafter.lm.model
    before = model.config._attn_implementation
    model.set_attn_implementation(MEASURED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def under_way(forward: Reading | Chaining) -> Iterator[None]:
    """Layers hand over to this forward inside."""
    token = _ACTIVE.set(forward)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
