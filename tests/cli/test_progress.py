from __future__ import annotations

import io

import pytest
from rich.console import Console

from driftcli.cli.progress import EVERY, Told, time_left
from driftcli.report.evidence import spent


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(clock: Clock, *, terminal: bool = False) -> tuple[Told, io.StringIO]:
    out = io.StringIO()
    return Told(Console(file=out, width=120, force_terminal=terminal, color_system=None), clock), out


@pytest.mark.parametrize(
    ("done", "open", "seconds", "left"),
    [
        (0, 80, 9, ""),
        (16, 64, 45, "about 3 min 0 s left"),
        (60, 20, 90, "about 30 s left"),
        (80, 0, 200, ""),
        (16.5, 63.5, 33, "about 2 min 7 s left"),
    ],
)
def test_the_time_left_is_what_the_rest_takes_at_the_pace_so_far(done: float, open: float, seconds: float, left: str) -> None:
    assert time_left(done, open, seconds) == left


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3725, "62 min 5 s")])
def test_a_time_is_told_in_two_units_at_most(seconds: float, words: str) -> None:
    assert spent(seconds) == words


def test_batches_that_were_there_before_do_not_count_for_the_pace() -> None:
    one, out = told(clock := Clock())
    one(60, 80, "")  # a resumed run starts here
    clock.now = 10
    one(70, 80, "")
    assert out.getvalue().splitlines() == [
        "60 of 80 prompts x conditions measured", "70 of 80 prompts x conditions measured, about 10 s left",
    ]  # fmt: skip


def test_off_a_terminal_a_line_comes_at_least_every_thirty_seconds_with_what_runs_now() -> None:
    one, out = told(clock := Clock())
    one.say("loading a and b on cpu", "loading a and b on cpu")
    for second in range(1, 121):
        clock.now = second
        one.beat()
    lines = out.getvalue().splitlines()
    assert lines[1:] == [f"loading a and b on cpu, {spent(at)} so far" for at in (25, 50, 75, 100)]
    one(0, 80, "writing replies 7-12 of 24, 310 of up to 512 tokens")
    clock.now = 130
    one.beat()
    assert (
        out.getvalue().splitlines()[-1]
        == "0 of 80 prompts x conditions measured; writing replies 7-12 of 24, 310 of up to 512 tokens, 2 min 10 s so far"
    )
    assert EVERY < 30


def test_whoever_spoke_is_not_followed_by_a_beat_and_a_part_of_a_batch_is_no_line() -> None:
    one, out = told(clock := Clock())
    clock.now = EVERY - 1
    one(4, 80, "")
    one(4.5, 80, "drafting on text 2 of 4")
    one(5.0, 80, "drafting on text 3 of 4")
    clock.now = 2 * EVERY - 2
    one.beat()
    assert len(out.getvalue().splitlines()) == 1


def test_the_thread_that_beats_ends_with_the_work() -> None:
    one, out = told(Clock())
    with one as running:
        running.say("at work")
    assert one._over.wait(0)
    assert out.getvalue() == "at work\n"


def test_on_a_terminal_the_bar_moves_within_a_batch() -> None:
    one, out = told(clock := Clock(), terminal=True)
    with one:
        one(0, 10, "writing 4 replies, 5 of up to 128 tokens")
        first = one._bar.tasks[0].percentage if one._bar else 0.0
        clock.now = 3
        one(2.5, 10, "drafting on text 3 of 4")
        assert one._bar is not None
        assert (first, one._bar.tasks[0].percentage) == (0.0, 25.0)
    assert "prompts x conditions measured" not in out.getvalue()  # lines are for logs


def test_foreign_text_cannot_drive_the_terminal() -> None:
    one, out = told(Clock())
    one.say("loading evil\x1b[31m", "loading evil\x1b[31m")
    assert "\x1b" not in out.getvalue()
