"""Do the weights fit the wiring that the files declare, or another one that the files leave open?

A checkpoint whose capture layers, feedback, norms, map or rotation are read otherwise than they were trained mimics drift, so this comes
first. Every other wiring is scored by the log-likelihood of the same wanted tokens, prompt by prompt against the declared one: at depth 1,
where nothing is fed back yet, but for the feedback, which counts from depth 2 on, and over whole blocks where tokens are guessed side by
side; readings of the vocabulary map by right guesses, since they cover different tokens. One change at a time; what helps most on one half
of the prompts is judged on the other, and taken over; then again from there, until nothing helps. A round judges one change, so no
correction for many tries is due. Where the halves do not settle it, all prompts together decide: a gain that they show leaves the wiring
undecided, one that they do not exclude leaves it open, and either comes before any other advice. A head that guesses no better than the
most frequent token gains by whatever makes it less sure, so such a gain is none; and gains of 1 in a norm make any head less sure, so they
must give right guesses too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import inf
from typing import NamedTuple

from driftcli.conditions import BASELINE, Condition, DraftSettings, Wiring, worded
from driftcli.domain import Absent, Axis, Estimate, Finding, Half, Open, PairCard, RunSpec, Said, Skipped, Sound, Withheld
from driftcli.probe import Trace
from driftcli.statistics.curves import forced_accuracy, log_likelihood, over_favourite, vocabulary_lost
from driftcli.statistics.grades import more_prompts, would_tell
from driftcli.statistics.intervals import too_few
from driftcli.statistics.walks import MINIMAL_PROMPTS, Floats, Sums, ratio

ORDERED = 3  # streams up to which every order is tried; of more only the reverse, since there are too many (chosen by us)


class Factor(NamedTuple):
    """What a change of a wiring's field means: the code of its finding, and what to correct."""

    code: str
    what: str
    fix: str


FACTORS: dict[str, Factor] = {
    "capture": Factor(
        "AUX-LAYERS", "hidden states captured at boundaries {}", "write eagle_aux_hidden_state_layer_ids so that the server captures them"
    ),
    "feedback": Factor("FEEDBACK-MODE", "a {} state fed back", "set norm_output to what the head was trained with"),
    "residual": Factor("NORM-MISMATCH", "a {} residual", "set norm_before_residual to what the head was trained with"),
    "ones": Factor("NORM-MISMATCH", "gains of 1 in its norms ({})", "export the norms as they were trained"),
    "vocabulary": Factor("VOCAB-MAP", "d2t read as {}", "write d2t as offsets: target id minus draft id"),
    "rope": Factor("ROPE-MISMATCH", "the {} rotation", "correct rope_theta and rope_scaling in the drafter's config"),
    "embedding": Factor(
        "LOAD-BROKEN", "embeddings that are {}", "export the embeddings again, or leave them out so that the target's are shared"
    ),
    "head": Factor(
        "LOAD-BROKEN", "an output head that is {}", "export lm_head again, or leave it out so that the target's rows are shared"
    ),
    "order": Factor("FUSION-ORDER", "the projection's halves {}", "exchange the column blocks of the projection in the file"),
    "gains": Factor("NORM-MISMATCH", "gains read as {}", "store the gains as the class of the head reads them, less one or not"),
    "first_row": Factor("NORM-MISMATCH", "the embedding of position 0 {}", "serve it with an engine that leaves it so"),
    "rotation": Factor("ROPE-MISMATCH", "{} of each head turned together", "permute the rows of q_proj and k_proj, or correct the class"),
    "turned": Factor("ROPE-MISMATCH", "{} of each head's numbers turned", "correct partial_rotary_factor in the config"),
    "mask": Factor("MASK-TOKEN", "token {} as the mask of its blocks", "set mask_token_id to the token of training"),
    "seen": Factor("BLOCK-ATTENTION", "{} attention in its blocks", "set dflash_config.causal, or is_causal, to what training had"),
    "window": Factor("WINDOW-MISMATCH", "a sliding window {}", "say in layer_types and use_sliding_window what training had"),
    "position": Factor("ROPE-MISMATCH", "queries at the position of {}", "serve it with an engine that asks it there"),
    "slots": Factor("BLOCK-SLOTS", "rows of a block that guess {}", "set sample_from_anchor to what training had"),
    "eps": Factor("NORM-MISMATCH", "norms with {} beside the mean square", "set rms_norm_eps to what the drafter was trained with"),
    "bias": Factor("LOAD-BROKEN", "scores without a bias by the token before", "export markov_head again: what is in the file only harms"),
}
OF_MTP: dict[str, Factor] = {  # where an MTP head's files and servers name it otherwise
    "capture": Factor(
        "AUX-LAYERS",
        "the target's state of boundary {}",
        "hand in the target's state on that side of its final norm, in the server's class",
    ),
    "feedback": Factor("FEEDBACK-MODE", "a {} state fed back", "feed that state back, in the server's class: no config says it"),
    "rope": Factor("ROPE-MISMATCH", "the {} rotation", "correct rope_theta and rope_scaling in the target's config"),
}


def factor_of(field: str, family: str) -> Factor:
    """What a change of a field means for a family's heads."""
    return OF_MTP[field] if family == "mtp" and field in OF_MTP else FACTORS[field]


STORED_MAPS = {  # how d2t is read where no server reads it so: what it holds, and what to correct
    "absolute": ("d2t holds target ids, which servers would add to the draft id", FACTORS["vocabulary"].fix),
    "from t2d": (
        "d2t holds zeros alone, so the map is lost, and servers would propose the first ids of the target; t2d marks the draft tokens",
        "write d2t anew from t2d: the k-th token that it marks, minus k",
    ),
}
BY_HITS = ("vocabulary",)  # fields that are judged by right guesses: readings of a map cover different tokens


def first_likelihood(sums: Sums) -> Floats:
    """Mean log-probability of the covered wanted tokens at depth 1, in nats; (draw,)."""
    return log_likelihood(sums)[:, 0]


def deeper_likelihood(sums: Sums) -> Floats:
    """The same at depth 2, where the drafter's own state is read; (draw,)."""
    return log_likelihood(sums)[:, 1]


def block_likelihood(sums: Sums) -> Floats:
    """The same of all tokens of a block, since its rows may go wrong where its first does not; (draw,)."""
    return ratio(sums["forced_log_prob"].sum(axis=-1), sums["forced_likely"].sum(axis=-1))


def first_hits(sums: Sums) -> Floats:
    """Share of right first guesses; (draw,)."""
    return forced_accuracy(sums)[:, 0]


@dataclass(frozen=True, slots=True)
class Step:
    """One change: the wiring before and after, the field changed, and what it gains on a half of the prompts."""

    before: Wiring
    after: Wiring
    field: str
    gain: Estimate
    family: str = ""

    @property
    def factor(self) -> Factor:
        """What the change means."""
        return factor_of(self.field, self.family)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search as far as its numbers go: the changes that won, how many others were tried, what is still to be measured; of the last round,
    where none won, the best change, the best whose gain all prompts show, and the best whose gain would count and is not shown.
    """

    steps: tuple[Step, ...]
    tried: int
    missing: tuple[Condition, ...] = ()
    best: Step | None = None
    shown: Step | None = None
    open: Step | None = None

    @property
    def wiring(self) -> Wiring:
        """Where it stands."""
        return self.steps[-1].after if self.steps else Wiring()


@dataclass(frozen=True)
class WiringSearch:
    """The declared wiring against every other that the files leave open."""

    name: str = "wiring"
    axes: tuple[Axis, ...] = ("wiring",)
    minimal_gain: float = 0.02  # nats a token, or share of right guesses for d2t, from which a gain counts; chosen by us

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The first round; none for a drafter of which nothing is open."""
        return self._round(pair, spec, Wiring())

    def further(self, trace: Trace) -> Sequence[Condition]:
        """The next round, where the last one had a winner."""
        return self._search(trace).missing

    def wiring(self, trace: Trace) -> Wiring:
        """What the search ended with."""
        return self._search(trace).wiring

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding for every change that won, and for what the files show without a search: a map that no server reads as it is stored,
        and norms without gains.
        """
        if not trace.pair.alternatives:
            yield Skipped("wiring", "not applicable", "nothing is left open in how this drafter is put together")
            return
        if vocabulary_lost(trace):
            yield _lost_map(trace)
            return
        outcome = self._search(trace)
        yield from (_finding(step) for step in outcome.steps)
        yield from _stored_map(trace)
        yield from _lost_gains(trace)
        if trace.n_prompts < 2 * MINIMAL_PROMPTS:
            few = too_few(trace.n_prompts, 2 * MINIMAL_PROMPTS)
            yield Skipped("wiring", "inconclusive", f"{few}, half to choose a wiring and half to judge it")
        elif outcome.shown is not None or outcome.open is not None:
            yield self._unsettled(outcome.shown, outcome.open)
        elif not outcome.steps:
            close = "" if outcome.best is None else f"; the closest, {_described(outcome.best)}: {_amount(outcome.best)}"
            yield Sound("wiring", f"none of {outcome.tried} alternatives is shown to fit the weights better{close}")

    def _unsettled(self, shown: Step | None, open: Step | None) -> Skipped | Open:
        """What is said of a change that may fit better, and to settle that first: undecided where a gain is shown, else open."""
        step = shown or open
        assert step is not None
        limit = self.minimal_gain if shown is None else -inf
        more = more_prompts(step.gain, self.minimal_gain, limit, step.gain.n_prompts)
        seen = f"{_described(step)} may fit the weights better: {_amount(step)}; {would_tell(more)}"
        ask = "check what the head was trained with, or measure on more prompts (--limit, --prompts)"
        fix = f"settle the wiring first: {ask}; if {_described(step)} fits better, {step.factor.fix}"
        if shown is not None:
            return Skipped("wiring", "inconclusive", seen, fix)
        return Open("wiring", seen, step.gain.high, more, _unit(step), fix)

    def _round(self, pair: PairCard, spec: RunSpec, current: Wiring) -> tuple[Condition, ...]:
        """Every change of a field that has not been changed yet, and the other orders of the streams."""
        depth = spec.depth if pair.guesses_side_by_side else min(2, spec.depth)
        found = [current.then(one) for one in pair.alternatives if not set(one.changes) & set(current.changes) and _reaches(one, depth)]
        found += [current.then(Wiring(capture=order)) for order in _orders(current.capture or _declared_capture(pair))]
        return tuple(Condition(_named(wiring), DraftSettings(depth, wiring=wiring), self.name) for wiring in dict.fromkeys(found))

    def _search(self, trace: Trace) -> Outcome:
        """Round after round: what helps most on the half that selects is taken over if it helps on the half that judges."""
        steps: list[Step] = []
        seen, tried = {Wiring()}, 0
        while True:
            current = steps[-1].after if steps else Wiring()
            asked = [one for one in self._round(trace.pair, trace.spec, current) if one.settings.wiring not in seen]
            if missing := tuple(condition for condition in asked if condition.name not in trace.measured):
                return Outcome(tuple(steps), tried, missing)
            seen |= {condition.settings.wiring for condition in asked}
            tried += len(asked)
            best = _best(trace, current, asked) if trace.n_prompts >= 2 * MINIMAL_PROMPTS else None
            judged = best and _step(trace, current, best.after, "judging")
            if best is None or judged is None or vocabulary_lost(trace):
                return Outcome(tuple(steps), tried)
            if (
                best.gain.low <= self.minimal_gain
                or judged.gain.low <= self.minimal_gain
                or not _knows_the_text(trace, current, best.after)
            ):
                outcome = self._by_all(trace, current, asked)
                if not outcome.steps:
                    return replace(outcome, steps=tuple(steps), tried=tried)
                (judged,) = outcome.steps
            steps.append(judged)

    def _by_all(self, trace: Trace, current: Wiring, asked: Sequence[Condition]) -> Outcome:
        """What all prompts say of the changes of a round, where the halves did not settle it: the best whose gain surely counts, by an
        interval for all that were asked at once; the best that surely gains something, for all that may count; the best of the latter.
        """
        alone = _steps(trace, current, asked, 1)
        large = [step for step in alone if step.gain.value > self.minimal_gain and _knows_the_text(trace, current, step.after)]
        open = [condition for condition in asked if condition.settings.wiring in {step.after for step in large}]
        sure = _most([step for step in _steps(trace, current, open, len(asked)) if step.gain.low > self.minimal_gain])
        shown = _most([step for step in _steps(trace, current, open, len(open)) if step.gain.low > 0])
        return Outcome(() if sure is None else (sure,), len(asked), best=_most(alone), shown=shown, open=_most(large))


def _steps(trace: Trace, current: Wiring, asked: Sequence[Condition], tries: int) -> list[Step]:
    """What each change gains over all prompts, by intervals for so many at once."""
    return [step for one in asked if (step := _step(trace, current, one.settings.wiring, None, tries))]


def _most(steps: Sequence[Step]) -> Step | None:
    return max(steps, key=lambda step: step.gain.value, default=None)


def _knows_the_text(trace: Trace, before: Wiring, after: Wiring) -> bool:
    """Whether a gain in likelihood is one in knowledge: so wired, a head guesses better than the most frequent token, and with gains of 1,
    which make it less sure and earn likelihood by that alone, better than before.
    """
    above = trace.estimate(over_favourite, _named(after))
    flatter = after.ones != before.ones
    more = trace.gain(first_hits, _named(after), _named(before)) if flatter else above
    return isinstance(above, Estimate) and above.low > 0 and isinstance(more, Estimate) and more.value > 0


def _reaches(one: Wiring, depth: int) -> bool:
    """Whether chains of this depth show the change at all."""
    return depth > 1 or one.feedback is None


def _declared_capture(pair: PairCard) -> tuple[int, ...]:
    field = pair.record.get("capture")
    return field.value if field is not None and isinstance(field.value, tuple) else ()


def _orders(capture: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The other orders of some streams."""
    every = list(permutations(capture)) if len(capture) <= ORDERED else [tuple(reversed(capture))]
    return [order for order in every if order != capture]


def _named(wiring: Wiring) -> str:
    return f"wiring-{wiring}" if wiring.changes else BASELINE


def _step(trace: Trace, before: Wiring, after: Wiring, half: Half | None, tries: int = 1) -> Step | None:
    """The change from one wiring to another with what it gains on all or half of the prompts; None where that has no number."""
    field = next(name for name in after.changes if after.changes[name] != before.changes.get(name))
    likelihood = block_likelihood if trace.pair.guesses_side_by_side else first_likelihood
    statistic = first_hits if field in BY_HITS else deeper_likelihood if field == "feedback" else likelihood
    gain = trace.gain(statistic, _named(after), _named(before), half, tries)
    return None if isinstance(gain, Absent) else Step(before, after, field, gain, trace.pair.family)


def _best(trace: Trace, current: Wiring, asked: Sequence[Condition]) -> Step | None:
    """The change that gains most on the half that selects; likelihoods and hits are compared as they are, 0 where nothing helps."""
    steps = [_step(trace, current, condition.settings.wiring, "selecting") for condition in asked]
    return _most([step for step in steps if step is not None])


def _described(step: Step) -> str:
    value = step.after.changes[step.field]
    if step.field in ("embedding", "head"):
        value = "its own" if value == "own" else f"the {value}"
    return step.factor.what.format(worded(value))


def _amount(step: Step) -> str:
    gain, of = step.gain, f"({step.gain.n_prompts} prompts)"
    if step.field in BY_HITS:
        return f"{100 * gain.value:+z.0f} points of accuracy [{100 * gain.low:+z.0f}, {100 * gain.high:+z.0f}] {of}"
    return f"{gain.value:+z.2f} nats a token [{gain.low:+z.2f}, {gain.high:+z.2f}] {of}"


def _unit(step: Step) -> str:
    return "share of right guesses" if step.field in BY_HITS else "nats a token"


def _finding(step: Step) -> Finding:
    factor = step.factor
    claim = f"the weights fit {_described(step)} better than what is declared: {_amount(step)}"
    return Finding(factor.code, "miswired", claim, step.gain, _unit(step), factor.fix, _named(step.after))


def _lost_map(trace: Trace) -> Finding:
    """A d2t of zeros by which the head guesses nothing: any other reading of the rest would be told by tokens that it never meant."""
    above = trace.estimate(over_favourite, BASELINE)
    assert isinstance(above, Estimate)
    claim = "d2t holds zeros alone, so the map is lost: read so the first draft token is no better than the most frequent token"
    fix = "write d2t anew, from the map that the head was trained with"
    return Finding("VOCAB-MAP", "miswired", claim, above, "share of right guesses", fix)


def _stored_map(trace: Trace) -> Iterator[Finding]:
    """A map that is read as it is meant here, and otherwise by every server: they add what d2t holds to the draft id."""
    kind = trace.pair.record.get("vocab_map")
    stored = None if kind is None else STORED_MAPS.get(str(kind.value))
    hits = trace.estimate(first_hits, BASELINE)
    if stored is not None and isinstance(hits, Estimate):
        claim = f"{stored[0]}; read so the first draft token is right {hits.value:.0%} of the time"
        yield Finding("VOCAB-MAP", "miswired", claim, hits, "share of right guesses", stored[1])


def _lost_gains(trace: Trace) -> Iterator[Said]:
    """Gains that were never trained, or lost: what they were is not in the file, so nothing can be measured in their place."""
    gains, hits = trace.pair.record.get("norm_gains"), trace.estimate(first_hits, BASELINE)
    if gains is None or gains.value == "as written" or not isinstance(hits, Estimate):
        return
    ones = "every norm gain in the file is exactly 1, never trained or lost at export"
    claim = f"{ones}; with them the first draft token is right {hits.value:.0%} of the time"
    yield Finding("NORM-MISMATCH", "mild", claim, hits, "share of right guesses", FACTORS["ones"].fix)
    yield Withheld(
        "drift", "the norm gains in the file look lost, and without them nothing that the head does is its own; export them again"
    )
