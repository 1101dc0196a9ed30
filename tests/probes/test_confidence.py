from __future__ import annotations

from driftcli.domain import Finding
from driftcli.testing import Head, compute_probe
from probes.confidence import Confidence


def test_the_depth_that_promises_too_much_is_named_beside_depth_one() -> None:
    (found,) = compute_probe(Confidence(), head=Head(forced=(80, 70, 60, 50), probability=(82, 78, 76, 75))).said
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("MISCALIBRATED", "mild")
    assert found.claim == (
        "at depth 4 its probability promises 25% more right draft tokens than there are [+25%, +25%], at depth 1 +2%; calibration error 0.25"
    )


def test_a_drafter_that_promises_too_little_is_named_too() -> None:
    (found,) = compute_probe(Confidence(), head=Head(forced=(80, 70, 60, 50), probability=(60, 70, 60, 50))).said
    assert isinstance(found, Finding)
    assert found.claim.startswith("at depth 1 its probability promises 20% less right draft tokens than there are [-20%, -20%]")


def test_promises_that_are_kept_few_prompts_or_given_replies_keep_it_quiet() -> None:
    wrong = Head(forced=(80, 70, 60, 50), probability=(99, 99, 99, 99), prompts=7)
    for head in (Head(), Head(forced=(80, 70, 60, 50), probability=(89, 79, 69, 59)), wrong):
        assert compute_probe(Confidence(), head=head).said == ()
