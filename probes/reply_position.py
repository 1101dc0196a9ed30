"""Are fewer draft tokens accepted late in a reply than at its beginning?

The late part of a reply is held against the first tokens of the same reply, so that neither the kind of prompt nor which replies become
long can pass for it. End tokens are respected: how far a reply goes is the target's own doing, and only those that reach both parts count.
The context grows with the reply: what a longer prompt costs at the same place of the reply is asked by another probe. No chains are drafted
for it, so it sees no more than `--max-new-tokens` admit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace, trained
from driftcli.statistics.grades import Grades, chosen, drafts_lost, lost
from driftcli.statistics.positions import FIRST, accepted
from driftcli.statistics.walks import EXACT_TEXT


@dataclass(frozen=True)
class ReplyPosition:
    """Accepted drafts in each later part of the replies over those in their first tokens."""

    name: str = "reply-position"
    axes: tuple[Axis, ...] = ()  # it raises the context's axis and never clears it: replies that are short say nothing of long ones
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's replies say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where a later part surely loses drafts; where a loss is shown and its size is not, that it is inconclusive."""
        losses = self.losses(trace) if trace.argmax_share >= EXACT_TEXT else {}
        if not losses:
            return
        standing, part = self.grades.standing(losses)
        if standing == "found":
            yield self._found(trace, part, chosen(losses[part], self.grades.mild, len(losses)))
        elif standing == "straddles":
            yield self.grades.unsettled("context", standing, _seen(trace, part, losses[part]), losses[part], of=trace.n_prompts)

    def losses(self, trace: Trace) -> Mapping[int, Estimate]:
        """Share of accepted drafts lost against the first part, by number of the part, with intervals for all at once."""
        replies = trace.replies
        later = range(1, len(replies.bins))
        found = {part: replies.against_first(part, accepted, tries=len(later)) for part in later}
        return {part: lost(kept) for part, kept in found.items() if isinstance(kept, Estimate)}

    def _found(self, trace: Trace, part: int, loss: Estimate) -> Finding:
        start, _ = trace.replies.bins[part]
        claim = f"{_seen(trace, part, loss)}; the context grows as they do, which context-length asks apart"
        fix = f"train on longer replies of the target; turn speculation off behind {start} reply tokens if it no longer pays there"
        fix = trained(trace.pair, fix)
        unit = "share of accepted drafts"
        return Finding("LENGTH-OUT", self.grades.of(loss), claim, loss, unit, fix, likely=self.grades.likely(loss))


def _seen(trace: Trace, part: int, loss: Estimate) -> str:
    start, end = trace.replies.bins[part]
    late = f"tokens {start}-{end - 1} of the same replies"
    return f"from the first {FIRST} tokens of a reply to {late} ({loss.n_prompts} prompts) {drafts_lost(loss)}"
