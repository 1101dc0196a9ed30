from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from driftcli.engine import timing
from driftcli.statistics.costs import StepCosts
from examples import speculative_decoding
from examples.speculative_decoding import Decoded, first_difference, seconds_a_token

LOOP = ["--max-new-tokens", "12", "--drafts", "3", "1", "--repeats", "3"]


def looped(prompts: int, trained: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    models = ["--target", str(trained / "target"), "--drafter", str(trained / "trained-post")]
    speculative_decoding.main([*models, *LOOP, "--prompts", str(prompts)])
    return capsys.readouterr().out.splitlines()


def test_on_a_clock_that_only_steps_move_the_loop_takes_what_was_predicted(
    trained: Path, clock: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(speculative_decoding, timing)
    said = looped(8, trained, capsys)
    assert "; 8 prompts, about " in said[0]
    assert said[1] == (
        "ms a step: first draft 3000.00 and 500.00 for each more token that it reads, further 2000.00, "
        "target over 1, 2, ... 11000.00, 12000.00, 13000.00, 14000.00"
    )
    rows = [re.sub(r"[\[\],%]", " ", line).split() for line in said[-3:-1]]
    assert [row[0] for row in rows] == ["1", "3"]
    for row in rows:
        depth, length, measured, predicted, low, high, error = int(row[0]), *map(float, (row[1], *row[3:8]))
        assert 1 <= length <= depth + 1
        assert predicted == pytest.approx(measured, rel=0.03)  # what the last round keeps is read by no further one
        assert predicted / measured - 1 == pytest.approx(error / 100, abs=0.002)
        assert low <= predicted <= high
        assert row[8:] == ["8", "of", "8"]
    assert re.fullmatch(r"measured within the interval of what was predicted: [012] of 2 draft lengths", said[-1])
    assert not any("differs" in line or "cannot be true" in line for line in said)


def test_steps_whose_times_cannot_be_predict_nothing(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = StepCosts(1, 0.1, 0.1, (1.0, 0.5, 0.5, 0.5))
    monkeypatch.setattr(speculative_decoding.StepTimer, "costs", lambda _: impossible)
    said = looped(2, trained, capsys)
    assert f"the times of the steps cannot be true: {impossible.doubt}" in said
    assert all("  unknown (no interval)  " in line for line in said[-2:])


def test_few_prompts_have_a_prediction_without_an_interval(
    trained: Path, clock: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(speculative_decoding, timing)
    for line in looped(2, trained, capsys)[-2:]:
        measured, predicted, *told = line.split()[3:]
        assert float(predicted) == pytest.approx(float(measured), rel=0.05)
        assert told == ["(no", "interval)", "2", "of", "2"]


def test_the_first_place_where_replies_differ_is_found() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2


def test_seconds_a_token_are_over_all_that_was_committed() -> None:
    assert seconds_a_token([Decoded([9, 1, 2], [1], 3.0), Decoded([9, 1, 2, 3], [0, 1], 7.0)]) == 2.0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--target", "/nowhere"], 3, "error: /nowhere: no such folder"),
        (["--prompts", "0"], 2, "'0' is no positive whole number"),
        (["--max-new-tokens", "1"], 2, "expected at least 2"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        speculative_decoding.main(arguments)
    assert ended.value.code == code
    assert said in capsys.readouterr().err
