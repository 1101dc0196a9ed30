"""What engines take to pretend the acceptance that was measured, for tests of a server's speed without this drafter.

All three say how many drafts a round keeps, and each counts otherwise: vLLM by depth, SGLang with the bonus token, TensorRT-LLM without.
vLLM alone pretends the whole curve; the others keep its mean, by rounds of the two whole numbers around it. Besides, what they take to stop
chains by what the drafter says of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from driftcli.conditions import StopRule
from driftcli.domain import PairCard
from driftcli.mitigations.early_stop import stop_typed
from driftcli.mitigations.serving import NO_SWITCH, Engine
from driftcli.statistics.survival import Told

DIGITS = 4  # of a rate; what is cut off is far below the noise of any run (chosen by us)


def exports(joint_walk: Sequence[float]) -> dict[Engine, str]:
    """Settings that pretend `joint_walk`: by depth, the share of rounds that keep at least so many drafts, in [0, 1] and never rising.

    ValueError for anything else. Source: vLLM 0.33 config/speculative.py, whose rates are joint, and v1/worker/gpu/spec_decode/
    rejection_sampler.py, which makes them conditional; SGLang 0.5.23 speculative/spec_utils.py, whose length counts the bonus token;
    TensorRT-LLM main of summer 2026 _torch/speculative/interface.py, whose number counts drafts, with a fraction in its one-model path.
    """
    rates = [round(share, DIGITS) for share in joint_walk]
    if not rates or not all(0 <= share <= 1 for share in rates) or rates != sorted(rates, reverse=True):
        raise ValueError(f"joint acceptance must be shares that never rise with depth, at least one, got {list(joint_walk)}")
    kept = round(sum(rates), DIGITS)
    return {
        "vllm": f"--speculative-config: {_vllm(rates)}",
        "sglang": f"SGLANG_SIMULATE_ACC_LEN={_plain(1 + kept)} SGLANG_SIMULATE_ACC_METHOD=match-expected "
        "SGLANG_SIMULATE_ACC_TOKEN_MODE=real-draft-token",
        "tensorrt-llm": f"TLLM_SPEC_DECODE_FORCE_NUM_ACCEPTED_TOKENS={_plain(kept)}" if kept else f"{NO_SWITCH}: 0 accepted forces nothing",
        "transformers": f"{NO_SWITCH}: acceptance cannot be forced",
    }


def _vllm(rates: Sequence[float]) -> str:
    keys = {"num_speculative_tokens": len(rates), "rejection_sample_method": "synthetic", "synthetic_acceptance_rates": rates}
    return json.dumps(keys)[1:-1]


def _plain(number: float) -> str:
    return f"{round(number, DIGITS):g}"


def confidence_settings(told: Told, threshold: float | None, pair: PairCard) -> dict[str, str]:
    """What engines take to stop a chain by what its drafter says of it, by what says it. threshold: the least probability of one draft
    token, None where none was chosen. No engine takes temperatures, and none that stops by a token's probability runs block drafters.

    Source: transformers generation/candidate_generator.py; llama.cpp common/speculative.cpp since pull request 22506, which leaves the
    unsure token out, while transformers has it verified; vLLM 0.32 config/speculative.py and v1/worker/gpu/spec_decode/
    adaptive_verification.py, which takes the products as they are and sets its bound by the times of its own steps (temperatures:
    vllm-project/vllm#52053, open); deepseek-ai/DeepSpec eval/dspark/draft_ops.py.
    """
    if told == "confidence":
        return {
            "vllm": '--speculative-config: "enable_adaptive_verification": true (no threshold: the times of steps set it; no temperatures)',
            "deepspec": "--confidence-threshold of its evaluation cuts a block at the first token below it, which is left out",
        }
    if threshold is None or pair.guesses_side_by_side:
        return {}
    return {
        "transformers": stop_typed(StopRule("confidence", low=threshold), pair)["transformers"],
        "llama.cpp": f"--draft-p-min {threshold:g} (leaves the unsure token out)",
    }
