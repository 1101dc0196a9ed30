from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from driftcli.domain import SHARES, Estimate
from driftcli.errors import RunError
from driftcli.statistics.curves import accuracy_gap, walk_acceptance_length
from driftcli.traces.pieces import Piece, Vocabulary
from driftcli.traces.reader import Run, read_run
from driftcli.traces.samples import chain, losing, reply, reply_heads
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe, write_run

RECIPE = Recipe(Life(lost=(0, 0.3, 0.5), growth=(1, 1.5, 2), moved=(0, 0.1, 0.2)), prompts=("b", "a", "c"), short=("tiny",), anchors=12)
SMILE = "😀".encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("samples") / "r", RECIPE))


def steps(run: Run) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(file) for file in (run.path / "steps").glob("baseline-*.parquet")).astype({"feed": str, "prompt": str})


def walked(rows: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Anchors that decoding visits and what each keeps, by the rule itself: on by what was kept and the bonus token."""
    guesses = rows[rows["feed"] == "forced"].set_index(["anchor", "depth"])["match"]
    anchor = 10
    while (anchor, 1) in guesses.index:
        kept = 0
        while kept < 3 and guesses[anchor, kept + 1]:
            kept += 1
        yield anchor, kept
        anchor += kept + 1


def test_rounds_and_kept_tokens_of_replies_are_those_of_decoding_and_add_up_to_the_acceptance_length(run: Run) -> None:
    heads = reply_heads(run)
    assert [head.prompt for head in heads] == ["a", "b", "c", "tiny"]
    assert (heads[3].rounds, heads[3].accepted, heads[3].length) == (0, 0, 12)
    for head in heads[:3]:
        found = list(walked(steps(run).query(f"prompt == '{head.prompt}'")))
        assert (head.rounds, head.accepted) == (len(found), sum(kept for _, kept in found))
        assert [(one.anchor, one.accepted) for one in reply(run, head.prompt).rounds] == found
    length = run.estimate(walk_acceptance_length)
    assert 1 + sum(head.accepted for head in heads) / sum(head.rounds for head in heads) == pytest.approx(length.value)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_replies_lose_is_their_controls_accuracy_minus_their_own_and_averages_to_the_reports(run: Run, depth: int) -> None:
    lost = losing(run, depth)
    right = steps(run).query(f"depth == {depth}").astype({"match": float}).groupby(["prompt", "feed"])["match"].mean()
    for head, share in lost:
        assert share == pytest.approx(right[head.prompt, "fresh"] - right[head.prompt, "forced"])
    assert [share for _, share in lost] == sorted((share for _, share in lost), reverse=True)
    gap = run.by_depth(accuracy_gap)[depth - 1]
    assert sum(share for _, share in lost) / 3 == pytest.approx(gap.value)  # as many anchors each


def test_a_chain_stands_as_its_rows_with_the_control_on_the_same_tokens(run: Run) -> None:
    found = chain(run, "a", 0, 13)
    rows = steps(run).query("prompt == 'a' and anchor == 13").set_index(["feed", "depth"])
    assert [step.depth for step in found.steps] == [1, 2, 3]
    for step in found.steps:
        for feed, query in (("forced", step.chain), ("fresh", step.control)):
            row = rows.loc[feed, step.depth]
            assert (query.drafted, query.right) == (Piece(row["drafted"], " right" if row["match"] else " wrong"), row["match"])
            assert (query.rms, query.entropy, query.draft_prob) == (row["rms"], row["entropy"], row["draft_prob"])
            assert query.shares == {name: row[f"share_{name}"] for name in SHARES}
        assert step.wanted == Piece(5, " right")
        assert (step.chain.state_cosine, step.control.state_cosine) == (rows.loc["forced", step.depth]["state_cosine"], None)


def test_a_reply_is_its_tokens_as_text_behind_its_prompt(run: Run) -> None:
    found = reply(run, "b")
    assert "".join(piece.text for piece in found.prompt_pieces) == " right" * 10
    assert [piece.text for piece in found.pieces] == [" right"] * (12 + 3)
    assert found.labels == (1,) * 10
    assert all(len(one.drafted) == 3 for one in found.rounds)


def test_without_free_chains_a_round_shows_what_was_drafted_up_to_the_first_miss(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", RECIPE)
    for file in (path / "steps").glob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.filter([feed != "free" for feed in table["feed"].to_pylist()]), file)
    for one in reply(read_run(path), "b").rounds:
        assert [piece.text for piece in one.drafted] == [" right"] * one.accepted + [" wrong"] * (one.accepted < 3)


def test_a_drafter_without_a_state_has_replies_and_chains_and_nothing_that_its_chains_lose(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", Recipe(WITHOUT_STATE, prompts=("a",), anchors=12)))
    assert losing(run, 2) == []
    assert all(step.chain.rms is None for step in chain(run, "a", 0, 10).steps)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: reply(run, "bb"), "no prompt 'bb' among 4, expected one such as b;"),
        (lambda run: reply(run, "a", 3), "the prompt 'a' has no turn 3, expected one of 0; name one with --turn"),
        (lambda run: chain(run, "a", 0, 22), "the reply to 'a', turn 0, has no anchor 22, expected 10 to 21; name one of them with --anchor"),
        (lambda run: chain(run, "tiny", 0, 10), "the reply to 'tiny', turn 0, is too short for an anchor"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_what_is(run: Run, ask: object, said: str) -> None:
    with pytest.raises(RunError, match=said):
        ask(run)  # type: ignore[operator]


def test_a_character_of_many_tokens_stands_with_the_last_and_alone_a_part_of_it_is_marked() -> None:
    known = Vocabulary({0: b"a", 1: SMILE[:2], 2: SMILE[2:3], 3: SMILE[3:]})
    pieces, behind = known.reader().read([0, 1, 2])
    assert [piece.text for piece in pieces] == ["a", "", ""]
    assert (behind.piece(3).text, behind.piece(0).text, behind.piece(1).text) == ("😀", "�a", "��")
    assert [piece.text for piece in known.reader().read([0, 1], whole=True)[0]] == ["a", "�"]


def test_a_token_of_no_known_piece_is_shown_by_its_id(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", RECIPE)
    (path / "pieces.parquet").unlink()
    assert reply(read_run(path), "a").pieces[0] == Piece(5, "#5")
    (path / "pieces.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"pieces\.parquet: cannot be read"):
        reply(read_run(path), "a")


def test_a_drifting_head_loses_more_the_deeper_it_drafts(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", Recipe(DRIFTING)))
    by_depth = defaultdict(float, {depth: sum(share for _, share in losing(run, depth)) for depth in (2, 8)})
    assert by_depth[2] < by_depth[8]
    assert isinstance(run.by_depth(accuracy_gap)[7], Estimate)
