from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from driftcli.domain import Estimate
from driftcli.errors import RunError, ServerError
from driftcli.served.held import hold
from driftcli.served.http import client
from driftcli.served.verdict import ServedVerdict
from driftcli.traces.reader import Run
from tests.served.world import RAW, SHIFTED, AsSglang, AsTensorRtLlm, AsVllm, AsVllmThatTellsEach, Engine, served

KINDS = (AsVllm, AsVllmThatTellsEach, AsSglang, AsTensorRtLlm)


def held(
    run: Run, engine: Engine, kind: type[BaseHTTPRequestHandler] = AsVllm, concurrency: int = 1, limit: int | None = None
) -> ServedVerdict:
    with served(engine, kind) as url:
        return hold(client(url, 20), run, limit, concurrency, lambda _: None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_computes_what_the_files_say_is_as_filed(run: Run, kind: type[BaseHTTPRequestHandler]) -> None:
    engine = Engine.of(run)
    found = held(run, engine, kind)
    assert (found.judged.standing, found.judged.same, found.facts.drafts) == ("as filed", 24, 4)
    assert [finding.code for finding in found.findings] == ["SERVED-AS-FILED"]
    assert len(engine.requests) == 24, "no single rounds are asked for where nothing is to be explained"
    assert found.outcome("mild").exit_code == 0
    assert bool(found.judged.positions) == (kind is not AsTensorRtLlm)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("condition", "place", "code"), [(RAW, "later", "FEEDBACK-MODE"), (SHIFTED, "first", "AUX-LAYERS")])
def test_another_wiring_is_named_by_single_rounds(
    run: Run, kind: type[BaseHTTPRequestHandler], condition: str, place: str, code: str
) -> None:
    found = held(run, Engine.of(run, condition), kind)
    assert (found.judged.standing, found.place) == ("otherwise", place)
    assert found.explanation is not None and found.explanation.best is not None
    best = found.explanation.best
    assert (best.other.name, best.other.code, best.share.value) == (condition, code, 1.0)
    (finding,) = found.findings
    assert (finding.code, finding.condition) == ("SERVED-OTHERWISE", condition)
    assert found.outcome("mild").exit_code == 4 and found.outcome("none").exit_code == 0


def test_a_fault_that_no_wiring_explains_is_said_to_be_none(run: Run) -> None:
    engine = Engine.of(run)
    random = np.random.default_rng(1)
    engine.kept = [random.integers(0, 2, len(kept)) for kept in engine.kept]
    found = held(run, engine)
    assert found.judged.standing == "otherwise"
    assert found.explanation is not None and found.explanation.best is None
    assert "no wiring that the run measured explains them" in found.findings[0].claim


def test_a_fault_that_comes_with_decoding_on_is_told_from_one_in_every_round(run: Run) -> None:
    """Each reply's first round is as filed, and those after it keep nothing: a single round behind a fresh prompt is always the first."""
    engine = Engine.of(run)
    own = engine.reply

    def spoiled(ids: list[int], most: int) -> tuple[list[int], list[int]]:
        whole, engine.kept = engine.kept, [np.where(np.arange(len(kept)) == len(ids) - 10, kept, 0) for kept in engine.kept]
        try:
            return own(ids, most)
        finally:
            engine.kept = whole

    engine.reply = spoiled  # type: ignore[method-assign, assignment]
    found = held(run, engine)
    assert (found.judged.standing, found.place) == ("otherwise", "decoding")
    assert "comes with decoding on" in found.findings[0].claim


def test_requests_of_a_wave_are_counted_together_unless_replies_tell(run: Run) -> None:
    together = held(run, Engine.of(run), AsVllm, 8)
    assert (together.judged.units, together.judged.standing) == (3, "undecided")
    assert held(run, Engine.of(run), AsVllmThatTellsEach, 8).judged.units == 24


def test_where_a_reply_parts_only_what_lies_before_counts(run: Run) -> None:
    engine = Engine.of(run)
    engine.parts = {0: 20, 1: 0, 2: 6}
    found = held(run, engine)
    assert sorted(found.asked.parted) == [0, 6, 20]
    assert found.asked.unusable >= 1  # of the one that parts at once nothing is left
    assert (found.judged.standing, found.judged.same) == ("as filed", found.judged.units)
    asked = [one["max_tokens"] for one in engine.requests]
    assert asked[0] > 17 >= asked[1]  # asked for again, so that the last guess of the last round lies before token 20


def test_another_model_is_refused_in_a_sentence(run: Run) -> None:
    engine = Engine.of(run)
    engine.parts = dict.fromkeys(range(24), 1)
    with pytest.raises(
        ServerError, match=r"none of its replies is the run's.*part at token 1 in the middle; it serves another target than"
    ):
        held(run, engine)


def test_counters_that_count_others_too_are_refused(run: Run) -> None:
    engine = Engine.of(run)
    engine.foreign = 3
    with pytest.raises(ServerError, match="answers others at the same time"):
        held(run, engine)
    assert held(run, engine, AsVllmThatTellsEach).judged.standing == "as filed"


def test_counters_that_go_back_are_refused(run: Run) -> None:
    engine = Engine.of(run)
    own = engine.reply

    def restarted(ids: list[int], most: int) -> tuple[list[int], list[int]]:
        found = own(ids, most)
        engine.rounds = engine.tokens = 0
        engine.kept_at = [0] * 64
        return found

    engine.rounds = engine.tokens = 100
    engine.reply = restarted  # type: ignore[method-assign, assignment]
    with pytest.raises(ServerError, match="counters went back while it was asked"):
        held(run, engine)


def test_texts_that_the_server_has_no_room_for_are_left_out_or_refused(run: Run) -> None:
    engine = Engine.of(run)
    engine.longest = 40
    with pytest.raises(ServerError, match="takes 40 tokens, fewer than any of the run's texts"):
        held(run, engine)


def test_a_limit_asks_for_fewer_prompts_and_says_how_many_would_tell(run: Run) -> None:
    found = held(run, Engine.of(run), limit=10)
    assert (found.asked.prompts, found.judged.units, found.judged.standing) == (10, 10, "undecided")
    outcome = found.outcome("mild")
    assert (outcome.exit_code, outcome.checks[0].more_prompts) == (5, 9)
    assert found.outcome("none").exit_code == 0


def test_acceptance_that_falls_while_it_is_asked_is_a_finding_of_its_own(run: Run) -> None:
    engine = Engine.of(run)
    other = Engine.of(run, SHIFTED).kept
    engine.kept = [*engine.kept[:12], *other[12:]]
    found = held(run, engine)
    assert [finding.code for finding in found.findings] == ["SERVED-OTHERWISE", "SERVED-DECAYS"]
    assert isinstance(found.judged.decay, Estimate) and found.judged.decay.low > 0.35


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_asked_as_it_samples_only_where_that_is_wanted(run: Run, kind: type[BaseHTTPRequestHandler]) -> None:
    engine = Engine.of(run)
    with served(engine, kind) as url:
        found = hold(client(url, 20), run, None, 1, lambda _: None, own_sampling=True)
    greedy, own = engine.requests[:24], engine.requests[24:]
    assert len(own) == 24
    assert all("temperature" in one.get("sampling_params", one) for one in greedy)
    assert not any("temperature" in one.get("sampling_params", one) for one in own)
    assert found.sampled == found.judged.server  # this one samples greedily all the same


def test_a_server_that_drafts_more_than_the_run_is_refused(run: Run) -> None:
    engine = Engine.of(run)
    engine.drafts = 9
    with pytest.raises(RunError, match="measure it with --depth 9"):
        held(run, engine)


def test_sglang_that_drafts_trees_is_refused(run: Run) -> None:
    with pytest.raises(ServerError, match=r"drafts trees \(topk 4\), expected chains"):
        held(run, Engine.of(run), type("Trees", (AsSglang,), {"width": 4}))
