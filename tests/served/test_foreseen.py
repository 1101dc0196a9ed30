from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from driftcli.errors import RunError
from driftcli.served.foreseen import Text, first_of, others_of, texts_of
from driftcli.served.server import Counts
from tests.served.world import RAW, SHIFTED, made_run


def text(*kept: int) -> Text:
    """A reply with an anchor for each number, and as many tokens behind the last as a chain is long."""
    return Text(("a", 0), 0, tuple(range(100, 103 + len(kept) + 8)), 3, np.array(kept))


def test_rounds_step_over_what_they_keep() -> None:
    # anchors 0 (keeps 2) -> 3 (keeps 0) -> 4 (keeps 1) -> 6 (keeps 0); one token of the prompt's own step, then 3 + 1 + 2 + 1
    one = text(2, 9, 9, 0, 1, 9, 0)
    assert one.most(4) == 8
    assert one.counts(4, 8) == Counts(4, (2, 1, 0, 0), 16)


def test_no_round_keeps_more_than_the_server_drafts() -> None:
    # with one draft token: anchors 0 (1 of 2) -> 2 (1 of 9) -> 4 (1) -> 6 (0): 2 + 2 + 2 + 1 behind the first token
    one = text(2, 9, 9, 0, 1, 9, 0)
    assert one.most(1) == 8
    assert one.counts(1, 8) == Counts(4, (3,), 4)


def test_a_last_round_that_would_reach_behind_the_last_anchor_is_not_asked_for() -> None:
    one = text(0, 0, 4)  # the third round would end 5 tokens on, and only 4 are asked for at most: 1 + 1 + 1
    assert one.most(4) == 3
    assert one.counts(4, 3) == Counts(2, (0, 0, 0, 0), 8)


def test_a_limit_cuts_to_whole_rounds() -> None:
    one = text(2, 9, 9, 0, 1, 9, 0)
    assert [one.most(4, limit) for limit in (1, 3, 4, 5, 6, 7)] == [1, 1, 4, 5, 5, 7]


def test_texts_of_a_run_are_its_own_replies_and_others_its_other_wirings(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 9)
    texts, others = texts_of(run, 4), others_of(run)
    assert [one.key for one in texts] == [(f"prompt-{number:02}", 0) for number in range(9)]
    assert {(one.prompt_length, len(one.reply), len(one.kept)) for one in texts} == {(10, 48, 40)}
    assert [(one.name, one.words, one.code) for one in others] == [
        (RAW, "a raw state fed back", "FEEDBACK-MODE"),
        (SHIFTED, "hidden states captured at boundaries 1, 3, 4", "AUX-LAYERS"),
    ]
    assert max(int(kept.max()) for other in others for kept in other.kept.values()) == 2
    assert [one.key[0] for one in first_of(texts, 2)] == ["prompt-00", "prompt-01"]


def test_a_server_of_deeper_chains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="drafts 9 tokens a round and the run's chains have 8; measure it with --depth 9"):
        texts_of(made_run(tmp_path / "run", 2), 9)


def test_a_run_of_drawn_replies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"drawn at temperature 0\.7, which no server repeats"):
        texts_of(made_run(tmp_path / "run", 2, temperature=0.7), 4)
