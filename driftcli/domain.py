"""The nouns of the tool, said once: what a prompt, a card and a finding are; conditions stand in `conditions`. No torch here.

Conventions that hold everywhere: `depth` counts from 1; `position`, `row` and `anchor` count from 0 and are absolute in the trajectory.
An anchor is the position of the last verified token; the query of depth `d` from anchor `a` guesses token `a + d`. A row is what RoPE,
windows and caches index: row `i` holds token `i + token_offset` of the trajectory, with `token_offset` 1 for EAGLE drafters (paired with
the target's state of position `i`) and 0 for a causal LM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from driftcli.conditions import BASELINE, TextSettings, Wiring

Feed = Literal["fresh", "forced", "free"]
FEEDS: tuple[Feed, ...] = ("fresh", "forced", "free")
Region = Literal["sink", "template", "prompt", "verified", "ahead"]
REGIONS: tuple[Region, ...] = ("sink", "template", "prompt", "verified", "ahead")
Share = Literal["sink", "template", "prompt", "verified", "ahead", "recent"]
SHARES: tuple[Share, ...] = (*REGIONS, "recent")
RECENT_KEYS = 4  # keys that `recent` counts, the query's own included
A_SHARE = "share"  # unit of a bound
REWIRED = "rewired"  # the baseline of a drafter whose weights fit another wiring than the declared one
BUNDLED = "bundled:"  # before the name of a model that ships with the package; no hub id holds a colon

Axis = Literal["wiring", "drift", "template", "context", "domain", "capacity", "payoff"]
AXES: tuple[Axis, ...] = ("wiring", "drift", "template", "context", "domain", "capacity", "payoff")
Severity = Literal["healthy", "mild", "moderate", "severe", "miswired", "inconclusive", "not applicable"]
SEVERITIES: tuple[Severity, ...] = ("healthy", "mild", "moderate", "severe", "miswired")
AxisState = Literal["healthy", "mild", "moderate", "severe", "miswired", "open", "inconclusive", "not applicable", "not measured"]
Half = Literal["selecting", "judging"]  # of the prompts: what is chosen on the one is reported on the other
System = Literal[  # whose way to compute a head's step
    "as_served:vllm", "as_served:sglang", "as_trained", "as_served:vllm-v1", "as_served:transformers", "as_served:llama.cpp"
]
SYSTEMS: tuple[System, ...] = ("as_served:vllm", "as_served:sglang", "as_trained", "as_served:vllm-v1")  # that run EAGLE heads
TRAINED = "as trained"
SIDE_BY_SIDE = "side by side"  # how the tokens of a round are guessed where none knows the others
IN_ONE_PASS = ("block", "peagle", "pard")  # families whose draft tokens are guessed in one pass
APART = "each its own"  # how draft lengths stand to one another where none is the beginning of a longer one
SYSTEM_NAMES = {
    "as_served:vllm": "vLLM 0.33",
    "as_served:vllm-v1": "vLLM 0.33, V1 runner",
    "as_served:sglang": "SGLang 0.5.23",
    "as_served:transformers": "transformers 5.24",
    "as_served:llama.cpp": "llama.cpp",
    "as_trained": TRAINED,
}
Scalar: TypeAlias = "None | bool | int | float | str"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to continue, or plain text; `response` replaces the target's own continuation, and prompts of one `group` count as
    one where intervals are drawn.
    """

    id: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    category: str | None = None
    response: str | None = None
    group: str | None = None

    @property
    def turns(self) -> tuple[tuple[Message, ...], ...]:
        """The given messages up to each point where the target speaks; user turns in a row leave the gap to the target."""
        ends = [i for i, message in enumerate(self.messages) if message.role == "user" and self._next_role(i) in ("user", None)]
        return tuple(self.messages[: end + 1] for end in ends) or (self.messages,)

    def _next_role(self, index: int) -> str | None:
        return self.messages[index + 1].role if index + 1 < len(self.messages) else None


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value of the drafter's record and its source: `tensor`, `tokenizer`, `config:<key>`, `default:<system>`, `assumed:<why>`."""

    value: Scalar | tuple[int, ...]
    source: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What identifies a model in a run: its name, revision, type, and the fingerprint of its files, of all and of each by its name."""

    name: str
    revision: str | None
    model_type: str
    fingerprint: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenderingFacts:
    """How the target's conversations are rendered: by a chat template or not, with the BOS in front or not, with the names of roles in the
    template's own words or not, and whether a prompt to answer is added at the end. takes_system: it admits a system message, and
    injects_system: it puts one in where none is given. thinks_if_asked, thinks_unless_told: its switch for thinking is off or on by itself.
    """

    templated: bool = False
    begins_with_bos: bool = False
    names_roles: bool = False
    prompts_reply: bool = False
    takes_system: bool = False
    injects_system: bool = False
    thinks_if_asked: bool = False
    thinks_unless_told: bool = False


@dataclass(frozen=True, slots=True)
class PairCard:
    """Target and drafter as they were read.

    record: the drafter's normalised fields with their provenance. no_recursion: why drift cannot be defined, None for a drafter that
    feeds on its own state. readings: for each other system that serves or trained it, the fields that it computes otherwise. alternatives:
    what its files leave open, as wirings of one change each; orders of the captured streams are left out, being known from the record.
    target_positions: tokens that the target's config admits, None where it says nothing.
    """

    target: ModelCard
    drafter: ModelCard
    family: str
    record: Mapping[str, Sourced]
    token_offset: int
    no_recursion: str | None = None
    notes: tuple[str, ...] = ()
    readings: Mapping[str, Mapping[str, Sourced]] = field(default_factory=dict)
    alternatives: tuple[Wiring, ...] = ()
    rendering: RenderingFacts = RenderingFacts()
    target_positions: int | None = None

    @property
    def copies(self) -> bool:
        """Whether draft tokens are looked up in the text, and nothing is computed or was trained."""
        return self.family == "lookup"

    @property
    def reads_tokens_alone(self) -> bool:
        """Whether the drafter is handed none of the target's states."""
        return self.family in ("causal-lm", "early-exit", "lookup")

    @property
    def guesses_side_by_side(self) -> bool:
        """Whether all draft tokens of a round are guessed in one pass, none knowing the others."""
        field = self.record.get("guesses")
        return self.family in IN_ONE_PASS or (field is not None and field.value == SIDE_BY_SIDE)

    @property
    def keyless(self) -> bool:
        """Whether a chain adds no keys of its own, so that attention to its own draft tokens is not defined."""
        return self.family in ("assistant", "feed-forward")

    @property
    def attends(self) -> bool:
        """Whether the drafter has attention at all."""
        return self.family not in ("feed-forward", "lookup")

    @property
    def no_attention(self) -> str | None:
        """Why attention along a chain cannot be held against its control's, None where it can."""
        if not self.attends:
            return "it has no attention"
        return "a chain adds no keys of its own, so attention to its own draft tokens is not defined" if self.keyless else None

    @property
    def heal_trains(self) -> bool:
        """Whether `driftcli heal` trains it: a head that is run again and again on its own state, whose step it can unroll."""
        return self.family in ("eagle3", "mtp") and self.no_recursion is None

    @property
    def can_be_normed(self) -> bool:
        """Whether it feeds back a raw state that its final norm could hold at one size, as heal's norm-output makes it do."""
        said = {name: self.record[name].value for name in ("feedback", "residual", "logits_from") if name in self.record}
        return self.heal_trains and self.family == "eagle3" and said == {"feedback": "raw", "residual": "raw", "logits_from": "normed"}

    @property
    def attention_controlled(self) -> bool:
        """Whether attention along a chain is held against the same queries on the target's state."""
        return self.no_recursion is None and self.no_attention is None

    @property
    def steers_attention(self) -> bool:
        """Whether what a chain attends to, fed back by its own state, can be tried otherwise, as by windows."""
        return self.no_recursion is None and self.attends

    @property
    def deepest(self) -> int | None:
        """Most tokens that a chain drafts, by the heads of a drafter that has one a token; None where one is run again and again."""
        field = self.record.get("heads") if self.family == "feed-forward" else None
        return field.value if field is not None and isinstance(field.value, int) else None

    @property
    def corrects_blocks(self) -> bool:
        """Whether each token of a block is corrected by the one before it, as DSpark does."""
        field = self.record.get("correction")
        return self.guesses_side_by_side and field is not None and field.value != "none"

    @property
    def lengths_apart(self) -> bool:
        """Whether each draft length gives other guesses, as in a block whose rows see one another: none is cut from a longer one."""
        field = self.record.get("draft_lengths")
        return field is not None and field.value == APART


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What the person asked for, in the words of the command line.

    batch_size: half of the built-in prompts unless said, since a decoding step reads all weights whatever the batch (chosen by us).
    temperature: of the target's replies and of both models' probabilities on them; greedy decoding at 0. against: the mark of the twin's
    run that this one is held against, empty for none.
    """

    depth: int = 8
    max_new_tokens: int = 128
    batch_size: int = 40
    seed: int = 0
    quick: bool = False
    lengths: tuple[int, ...] = ()
    temperature: float = 0.0
    against: str = ""

    def temperature_of(self, text: TextSettings) -> float:
        """At what temperature the replies of such texts are drawn, 0 for greedy ones."""
        return text.temperature or self.temperature


@dataclass(frozen=True, slots=True)
class TwinCard:
    """The twin that a run's target is held against, as its own run tells: mostly the float model of which this target is a quantised copy.

    run: its folder's name. engine, dtype, device: what computed it; quantisation: the scheme of its weights, None for none or where that
    run does not tell. wiring: how the drafter was put together there.
    """

    run: str
    target: ModelCard
    engine: str
    dtype: str
    device: str
    quantisation: str | None
    wiring: Wiring


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number pooled over prompts with its 95% interval, resampled over prompts."""

    value: float
    low: float
    high: float
    n_prompts: int

    def __format__(self, form: str) -> str:
        """The number with its interval, each in a form of floats: `12% [10%, 14%]` for `.0%`."""
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True, slots=True)
class Absent:
    """A number that does not exist here, or has no interval, and why. value, n_prompts: what so few prompts say, where that is all."""

    reason: str
    value: float | None = None
    n_prompts: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, with its number, its unit and what to do.

    severity: what the whole interval supports; `healthy` marks a note: it is reported and raises nothing. likely: the grade of the number
    itself, where that is more. condition: what it was measured on; the baseline means whatever stands for it in the run. category: of the
    prompts that it is about, None for all.
    """

    code: str
    severity: Severity
    claim: str
    estimate: Estimate
    unit: str
    fix: str
    condition: str = BASELINE
    likely: Severity | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An axis that a probe could not judge: `state` says whether it never can on this pair, or only not on these data. fix: what to do
    first, where something is suspected. more_prompts: about how many more would tell, None where that is not known.
    """

    axis: Axis
    state: Literal["not applicable", "inconclusive"]
    reason: str
    fix: str = ""
    more_prompts: int | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """An axis that a probe judged and found nothing on, and what says so."""

    axis: Axis
    reason: str


@dataclass(frozen=True, slots=True)
class Open:
    """An axis on which nothing was found, though something is not excluded: up to `bound`, in `unit`, None where nothing is known of it.

    reason: what was looked at and what may still be there, in a sentence. more_prompts: about how many more would tell, None where no
    number of them would. unit: a share of what the axis counts unless said. fix: what to do first, where something is suspected.
    """

    axis: Axis
    reason: str
    bound: float | None = None
    more_prompts: int | None = None
    unit: str = A_SHARE
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Withheld:
    """An axis that cannot be judged although its numbers are there, and why: what looks like a finding of it may be something else."""

    axis: Axis
    reason: str


Said: TypeAlias = "Finding | Skipped | Sound | Open | Withheld"  # what a probe says when it judges


@dataclass(frozen=True, slots=True)
class AxisVerdict:
    """How one axis stands and why. likely: of one with a finding, as in `Finding`; bound and unit: of an open one, as in `Open`;
    more_prompts and fix: of an open or undecided one, how many would tell and what to do first.
    """

    state: AxisState
    reason: str = ""
    likely: Severity | None = None
    bound: float | None = None
    more_prompts: int | None = None
    unit: str = A_SHARE
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one judgement that is printed and that the exit code follows. open: what nothing was found on and what is not excluded there."""

    severity: Severity
    headline: str
    axes: Mapping[Axis, AxisVerdict] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    open: str = ""
