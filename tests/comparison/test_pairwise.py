from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from driftcli.comparison.changes import Scales, change
from driftcli.comparison.numbers import length
from driftcli.comparison.pairwise import Comparison, compare
from driftcli.comparison.telling import pairing_words, remarks, shown_change
from driftcli.domain import Absent, Estimate
from driftcli.errors import RunError
from driftcli.statistics.costs import StepCosts
from driftcli.statistics.intervals import Bootstrap, unseen_share, within
from driftcli.statistics.survival import Chains, calibration_error
from driftcli.traces.reader import Run, read_run
from tests.comparison.runs import SOUND, WORSE, length_change, linked, written
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe, write_run

BASE = Recipe(SOUND)
MIRRORED = {"improved": "regressed", "regressed": "improved"}
TIMES = StepCosts(1, 0.001, 0.001, tuple(0.01 + 0.0001 * tokens for tokens in range(9)))


def held(before: Run, after: Run, band: float = 0.02, *, force: bool = False) -> Comparison:
    return compare((before, after), ("before", "after"), band, force=force)


def by_name(comparison: Comparison) -> dict[str, str]:
    return {one.number.name: one.word for one in comparison.changes}


def test_the_change_of_the_acceptance_length_is_that_of_a_loop_over_prompts_and_draws(tmp_path: Path) -> None:
    before, after = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(WORSE), "b")
    change = held(before, after).length.difference
    assert isinstance(change, Estimate)
    assert (change.value, change.low, change.high) == pytest.approx(length_change(before, after, 8))


def test_a_worse_drafter_regressed_and_in_the_other_order_improved(tmp_path: Path) -> None:
    before, after = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(DRIFTING), "b")
    forwards, backwards = held(before, after), held(after, before)
    assert (forwards.length.word, backwards.length.word) == ("regressed", "improved")
    words = by_name(forwards)
    assert words["compounding_8"] == words["rms_factor"] == words["self_feeding_tax"] == words["accuracy_8"] == "regressed"
    assert by_name(backwards) == {name: MIRRORED.get(word, word) for name, word in words.items()}
    for one, other in zip(forwards.changes, backwards.changes, strict=True):
        assert isinstance(one.difference, Estimate)
        assert isinstance(other.difference, Estimate)
        assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))


def test_the_same_drafter_measured_twice_or_saved_again_is_equal_in_everything(tmp_path: Path) -> None:
    again = written(tmp_path, BASE, "again").path
    saved = linked(again, tmp_path / "b", lambda held: held["pair"]["drafter"].update(fingerprint="2" * 16))
    comparison = held(written(tmp_path, BASE, "a"), saved)
    assert set(by_name(comparison).values()) == {"equal"}
    assert comparison.length.more_prompts is None


def test_a_number_that_is_the_same_on_each_prompt_is_told_so_beside_what_so_many_cannot_exclude(tmp_path: Path) -> None:
    """Two heads with the same first guesses, of which one loses them along the chain."""
    comparison = held(written(tmp_path, BASE, "a"), written(tmp_path, Recipe(DRIFTING), "b"))
    whole, first = [one for one in comparison.changes if one.none_differs]  # rounds of whole replies are the same in every recipe
    assert isinstance(first.before, Estimate)
    unseen = unseen_share(16, len(comparison.others)) * first.before.value
    assert (first.number.name, first.word, first.difference) == ("accuracy_1", "cannot tell", Estimate(0.0, -unseen, unseen, 16))
    assert shown_change(first) == f"no prompt differs [-{100 * unseen:.1f}, +{100 * unseen:.1f}] pp"
    (line,) = [line for line in remarks(comparison) if line.startswith("no prompt differs")]
    assert line == (
        f"no prompt differs in {whole.number.words}; accuracy at depth 1: both runs have the same on each, and the interval is what so many "
        "prompts cannot exclude on others"
    )


def test_prompts_that_differ_and_cancel_are_not_called_the_same() -> None:
    number, draws = length(claimed=True), Bootstrap.of(16, 0)
    one, other = ({"rounds": np.full(16, 10.0), "kept": 10 * kept} for kept in (np.tile([1.0, 3.0], 8), np.tile([3.0, 1.0], 8)))
    by_hand = replace(number, statistic=within(0, 8)(lambda sums: sums["kept"] / sums["rounds"]))
    swapped, alike = (change(by_hand, draws, (one, second), Scales(0.02)) for second in (other, one))
    assert isinstance(swapped.difference, Estimate)
    assert (swapped.difference.value, swapped.none_differs, alike.none_differs) == (0, False, True)


def test_pairing_by_prompt_is_what_makes_a_small_loss_visible(tmp_path: Path) -> None:
    """The same guesses but for a few: paired, the interval is a fraction of what two runs of their own would give."""
    before = written(tmp_path, BASE, "a")
    after = written(tmp_path, Recipe(Life(lost=(0, *[0.12] * 7))), "b")
    one = held(before, after).length
    assert isinstance(one.difference, Estimate)
    assert isinstance(one.before, Estimate)
    assert isinstance(one.after, Estimate)
    unpaired = np.hypot(one.before.high - one.before.low, one.after.high - one.after.low)
    assert one.difference.high - one.difference.low < 0.6 * unpaired


def test_few_prompts_cannot_tell_and_say_how_many_are_lacking(tmp_path: Path) -> None:
    few = replace(BASE, prompts=BASE.prompts[:3])
    comparison = held(written(tmp_path, few, "a"), written(tmp_path, replace(few, life=WORSE), "b"))
    assert (comparison.length.word, comparison.length.more_prompts) == ("cannot tell", 5)
    assert isinstance(comparison.length.difference, Absent)


def test_runs_that_share_some_prompts_are_compared_on_those_and_with_too_few_refused(tmp_path: Path) -> None:
    before = written(tmp_path, BASE, "a")
    after = written(tmp_path, replace(BASE, prompts=(*BASE.prompts[4:], "prompt-90", "prompt-91")), "b")
    assert held(before, after).pairing.shared == 12
    with pytest.raises(RunError, match="only 4 of 16 / 6 prompts are shared, expected at least 8"):
        held(before, written(tmp_path, replace(BASE, prompts=(*BASE.prompts[:4], "prompt-90", "prompt-91")), "c"), force=True)
    with pytest.raises(RunError, match="no prompt id is shared"):
        held(before, written(tmp_path, replace(BASE, prompts=("prompt-90", "prompt-91")), "d"), force=True)


def test_the_other_numbers_are_held_for_all_of_them_at_once(tmp_path: Path) -> None:
    """Accepted drafts are the acceptance length less 1, and so is their change; its interval is wider by Student's quantiles."""
    from scipy.stats import t

    comparison = held(written(tmp_path, BASE, "a"), written(tmp_path, Recipe(WORSE), "b"))
    alone = comparison.length.difference
    family = next(one.difference for one in comparison.others if one.number.name == "accepted_drafts")
    assert isinstance(alone, Estimate)
    assert isinstance(family, Estimate)
    wider = t.ppf(1 - 0.025 / len(comparison.others), 15) / t.ppf(0.975, 15)
    assert (family.value, family.high - family.value) == pytest.approx((alone.value, wider * (alone.high - alone.value)))


def test_chains_of_other_depths_are_held_at_the_shorter_on_the_anchors_of_both(tmp_path: Path) -> None:
    deep, shallow = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(Life(fresh=0.6, lost=(0, 0.1, 0.1))), "b")
    with pytest.raises(RunError, match=r"differ in depth \(8 / 3\)"):
        held(deep, shallow)
    comparison = held(deep, shallow, force=True)
    assert isinstance(comparison.length.difference, Estimate)
    assert comparison.length.difference.value == pytest.approx(length_change(deep, shallow, 3)[0])
    assert [str(one) for one in comparison.forced] == ["depth (8 / 3)"]


def test_of_chains_of_one_draft_nothing_is_told_that_feeding_on_itself_would_change(tmp_path: Path) -> None:
    one = Life(lost=(0,))
    comparison = held(written(tmp_path, Recipe(one), "a"), written(tmp_path, Recipe(replace(one, fresh=0.5)), "b"))
    assert by_name(comparison).keys() == {"acceptance_length", "emitted_per_round", "accepted_drafts", "accuracy_1", "survival_error"}


def test_what_probabilities_promise_is_compared_where_both_runs_have_deployed_chains(tmp_path: Path) -> None:
    first, second = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(replace(BASE.life, fresh=0.5)), "b")
    told = next(one for one in held(first, second).others if one.number.name == "survival_error")
    for run, number in ((first, told.before), (second, told.after)):
        chains = run.survival["draft_prob"]
        assert isinstance(chains, Chains)
        errors = [one.value for one in chains.by_depth(calibration_error)]
        assert number.value == pytest.approx(sum(errors) / len(errors))  # type: ignore[arg-type]
    chainless = write_run(tmp_path / "chainless", replace(BASE, drafter="some/chainless"))
    for cell in (chainless / "steps").glob("*.parquet"):
        rows = pq.ParquetFile(cell).read()
        pq.write_table(rows.filter(pc.not_equal(rows["feed"].cast("string"), "free")), cell)
    comparison = held(first, read_run(chainless))
    assert "survival_error" not in by_name(comparison)
    assert any("no probabilities along deployed chains" in one.reason for one in comparison.missing)


def test_a_drafter_without_a_state_is_compared_in_all_that_it_has(tmp_path: Path) -> None:
    comparison = held(written(tmp_path, BASE, "a"), written(tmp_path, Recipe(WITHOUT_STATE), "b"))
    assert {"acceptance_length", "accuracy_1"} <= by_name(comparison).keys()
    assert {"hand-off", "self-feeding tax", "compounding at depth 8"} <= {one.words for one in comparison.missing}


def test_at_a_temperature_sampled_draft_tokens_are_compared_too(tmp_path: Path) -> None:
    runs = [
        linked(written(tmp_path, recipe, name).path, tmp_path / f"{name}-drawn", lambda held: held["request"].update(temperature=0.7))
        for name, recipe in {"a": BASE, "b": Recipe(WORSE)}.items()
    ]
    comparison = held(runs[0], runs[1])
    assert "acceptance_length_sampled_drafts" in by_name(comparison)
    assert comparison.length.word == "regressed"


def test_prompts_that_are_rendered_otherwise_are_compared_by_their_ids_if_that_is_forced(tmp_path: Path) -> None:
    before, after = written(tmp_path, BASE, "a"), written(tmp_path, replace(BASE, rendered="b"), "b")
    with pytest.raises(RunError, match="16 ids are shared, but rendered to other texts"):
        held(before, after)
    pairing = held(before, after, force=True).pairing
    assert pairing_words(pairing) == "paired by prompt id (0 of 16 prompts are rendered to the same text)"


def test_effects_of_the_template_are_compared_where_both_measured_them(tmp_path: Path) -> None:
    lost = Life(fresh=0.4)
    before = written(tmp_path, replace(BASE, extra={"no-bos": ("template", SOUND), "neither": ("template", lost)}), "a")
    after = written(tmp_path, replace(BASE, extra={"no-bos": ("template", lost)}), "b")
    (one,) = held(before, after).effects
    assert (one.number.name, one.word) == ("template:no-bos", "regressed")
    assert one.before.value == 1.0  # the same guesses with and without
    assert isinstance(one.after, Estimate)
    assert one.after.value < 0.6


def test_speeds_are_compared_where_both_have_times_of_one_machine(tmp_path: Path) -> None:
    timed = replace(BASE, costs=(TIMES,))
    before, after = written(tmp_path, timed, "a"), written(tmp_path, replace(timed, life=WORSE), "b")
    comparison = held(before, after)
    assert by_name(comparison)["expected_speed"] == "regressed"
    without = held(before, written(tmp_path, Recipe(WORSE), "c"))
    assert "expected speed" in {one.words for one in without.missing}
    assert any(one.effect == "withholds speeds" and one.what == "step times" for one in without.differences)


def test_a_block_and_a_head_that_feeds_on_its_own_state_are_held_against_one_another_by_what_either_loses(tmp_path: Path) -> None:
    fed, block = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(DRIFTING), "b")
    one_pass = linked(block.path, tmp_path / "c", lambda run: run["pair"].update(family="block", no_recursion="it guesses in one pass"))
    found = {one.number.name: one for one in held(fed, one_pass).changes}
    assert found["lost_8"].word == "regressed"
    assert found["lost_8"].after.value == pytest.approx(0.6, abs=0.07)  # what the recipe loses
    assert "lost_8" not in by_name(held(fed, block)), "two of one kind are compared by what that kind loses"
    alone = held(written(tmp_path, Recipe(WITHOUT_STATE), "d"), one_pass)
    assert "lost_8" not in by_name(alone)
    assert "right guesses lost at depth 8, of first ones" in {one.words for one in alone.missing}
