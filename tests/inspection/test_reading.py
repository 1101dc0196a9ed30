from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from driftcli.inspection.reading import ShownChain, ShownReply
from driftcli.report.console import plain
from driftcli.traces.pieces import Piece
from driftcli.traces.reader import read_run
from driftcli.traces.samples import Chain, ChainStep, Query, Reply, ReplyHead, Round, chain, reply
from tests.report.synthetic import WITHOUT_STATE, Recipe, write_run


def pieces(*texts: str) -> tuple[Piece, ...]:
    return tuple(Piece(number, text) for number, text in enumerate(texts))


REPLY = Reply(
    ReplyHead("evil\x1b[2J", 0, None, 2, 9, 2, 3),
    pieces("<user>", "Say\n"),
    (0, 1),
    pieces("The", " quick", " fox\n", " ran", " far", "\x1b[31m", "."),
    (Round(2, pieces(" quick", " fox\n", " sat"), 2), Round(5, pieces(" off"), 0), Round(6, pieces("\x1b[31m"), 1)),
)
QUERY = Query(
    Piece(4, " far"),
    True,
    0.9,
    0.5,
    2.0,
    0.25,
    {"sink": None, "template": 0.1, "prompt": 0.2, "verified": 0.3, "ahead": 0.4, "recent": 0.5},
    1.5,
)
WRONG = Query(Piece(5, "\u202eevil"), False, 0.9, 0.5, None, None, dict.fromkeys(QUERY.shares, None), 1.25)
CHAIN = Chain(5, (ChainStep(1, Piece(4, " far"), QUERY, WRONG), ChainStep(2, None, WRONG, None)))


def drawn(shown: RenderableType, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().splitlines()


def test_accepted_drafts_the_first_miss_and_the_targets_own_words_are_told_apart_without_colour() -> None:
    text = plain(ShownReply(REPLY))
    assert "The{+ quick fox\n+}[- sat-] ran[- off-] far{+\\x1b[31m+}." in text
    assert "PROMPT\n<user>Say\n" in text
    assert "3 rounds" not in text.splitlines()[0]
    assert "2 rounds, 3 draft tokens accepted, 2.50 tokens a round" in " ".join(text.split())


def test_every_round_is_listed_with_what_it_drafted() -> None:
    rounds = plain(ShownReply(REPLY)).split("ROUNDS\n")[1].splitlines()
    assert rounds[1].split(maxsplit=4)[:4] == ["2", "2", "of", "3"]
    assert rounds[1].endswith("{+ quick fox\\n+}[- sat-]")
    assert rounds[2].endswith("0 of 1    [- off-]")


def test_a_chain_stands_depth_by_depth_with_its_control_and_the_attention_of_both() -> None:
    lines = plain(ShownChain(REPLY, CHAIN)).splitlines()
    guesses = next(number for number, line in enumerate(lines) if line.startswith("GUESSES"))
    assert lines[guesses + 2].split() == [
        "1", '"', 'far"', '"', 'far"', '"\\u202eevil"', "(missed)", "0.5", "0.5", "0.9", "2",
    ]  # fmt: skip
    assert next(line for line in lines if line.endswith("cosine")).split() == ["depth", "RMS", "control", "cosine"]
    attention = lines[next(number for number, line in enumerate(lines) if line.startswith("ATTENTION")) + 2 :]
    assert attention[0].split() == [
        "1",
        *["-", "/", "-", "10%", "/", "-", "20%", "/", "-", "30%", "/", "-", "40%", "/", "-", "50%", "/", "-", "1.50", "/", "1.25"],
    ]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_fits_the_terminal_and_nothing_foreign_drives_it(width: int) -> None:
    for shown in (ShownReply(REPLY), ShownChain(REPLY, CHAIN)):
        lines = drawn(shown, width)
        assert max(map(len, lines)) <= width
        assert all(line.isprintable() for line in lines)


def test_a_run_of_a_drafter_without_a_state_and_a_reply_without_a_chain_are_shown(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", Recipe(WITHOUT_STATE, prompts=("a",), short=("tiny",), anchors=4)))
    assert "too short for a chain" in plain(ShownReply(reply(run, "tiny")))
    assert '" right"' in plain(ShownChain(reply(run, "a"), chain(run, "a", 0, 10)))


def test_a_chain_without_a_state_attention_or_proposal_says_so_and_shows_no_empty_block() -> None:
    shares = dict.fromkeys(QUERY.shares, None)
    nothing = Query(None, False, 0.9, None, None, None, shares, None)
    found = Query(Piece(4, " far"), True, 0.9, None, None, None, shares, None)
    text = plain(ShownChain(REPLY, Chain(5, (ChainStep(1, Piece(4, " far"), nothing, found),))))
    assert "GUESSES  chain: from this anchor; control: from the anchor right before the token" in text
    assert '"(no proposal)"' not in text and "(no proposal)" in text
    assert "ATTENTION" not in text and "missed" not in text
    assert "own state" in plain(ShownChain(REPLY, CHAIN)) and "ATTENTION" in plain(ShownChain(REPLY, CHAIN))
