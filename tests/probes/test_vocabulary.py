from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.domain import Absent, Estimate, Finding, Sourced
from driftcli.testing import Head, compute_probe, pair_card
from probes.vocabulary import VocabularyCoverage

HALF_OUT = Head(forced=(60, 50, 50, 50), covered=(90, 90, 90, 90))  # 10 of 100 outside, of 40 misses


@pytest.mark.parametrize(("inside", "severity"), [(90, "mild"), (80, "moderate"), (60, "severe")])
def test_what_the_draft_vocabulary_lacks_is_found_with_its_share_of_the_misses(inside: float, severity: str) -> None:
    (found,) = compute_probe(VocabularyCoverage(), head=Head(forced=(50, 50, 50, 50), covered=(inside,) * 4)).said
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("VOCAB-COVERAGE", severity)
    out = 100 - inside
    assert found.claim == (
        f"{out}% of the target's choices [{out}%, {out}%] lie outside the draft vocabulary: {2 * out}% of all wrong first draft tokens"
    )


@pytest.mark.parametrize(("low", "told"), [(1.2, "; most in code, 30%"), (0.9, "")])
def test_a_category_is_named_where_it_surely_lacks_more_than_the_others(low: float, told: str) -> None:
    by = {"code": Head(covered=(70, 70, 70, 70)), "prose": Head(covered=(95, 95, 95, 95))}
    contrasts: dict[str, Estimate | Absent] = {"code": Estimate(6.0, low, 9.0, 10), "prose": Estimate(0.2, 0.1, 0.3, 10)}
    (found,) = compute_probe(VocabularyCoverage(), head=HALF_OUT, by_category=by, contrasts=contrasts).said
    assert isinstance(found, Finding)
    assert found.claim.endswith(f"25% of all wrong first draft tokens{told}")


def test_a_whole_vocabulary_few_prompts_or_given_replies_keep_it_quiet() -> None:
    for head in (Head(), Head(covered=(96, 96, 96, 96)), Head(covered=(50,) * 4, prompts=7)):
        assert compute_probe(VocabularyCoverage(), head=head).said == ()
    assert compute_probe(VocabularyCoverage(), head=HALF_OUT, chosen=0.5).said == ()


def test_tokens_that_two_tokenizers_do_not_share_are_no_matter_of_counting_anew() -> None:
    (own,) = compute_probe(VocabularyCoverage(), head=HALF_OUT).said
    pair = replace(pair_card(no_recursion="none"), record={"tokens": Sourced("one by one", "tokenizer")})
    (shared,) = compute_probe(VocabularyCoverage(), head=HALF_OUT, pair=pair).said
    assert isinstance(own, Finding) and isinstance(shared, Finding)
    assert (own.fix.split()[0], shared.fix) == (
        "count",
        "take a drafter with the target's own tokenizer, as another size of its model family has",
    )
