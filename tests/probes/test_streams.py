from __future__ import annotations

import pytest

from driftcli.domain import Absent, Estimate, Finding
from driftcli.testing import compute_probe, pair_card
from probes.streams import Streams

RMS = Estimate(1.0, 1.0, 1.0, 10)
Added = tuple[float, float, float]


def judged(*added: Added | None, n_prompts: int = 10, pre_fc_norm: str = "none", no_recursion: str | None = None) -> list[object]:
    streams: dict[str, tuple[Estimate | Absent, Estimate | Absent]] = {
        f"boundary {number}": (RMS, Absent("none") if one is None else Estimate(*one, n_prompts)) for number, one in enumerate(added)
    }
    streams["fused"] = (RMS, Estimate(1000.0, 1000.0, 1000.0, n_prompts))
    pair = pair_card(pre_fc_norm=pre_fc_norm, no_recursion=no_recursion)
    return list(compute_probe(Streams(), pair=pair, streams=streams).said)


def test_a_stream_that_adds_far_more_than_another_is_noted() -> None:
    (found,) = judged((0.5, 0.4, 0.6), (2.0, 1.9, 2.1), (20.0, 19.0, 21.0))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("STREAM-IMBALANCE", "healthy")  # a note: it raises nothing
    assert found.claim == "boundary 2 adds 40x what boundary 0 adds to the fused input of fc"
    assert found.estimate == Estimate(20.0, 19.0, 21.0, 10)


def test_a_stream_that_adds_nothing_at_all_is_noted() -> None:
    (found,) = judged((0.0, 0.0, 0.0), (2.0, 1.9, 2.1))
    assert isinstance(found, Finding)
    assert found.claim == "boundary 0 adds nothing to the fused input of fc"


@pytest.mark.parametrize(
    "added",
    [
        ((1.0, 1.0, 1.0), (9.9, 9.9, 9.9)),  # below ten times
        ((1.0, 0.8, 1.2), (12.5, 11.0, 14.0)),  # 12.5 times, but 11.0 / 1.2 is below ten
        ((1.0, 1.0, 1.0),),  # one stream has nothing to be held against; the fused input is no stream
        ((1.0, 1.0, 1.0), None),
        (),
    ],
)
def test_streams_of_like_weight_or_unsure_ones_are_not_noted(added: tuple[Added | None, ...]) -> None:
    assert judged(*added) == []


def test_norms_in_front_of_fc_keep_it_quiet() -> None:
    assert judged((0.5, 0.4, 0.6), (20.0, 19.0, 21.0), pre_fc_norm="per stream") == []


def test_a_drafter_without_streams_keeps_it_quiet() -> None:
    assert judged((0.5, 0.4, 0.6), (20.0, 19.0, 21.0), no_recursion="no state") == []


def test_seven_prompts_are_too_few_to_note_anything() -> None:
    assert judged((0.5, 0.4, 0.6), (20.0, 19.0, 21.0), n_prompts=7) == []
    assert len(judged((0.5, 0.4, 0.6), (20.0, 19.0, 21.0), n_prompts=8)) == 1
