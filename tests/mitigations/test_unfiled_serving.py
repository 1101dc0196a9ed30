"""What engines are told of a lookup and of an early exit: keys that they have, numbers of the pair, and no switch where there is none."""

from __future__ import annotations

import json
from dataclasses import replace

from transformers import GenerationConfig

from driftcli.domain import PairCard, Sourced
from driftcli.mitigations.block_serving import length_typed
from driftcli.mitigations.serving import ENGINES, NO_SWITCH
from driftcli.mitigations.unfiled_serving import NO_EXIT, of_exit
from driftcli.testing.facts import pair_card


def lookup(fewest: int, most: int) -> PairCard:
    record = {"tokens": Sourced((fewest, most), "command line")}
    return replace(pair_card(no_recursion="it copies"), family="lookup", record=record)


EXIT = replace(pair_card(no_recursion="no state"), family="early-exit", record={"layers": Sourced(4, "command line")})


def settings(call: str) -> dict[str, object]:
    """Keywords of a call as Python reads them."""
    assert call.startswith("generate(") and call.endswith(")")
    return eval(f"dict({call[len('generate(') : -1]})", {})  # of a text of ours


def test_a_lookup_is_typed_with_its_sizes_where_an_engine_takes_them() -> None:
    told = length_typed(5, lookup(1, 3))
    assert told.keys() == ENGINES.keys()
    wanted = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 1, "prompt_lookup_max": 3}
    assert json.loads("{" + told["vllm"].removeprefix("--speculative-config: ") + "}") == wanted
    assert settings(told["transformers"]) == {"prompt_lookup_num_tokens": 5, "max_matching_ngram_size": 3}
    assert "max_draft_len: 5, max_matching_ngram_size: 3" in told["tensorrt-llm"]
    assert told["sglang"].startswith(NO_SWITCH)


def test_where_single_tokens_are_always_looked_up_a_lookup_of_more_has_no_switch() -> None:
    told = length_typed(5, lookup(2, 5))
    assert '"prompt_lookup_min": 2, "prompt_lookup_max": 5' in told["vllm"]
    assert all(told[engine].startswith(NO_SWITCH) for engine in ("transformers", "tensorrt-llm", "sglang"))


def test_an_early_exit_is_known_to_transformers_alone() -> None:
    told = length_typed(3, EXIT)
    assert {engine for engine, text in told.items() if text == NO_EXIT} == {"vllm", "sglang", "tensorrt-llm"}
    assert settings(told["transformers"]) == {
        "assistant_early_exit": 4,
        "num_assistant_tokens": 3,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0,
    }
    stop = of_exit("assistant_model.generation_config.assistant_confidence_threshold = 0.4")
    assert stop["transformers"] == "model.generation_config.assistant_confidence_threshold = 0.4"


def test_transformers_has_every_key() -> None:
    known = GenerationConfig().to_dict()
    for pair in (lookup(1, 3), EXIT):
        assert settings(length_typed(3, pair)["transformers"]).keys() <= known.keys()


def test_a_drafter_with_files_is_typed_as_before() -> None:
    assert length_typed(3, pair_card())["vllm"] == '--speculative-config: "num_speculative_tokens": 3'
