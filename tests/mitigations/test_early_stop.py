from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.domain import Absent
from driftcli.mitigations.early_stop import SURVIVALS, EarlyStop
from driftcli.mitigations.mitigation import Trial
from driftcli.statistics.survival import Chains
from driftcli.testing import Facts
from tests.mitigations.planned_trace import DEPTH, planned
from tests.statistics.test_temperatures import planted


def trials(chains: Chains | Absent) -> dict[str, Trial]:
    run: Facts = replace(planned(), survival={"draft_prob": chains})
    return {trial.name: trial for trial in EarlyStop().trials(run)}


def test_a_chain_is_stopped_by_its_product_as_it_is_and_under_the_temperatures_of_the_half_that_selects() -> None:
    chains = planted(3, 2.0)
    found = trials(chains)
    raw, calibrated = (found[f"early-stop-survival{end}"].options for end in ("", "-calibrated"))
    assert [one.plan.stop.low for one in raw if one.plan.stop] == list(SURVIVALS)
    assert {one.plan.stop.temperatures for one in raw if one.plan.stop} == {()}
    own = chains.of_units(chains.unit[:: len(chains.unit) // chains.units] % 2 == 0).fit().temperatures
    assert len(own) == DEPTH
    for one in calibrated:
        assert one.plan.stop is not None
        assert one.plan.stop.temperatures == pytest.approx(own)
    assert raw[2].words == "stop when the product of the probabilities of its draft tokens is below 15%"
    assert calibrated[2].words == f"{raw[2].words} under a temperature a depth"
    assert all(text.startswith("no such switch") for one in raw for text in one.settings.values())


def test_a_confidence_head_stops_chains_beside_the_probabilities() -> None:
    chains = planted(3, 2.0)
    run: Facts = replace(planned(), survival={"draft_prob": chains, "confidence": chains})
    found = {trial.name: trial for trial in EarlyStop().trials(run)}
    assert {"early-stop-survival", "early-stop-head", "early-stop-head-calibrated"} <= found.keys()
    first = found["early-stop-head"].options[0]
    assert first.words == "stop when the product of what the confidence head says of its draft tokens is below 5%"
    assert "enable_adaptive_verification" in first.settings["vllm"]


def test_a_drafter_that_says_nothing_of_its_chains_is_stopped_by_no_product() -> None:
    assert not any("survival" in name for name in trials(Absent("its draft tokens have no probabilities")))
