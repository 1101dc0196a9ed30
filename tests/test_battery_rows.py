from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from driftcli.domain import Absent
from driftcli.testing import Facts, Given, Head, compute_mitigation, compute_probe
from tests.battery_rows import LM, MEASURES, PROBES, ROWS, TRIALS, Row, Trying

NUMBERS_ONLY = {"sampling"}  # probes that measure for the table of conditions and find nothing by themselves


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.probe}-{'-'.join(row.codes) or 'quiet'}")
def test_a_probe_says_what_its_row_expects(row: Row) -> None:
    told = compute_probe(PROBES[row.probe], **row.facts)
    assert (told.codes, told.axes) == (list(row.codes), row.axes)


@pytest.mark.parametrize("row", TRIALS, ids=lambda row: f"{row.mitigation}-{'helps' if row.helps else 'quiet'}")
def test_a_mitigation_tries_and_gives_what_its_row_expects(row: Trying) -> None:
    tried = compute_mitigation(MEASURES[row.mitigation], **row.facts)
    assert [trial.name for trial in tried.trials] == list(row.trials)
    assert tried.helps == list(row.helps)


def test_every_probe_and_every_mitigation_has_a_row_where_it_speaks_and_one_where_it_is_quiet() -> None:
    assert {row.probe for row in ROWS if row.codes} == PROBES.keys() - NUMBERS_ONLY
    assert {row.probe for row in ROWS if not row.codes} == PROBES.keys()
    assert {row.mitigation for row in TRIALS if row.helps} == MEASURES.keys()
    assert {row.mitigation for row in TRIALS if not row.helps} == MEASURES.keys()


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("facts", [{}, {"head": Head(prompts=0)}, {"pair": LM}, {"quick": True}, {"temperature": 0.7}], ids="".join)
def test_a_probe_bears_a_run_without_its_conditions_without_a_prompt_and_one_of_a_causal_lm(name: str, facts: Given) -> None:
    assert compute_probe(PROBES[name], **facts).codes == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.codes and row.facts.get("ratios")], ids=lambda row: row.probe)
def test_a_probe_whose_conditions_all_failed_finds_nothing(row: Row) -> None:
    failed = {name: Absent("it failed") for name in row.facts["ratios"]}
    assert compute_probe(PROBES[row.probe], **{**row.facts, "ratios": failed}).codes == []


def test_what_can_be_given_is_what_a_run_of_facts_holds() -> None:
    assert list(get_type_hints(Given)) == [one.name for one in fields(Facts)]
