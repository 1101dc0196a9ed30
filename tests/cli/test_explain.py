from __future__ import annotations

import pytest

from driftcli.cli.explain import explanation
from driftcli.cli.main import main
from driftcli.codes import CODES, Code
from driftcli.terms import TERMS, Term


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
    assert [line.split()[0] for line in text.split("\n") if line and not line.startswith(" ")] == [
        *(code.name for code in CODES),
        *(term.name.split()[0] for term in TERMS),
    ]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_term_of_the_report_is_explained_under_all_its_names_however_they_are_written(
    term: Term, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (term.name, *term.also, term.name.upper(), term.name.replace("-", " ")):
        exit_code, text, error = shown(words.split(), capsys)
        assert (exit_code, error) == (0, "")
        assert text.startswith(f"{term.name}\n\n") and term.meaning in " ".join(text.split())


def test_a_word_close_to_a_known_one_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean DRIFT-STATE? `driftcli explain`" in shown(["DRIFT-STAT"], capsys)[2]
    assert "did you mean compounding? `driftcli explain`" in shown(["compouding"], capsys)[2]


def test_an_unknown_word_is_a_usage_error_that_says_where_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, text, error = shown(["qqq"], capsys)
    assert (exit_code, text) == (2, "")
    assert error == "error: explain qqq: no such code or term; `driftcli explain` lists them all\n"


def test_labels_stand_beside_what_they_label() -> None:
    text = explanation(Code("X", "drift", "It is so.", "It is not.", ("do this", "do that")))
    assert text == "X   (drift)\n\nIt is so.\n\nlooks the same: It is not.\n\nwhat mends it:  do this\n                do that"
