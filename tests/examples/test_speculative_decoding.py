from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples import speculative_decoding
from examples.speculative_decoding import Decoded, first_difference, seconds_a_token


def test_the_script_holds_measured_against_predicted_speed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--target", str(trained / "target"), "--drafter", str(trained / "trained-post")]
    speculative_decoding.main([*models, "--prompts", "2", "--max-new-tokens", "12", "--drafts", "3", "1", "--repeats", "3"])
    said = capsys.readouterr().out.splitlines()
    assert "; 2 prompts, about " in said[0]
    rows = [re.sub(r"[\[\],%]", " ", line).split() for line in said[-3:-1]]
    assert [row[0] for row in rows] == ["1", "3"]
    inside = 0
    for row in rows:
        depth, length, measured, predicted, low, high, error = int(row[0]), *map(float, (row[1], *row[3:8]))
        assert 1 <= length <= depth + 1
        assert predicted / measured - 1 == pytest.approx(error / 100, abs=0.01 + 0.002 / measured)
        assert low < predicted < high
        inside += low <= measured <= high
        assert row[8:] == ["2", "of", "2"]
    assert said[-1] == f"measured within the interval of what was predicted: {inside} of 2 draft lengths"
    assert not any("differs" in line for line in said)


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
