"""The table of what systems do and the written cases say the same of a family, as far as both speak."""

from __future__ import annotations

import pytest

from driftcli.domain import System
from driftcli.families.mtp.kinds import KINDS, LING_3, Kind
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case
from tests.families.mtp.table import NO_FINAL_NORM, ONE_PLUS, OWN_HEADS, TABLE, Does

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


def test_every_row_has_a_case_and_every_case_but_ling_and_a_head_that_nobody_serves_a_row() -> None:
    assert {row(case) for case in CASES} - set(TABLE) == {"bailing_hybrid", "llama"}
    assert set(TABLE) - {row(case) for case in CASES} == {"bailing_moe_v2", "bailing_moe_v3"}


def kind(name: str) -> Kind:
    return LING_3 if name == "bailing_moe_v3" else next(kind for kind in KINDS if name in kind.types)


def agrees(kind: Kind, system: System, does: Does) -> bool:
    """Whether a loader's row says what was typed here, as far as that is known."""
    served, first = kind.served[system], kind.hidden_first
    pairs = [
        (does.feedback, served.feedback), (does.hand_in, "post" if served.handed == "normed" else "pre"), (does.zeroed, served.blanks_first),
        (does.order == "hidden, embedding", first), (None if does.layers is None else does.layers != "first", served.by_depth),
        (does.rope, {"halves": "neox", "pairs": "interleaved"}[served.rotation or kind.rotation]),
    ]  # fmt: skip
    return all(typed in (None, read) for typed, read in pairs)


@pytest.mark.parametrize("name", TABLE)
def test_the_loader_does_what_is_typed_here(name: str) -> None:
    said = {server: does for server, does in TABLE[name].items() if (does.feedback, does.hand_in) != (None, None)}
    assert {f"as_served:{server}" for server in said} <= set(kind(name).served)
    for server, does in said.items():
        assert agrees(kind(name), f"as_served:{server}", does), (name, server)  # type: ignore[arg-type]
