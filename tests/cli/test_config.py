from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from driftcli.cli.config import Configured
from driftcli.cli.main import app, main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    return exit.value.code


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[object, str]]:
    """What `--show-config` says of `diagnose`, by option: its value and where it comes from."""
    assert not ended("diagnose", "--show-config", "--format", "json", *arguments)
    options = json.loads(capsys.readouterr().out)["options"]
    return {name: (one["value"], one["source"]) for name, one in options.items()}


def refused(capsys: pytest.CaptureFixture[str], content: str, file: str = "drift.toml", *arguments: str) -> str:
    Path(file).write_text(content)
    assert ended("diagnose", "--show-config", *arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_the_command_line_goes_before_the_environment_that_before_the_file_and_that_before_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("drift.toml").write_text("depth = 2\n[diagnose]\nlimit = 3\nseed = 4\n")
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_LIMIT", "5")
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_SEED", "6")
    found = shown(capsys, "--seed", "7")
    assert found["seed"] == (7, "command line")
    assert found["limit"] == (5, "DRIFTCLI_DIAGNOSE_LIMIT")
    assert found["depth"] == (2, "drift.toml")
    assert found["max-new-tokens"] == (128, "default")


def test_a_commands_table_goes_before_the_top_and_drift_toml_before_pyproject(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text("[tool.driftcli]\ndepth = 3\n[tool.driftcli.diagnose]\ndepth = 4\n")
    assert shown(capsys)["depth"] == (4, "pyproject.toml")
    Path("drift.toml").write_text("limit = 9\n")
    found = shown(capsys)
    assert found["depth"] == (8, "default") and found["limit"] == (9, "drift.toml")


def test_a_pyproject_of_other_tools_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert {source for _, source in shown(capsys).values()} == {"default", "command line"}


def test_flags_and_lists_come_from_file_and_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("drift.toml").write_text('strict = true\n[diagnose]\nquick = false\nprobe = ["wiring", "template"]\n')
    found = shown(capsys)
    assert (found["strict"][0], found["quick"][0], found["probe"][0]) == (True, False, ["wiring", "template"])
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_STRICT", "false")
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_PROBE", "noise domain")
    found = shown(capsys)
    assert found["strict"] == (False, "DRIFTCLI_DIAGNOSE_STRICT") and found["probe"][0] == ["noise", "domain"]


def test_a_table_for_people_names_value_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    Path("drift.toml").write_text('[report]\nfail-on = "mild"\n')
    assert not ended("report", "--show-config")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fail-on", "mild", "drift.toml"] in lines
    assert ["probe", "-", "default"] in lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dept = 5", "drift.toml: dept: no such option, and no command; did you mean depth?"),
        ("max_new_tokens = 5", "did you mean max-new-tokens?"),
        ("[diagnose]\nlimt = 5", "drift.toml: diagnose.limt: driftcli diagnose has no such option; did you mean limit?"),
        ("[report]\ndepth = 5", "drift.toml: report.depth: driftcli report has no such option"),
        ("[diagnos]\ndepth = 5", "did you mean diagnose?"),
        ("diagnose = 5", "drift.toml: diagnose is 5, expected a table of options, as [diagnose]"),
        ("depth = true", "drift.toml: depth is True, expected one text or number"),
        ('depth = "deep"', "drift.toml: depth: "),
        ("depth = 0", "drift.toml: depth: "),
        ("depth = 2.5", "drift.toml: depth: "),
        ("depth = [2]", "drift.toml: depth is [2], expected one text or number"),
        ('strict = "yes"', "drift.toml: strict is 'yes', expected true or false"),
        ('[diagnose]\nprobe = "wiring"', "drift.toml: diagnose.probe is 'wiring', expected a list of texts"),
        ('format = "pdf"', "drift.toml: format: "),
        ("depth 5", "drift.toml: cannot be read as TOML"),
    ],
)
def test_what_a_file_says_wrong_is_one_sentence_and_a_usage_error(content: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, content)


@pytest.mark.parametrize(
    "content",
    [
        "trust-remote-code = true",
        "[diagnose]\nengine-args = '{}'",
        "[diagnose]\nforce = true",
        '[diagnose]\nprobe = ["own_probe:PROBE"]',
        '[report]\nprobe = ["a.b:C"]',
    ],
)
def test_a_file_that_was_only_found_brings_no_code_and_overwrites_nothing(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("drift.toml").write_text(content)
    command = "report" if "report" in content else "diagnose"
    assert ended(command, "--show-config") == 2
    assert "which a file that merely lies in this folder may not ask for" in capsys.readouterr().err
    assert not ended(command, "--show-config", "--config", "drift.toml")


def test_a_file_may_say_that_code_is_not_to_be_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("drift.toml").write_text("trust-remote-code = false\n")
    assert shown(capsys)["trust-remote-code"] == (False, "drift.toml")


def test_a_variable_of_no_option_is_a_usage_error_and_those_of_the_tests_are_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTCLI_SMOLLM2", "somewhere")
    monkeypatch.setenv("DRIFTCLI_VLLM", "somewhere")
    shown(capsys)
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_DEPHT", "3")
    assert ended("diagnose", "--show-config") == 2
    assert "did you mean DRIFTCLI_DIAGNOSE_DEPTH?" in capsys.readouterr().err


def test_a_named_file_stands_in_the_place_of_those_that_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("drift.toml").write_text("depth = 2\n")
    Path("other.toml").write_text("limit = 3\n")
    found = shown(capsys, "--config", "other.toml")
    assert found["depth"] == (8, "default") and found["limit"] == (3, "other.toml")
    monkeypatch.setenv("DRIFTCLI_CONFIG", "other.toml")
    assert shown(capsys)["limit"] == (3, "other.toml")
    assert ended("diagnose", "--show-config", "--config", "none.toml") == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_a_hostile_name_and_value_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, '"\\u001b[31mx" = 1\n')
    assert "\x1b" not in said
    Path("drift.toml").write_text('target = "\\u001b[31mx"\n')
    assert not ended("diagnose", "--show-config")
    assert "\x1b" not in capsys.readouterr().out


def test_help_is_shown_whatever_the_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("drift.toml").write_text("dept = [")
    assert not ended("report", "--help")
    assert "--show-config" in capsys.readouterr().out


def test_what_a_found_file_sets_is_said_before_the_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("drift.toml").write_text('format = "json"\nstrict = true\n')
    assert ended("report", "nothing-here") == 3
    assert capsys.readouterr().err.startswith("from drift.toml: format, strict\n")


def test_every_command_takes_its_options_from_elsewhere_too() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {name for name, command in commands.items() if not isinstance(command, Configured)} == set()
