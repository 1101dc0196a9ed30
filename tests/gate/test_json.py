from __future__ import annotations

import json

from driftcli.domain import Estimate
from driftcli.gate.json import render
from driftcli.outcome import Check, Outcome

CHECKS = (
    Check("min:acceptance-length", "failed", "too short", None, Estimate(2.0, 1.9, 2.1, 20), "tokens", 2.5, "train on"),
    Check("axis:template", "undecided", "?\x1b[31m\u202e", more_prompts=30),
)


def test_an_outcome_is_written_with_every_number_of_its_rules_and_null_for_what_is_absent() -> None:
    found = json.loads(render(Outcome("check", "a <- b", "runs/x", "failed: too short", CHECKS)))
    assert (found["schema"], found["exit_code"], found["run"]) == (1, 4, "runs/x")
    assert found["counts"] == {"passed": 0, "warned": 0, "failed": 1, "undecided": 1, "skipped": 0}
    first, second = found["checks"]
    assert (first["estimate"], first["low"], first["high"], first["n_prompts"], first["limit"]) == (2.0, 1.9, 2.1, 20, 2.5)
    assert (second["estimate"], second["limit"], second["unit"], second["fix"], second["more_prompts"]) == (None, None, None, None, 30)


def test_no_character_of_it_drives_a_terminal() -> None:
    assert all(char.isprintable() or char == "\n" for char in render(Outcome("check", "\x1b]0;", "", "", CHECKS)))
    assert render(Outcome("check", "\x1b]0;", "", "", CHECKS)).isascii()
