"""What engines call a change of a drafter in one pass: draft lengths that its rows follow, and wirings that its config says.

Read in vLLM 0.33 (v1/worker/gpu/spec_decode/dflash, model_executor/models/qwen3_dflash.py), SGLang 0.5.23 (models/dflash.py) and z-lab's
dflash 0.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from driftcli.conditions import worded
from driftcli.domain import PairCard
from driftcli.mitigations.serving import NO_SWITCH, Engine, draft_length, wiring
from driftcli.mitigations.unfiled_serving import unfiled_length

IN_CONFIG = "in the drafter's config.json"
NOT_SERVED = f"{NO_SWITCH}: not known to serve drafters in one pass"
SGLANG_LENGTH = {
    "block": "its block has as many rows as block_size says",
    "peagle": "it has no class that reads mask_hidden",
    "pard": "not known to draft in parallel",
}
WITH_MASKS: Mapping[str, Mapping[str, object]] = {
    "block": {},
    "peagle": {"parallel_drafting": True},
    "pard": {"parallel_drafting": True},
}  # told beside the length
OTHERS: tuple[Engine, ...] = ("sglang", "tensorrt-llm", "transformers")
OLDER = f"{NO_SWITCH}: 0.33 has no class for heads without attention (up to 0.32 --speculative-config: {{}}, for Medusa and MLPSpeculator)"
HEADLESS = f"{NO_SWITCH}: not known to serve heads without attention"


def length_typed(drafts: int, pair: PairCard) -> dict[Engine, str]:
    """Rounds of `drafts` proposals, as an engine is told them for this pair's drafter."""
    if (unfiled := unfiled_length(drafts, pair)) is not None:
        return unfiled
    if pair.family == "feed-forward":
        return {"vllm": OLDER.format(json.dumps({"num_speculative_tokens": drafts})[1:-1]), **dict.fromkeys(OTHERS, HEADLESS)}
    if not pair.guesses_side_by_side:
        return draft_length(drafts, self_feeding=pair.no_recursion is None and not pair.keyless)
    return {
        "vllm": f"--speculative-config: {json.dumps({'num_speculative_tokens': drafts, **WITH_MASKS[pair.family]})[1:-1]}",
        "sglang": f"{NO_SWITCH}: {SGLANG_LENGTH[pair.family]}",
        "tensorrt-llm": NOT_SERVED,
        "transformers": NOT_SERVED,
    }


LINES = {
    "mask": '"mask_token_id": {} in the drafter\'s config.json',
    "seen": "dflash_config.causal, or is_causal, for {} attention in the drafter's config.json",
    "window": "layer_types, sliding_window and use_sliding_window for a window that is {}, in the drafter's config.json",
    "eps": '"rms_norm_eps": {} in the drafter\'s config.json',
    "bias": f"{NO_SWITCH}: a bias by the token before is {{}} nowhere; export markov_head again",
    "slots": "sample_from_anchor for rows that guess {}, in the drafter's config.json",
    "embedding": "embed_tokens left out of the drafter's weights: vLLM then shares {}",
    "head": "lm_head left out of the drafter's weights: vLLM then shares {}",
}


def _of(line: str) -> Callable[[object], str]:
    return lambda value: line.format(worded(value))


def _layer_ids(value: object) -> str:
    assert isinstance(value, tuple)
    ids = json.dumps({"target_layer_ids": [boundary - 1 for boundary in value]})[1:-1]
    return f"{ids} in dflash_config, or {json.dumps({'aux_hidden_state_layer_ids': list(value)})[1:-1]} in speculators' layout, {IN_CONFIG}"


ROPES = {"default": "rope_theta 10000", "Qwen3": "rope_theta 1000000", "target's": "the rope_parameters of the target's"}


def _rope(value: object) -> str:
    return f"{ROPES[str(value)]} {IN_CONFIG}"


def _rotation(value: object) -> str:
    return f"{json.dumps({'is_neox_style': value == 'halves'})[1:-1]} {IN_CONFIG}"


def parallel_wiring(changes: Mapping[str, object]) -> dict[Engine, str]:
    """The same of P-EAGLE and PARD, which vLLM alone serves, and reads as it does EAGLE-3 but for the mask."""
    others = {name: value for name, value in changes.items() if name != "mask"}
    lines = [wiring(others)["vllm"]] if others else []
    lines += [LINES["mask"].format(changes["mask"])] if "mask" in changes else []
    return {"vllm": "; ".join(lines), "sglang": NOT_SERVED, "tensorrt-llm": NOT_SERVED, "transformers": NOT_SERVED}


def block_wiring(changes: Mapping[str, object]) -> dict[Engine, str]:
    """What to write into a block drafter's config, given `Wiring.changes`."""
    made = {"capture": _layer_ids, "rotation": _rotation, "rope": _rope, **{name: _of(line) for name, line in LINES.items()}}
    text = "; ".join(made[name](value) for name, value in changes.items())
    return {"vllm": text, "sglang": text, "tensorrt-llm": NOT_SERVED, "transformers": NOT_SERVED}
