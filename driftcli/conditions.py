"""What a run does: how a chain is drafted, on which texts, and how drafts are counted; a condition is one such way. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf
from typing import Literal

BASELINE = "baseline"
DRAFTING = "drafting-"  # and a number of tokens: the condition that drafts as many, where they are no beginning of more
Feedback = Literal["raw", "normed"]
Owner = Literal["own", "target's"]
Norm = Literal["embedding", "hidden", "fusion", "mlp", "final", "every"]  # whose gains: the inputs', fc's, the layers', the last one's
HalvesOrder = Literal["embedding-first", "hidden-first"]
Gains = Literal["weight", "one-plus"]
Rotation = Literal["halves", "pairs"]  # which numbers of a head turn together: half a head apart, or side by side
Turned = Literal["all", "half", "quarter"]
Template = Literal["own", "none", "other-family", "other-roles", "no-generation-prompt", "thinking", "no-thinking"]
SystemText = Literal["own", "none", "other"]
StopMeasure = Literal["confidence", "entropy", "state", "prompt", "survival", "head"]
OfTwin = Literal["nothing", "rows", "replies"]
Place = Literal["the anchor's", "the one before"]  # at whose position a query without keys of its own stands


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise of `alpha` times a vector's RMS on one input of every step, drawn from `seed` and the text (arXiv:2605.09992)."""

    path: Literal["state", "embedding"]
    alpha: float
    seed: int


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a drafter is put together where it differs from what its checkpoint declares; None means as declared.

    capture: boundaries of the target's streams, in the order of fc's column blocks. feedback: what is handed on. residual: what goes around
    the attention. ones: norms whose gains are left at 1. vocabulary: how d2t is read. rope: whose rotation, `default` with base 10000 and
    `Qwen3` with 1000000. embedding, head: whose rows. Of MTP heads: order, of the projection's halves; gains, as stored or one more;
    first_row, the embedding of row 0; rotation and turned, which numbers of a head turn together, and how many do. Of blocks: mask, whose
    embedding their rows have; seen, which of them each sees; window, whether the config's is kept; slots, what a row guesses; eps, beside
    the mean square in their norms; bias, by the token before. Of assistants: position, at whose their queries stand.
    """

    capture: tuple[int, ...] | None = None
    feedback: Feedback | None = None
    residual: Feedback | None = None
    ones: Norm | None = None
    vocabulary: Literal["offset", "absolute"] | None = None
    rope: Literal["target's", "default", "Qwen3"] | None = None
    embedding: Owner | None = None
    head: Owner | None = None
    order: HalvesOrder | None = None
    gains: Gains | None = None
    first_row: Literal["kept", "zeroed"] | None = None
    rotation: Rotation | None = None
    turned: Turned | None = None
    mask: int | None = None
    seen: Literal["causal", "both ways"] | None = None
    window: Literal["dropped", "configured"] | None = None
    slots: Literal["their own place", "the place behind them"] | None = None
    position: Place | None = None
    eps: float | None = None
    bias: Literal["left out"] | None = None

    @property
    def changes(self) -> dict[str, str | tuple[int, ...]]:
        """What differs from the declared wiring, by field."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in told.items() if value is not None}

    def then(self, other: Wiring) -> Wiring:
        """This wiring with what another changes changed besides."""
        return replace(self, **other.changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Its changes in the letters of a condition's name, such as `capture-3-5-6+feedback-raw`."""
        words = [(name, "-".join(map(str, value)) if isinstance(value, tuple) else value) for name, value in self.changes.items()]
        return "+".join(f"{name}-{value}".replace("'s", "").replace(" ", "-") for name, value in words)


def worded(value: object) -> str:
    """A value of a wiring's field, or of a reading's, as text."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """All that changes how a chain is drafted; the defaults are the declared reading of the checkpoint.

    depth: proposals a chain. window: rows that a query sees, its own included. kept: rows that it sees besides, whatever the window: row 0
    and the sink, or all that stands before the first user's words. pinned: every state is handed on with the RMS of its chain's first.
    noise: Gaussian, on what every step reads. Of queries deeper than 1 alone: chain_bias and sink_bias are added, in nats, to the scores of
    the keys that the chain drafted, and of row 0 and the sink; warming: scores at depth `d` are divided by `1 + warming * (d - 1)`;
    reanchored: every so many depths the target's state of the text takes the place of the drafter's own, never for 0; held: at all of them
    the state of the target that the chain began with does, whatever else is asked of the state.
    """

    depth: int = 8
    window: int | None = None
    kept: Literal["nothing", "sink", "system"] = "nothing"
    wiring: Wiring = Wiring()
    pinned: bool = False
    noise: Noise | None = None
    chain_bias: float = 0.0
    sink_bias: float = 0.0
    warming: float = 0.0
    reanchored: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How the texts come about that a condition drafts on; the defaults are the run's own.

    template: how messages are rendered. bos: what becomes of a first token that is the BOS. replayed: the replies are those of the run's
    own texts, put behind the prompts as they are rendered here. temperature: of the target's replies, the run's own at 0; a drafter on such
    texts proposes at the same one. length: tokens of the prompt, filled up in front with other conversations of the run; 0 leaves it alone.
    system: what becomes of the system message, and of the one that a template puts in where none is given; system_tokens: how long the
    other one is, 0 for a usual one. shuffled: the tokens of all contents change places. alone: the target writes one reply at a time.
    twin: what is taken from the run of the twin that this one is held against: its rows, so nothing is drafted, or its replies, which this
    target reads.
    """

    template: Template = "own"
    bos: Literal["own", "dropped", "doubled"] = "own"
    replayed: bool = False
    temperature: float = 0.0
    length: int = 0
    system: SystemText = "own"
    system_tokens: int = 0
    shuffled: bool = False
    alone: bool = False
    twin: OfTwin = "nothing"


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of drafting that a probe wants measured.

    text: on which texts, the run's own unless said. prompts: on how many of the run's, all for 0; the first by the hash of their content.
    controls: the fresh rows too. full: all that the baseline has, so free chains, streams and trajectories besides. free: free chains too.
    deeper: its chains may be deeper than the run's; its anchors then end earlier, so it is held against nothing but its own rows.
    """

    name: str
    settings: DraftSettings
    probe: str = BASELINE
    controls: bool = False
    full: bool = False
    text: TextSettings = TextSettings()
    prompts: int = 0
    free: bool = False
    deeper: bool = False

    @property
    def drafts_free(self) -> bool:
        """Whether free chains are drafted besides the forced ones."""
        return self.full or self.free


@dataclass(frozen=True, slots=True)
class StopRule:
    """A chain ends behind its first guess whose measure lies outside of `low .. high`; that guess is still verified.

    confidence: the drafter's probability of its guess. entropy: of its distribution, in nats. state: RMS of what it hands on. prompt: share
    of its attention on what stood there before the reply. survival: product of the probabilities of its guesses so far; head: of what
    its confidence head says of them; each under its depth's temperature where there are any.
    """

    measure: StopMeasure
    low: float = -inf
    high: float = inf
    temperatures: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to decode: the chains of a condition, of at most `drafts` proposals, and what ends them before."""

    condition: str
    drafts: int
    stop: StopRule | None = None
