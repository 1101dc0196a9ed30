"""A few thousand prompts of one scenario, the truth of which simulated runs see some, under every condition of the battery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from zlib import crc32

import numpy as np
from scipy.special import ndtr

from driftcli.conditions import BASELINE, Condition, Plan, StopMeasure, TextSettings
from driftcli.statistics.positions import bin_of
from driftcli.statistics.walks import Floats, Sums
from tests.benchmarks.calibration.counts import accepted_of, guess_sums, total, visited
from tests.benchmarks.calibration.effects import ALTERNATIVES, ORDERS, SAME, Effect, effect_of, own_choices
from tests.benchmarks.calibration.regimes import CATEGORIES, DEPTH, Scenario
from tests.benchmarks.calibration.states import certainty_sums, floor_sums, state_sums, target_sums
from tests.benchmarks.calibration.tokens import (
    Prompts,
    Random,
    Reply,
    damage_by_depth,
    likely,
    other_reply,
    own_reply,
    solved,
)

PROMPTS = 4000  # of a population
SAMPLE = 500  # of them on which a planted loss is set
WORSE = 0  # category of a planted loss


@dataclass(frozen=True)
class Drafts:
    """A reply and the middle of the chain's scores on it; centre: (prompt, 1, depth), in probits."""

    reply: Reply
    centre: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Right guesses of the chain; (prompt, anchor, depth)."""
        right: np.ndarray = self.reply.noise > -self.centre
        return right


@dataclass
class Population:
    """Prompts of a scenario. What a condition or a plan comes to is counted when first asked for, and is the same in any order of asking.

    conditions: all but the baseline that can be asked for, by name.
    """

    scenario: Scenario
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    count: int = PROMPTS
    seed: int = 0
    _sums: dict[str, Sums] = field(default_factory=dict)
    _accepted: dict[str, np.ndarray] = field(default_factory=dict)
    _plans: dict[Plan, Sums] = field(default_factory=dict)
    _last: dict[TextSettings, Reply] = field(default_factory=dict)

    @cached_property
    def categories(self) -> np.ndarray:
        """The category of each prompt, by number; (prompt,)."""
        return np.arange(self.count) % len(CATEGORIES)

    @cached_property
    def prompts(self) -> Prompts:
        """What they are, whatever is replied."""
        return Prompts.of(self.scenario.regime, self.count, self._random("prompts"))

    @cached_property
    def reply(self) -> Reply:
        """The replies to them as they are rendered."""
        return self._worse(own_reply(self.prompts, self.scenario.regime, DEPTH, self._random("reply")))

    def sums(self, condition: str) -> Sums:
        """Sums by prompt under a condition, as a run has them."""
        if condition not in self._sums:
            counted = self._baseline() if condition == BASELINE else self._under(self.conditions[condition])
            self._sums[condition] = {name: values.astype(np.float32) for name, values in counted.items()}
        return self._sums[condition]

    @cached_property
    def by_position(self) -> Sums:
        """Anchors, rounds and kept drafts of each prompt's reply by how far it has gone; (prompt, bin)."""
        accepted, usable = accepted_of(self.drafts.right), self.reply.usable
        on_walk = visited(accepted, self.reply.anchors)
        counted = {"anchors": usable, "rounds": on_walk, "kept": on_walk * accepted}
        parts = bin_of(np.arange(usable.shape[1]))
        begins = np.searchsorted(parts, np.arange(parts[-1] + 1))
        return {name: np.add.reduceat(values.astype(float), begins, axis=1) for name, values in counted.items()}

    def plan_sums(self, plan: Plan) -> Sums:
        """Sums by prompt of decoding by a plan."""
        if plan not in self._plans:
            sums = self.sums(plan.condition)
            sent = np.full(self._accepted[plan.condition].shape, plan.drafts) if plan.stop is None else self._sent(plan)
            kept = np.minimum(self._accepted[plan.condition], sent).astype(np.int16)
            on_walk = visited(kept, sums["anchors"].astype(int))
            by_sent = np.stack([((sent == length) & on_walk).sum(axis=1) for length in range(plan.drafts + 1)], axis=1)
            self._plans[plan] = {"rounds_by_sent": by_sent.astype(float), "kept": total(kept, on_walk), "anchors": sums["anchors"]}
        return self._plans[plan]

    def band(self, measure: StopMeasure, outside: float) -> tuple[float, float]:
        """Between which values a measure of fresh queries lies, but for a share on either side; a real run knows it of its prompts alone."""
        low, high = np.quantile(self._measured[measure][:, :, 0][self.reply.usable], [outside, 1 - outside])
        return float(low), float(high)

    def _sent(self, plan: Plan) -> np.ndarray:
        assert plan.stop is not None and plan.condition == BASELINE
        seen = self._measured[plan.stop.measure][:, :, : plan.drafts - 1]
        outside = (seen < plan.stop.low) | (seen > plan.stop.high)
        ends: np.ndarray = np.where(outside.any(axis=2), outside.argmax(axis=2) + 1, plan.drafts)
        return ends

    @cached_property
    def _measured(self) -> dict[StopMeasure, np.ndarray]:
        """What rules that end a chain look at; states and attention of a sound head know nothing of right and wrong."""
        likely, random = self._likely, self._random("measured")
        state = np.exp(0.15 * random.standard_normal(likely.shape, dtype=np.float32))
        prompt = 0.6 + 0.1 * random.standard_normal(likely.shape, dtype=np.float32)
        return {"confidence": likely, "entropy": -1.5 * np.log(likely), "state": state, "prompt": prompt}

    @cached_property
    def _likely(self) -> Floats:
        drafts = self.drafts
        return likely(drafts.centre, drafts.reply.noise, self._random("likely"))

    def _baseline(self) -> dict[str, Floats]:
        reply, random = self.reply, self._random(BASELINE)
        right = self._drafts(reply).right
        self._accepted[BASELINE] = accepted_of(right)
        sums = guess_sums(right, reply.fresh, reply.anchors)
        return {
            **sums,
            **state_sums(reply.anchors, DEPTH, random, drifting=self.scenario.loss("drift") > 0),
            **target_sums(reply, 1.0, random),
            **certainty_sums(reply, right, self._likely, random),
            **floor_sums(reply, sums["rounds_by_length"][:, -1], sums["kept_by_length"][:, -1], random),
        }

    def _under(self, condition: Condition) -> dict[str, Floats]:
        random = self._random(condition.name)
        if condition.settings.wiring.changes and condition.settings.depth < DEPTH:
            return self._wired(condition, random)
        reply = self._reply(condition.text)
        if condition.settings.depth > DEPTH:
            reply = reply.deeper(condition.settings.depth, random)
        drafts, fresh = self._affected(self._drafts(reply), effect_of(condition, self.scenario), random)
        self._accepted[condition.name] = accepted_of(drafts.right)
        sums = guess_sums(drafts.right, fresh if condition.controls else None, reply.anchors)
        return {**sums, **target_sums(reply, own_choices(condition.text), random)}

    @property
    def drafts(self) -> Drafts:
        """The chains on the replies to the prompts as they are rendered."""
        return self._drafts(self.reply)

    def _drafts(self, reply: Reply) -> Drafts:
        """Chains on a reply with the damage of feeding on themselves that the scenario asks for."""
        usual = np.interp(np.arange(reply.noise.shape[2]), np.arange(DEPTH), self._damage)
        return Drafts(reply, (reply.skill[:, None] - self.prompts.damage[:, None] * usual)[:, None].astype(np.float32))

    @cached_property
    def _damage(self) -> Floats:
        handed, lost = self.scenario.regime.handoff, self.scenario.loss("drift")
        beyond = lost * (np.arange(DEPTH) - 1) / (DEPTH - 2)
        return damage_by_depth(self.reply, self.prompts.damage, np.r_[0.0, (handed + beyond)[1:]])

    def _reply(self, text: TextSettings) -> Reply:
        """The reply that a condition drafts on; the last one is kept, since windows come one after another on one text."""
        if text.replayed or text == TextSettings():
            return self.reply
        if text not in self._last:
            usual = asdict(TextSettings())
            random = self._random(repr({name: value for name, value in asdict(text).items() if value != usual[name]}))
            other = self._worse(other_reply(self.prompts, self.scenario.regime, DEPTH, random))
            self._last = {text: _mixed(self.reply, other, random.random(self.count) < SAME) if text.alone else other}
        return self._last[text]

    def _worse(self, reply: Reply) -> Reply:
        """The same with a planted loss of right first guesses in one category."""
        lost, own = self.scenario.loss("domain"), self.categories == WORSE
        if not lost:
            return reply
        weights = reply.anchors[own] / reply.anchors[own].sum()
        skill = reply.skill.copy()

        def left(moved: float) -> float:
            return float(weights @ ndtr(reply.skill[own] - moved))

        skill[own] -= solved(left, (1 - lost) * left(0.0))
        return replace(reply, skill=skill)

    def _affected(self, drafts: Drafts, effect: Effect, random: Random) -> tuple[Drafts, np.ndarray]:
        """Chains under an effect, and which guesses of their controls are right."""
        touched = random.random(self.count) < effect.touched
        moved = touched * effect.spread * random.standard_normal(self.count)
        if effect.blur:
            noise = drafts.reply.noise
            blurred = np.float32(np.sqrt(1 - effect.blur)) * noise
            blurred += np.float32(np.sqrt(effect.blur)) * random.standard_normal(noise.shape, dtype=np.float32)
            noise = np.where(touched[:, None, None], blurred, noise)
            drafts = Drafts(replace(drafts.reply, noise=noise), drafts.centre)
        if effect.costs:
            moved = moved + touched * _lowered(drafts, moved, touched, effect.costs)
        centre = drafts.centre - moved[:, None, None].astype(np.float32)
        return Drafts(drafts.reply, centre), replace(drafts.reply, skill=drafts.reply.skill - moved).fresh

    def _wired(self, condition: Condition, random: Random) -> dict[str, Floats]:
        """Another wiring: what it gains or loses in likelihood, by prompt."""
        base, depth = self.sums(BASELINE), condition.settings.depth
        mean, sd = ALTERNATIVES.get(condition.settings.wiring) or ORDERS[crc32(condition.name.encode()) % len(ORDERS)]
        gain = mean + sd * random.standard_normal((self.count, 1))
        names = ("kept_at", "forced_match", "forced_covered", "forced_likely")
        sums = {name: base[name][:, :depth] for name in names} | {name: base[name] for name in ("anchors", "favourite_right")}
        return {**sums, "forced_log_prob": base["forced_log_prob"][:, :depth] + base["forced_likely"][:, :depth] * gain}

    def _random(self, name: str) -> Random:
        return np.random.default_rng([self.seed, crc32(self.scenario.regime.name.encode()), crc32(name.encode())])


def _mixed(own: Reply, other: Reply, same: np.ndarray) -> Reply:
    """The one reply where it is the same again, else the other; same: (prompt,)."""

    def either(name: str) -> np.ndarray:
        first, second = getattr(own, name), getattr(other, name)
        chosen: np.ndarray = np.where(same.reshape(-1, *[1] * (first.ndim - 1)), first, second)
        return chosen

    return Reply(*(either(name) for name in ("anchors", "skill", "looping", "ease", "noise")))


def _lowered(drafts: Drafts, moved: Floats, touched: np.ndarray, costs: float) -> float:
    """By how many probits the touched prompts must be lowered for a share of the accepted drafts to be lost, on the first prompts."""
    few = slice(0, SAMPLE)
    anchors, noise = drafts.reply.anchors[few], drafts.reply.noise[few]

    def kept(lower: float) -> float:
        accepted = accepted_of(noise > (moved[few] + lower * touched[few])[:, None, None] - drafts.centre[few])
        on_walk = visited(accepted, anchors)
        return float(accepted[on_walk].sum() / on_walk.sum())

    return solved(kept, (1 - costs) * kept(0.0), most=4.0)
