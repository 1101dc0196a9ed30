"""The table of what systems do and the written cases say the same of a family, as far as both speak."""

from __future__ import annotations

import pytest

from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case
from tests.families.mtp.table import NO_FINAL_NORM, ONE_PLUS, OWN_HEADS, TABLE

NAMED = {"step3p7": "step3p5", "exaone4": "exaone4_5"}  # the case: its row


def row(case: Case) -> str:
    name = case.name.split("-")[0]
    return NAMED.get(name, name)


@pytest.mark.parametrize("case", [case for case in CASES if row(case) in TABLE], ids=lambda case: case.name)
def test_a_case_is_what_its_row_says(case: Case) -> None:
    assert {does.order == "hidden, embedding" for does in TABLE[row(case)].values()} == {case.hidden_first}
    assert case.one_plus is (row(case) in ONE_PLUS)
    assert (case.own_head is not None) is (row(case) in OWN_HEADS)
    assert ("final_norm" not in case.names) is (row(case) in NO_FINAL_NORM)
    ropes = {does.rope for does in TABLE[row(case)].values()}
    assert case.turned is not None or ropes == {None}


def test_every_row_has_a_case_and_every_case_but_ling_a_row() -> None:
    assert {row(case) for case in CASES} - set(TABLE) == {"bailing_hybrid"}
    assert set(TABLE) - {row(case) for case in CASES} == {"bailing_moe_v2", "bailing_moe_v3"}
