"""What engines call drafters that are no checkpoint: a lookup in the text, and an early exit of the target.

Read in vLLM 0.33 (config/speculative.py, v1/spec_decode/ngram_proposer.py) and transformers 5.24 (generation/candidate_generator.py); of
TensorRT-LLM its documentation of NGramDecodingConfig, whose pool of patterns is that of all requests unless told.
"""

from __future__ import annotations

import json

from driftcli.domain import PairCard
from driftcli.mitigations.serving import NO_SWITCH, Engine

NO_EXIT = f"{NO_SWITCH}: it drafts with no layers of the target's own"


def lookup_length(drafts: int, fewest: int, most: int) -> dict[Engine, str]:
    """Rounds of at most `drafts` tokens that followed the last `fewest` to `most` ones."""
    keys = {"method": "ngram", "num_speculative_tokens": drafts, "prompt_lookup_min": fewest, "prompt_lookup_max": most}
    shortest = f"{NO_SWITCH}: it looks up single tokens, too"
    return {
        "vllm": f"--speculative-config: {json.dumps(keys)[1:-1]}",
        "sglang": f"{NO_SWITCH}: --speculative-algorithm NGRAM looks up in the texts of all requests",
        "tensorrt-llm": (
            f"speculative_config: decoding_type: NGram, max_draft_len: {drafts}, max_matching_ngram_size: {most}, is_public_pool: false"
            if fewest == 1
            else shortest
        ),
        "transformers": f"generate(prompt_lookup_num_tokens={drafts}, max_matching_ngram_size={most})" if fewest == 1 else shortest,
    }


def exit_length(drafts: int, layers: int) -> dict[Engine, str]:
    """Rounds of `drafts` tokens of the target's first layers."""
    keys = f'num_assistant_tokens={drafts}, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0'
    return of_exit(f"generate(assistant_early_exit={layers}, {keys})")


def of_exit(assistant: str) -> dict[Engine, str]:
    """What transformers is told of an assistant model, as it is for the target's own layers, which no other engine drafts with."""
    told = assistant.replace("assistant_model.generation_config", "model.generation_config")
    return {"vllm": NO_EXIT, "sglang": NO_EXIT, "tensorrt-llm": NO_EXIT, "transformers": told}


def unfiled_length(drafts: int, pair: PairCard) -> dict[Engine, str] | None:
    """Rounds of so many tokens of a pair whose drafter is no checkpoint, None for any other."""
    if pair.copies:
        sizes = pair.record["tokens"].value
        assert isinstance(sizes, tuple)
        return lookup_length(drafts, *sizes)
    if pair.family == "early-exit":
        layers = pair.record["layers"].value
        assert isinstance(layers, int)
        return exit_length(drafts, layers)
    return None
