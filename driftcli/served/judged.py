"""What a server's counts come to against the run: as filed, otherwise, or undecided; and whether acceptance falls while it serves.

Everything is paired with what the run foresees of the very same tokens, so easy and hard prompts do not matter. A server is as filed where
no difference that counts is shown and a moderate one is excluded, by the ladder of all losses: 5, 15 and 35% of the accepted draft tokens.
It is otherwise where a difference is shown that counts, or where single rounds fit another wiring (`driftcli.served.rounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from driftcli.domain import Absent, Estimate, Severity
from driftcli.served.asking import Observed
from driftcli.served.rounds import Explanation
from driftcli.statistics.grades import Grades, more_prompts
from driftcli.statistics.intervals import Bootstrap, Mapped, mirrored, tokens_a_round, unseen_share, within
from driftcli.statistics.walks import MINIMAL_PROMPTS, Floats, Sums, by_unit, ratio

Standing = Literal["as filed", "otherwise", "undecided"]
ALIKE = 0.8  # share of units below which other rounds than foreseen are no rounding (chosen by us)
MOST_UNITS = 400  # units up to which is looked for how many would tell
GRADES = Grades()


@dataclass(frozen=True, slots=True)
class Position:
    """Share of rounds that keep a draft token of one position, of the server and of the run, and the server's minus the run's."""

    server: Estimate | Absent
    run: Estimate | Absent
    more: Estimate | Absent


@dataclass(frozen=True, slots=True)
class Judged:
    """How a server stands to the run.

    lost: share of the accepted draft tokens that the files promise and the server does not keep, below 0 where it keeps more. server, run:
    tokens a round over the same replies. same: units whose rounds are those that the run foresees, out of `units`. decay: by how much more
    is lost in the second half of the requests. more: about how many more prompts would settle what is undecided. drafted: draft tokens a
    round, None where nothing tells.
    """

    standing: Standing
    severity: Severity
    lost: Estimate | Absent
    server: Estimate | Absent
    run: Estimate | Absent
    same: int
    units: int
    positions: tuple[Position, ...]
    decay: Estimate | Absent
    more: int | None = None
    drafted: float | None = None

    @property
    def is_puzzling(self) -> bool:
        """Whether single rounds are worth asking for: it is otherwise, or too many replies take other rounds than foreseen."""
        return self.standing == "otherwise" or self.same < ALIKE * self.units

    def settled_by(self, explanation: Explanation) -> Judged:
        """The same once single rounds were asked for: a wiring that explains them shows that the server is otherwise."""
        if explanation.best is None or self.standing == "otherwise" or isinstance(self.lost, Absent):
            return self
        return replace(self, standing="otherwise", severity=_severity(self.lost), more=None)

    @property
    def decays(self) -> bool:
        """Whether acceptance surely falls while the server is asked."""
        return isinstance(self.decay, Estimate) and self.decay.low > GRADES.mild


def judged(observed: Sequence[Observed], drafts: int, seed: int) -> Judged:
    """The server against the run; drafts: draft tokens a round that the server is set to."""
    sums, drafted = _sums(observed, drafts), _drafted(observed)
    draws = Bootstrap.of(len(sums["emitted"]), seed)
    lost = draws.estimate(sums, within(-1.0, 1.0)(_lost))
    standing, more = _standing(lost)
    if drafted is not None and abs(drafted - drafts) > GRADES.mild * drafts:
        standing, more = ("undecided", None) if standing == "as filed" else (standing, more)
    severity: Severity = _severity(lost) if standing == "otherwise" else "healthy" if standing == "as filed" else "inconclusive"
    tokens = tokens_a_round(lambda _: drafts + 1.0)
    return Judged(
        standing,
        severity,
        lost,
        draws.estimate(sums, tokens(lambda pooled: ratio(pooled["emitted"], pooled["rounds"]))),
        draws.estimate(sums, tokens(lambda pooled: ratio(pooled["emitted"], pooled["foreseen"]))),
        int((sums["rounds"] == sums["foreseen"]).sum()),
        len(sums["emitted"]),
        _positions(sums, draws, drafts),
        _decay(observed, drafts, seed),
        more,
        drafted,
    )


def tokens_a_round_of(observed: Sequence[Observed], drafts: int, seed: int) -> Estimate | Absent:
    """Tokens a round of a server alone."""
    if not observed:
        return Absent("no reply took a round")
    sums = _sums(observed, drafts)
    number = tokens_a_round(lambda _: drafts + 1.0)(lambda pooled: ratio(pooled["emitted"], pooled["rounds"]))
    return Bootstrap.of(len(sums["emitted"]), seed).estimate(sums, number)


def _lost(pooled: Sums) -> Floats:
    """Share of the foreseen accepted draft tokens that are not kept; (draw,)."""
    return 1 - ratio(ratio(pooled["emitted"], pooled["rounds"]) - 1, ratio(pooled["emitted"], pooled["foreseen"]) - 1)


def _standing(lost: Estimate | Absent) -> tuple[Standing, int | None]:
    """What the loss says, and about how many more prompts would settle it."""
    if isinstance(lost, Absent):
        return "undecided", max(1, MINIMAL_PROMPTS - (lost.n_prompts or 0))
    if abs(lost.value) >= GRADES.mild and (lost.low > 0 or lost.high < 0):
        return "otherwise", None
    if lost.high < GRADES.moderate and lost.low > -GRADES.moderate:
        return "as filed", None
    if lost.value == 0:
        return "undecided", next(
            (n - lost.n_prompts for n in range(lost.n_prompts + 1, MOST_UNITS) if unseen_share(n) < GRADES.moderate), None
        )
    change = lost if lost.value > 0 else mirrored(lost)
    return "undecided", more_prompts(change, GRADES.mild, GRADES.moderate, lost.n_prompts)


def _severity(lost: Estimate | Absent) -> Severity:
    """The grade of a loss; a server that keeps more than its files promise is mild."""
    return GRADES.of(lost) if isinstance(lost, Estimate) and lost.value > 0 else "mild"


def _sums(observed: Sequence[Observed], drafts: int) -> dict[str, Floats]:
    """Sums by unit: tokens, rounds and foreseen rounds, (unit,), and rounds that keep each position, (unit, position), where all tell."""
    index = np.unique([one.unit for one in observed], return_inverse=True)[1]
    columns: dict[str, Sequence[object]] = {
        "emitted": [one.emitted for one in observed],
        "rounds": [one.seen.rounds for one in observed],
        "foreseen": [one.foreseen.rounds for one in observed],
    }
    kept = [_padded(one.seen.kept_at, drafts) for one in observed if one.seen.kept_at is not None]
    if len(kept) == len(observed):
        columns |= {"kept_at": kept, "foreseen_at": [_padded(one.foreseen.kept_at or (), drafts) for one in observed]}
    return {name: by_unit(index, np.array(values, dtype=float), int(index.max()) + 1) for name, values in columns.items()}


def _padded(kept: tuple[int, ...], drafts: int) -> list[int]:
    return [*kept, *(0,) * drafts][:drafts]


def _positions(sums: Sums, draws: Bootstrap, drafts: int) -> tuple[Position, ...]:
    """Every position of the chain, with intervals of the differences for all at once; none where the server does not tell."""
    if "kept_at" not in sums:
        return ()
    server = draws.estimates(sums, within(0, 1)(lambda pooled: ratio(pooled["kept_at"], pooled["rounds"][:, None])))
    run = draws.estimates(sums, within(0, 1)(lambda pooled: ratio(pooled["foreseen_at"], pooled["foreseen"][:, None])))
    more = draws.estimates(sums, within(-1, 1)(_more_at), tries=drafts)
    return tuple(Position(*three) for three in zip(server, run, more, strict=True))


def _more_at(pooled: Sums) -> Floats:
    return ratio(pooled["kept_at"], pooled["rounds"][:, None]) - ratio(pooled["foreseen_at"], pooled["foreseen"][:, None])


def _drafted(observed: Sequence[Observed]) -> float | None:
    """Draft tokens a round that the server counted."""
    drafted, rounds = [one.seen.drafted for one in observed], sum(one.seen.rounds for one in observed)
    return None if None in drafted or not rounds else sum(one or 0 for one in drafted) / rounds


def _decay(observed: Sequence[Observed], drafts: int, seed: int) -> Estimate | Absent:
    """By how much more of the accepted draft tokens is lost in the second half of the requests than in the first."""
    sums = _sums([*observed], drafts)
    units = np.unique([one.unit for one in observed], return_inverse=True)[1]
    count = len(sums["emitted"])
    if count < 2 * MINIMAL_PROMPTS:
        return Absent(f"{count} prompts are too few to hold one half of the requests against the other, {2 * MINIMAL_PROMPTS} are needed")
    place = np.zeros(count)
    place[units[::-1]] = np.arange(len(units))[::-1]  # of each unit its first request
    early = place < np.median(place)
    first, second = (Mapped(sums, lambda values, half=half: (values.T * half).T) for half in (early, ~early))  # type: ignore[misc]
    return Bootstrap.of(count, seed).compared(first, second, _kept_share, np.subtract)


def _kept_share(pooled: Sums) -> Floats:
    return 1 - _lost(pooled)
