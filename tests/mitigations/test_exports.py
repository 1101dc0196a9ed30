from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from driftcli.mitigations.exports import confidence_settings, exports
from driftcli.mitigations.serving import ENGINES, NO_ASSISTANT, NO_SWITCH
from driftcli.testing import pair_card

JOINT = (0.7296, 0.5208, 0.3545)  # vLLM's own baseline of Llama-3.1-8B, acceptance length 2.60
CURVES = [JOINT, (1.0,), (0.5, 0.25, 0.0), (1.0, 1.0, 0.3), (0.123456, 0.123454, 0.1)]


def rates(text: str) -> list[float]:
    found = json.loads(f"{{{text.removeprefix('--speculative-config: ')}}}")
    assert (found["rejection_sample_method"], found["num_speculative_tokens"]) == ("synthetic", len(found["synthetic_acceptance_rates"]))
    return list(found["synthetic_acceptance_rates"])


def conditional(joint: list[float]) -> list[float]:
    """What vLLM makes of its rates before it draws: the share that keeps a draft among those that kept all before it."""
    return [here / before if before else 0.0 for before, here in zip([1.0, *joint], joint, strict=False)]


def number(text: str) -> float:
    found = re.search(r"=([\d.]+)", text)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("joint", CURVES)
def test_all_engines_pretend_one_acceptance_length(joint: tuple[float, ...]) -> None:
    found = exports(joint)
    assert list(found) == list(ENGINES)
    length = 1 + sum(joint)
    assert 1 + sum(rates(found["vllm"])) == pytest.approx(length, abs=1e-3)
    assert number(found["sglang"]) == pytest.approx(length, abs=1e-3)  # with the bonus token
    assert 1 + number(found["tensorrt-llm"]) == pytest.approx(length, abs=1e-3)  # without


def test_the_known_curve_has_its_known_length() -> None:
    found = exports(JOINT)
    assert rates(found["vllm"]) == list(JOINT)
    assert found["sglang"].startswith("SGLANG_SIMULATE_ACC_LEN=2.6049 SGLANG_SIMULATE_ACC_METHOD=match-expected ")
    assert found["tensorrt-llm"] == "TLLM_SPEC_DECODE_FORCE_NUM_ACCEPTED_TOKENS=1.6049"
    assert found["transformers"].startswith(NO_SWITCH)


def test_vllm_draws_the_conditional_rates_that_were_measured() -> None:
    drawn = conditional(rates(exports(JOINT)["vllm"]))
    assert [round(rate, 3) for rate in drawn] == [0.730, 0.714, 0.681]
    np.testing.assert_allclose(np.cumprod(drawn), JOINT)


def test_nothing_accepted_cannot_be_forced_where_zero_means_unforced() -> None:
    found = exports((0.0, 0.0))
    assert found["tensorrt-llm"].startswith(NO_SWITCH)
    assert number(found["sglang"]) == 1
    assert rates(found["vllm"]) == [0.0, 0.0]


@pytest.mark.parametrize("joint", [(), (0.5, 0.6), (1.2,), (-0.1,), (float("nan"),)])
def test_what_is_no_curve_of_joint_shares_is_refused(joint: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="never rise"):
        exports(joint)


def test_a_threshold_of_one_token_is_typed_where_an_engine_stops_by_it() -> None:
    lm = pair_card(no_recursion="it hands on no state")
    assert confidence_settings("draft_prob", 0.35, lm) == {
        "transformers": "assistant_model.generation_config.assistant_confidence_threshold = 0.35",
        "llama.cpp": "--draft-p-min 0.35 (leaves the unsure token out)",
    }
    assert confidence_settings("draft_prob", 0.35, pair_card())["transformers"] == NO_ASSISTANT
    exits = replace(lm, family="early-exit")  # the target's own layers, which no assistant model is loaded for
    assert confidence_settings("draft_prob", 0.35, exits)["transformers"] == "model.generation_config.assistant_confidence_threshold = 0.35"
    assert confidence_settings("draft_prob", None, lm) == {}
    assert confidence_settings("draft_prob", 0.35, replace(lm, family="block")) == {}
    assert "enable_adaptive_verification" in confidence_settings("confidence", None, lm)["vllm"]
