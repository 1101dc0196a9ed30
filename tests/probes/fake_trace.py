"""A run made by hand: sums over anchors by prompt, with the real curves and the real bootstrap on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from driftcli.conditions import BASELINE, Plan, Wiring
from driftcli.domain import SHARES, Absent, Estimate, ModelCard, PairCard, RunSpec, Sourced
from driftcli.statistics.costs import Costs
from driftcli.statistics.intervals import Statistic
from driftcli.statistics.pooled import Pooled
from driftcli.statistics.positions import Replies, no_replies
from driftcli.statistics.walks import Floats, Sums

HAIR = 1e-9  # by which prompts differ
ANCHORS = 100  # of every prompt, so that a count reads as a percentage


def card(*, no_recursion: str | None = None, pre_fc_norm: str = "none", feedback: str = "raw") -> PairCard:
    """An EAGLE-3 pair, or one without recursion."""
    record = {"pre_fc_norm": Sourced(pre_fc_norm, "tensor"), "feedback": Sourced(feedback, "config:norm_output")}
    model = ModelCard("a/model", None, "llama", "0" * 16)
    return PairCard(model, model, "causal-lm" if no_recursion else "eagle3", {} if no_recursion else record, 1, no_recursion)


def by_prompt(values: Sequence[float] | Sequence[Sequence[float]], prompts: int) -> Floats:
    """(prompt, depth): one row for all prompts, or a few rows dealt over them in turn; no two prompts are alike to the last digit, since of
    such nothing but the rule of three is known.
    """
    rows = np.atleast_2d(np.array(values, dtype=float))
    dealt = rows[np.arange(prompts) % len(rows)]
    return dealt - HAIR * np.multiply.outer(np.arange(prompts) % 7, np.arange(1, rows.shape[1] + 1)) * dealt**2


@dataclass(frozen=True)
class Story:
    """What happened along the chain, as counts out of 100 anchors a prompt; by depth, alike in every prompt unless rows are given."""

    fresh: Sequence[float] | Sequence[Sequence[float]] = (80, 80, 80, 80)
    forced: Sequence[float] | Sequence[Sequence[float]] = (80, 72, 72, 72)  # a hand-off of 10% and nothing more
    growth: Sequence[float] | Sequence[Sequence[float]] = (1, 1, 1, 1)
    fresh_ahead: Sequence[float] = (0, 5, 10, 15)
    forced_ahead: Sequence[float] = (0, 5, 10, 15)
    off_prompt: Sequence[float] = (0, 0, 0, 0)  # moved from the prompt side onto the reply
    rounds: Sequence[float] = (50, 40, 40, 40)
    kept: Sequence[float] = (40, 40, 40, 40)
    log_prob: Sequence[float] | Sequence[Sequence[float]] = (-100, -200, -200, -200)  # nats of 100 wanted tokens, all covered
    covered: Sequence[float] | Sequence[Sequence[float]] = (100, 100, 100, 100)  # wanted tokens inside the draft vocabulary
    probability: Sequence[float] | None = None  # the drafter's, of all its guesses together; as many as are right unless given
    entropy: float = 0.5  # of the target, in nats a reply token
    favourite: Sequence[float] = (5,)  # right first guesses of the most frequent token; a prompt, dealt over them in turn
    looked_up: Sequence[float] = (10,)  # and of a lookup, which keeps as many drafts on 100 rounds
    loops: float = 0  # anchors at which the reply goes round in circles
    calm: tuple[float, float] | None = None  # rounds and kept drafts that begin elsewhere, all unless given
    own_choices: float = 100  # reply tokens that the target chooses again
    prompts: int = 10

    def _confidence(self) -> dict[str, Sequence[float] | Sequence[Sequence[float]]]:
        guesses = (float(ANCHORS),) * by_prompt(self.forced, 1).shape[1]
        return {"guesses": guesses, "right": self.forced, "probability": self.forced if self.probability is None else self.probability}

    def _calm(self) -> Sums:
        rounds, kept = (by_prompt(values, self.prompts)[:, -1] for values in (self.rounds, self.kept))
        if self.calm is not None:
            rounds, kept = (np.full(self.prompts, float(count)) for count in self.calm)
        return {"calm_rounds": rounds, "calm_kept": kept}

    def sums(self) -> Sums:
        """What `driftcli.statistics.curves` reads."""
        fresh_ahead, forced_ahead = by_prompt(self.fresh_ahead, self.prompts), by_prompt(self.forced_ahead, self.prompts)
        moved = by_prompt(self.off_prompt, self.prompts)
        shares = {f"{feed}_{name}": np.zeros_like(moved) for feed in ("fresh", "forced") for name in SHARES}
        shares |= {"fresh_ahead": fresh_ahead, "forced_ahead": forced_ahead, "fresh_prompt": 50 + 0 * moved, "forced_prompt": 50 - moved}
        return {
            **shares,
            "anchors": np.full(self.prompts, float(ANCHORS)),
            "sink_anchors": np.zeros(self.prompts),
            "fresh_match": by_prompt(self.fresh, self.prompts),
            "forced_match": by_prompt(self.forced, self.prompts),
            "fresh_rms": np.full_like(moved, 300.0),
            "forced_rms": 300.0 * by_prompt(self.growth, self.prompts),
            "kept_at": np.zeros_like(moved),
            "rounds_by_length": by_prompt(self.rounds, self.prompts),
            "kept_by_length": by_prompt(self.kept, self.prompts),
            "forced_log_prob": by_prompt(self.log_prob, self.prompts),
            "reply_tokens": np.full(self.prompts, float(ANCHORS)),
            "target_entropy": np.full(self.prompts, ANCHORS * self.entropy),
            "own_choices": np.full(self.prompts, float(self.own_choices)),
            "favourite_right": by_prompt([[count] for count in self.favourite], self.prompts)[:, 0],
            "lookup_right": by_prompt([[count] for count in self.looked_up], self.prompts)[:, 0],
            "lookup_rounds": np.full(self.prompts, float(ANCHORS)),
            "lookup_kept": by_prompt([[count] for count in self.looked_up], self.prompts)[:, 0],
            "lookup_default_rounds": np.full(self.prompts, float(ANCHORS)),
            "lookup_default_kept": by_prompt([[count] for count in self.looked_up], self.prompts)[:, 0],
            "loops": np.full(self.prompts, float(self.loops)),
            **self._calm(),
            "forced_covered": by_prompt(self.covered, self.prompts),
            **{f"{name}_by_confidence": by_prompt(values, self.prompts)[:, :, None] for name, values in self._confidence().items()},
        }


@dataclass(frozen=True)
class FakeTrace(Pooled):
    """A run over a story, the numbers on top being the real ones but for those that are given."""

    story: Story = Story()
    pair: PairCard = field(default_factory=card)
    streams: dict[str, tuple[Estimate | Absent, Estimate | Absent]] = field(default_factory=dict)
    ratios: dict[str, Estimate | Absent] = field(default_factory=dict)  # to the baseline, by condition, in place of its own
    chosen: float = 1.0  # share of the reply tokens that are the target's own choice
    others: dict[str, Story] = field(default_factory=dict)  # what happened under other conditions
    by_category: dict[str, Story] = field(default_factory=dict)
    contrasts: dict[str, Estimate | Absent] = field(default_factory=dict)  # to all other prompts, by category
    lengths: Sequence[int] = (100,)
    beyond: Story | None = None  # what happened past the position that is asked for, where anything did
    costs: Costs | None = None
    temperature: float = 0.0
    reference: str = BASELINE
    wiring: Wiring = field(default_factory=Wiring)
    replies: Replies = field(default_factory=lambda: no_replies(4))

    @property
    def spec(self) -> RunSpec:  # type: ignore[override]
        return RunSpec(depth=by_prompt(self.story.forced, 1).shape[1], temperature=self.temperature)

    @property
    def argmax_share(self) -> float:
        return self.chosen

    @property
    def n_prompts(self) -> int:
        return self.story.prompts

    @property
    def n_anchors(self) -> int:
        return ANCHORS * self.n_prompts

    @property
    def measured(self) -> frozenset[str]:
        return frozenset({BASELINE, *self.others, *self.ratios})

    def between(self, start: int, stop: int) -> FakeTrace:
        if start == 0 or self.beyond is None:
            return self
        return replace(self, story=self.beyond)

    def sums(self, condition: str) -> Sums:
        return self.others.get(condition, self.story).sums()

    def plan_sums(self, plan: Plan) -> Sums:
        assert plan.stop is None and plan.condition == BASELINE
        sums = self.story.sums()
        by_sent = np.zeros((self.n_prompts, plan.drafts + 1))
        by_sent[:, plan.drafts] = sums["rounds_by_length"][:, plan.drafts - 1]
        return {"rounds_by_sent": by_sent, "kept": sums["kept_by_length"][:, plan.drafts - 1], "anchors": sums["anchors"]}

    def cannot_plan(self, plan: Plan) -> Absent | None:
        return None

    @property
    def categories(self) -> dict[str, int]:
        return {name: story.prompts for name, story in self.by_category.items()}

    def of_category(self, category: str) -> FakeTrace:
        return replace(self, story=self.by_category[category])

    def within_category(self, category: str) -> np.ndarray:
        raise NotImplementedError

    def contrast(
        self, statistic: Statistic, combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1
    ) -> Estimate | Absent:
        return self.contrasts[category]

    def ratio_to_baseline(self, statistic: Statistic, condition: str, tries: int = 1) -> Estimate | Absent:
        return self.ratios.get(condition) or super().ratio_to_baseline(statistic, condition, tries)

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        return self.streams
