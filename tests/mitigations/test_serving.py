from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from transformers import GenerationConfig

from driftcli.conditions import StopMeasure, StopRule, Wiring
from driftcli.domain import SYSTEM_NAMES
from driftcli.families.eagle.capture_layers import INSIDE, LayerIds, captured
from driftcli.mitigations import serving
from driftcli.mitigations.serving import ENGINES, NO_SWITCH, Engine
from driftcli.target.facts import TargetFacts

LAYERS = 32
KEY = "eagle_aux_hidden_state_layer_ids"
TYPES = ["llama", "qwen3", "gpt_oss", "deepseek_v3", "kimi_k2"]
STOPS: tuple[StopMeasure, ...] = ("confidence", "entropy", "state", "prompt", "survival", "head")
EVERYTHING: list[Callable[[], dict[Engine, str]]] = [
    lambda: serving.draft_length(3, self_feeding=True),
    lambda: serving.draft_length(3, self_feeding=False),
    lambda: serving.by_batch_size([(1, 5), (8, 3)]),
    lambda: serving.by_batch_size([(1, 5)], self_feeding=False),
    lambda: serving.by_batch_size([(1, 0)]),
    serving.speculation_off,
    *(
        lambda kept=kept, family=family: serving.draft_window(256, kept, family=family)
        for kept in ("nothing", "sink", "system")
        for family in ("eagle", "eagle3")
    ),
    *(lambda measure=measure: serving.early_stop(StopRule(measure, 0.4)) for measure in STOPS),
    lambda: serving.attention_bias("chain_bias", -1),
    lambda: serving.attention_bias("sink_bias", 1),
    lambda: serving.attention_temperature(0.1),
    *(lambda name=name: serving.template(name) for name in ("no-bos", "bos-doubled", "no-system", "other-system")),
]
WIRINGS = [
    Wiring(capture=(2, 16, 29)),
    Wiring(capture=(33,)),
    Wiring(feedback="normed"),
    Wiring(feedback="raw"),
    Wiring(residual="normed"),
    Wiring(residual="raw"),
    *(Wiring(ones=norm) for norm in ("embedding", "hidden", "fusion", "mlp", "final", "every")),
    Wiring(vocabulary="absolute"),
    Wiring(vocabulary="offset"),
    Wiring(rope="default"),
    Wiring(rope="target's"),
    Wiring(embedding="own"),
    Wiring(embedding="target's"),
    Wiring(head="own"),
    Wiring(head="target's"),
]


def of_json(text: str) -> dict[str, object]:
    """Keys that a text sets in JSON, from its first quote to the last thing that JSON can hold."""
    start = text.index('"')
    for end in range(len(text), start, -1):
        try:
            found: dict[str, object] = json.loads(f"{{{text[start:end]}}}")
        except json.JSONDecodeError:
            continue
        return found
    raise AssertionError(text)


def target(model_type: str) -> TargetFacts:
    return TargetFacts("a target", layers=LAYERS, model_type=model_type)


@pytest.mark.parametrize("named", EVERYTHING)
def test_every_change_is_named_for_every_engine_or_said_to_have_no_switch(named: Callable[[], dict[Engine, str]]) -> None:
    found = named()
    assert list(found) == list(ENGINES)
    assert all(found.values())
    assert all(text.startswith(f"{NO_SWITCH}: ") for text in found.values() if NO_SWITCH in text)


@pytest.mark.parametrize("changed", WIRINGS, ids=str)
def test_every_wiring_is_named_for_every_engine(changed: Wiring) -> None:
    found = serving.wiring(changed.changes)
    assert list(found) == list(ENGINES)
    assert found["transformers"] == serving.NO_ASSISTANT


def test_the_versions_are_those_of_the_readings() -> None:
    assert SYSTEM_NAMES["as_served:vllm"] == f"vLLM {ENGINES['vllm']}"
    assert SYSTEM_NAMES["as_served:sglang"] == f"SGLang {ENGINES['sglang']}"


# ---- draft lengths


@pytest.mark.parametrize("drafts", [1, 3, 8])
def test_sglang_counts_the_root_among_the_draft_tokens(drafts: int) -> None:
    text = serving.draft_length(drafts, self_feeding=True)["sglang"]
    flags = dict(zip(*[iter(text.split())] * 2, strict=True))
    steps, tokens = int(flags["--speculative-num-steps"]), int(flags["--speculative-num-draft-tokens"])
    assert (steps, tokens, flags["--speculative-eagle-topk"]) == (drafts, drafts + 1, "1")


def test_the_others_count_proposals() -> None:
    found = serving.draft_length(5, self_feeding=True)
    assert of_json(found["vllm"]) == {"num_speculative_tokens": 5}
    assert found["tensorrt-llm"] == "speculative_config: max_draft_len: 5"
    assert found["transformers"].startswith("no such switch: an EAGLE head")


def test_transformers_drafts_as_many_once_its_own_defaults_are_filled_in() -> None:
    class Assistant:
        generation_config = GenerationConfig()

    text = serving.draft_length(5, self_feeding=False)["transformers"]
    exec(text, {"assistant_model": Assistant})
    own = Assistant.generation_config
    own.update(**own._get_default_generation_params(), defaults_only=True)
    assert (own.num_assistant_tokens, own.num_assistant_tokens_schedule, own.assistant_confidence_threshold) == (5, "constant", 0)


BEST = [(1, 5), (8, 3), (32, 0)]


def vllm_lengths(text: str, largest: int) -> list[int]:
    """Drafts at batch 1, 2, ... as vLLM expands its ranges: the last number goes on."""
    keys = of_json(text)
    ranges = keys["num_speculative_tokens_per_batch_size"]
    assert isinstance(ranges, list)
    found = [drafts for first, last, drafts in ranges for _ in range(first, last + 1)]
    assert [first for first, _, _ in ranges] == [1, *(last + 1 for _, last, _ in ranges[:-1])]
    assert keys["num_speculative_tokens"] == max(found)
    return (found + found[-1:] * largest)[:largest]


def sglang_lengths(text: str, largest: int) -> list[int]:
    """The same as SGLang picks its slot: the largest that is not above the batch."""
    slots = {int(size): slot["candidate_steps"] for size, slot in json.loads(text[text.index("{") :]).items()}
    found = []
    for batch in range(1, largest + 1):
        (drafts,) = slots[max(size for size in slots if size <= batch)]
        found.append(drafts)
    assert f"--speculative-num-steps {max(found)} " in text
    return found


def tensorrt_lengths(text: str, largest: int) -> list[int]:
    """The same as TensorRT-LLM does: a key is the largest batch of its range, and above the last nothing is drafted."""
    pairs = {int(size): int(drafts) for size, drafts in re.findall(r"(\d+): (\d+)", text[text.index("{") :])}
    assert f"max_draft_len: {pairs[min(pairs)]}," in text
    return [next((drafts for size, drafts in sorted(pairs.items()) if batch <= size), 0) for batch in range(1, largest + 1)]


def test_a_length_by_batch_size_holds_up_to_the_next_one_in_every_engine() -> None:
    found = serving.by_batch_size(BEST)
    expected = [5] * 7 + [3] * 24 + [0] * 9
    assert vllm_lengths(found["vllm"], 40) == expected
    assert sglang_lengths(found["sglang"], 40) == expected
    assert tensorrt_lengths(found["tensorrt-llm"], 40) == expected


def test_the_first_length_holds_from_a_batch_of_one_on_whatever_the_order() -> None:
    found = serving.by_batch_size([(16, 2), (4, 4)])
    assert vllm_lengths(found["vllm"], 20) == sglang_lengths(found["sglang"], 20) == [4] * 15 + [2] * 5
    assert tensorrt_lengths(found["tensorrt-llm"], 20) == [4] * 15 + [2] + [0] * 4


def test_tensorrt_takes_no_schedule_that_rises() -> None:
    assert serving.by_batch_size([(1, 2), (8, 3)])["tensorrt-llm"].startswith(NO_SWITCH)


def test_no_drafts_at_any_batch_size_is_no_speculation() -> None:
    assert serving.by_batch_size([(1, 0), (8, 0)]) == serving.speculation_off()


@pytest.mark.parametrize("best", [[], [(1, 2), (1, 3)]])
def test_sizes_that_are_missing_or_named_twice_are_refused(best: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="every size once"):
        serving.by_batch_size(best)


# ---- windows and early stops


def test_a_window_counts_the_rows_as_each_engine_does() -> None:
    found = serving.draft_window(256, "nothing")
    assert of_json(found["vllm"]) == {"layer_types": ["sliding_attention"], "sliding_window": 256}
    assert found["sglang"].startswith("--speculative-draft-window-size 255 ")
    assert serving.draft_window(1, "nothing")["sglang"].startswith(NO_SWITCH)


def test_what_a_window_keeps_besides_only_sglang_can_be_told_and_not_for_eagle3_heads() -> None:
    assert all(text.startswith(NO_SWITCH) for text in serving.draft_window(256, "sink").values())
    of_eagle1 = serving.draft_window(256, "sink", family="eagle")["sglang"]
    assert of_eagle1 == "--speculative-draft-window-size 256 --speculative-draft-sink-size 16"


def test_only_transformers_ends_a_chain_and_by_its_confidence_alone() -> None:
    found = serving.early_stop(StopRule("confidence", low=0.35))
    assert found["transformers"].endswith("assistant_confidence_threshold = 0.35")
    assert "vllm#35301" in found["vllm"]
    assert [text.startswith(NO_SWITCH) for text in found.values()] == [True, True, True, False]
    assert serving.early_stop(StopRule("confidence", low=0.35), self_feeding=True)["transformers"] == serving.NO_ASSISTANT
    assert "enable_adaptive_verification" in serving.early_stop(StopRule("head", low=0.35))["vllm"]
    assert all(text.startswith(NO_SWITCH) for measure in STOPS[1:] for text in serving.early_stop(StopRule(measure)).values())


# ---- renderings


def test_the_template_alone_decides_on_the_bos() -> None:
    found = serving.template("no-bos")
    assert found["vllm"] == found["sglang"] == "--chat-template FILE, FILE being the model's own template without bos_token"
    assert found["tensorrt-llm"].startswith("--chat_template FILE")


def test_a_rendering_that_no_server_can_be_told_has_no_name() -> None:
    with pytest.raises(KeyError):
        serving.template("other-family")


# ---- wirings


@pytest.mark.parametrize("boundaries", [(2, 16, 29), (1, 15, 28), (3, 17, 30), (24, 30, 32)])
def test_vllm_captures_the_boundaries_by_the_ids_it_is_given(boundaries: tuple[int, ...]) -> None:
    ids = of_json(serving.wiring({"capture": boundaries})["vllm"])[KEY]
    assert isinstance(ids, list)
    assert captured({KEY: LayerIds(tuple(ids), KEY)}, "as_served:vllm", target("llama")).boundaries == boundaries


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("boundaries", [(2, 16, 29), (1, 15, 28), (3, 17, 30), (24, 30, 32), (0, 16, 29)])
def test_sglang_captures_the_boundaries_by_the_ids_it_is_given_or_says_that_none_mean_them(
    boundaries: tuple[int, ...], model_type: str
) -> None:
    text = serving.wiring({"capture": boundaries}, target_type=model_type)["sglang"]
    reached = {captured({INSIDE: LayerIds(ids, INSIDE)}, "as_served:sglang", target(model_type)).boundaries for ids in near(boundaries)}
    assert text.startswith(NO_SWITCH) == (boundaries not in reached)
    if boundaries in reached:
        (nested,) = of_json(text).values()
        assert isinstance(nested, dict)
        found = captured({INSIDE: LayerIds(tuple(nested[KEY]), INSIDE)}, "as_served:sglang", target(model_type))
        assert found.boundaries == boundaries


def near(boundaries: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The ids that could mean these boundaries by some convention."""
    return [ids for by in (0, 1) if min(ids := tuple(boundary - by for boundary in boundaries)) >= 0]


def test_tensorrt_takes_layer_outputs_and_no_embeddings() -> None:
    assert serving.tensorrt_layer_ids((2, 16, 29)) == (1, 15, 28)  # its own default of 32 layers: 1, L/2 - 1, L - 4
    assert serving.tensorrt_layer_ids((0, 16, 29)) is None


@pytest.mark.parametrize("boundaries", list(permutations((2, 16, 29))))
def test_moved_columns_of_fc_give_the_same_fusion_in_ascending_order(boundaries: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    streams = {boundary: random.normal(size=4) for boundary in boundaries}
    blocks = [random.normal(size=(5, 4)) for _ in boundaries]
    before = sum(block @ streams[boundary] for block, boundary in zip(blocks, boundaries, strict=True))
    moved = [blocks[place] for place in serving.block_order(boundaries)]
    after = sum(block @ streams[boundary] for block, boundary in zip(moved, serving.vllm_layer_ids(boundaries), strict=True))
    np.testing.assert_allclose(after, before)
    told = serving.wiring({"capture": boundaries})["vllm"]
    assert ("fc.weight" in told) == (boundaries != tuple(sorted(boundaries)))


def test_a_head_of_one_stream_reads_what_it_reads() -> None:
    assert all(text.startswith(NO_SWITCH) for text in serving.wiring({"capture": (31,)}).values())


def test_a_map_of_target_ids_becomes_one_of_offsets() -> None:
    text = serving.wiring({"vocabulary": "absolute"})["vllm"]
    absolute = np.array([0, 3, 4, 9])
    offsets = eval(text.split(" in place")[0], {"d2t": absolute, "arange": np.arange, "len": len})
    np.testing.assert_array_equal(np.arange(4) + offsets, absolute)  # as every engine reads it


def test_feedback_and_residual_are_flags_and_sglang_has_but_the_first() -> None:
    found = serving.wiring(Wiring(feedback="normed", residual="normed").changes)
    assert found["vllm"] == '"norm_output": true in the drafter\'s config.json; "norm_before_residual": true in the drafter\'s config.json'
    assert found["sglang"].startswith(f"{NO_SWITCH}: the residual is always raw; ")
    assert found["sglang"].endswith('"norm_output": true in the drafter\'s config.json')


def test_an_embedding_of_its_own_only_vllm_keeps() -> None:
    found = serving.wiring({"embedding": "own"})
    assert [text.startswith(NO_SWITCH) for text in found.values()] == [False, True, True, True]


def test_a_rope_by_default_says_so_in_json() -> None:
    assert of_json(serving.wiring({"rope": "default"})["sglang"]) == {"rope_theta": 10000, "rope_scaling": None}
