from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from driftcli.conditions import DraftSettings, Noise, Wiring
from driftcli.engine.attention import Masses
from driftcli.engine.chains import Openings, draft_chains, draft_together, noised
from driftcli.engine.drafted import Drafted, Guesses, Queries
from driftcli.engine.packing import Packing
from driftcli.engine.rows import find_sinks, rounds_to_end
from driftcli.engine.trajectories import Trajectory
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.statistics.walks import leading_matches, walk
from tests.engine.regions import shares_of
from tests.reference import Lone, Step, speculate, target_streams
from tests.tiny import bare_trajectory, prompts, trajectories

DEPTH = 5
CAPTURE = (2, 4, 5)
HEADS = ("pre", "post", "trained-pre", "trained-post")


@pytest.fixture(scope="module")
def drafted(pair: Callable[[str], LoadedPair]) -> Callable[[str, DraftSettings], tuple[Trajectory, Drafted]]:
    def run(name: str, settings: DraftSettings) -> tuple[Trajectory, Drafted]:
        loaded = pair(name)
        boundaries = settings.wiring.capture or CAPTURE
        (trajectory,) = trajectories(loaded.target, prompts(1), sorted({*boundaries, *CAPTURE}), 14)
        return trajectory, draft_chains(loaded.drafter, trajectory, settings, settings.depth, free=True)  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="module")
def target(models: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(models / "target").eval()


def query(queries: Queries, anchor: int) -> tuple[int, float, Tensor]:
    assert queries.state is not None
    return int(queries.guesses.drafted[anchor]), float(queries.guesses.draft_prob[anchor]), queries.state[anchor]


def assert_same(lone: Lone, steps: list[Step], chain: list[Queries], place: int) -> None:
    for step, queries in zip(steps, chain, strict=True):
        token, prob, state = query(queries, place)
        assert token == lone.to_target(int(step.logits.argmax()))
        torch.testing.assert_close(state, step.state, rtol=2e-4, atol=2e-4 * max(1.0, float(step.state.abs().max())))
        logits = step.logits  # rounding moves a logit by its size
        assert prob == pytest.approx(float(logits.softmax(-1).max()), abs=2e-5 * max(1.0, float(logits.abs().max())))


def matches(trajectory: Trajectory, result: Drafted) -> np.ndarray:
    start, n = trajectory.prompt_length, result.n_anchors
    return np.stack(
        [q.guesses.drafted.numpy() == trajectory.ids[start + d : start + d + n].numpy() for d, q in enumerate(result.forced, 1)], 1
    )


@pytest.mark.parametrize("window", [None, 7, 3])
@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_every_chain_equals_the_same_chain_drafted_alone(
    name: str, forced: bool, window: int | None, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted(name, DraftSettings(depth=DEPTH, window=window))
    ids = trajectory.ids.tolist()
    streams = target_streams(target, ids, CAPTURE)
    lone = Lone.of(models / name, models / "target", window=window)
    chain = result.forced if forced else result.free
    for place in range(result.n_anchors):
        steps = lone.chain(ids, streams, trajectory.prompt_length + place, DEPTH, forced=forced)
        assert_same(lone, steps, chain, place)


@pytest.mark.parametrize("kept", [(0,), (0, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("name", ["pre", "trained-post"])
def test_rows_that_are_kept_are_seen_whatever_the_window(
    name: str, kept: tuple[int, ...], pair: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    loaded = pair(name)
    (trajectory,) = trajectories(loaded.target, prompts(1), CAPTURE, 14)
    result = draft_chains(loaded.drafter, trajectory, DraftSettings(depth=DEPTH, window=3), DEPTH, free=True, kept=kept)
    ids = trajectory.ids.tolist()
    streams = target_streams(target, ids, CAPTURE)
    lone = Lone.of(models / name, models / "target", window=3, kept=kept)
    for chain, forced in ((result.forced, True), (result.free, False)):
        for place in range(result.n_anchors):
            assert_same(lone, lone.chain(ids, streams, trajectory.prompt_length + place, DEPTH, forced=forced), chain, place)


@pytest.mark.parametrize("name", HEADS)
def test_controls_are_the_fresh_queries_of_later_anchors(name: str, drafted: Callable, models: Path, target: LlamaForCausalLM) -> None:
    trajectory, result = drafted(name, DraftSettings(depth=DEPTH))
    ids = trajectory.ids.tolist()
    lone = Lone.of(models / name, models / "target")
    for place in range(result.n_anchors):
        for depth in range(1, DEPTH + 1):
            (alone,) = lone.chain(ids, target_streams(target, ids, CAPTURE), trajectory.prompt_length + place + depth - 1, 1, forced=True)
            token, _, state = query(result.control(depth), place)
            assert token == lone.to_target(int(alone.logits.argmax()))
            torch.testing.assert_close(state, alone.state, rtol=2e-4, atol=2e-4)


WRONG = {
    "halves of the input swapped": {"swap_halves": True},
    "normed residual": {"normed_residual": True},
    "normed feedback": {"post_norm": True},
}


@pytest.mark.parametrize("fault", [*WRONG, "tokens shifted", "capture layer off by one"])
def test_a_wrong_drafter_does_not_equal_the_engine(fault: str, drafted: Callable, models: Path, target: LlamaForCausalLM) -> None:
    trajectory, result = drafted("pre", DraftSettings(depth=DEPTH))
    ids = trajectory.ids.tolist()
    capture = (2, 4, 6) if fault == "capture layer off by one" else CAPTURE
    lone = Lone.of(models / "pre", models / "target", **WRONG.get(fault, {}))
    shift = -1 if fault == "tokens shifted" else 0
    steps = lone.chain(ids, target_streams(target, ids, capture), trajectory.prompt_length, DEPTH, forced=True, shift=shift)
    with pytest.raises(AssertionError):
        assert_same(lone, steps, result.forced, 0)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (DraftSettings(depth=DEPTH, wiring=Wiring(feedback="normed")), {"post_norm": True}),
        (DraftSettings(depth=DEPTH, wiring=Wiring(residual="normed")), {"normed_residual": True}),
        (DraftSettings(depth=DEPTH, wiring=Wiring(capture=(2, 4, 6))), {}),
    ],
)
def test_settings_compute_what_their_names_say(
    settings: DraftSettings, fault: dict, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted("pre", settings)
    ids = trajectory.ids.tolist()
    lone = Lone.of(models / "pre", models / "target", **fault)
    steps = lone.chain(ids, target_streams(target, ids, settings.wiring.capture or CAPTURE), trajectory.prompt_length, DEPTH, forced=True)
    assert_same(lone, steps, result.forced, 0)


@pytest.mark.parametrize("name", ["trained-pre", "trained-post"])
def test_accepted_and_walk_equal_naive_speculative_decoding(name: str, pair: Callable, models: Path, target: LlamaForCausalLM) -> None:
    loaded, kept = pair(name), []
    for trajectory in trajectories(loaded.target, prompts(5), CAPTURE, 30):
        result = draft_chains(loaded.drafter, trajectory, DraftSettings(depth=4), 4, free=False)
        start, ids = trajectory.prompt_length, trajectory.ids.tolist()
        accepted = leading_matches(matches(trajectory, result))
        visited = np.flatnonzero(walk(accepted))
        lone = Lone.of(models / name, models / "target")
        text, counts = speculate(target, lone, ids[:start], CAPTURE, 4, len(visited))
        assert counts == accepted[visited].tolist()
        assert text[: len(ids)] == ids[: len(text)]
        kept += counts
    assert 0 < sum(kept) < 4 * len(kept), "a head that is never right, or always, proves nothing"


@pytest.mark.parametrize("longest", [30, 4, 2])  # texts with anchors for every depth, and too short for one
@pytest.mark.parametrize("name", ["trained-pre", "trained-post"])
def test_rounds_to_the_end_of_a_text_are_those_of_naive_speculative_decoding(
    name: str, longest: int, pair: Callable[[str], LoadedPair], models: Path, target: LlamaForCausalLM
) -> None:
    loaded, lone = pair(name), Lone.of(models / name, models / "target")
    for trajectory in trajectories(loaded.target, prompts(2), CAPTURE, longest):
        result = draft_chains(loaded.drafter, trajectory, DraftSettings(DEPTH), DEPTH, free=False, to_end=True)  # type: ignore[arg-type]
        assert (result.n_anchors > 0) == (len(trajectory.ids) - trajectory.prompt_length > DEPTH)
        (rounds,), start, end = rounds_to_end(result, [trajectory], DEPTH), trajectory.prompt_length, len(trajectory.ids)
        for length in (1, DEPTH):
            _, kept = speculate(target, lone, trajectory.ids[:start].tolist(), CAPTURE, length, rounds[length - 1])
            reached = start + 1 + np.cumsum([0, *(count + 1 for count in kept)])
            assert reached[-2] < end <= reached[-1]


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("feed", ["forced", "free", "fresh"])
def test_region_shares_and_entropy_equal_naive_sums(
    feed: str, window: int | None, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted("pre", DraftSettings(depth=DEPTH, window=window))
    ids, labels, sink = trajectory.ids.tolist(), trajectory.labels.tolist(), 3
    lone = Lone.of(models / "pre", models / "target", window=window)
    names = ("template", "prompt", "verified")
    for place in (0, result.n_anchors - 1):
        anchor = trajectory.prompt_length + place
        for depth in range(1, DEPTH + 1):
            if feed == "fresh":
                step = lone.chain(ids, target_streams(target, ids, CAPTURE), anchor + depth - 1, 1, forced=True)[-1]
                queries, ahead = result.control(depth), depth - 1
            else:
                step = lone.chain(ids, target_streams(target, ids, CAPTURE), anchor, depth, forced=feed == "forced")[-1]
                queries, ahead = getattr(result, feed)[depth - 1], None
            found = shares_of(queries.masses, sink, trajectory.labels[1:], ahead)
            (shares,), (rows,) = step.attention, step.rows
            for head in range(shares.shape[0]):
                expected = dict.fromkeys(("sink", "template", "prompt", "verified", "ahead", "recent"), 0.0)
                for share, row in zip(shares[head].tolist(), rows, strict=True):
                    region = "ahead" if row + 1 > anchor else "sink" if row == sink else names[labels[row + 1]]
                    expected[region] += share
                    expected["recent"] += share if row > anchor + depth - 2 - 4 else 0
                for region, share in expected.items():
                    assert float(found[region][0, head, place]) == pytest.approx(share, abs=3e-5), (region, depth)
                entropy = -(shares[head] * shares[head].log()).sum()
                assert float(queries.masses.entropy[0, head, place]) == pytest.approx(float(entropy), abs=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_region_shares_sum_to_one(name: str, drafted: Callable) -> None:
    trajectory, result = drafted(name, DraftSettings(depth=DEPTH))
    for depth in range(1, DEPTH + 1):
        for queries, ahead in ((result.forced[depth - 1], None), (result.free[depth - 1], None), (result.control(depth), depth - 1)):
            for sink in (None, 0, 2):
                shares = shares_of(queries.masses, sink, trajectory.labels[1:], ahead)
                total = sum(share for name, share in shares.items() if name != "recent")
                torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_the_first_chain_query_is_the_fresh_query(drafted: Callable) -> None:
    _, result = drafted("pre", DraftSettings(depth=DEPTH))
    for first in (result.forced[0], result.free[0]):
        assert torch.equal(first.guesses.drafted, result.control(1).guesses.drafted)
        assert torch.equal(first.state, result.control(1).state)
        assert torch.equal(first.masses.label, result.control(1).masses.label)


def test_blocks_of_queries_change_nothing(drafted: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = drafted("pre", DraftSettings(depth=DEPTH))
    monkeypatch.setattr("driftcli.engine.attention.BLOCK_ON_CPU", 1)
    _, blocks = drafted("pre", DraftSettings(depth=DEPTH))
    for one, other in zip(whole.forced, blocks.forced, strict=True):
        torch.testing.assert_close(one.state, other.state)
        torch.testing.assert_close(one.masses.label, other.masses.label)
        torch.testing.assert_close(one.masses.tail, other.masses.tail)


def test_a_sink_needs_its_share_and_five_times_the_median() -> None:
    text = bare_trajectory("a", torch.zeros(20, dtype=torch.long), 10, {})
    cases = [[0.02, 0.4, 0.02, 0.02, 0.02], [0.04], [0.2] * 10, [0.01] * 10 + [0.9]]
    first = torch.tensor([case + [0.0] * (16 - len(case)) for case in cases])[None, None]
    masses = Masses(torch.zeros(1, 1, 4, 4), first, torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4))
    found = find_sinks(masses, Packing((1, 1, 1, 1), torch.device("cpu")), [text] * 4, 0)
    assert found == [1, None, None, None]  # under 5%; stands out from nothing; a reply token is no candidate


def test_a_pair_in_bfloat16_is_measured_in_float32(trained: Path) -> None:
    loaded = load_pair(str(trained / "target"), str(trained / "trained-post"), torch.device("cpu"), "bfloat16")
    (trajectory,) = trajectories(loaded.target, prompts(1), CAPTURE, 14)
    result = draft_chains(loaded.drafter, trajectory, DraftSettings(depth=DEPTH), DEPTH, free=True)
    assert trajectory.streams[2].dtype == torch.bfloat16
    for queries in (*result.forced, *result.free, result.fresh):
        assert queries.state.dtype == torch.bfloat16
        shares = shares_of(queries.masses, None, trajectory.labels[1:], None)
        total = sum(share for name, share in shares.items() if name != "recent")
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("name", ["trained-pre", "trained-post"])
def test_pinned_states_equal_those_of_a_chain_drafted_alone_and_pinned(
    name: str, forced: bool, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted(name, DraftSettings(depth=DEPTH, pinned=True))
    ids = trajectory.ids.tolist()
    lone = Lone.of(models / name, models / "target")
    streams = target_streams(target, ids, CAPTURE)
    for place in range(result.n_anchors):
        steps = lone.chain(ids, streams, trajectory.prompt_length + place, DEPTH, forced=forced, pinned=True)
        assert_same(lone, steps, result.forced if forced else result.free, place)


STEERED = {
    "chain bias": (DraftSettings(DEPTH, chain_bias=-0.7), {"chain_bias": -0.7}),
    "sink bias": (DraftSettings(DEPTH, sink_bias=1.3), {"row_bias": 1.3, "sinks": (0, 2)}),
    "warming": (DraftSettings(DEPTH, warming=0.2), {"warming": 0.2}),
    "all, in a window": (
        DraftSettings(DEPTH, window=4, chain_bias=0.4, sink_bias=-0.6, warming=-0.1),
        {"chain_bias": 0.4, "row_bias": -0.6, "sinks": (0, 2), "warming": -0.1},
    ),
}


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("steered", STEERED)
@pytest.mark.parametrize("name", ["trained-pre", "trained-post"])
def test_biased_and_warmed_attention_equals_that_of_a_chain_drafted_alone(
    name: str, steered: str, forced: bool, pair: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    settings, formula = STEERED[steered]
    loaded = pair(name)
    (trajectory,) = trajectories(loaded.target, prompts(1), CAPTURE, 14)
    result = draft_chains(loaded.drafter, trajectory, settings, DEPTH, free=True, sinks=(0, 2))
    lone = Lone.of(models / name, models / "target", window=settings.window)
    lone.formula = replace(lone.formula, **formula)
    ids = trajectory.ids.tolist()
    for place in range(result.n_anchors):
        steps = lone.chain(ids, target_streams(target, ids, CAPTURE), trajectory.prompt_length + place, DEPTH, forced=forced)
        assert_same(lone, steps, result.forced if forced else result.free, place)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_reanchored_chains_equal_those_drafted_alone_on_the_targets_state(
    every: int, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted("trained-pre", DraftSettings(depth=DEPTH, reanchored=every))
    ids, lone = trajectory.ids.tolist(), Lone.of(models / "trained-pre", models / "target")
    streams = target_streams(target, ids, CAPTURE)
    for place in range(result.n_anchors):
        steps = lone.chain(ids, streams, trajectory.prompt_length + place, DEPTH, forced=True, reanchored=every)
        assert_same(lone, steps, result.forced, place)
    if every == 1:  # nothing is left of the drafter's own state, so a chain is its own control
        for depth, queries in enumerate(result.forced, 1):
            torch.testing.assert_close(queries.state, result.control(depth).state)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_held_chains_equal_those_drafted_alone_on_the_state_they_began_with(
    name: str, forced: bool, drafted: Callable, models: Path, target: LlamaForCausalLM
) -> None:
    trajectory, result = drafted(name, DraftSettings(depth=DEPTH, held=True))
    ids, lone = trajectory.ids.tolist(), Lone.of(models / name, models / "target")
    streams = target_streams(target, ids, CAPTURE)
    for place in range(result.n_anchors):
        steps = lone.chain(ids, streams, trajectory.prompt_length + place, DEPTH, forced=forced, held=True)
        assert_same(lone, steps, result.forced if forced else result.free, place)


@pytest.mark.parametrize("other", [{"reanchored": 2}, {"pinned": True}])
def test_a_held_state_takes_the_place_of_any_other(other: dict, drafted: Callable) -> None:
    held, both = (drafted("trained-pre", DraftSettings(DEPTH, held=True, **more))[1] for more in ({}, other))
    plain = drafted("trained-pre", DraftSettings(DEPTH))[1]
    for one, two in zip(held.forced + held.free, both.forced + both.free, strict=True):
        assert one.guesses.wanted_prob.nan_to_num(-1).equal(two.guesses.wanted_prob.nan_to_num(-1))
    assert held.forced[0].state.equal(plain.forced[0].state)
    assert not any(one.state.equal(two.state) for one, two in zip(held.forced[1:], plain.forced[1:], strict=True))


def test_held_chains_reach_to_the_end_of_a_text(pair: Callable[[str], LoadedPair]) -> None:
    loaded = pair("trained-pre")
    (trajectory,) = trajectories(loaded.target, prompts(1), CAPTURE, 14)
    settings = DraftSettings(DEPTH, held=True)
    long, short = (draft_chains(loaded.drafter, trajectory, settings, DEPTH, free=False, to_end=end) for end in (True, False))  # type: ignore[arg-type]
    assert long.kept_behind is not None and len(long.kept_behind) == trajectory.n_anchors(1) - trajectory.n_anchors(DEPTH)
    for one, two in zip(long.forced, short.forced, strict=True):
        torch.testing.assert_close(one.state, two.state, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "nothing", [{"chain_bias": 0.0}, {"sink_bias": 0.0}, {"warming": 0.0}, {"window": 10_000}, {"reanchored": DEPTH}, {"reanchored": 0}]
)
def test_a_setting_that_changes_nothing_drafts_the_very_same(nothing: dict, drafted: Callable) -> None:
    plain, other = (drafted("trained-pre", settings)[1] for settings in (DraftSettings(DEPTH), DraftSettings(DEPTH, **nothing)))
    for feed in ("fresh", "forced", "free"):
        for one, two in zip(*((given.forced + given.free if feed != "fresh" else [given.fresh]) for given in (plain, other)), strict=True):
            assert one.state.equal(two.state)
            assert one.masses.label.equal(two.masses.label)
            assert one.guesses.wanted_prob.nan_to_num(-1).equal(two.guesses.wanted_prob.nan_to_num(-1))


def test_the_entropy_of_a_guess_is_that_of_its_distribution() -> None:
    probs = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    guesses = Guesses.of(probs.log(), torch.tensor([1, -1]))
    assert guesses.drafted.tolist() == [0, 0]
    torch.testing.assert_close(guesses.draft_prob, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(guesses.entropy, torch.tensor([1.5 * math.log(2), 0.0]))
    torch.testing.assert_close(guesses.wanted_prob, torch.tensor([0.25, torch.nan]), equal_nan=True)


def test_noise_is_on_the_path_it_names_and_as_large_as_it_says(pair: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    drafter, read = pair("trained-post").drafter, []
    begin = type(drafter).begin
    monkeypatch.setattr(type(drafter), "begin", lambda self, e, h: (read.append((e, h)), begin(self, e, h))[1])
    (trajectory,) = trajectories(pair("trained-post").target, prompts(1), CAPTURE, 14)

    def inputs(noise: Noise | None) -> tuple[Tensor, Tensor]:
        read.clear()
        draft_chains(drafter, trajectory, DraftSettings(depth=2, noise=noise), 2, free=False)
        return read[0]

    embedded, states = inputs(None)
    for path, plain, place in (("embedding", embedded, 0), ("state", states, 1)):
        moved = inputs(Noise(path, 0.5, 1))  # type: ignore[arg-type]
        assert moved[1 - place].equal((embedded, states)[1 - place])
        size = (moved[place] - plain).square().mean(-1).sqrt() / plain.square().mean(-1).sqrt()
        assert float(size.mean()) == pytest.approx(0.5, abs=0.02)


def test_noise_of_nothing_is_the_baseline_and_its_draws_follow_seed_depth_and_text(drafted: Callable) -> None:
    def states(noise: Noise | None) -> list[Tensor]:
        return [queries.state for queries in drafted("trained-pre", DraftSettings(depth=3, noise=noise))[1].forced]

    plain, nothing, some = states(None), states(Noise("state", 0.0, 1)), states(Noise("state", 0.3, 1))
    assert all(one.equal(other) for one, other in zip(plain, nothing, strict=True))
    assert all(one.equal(other) for one, other in zip(some, states(Noise("state", 0.3, 1)), strict=True))
    assert not any(one.equal(other) for one, other in zip(some, states(Noise("state", 0.3, 2)), strict=True))
    x = torch.ones(4, 8)
    draws = [noised(x, Noise("state", 1.0, 1), [(drawn_for, 4)]) for drawn_for in ("a 0 forced 2", "a 0 forced 3", "b 0 forced 2")]
    assert not any(one.equal(other) for one, other in ((draws[0], draws[1]), (draws[0], draws[2])))


@pytest.mark.parametrize("name", ["trained-pre", "trained-post"])
def test_conditions_on_the_same_texts_share_what_no_attention_changes(
    name: str, pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = pair(name)
    read = trajectories(loaded.target, prompts(3), (*CAPTURE, 1), 14)
    rewired = Wiring(capture=(1, 4, 5))
    asked = [
        (DraftSettings(DEPTH), read), (DraftSettings(DEPTH, window=3), read), (DraftSettings(2), read), (DraftSettings(DEPTH, wiring=rewired), read),
        (DraftSettings(DEPTH, noise=Noise("embedding", 0.5, 0), wiring=rewired), read), (DraftSettings(DEPTH, wiring=rewired, sink_bias=1.0), read),
        (DraftSettings(DEPTH, noise=Noise("state", 0.5, 0)), read[1:]), (DraftSettings(DEPTH, pinned=True), read[1:]),
    ]  # fmt: skip
    alone = [draft_together(loaded.drafter, some, one, DEPTH, free=True) for one, some in asked]  # type: ignore[arg-type]
    fused, fusing = list[int](), type(loaded.drafter).fuse
    monkeypatch.setattr(type(loaded.drafter), "fuse", lambda drafter, streams: fused.append(1) or fusing(drafter, streams))  # type: ignore[func-returns-value]
    openings = Openings()
    shared = [draft_together(loaded.drafter, some, one, DEPTH, free=True, openings=openings) for one, some in asked]  # type: ignore[arg-type]
    assert len(fused) == 3, "once for each wiring of the same texts, one after the other"
    for one, two in zip(alone, shared, strict=True):
        for mine, theirs in zip([one.fresh, *one.forced, *one.free], [two.fresh, *two.forced, *two.free], strict=True):
            assert mine.guesses.drafted.equal(theirs.guesses.drafted)
            assert mine.guesses.draft_prob.equal(theirs.guesses.draft_prob)
            assert mine.state is not None and theirs.state is not None and mine.state.equal(theirs.state)
