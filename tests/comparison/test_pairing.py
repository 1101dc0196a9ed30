from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftcli.comparison.pairing import paired
from driftcli.comparison.telling import pairing_words
from tests.comparison.runs import SOUND, WORSE, chains, walked, written
from tests.report.synthetic import Life, Recipe

BASE = Recipe(SOUND)


def test_replies_that_are_the_same_text_pair_by_anchor_too_and_others_by_prompt_and_turn(tmp_path: Path) -> None:
    before, after, otherwise = (
        written(tmp_path, BASE, "a"),
        written(tmp_path, Recipe(WORSE), "b"),
        written(tmp_path, replace(BASE, token=6), "c"),
    )
    assert pairing_words(paired([before, after])) == "paired by prompt, turn and anchor (all 16 replies are the same text)"
    assert pairing_words(paired([before, otherwise])) == "paired by prompt and turn (0 of 16 replies are the same text)"


def test_of_the_same_text_only_anchors_that_all_runs_have_count_and_of_other_texts_all(tmp_path: Path) -> None:
    """Forty anchors in each run; chains of depth 3 on a reply of the same length would reach five further ones."""
    deep = written(tmp_path, BASE, "deep")
    same, other = (written(tmp_path, Recipe(Life(lost=(0, 0.1, 0.1)), anchors=45, token=token), f"shallow-{token}") for token in (5, 6))
    assert [set(sums["anchors"]) for sums in paired([deep, same]).sums] == [{40.0}, {40.0}]
    assert [set(sums["anchors"]) for sums in paired([deep, other]).sums] == [{40.0}, {45.0}]


def test_a_cut_run_is_walked_as_decoding_with_the_shorter_chains_would(tmp_path: Path) -> None:
    deep, shallow = written(tmp_path, BASE, "deep"), written(tmp_path, Recipe(Life(lost=(0, 0.1, 0.1))), "shallow")
    sums = paired([deep, shallow]).sums[0]
    by_hand = [walked(anchors, 3) for _, anchors in sorted(chains(deep).items())]
    assert list(zip(sums["rounds_by_length"][:, -1], sums["kept_by_length"][:, -1], strict=True)) == by_hand
    assert list(sums["walk_rounds"]) == [rounds for rounds, _ in by_hand]


def test_the_same_guesses_are_seen_whatever_the_batches_and_other_ones_though_all_lengths_agree(tmp_path: Path) -> None:
    """Prompts are drawn by their place among all, so two more at the end leave the others as they are and move them to other batches."""
    run, more = written(tmp_path, BASE, "a"), written(tmp_path, replace(BASE, prompts=(*BASE.prompts, "a-prompt", "b-prompt")), "b")
    assert paired([run, more]).same_guesses(0, 1)
    other = written(tmp_path, Recipe(Life(lost=(0, *[0.08] * 6, 0.5))), "c")
    assert not paired([run, other]).same_guesses(0, 1)


def test_prompts_of_one_group_are_one_unit_in_both(tmp_path: Path) -> None:
    grouped = replace(BASE, groups={"prompt-00": "one", "prompt-01": "one"})
    pairing = paired([written(tmp_path, BASE, "a"), written(tmp_path, grouped, "b")])
    assert (pairing.shared, pairing.units.count) == (16, 15)
    first = paired([written(tmp_path, BASE, "c"), written(tmp_path, BASE, "d")]).sums[0]["accepted"]
    assert pairing.sums[0]["accepted"].tolist() == pytest.approx([first[0] + first[1], *first[2:]])
    assert np.isclose(pairing.sums[0]["accepted"].sum(), first.sum())
