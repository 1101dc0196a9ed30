from __future__ import annotations

import pytest

from driftcli.cli.explain import explanation
from driftcli.cli.main import main
from driftcli.codes import CODES, Code


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["explain", *arguments])
    seen = capsys.readouterr()
    return exit.value.code, seen.out, seen.err


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_a_code_is_explained_whole_within_100_columns(code: Code, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, text, error = shown([code.name], capsys)
    assert (exit_code, error) == (0, "")
    assert max(map(len, text.split("\n"))) <= 100
    assert text.startswith(f"{code.name}   ({code.axis})\n")
    words = " ".join(text.split())
    assert all(part in words for part in (code.meaning, code.looks_like, *code.remedies))


def test_a_code_may_be_written_in_small_letters(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(["drift-state"], capsys) == shown(["DRIFT-STATE"], capsys)


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, text, _ = shown([], capsys)
    assert exit_code == 0
    assert [line.split()[0] for line in text.split("\n") if line and not line.startswith(" ")] == [code.name for code in CODES]


def test_an_unknown_code_is_a_usage_error_that_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, text, error = shown(["DRIFT-OF-SNOW"], capsys)
    assert (exit_code, text) == (2, "")
    assert all(code.name in error for code in CODES)


def test_labels_stand_beside_what_they_label() -> None:
    text = explanation(Code("X", "drift", "It is so.", "It is not.", ("do this", "do that")))
    assert text == "X   (drift)\n\nIt is so.\n\nlooks the same: It is not.\n\nwhat mends it:  do this\n                do that"
