"""The pair that ships: what it must be for, and that a diagnosis of it is a clear case."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from driftcli.cli.main import main
from driftcli.errors import SourceError
from driftcli.sources.files import bundled_models, read_config, resolve
from driftcli.target.facts import read_facts
from driftcli.texts.prompts import bundled_prompts

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_everything_that_ships_has_less_than_12_megabytes() -> None:
    folder = resolve("bundled:target").folder.parent
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 12_000_000


def test_a_target_and_five_drafters_ship_each_with_a_card() -> None:
    assert bundled_models() == [
        "bundled:dflash",
        "bundled:dspark",
        "bundled:mtp",
        "bundled:post-norm",
        "bundled:pre-norm",
        "bundled:target",
    ]
    for name in bundled_models():
        assert (resolve(name).folder / "README.md").read_text().startswith("# ")


def test_a_model_that_does_not_ship_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        SourceError, match="bundled:other: no such model ships with driftcli; expected one of bundled:dflash, bundled:dspark, bundled:mtp, "
    ):
        resolve("bundled:other")


def test_the_target_has_a_template_a_bos_of_its_own_an_unusual_rope_base_and_room_for_a_thousand_tokens() -> None:
    source = resolve("bundled:target")
    config, facts = read_config(source), read_facts(source)
    tokenizer = json.loads((source.folder / "tokenizer_config.json").read_text())
    assert facts.layers >= 7
    assert config["rope_parameters"]["rope_theta"] != 10_000  # type: ignore[index,call-overload]
    assert config["max_position_embeddings"] >= 1024  # type: ignore[operator]
    assert config["bos_token_id"] != config["eos_token_id"]
    assert "bos_token" in tokenizer
    assert "bos_token" in (source.folder / "chat_template.jinja").read_text()


def test_its_prompts_are_forty_in_four_kinds_and_some_have_several_turns() -> None:
    prompts = bundled_prompts()
    assert len(prompts) == 40
    assert {prompt.category for prompt in prompts} == {"quote", "pick", "find", "recall"}
    assert any(len(prompt.turns) > 2 for prompt in prompts)


@pytest.mark.slow
def test_with_no_pair_the_bundled_one_is_diagnosed_as_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where the run's folder has a short name, as in the README
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", "--device", "cpu"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("bundled:target  <-  bundled:pre-norm\n24 of 40 prompts")
    (shown,) = [block for block in README.split("```") if "FINDINGS" in block]
    banner = r"^([A-Z ]+ DRIFT.*)$"
    assert first(banner, printed) == first(banner, shown)
    codes = r"^([A-Z]+(?:-[A-Z]+)+) +(\w+\+?)"
    assert re.findall(codes, printed, flags=re.MULTILINE) == re.findall(codes, shown, flags=re.MULTILINE)
    assert set(without_numbers(shown)) - set(without_numbers(printed)) == {
        "(speed, mitigations and what to type depend on the machine and are left out here; so does payoff below)"
    }


@pytest.mark.parametrize(
    "said", ["healthy: wiring, payoff; ", "open: payoff, domain; ", "no payoff: payoff; ", "healthy: wiring; no payoff: payoff"]
)
def test_what_the_payoff_is_does_not_count(said: str) -> None:
    (line,) = without_numbers(f"- moderate: drift; {said}")
    assert not re.search(r"payoff(,|;|$)", line)
    assert line.startswith("- moderate: drift")


def without_numbers(text: str) -> list[str]:
    """The lines of a report as words: numbers, the run's folder and what the payoff is may differ from machine to machine."""
    without_payoff = re.sub(r", payoff\b|\bpayoff, |\b[a-z ]+: payoff; |; [a-z ]+: payoff$", "", text, flags=re.MULTILINE)
    durations = (re.sub(r"\b(\d+ min )?\d+ s\b|\b\d+ min\b", "#", line) for line in without_payoff.splitlines())
    return [" ".join(re.sub(r"[-+]?\d[\d.]*[%x]?|\S*/\S*", "#", line).split()) for line in durations]


def first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, flags=re.MULTILINE)
    assert found is not None
    return found[1]
