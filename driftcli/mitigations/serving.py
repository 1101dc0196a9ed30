"""What a change of drafting is called in each engine: the exact setting, or `no such switch` and why.

vLLM 0.33 and SGLang 0.5.23 were read in their wheels, transformers 5.24 as installed, TensorRT-LLM in its documentation of 1.4.0rc1
(https://nvidia.github.io/TensorRT-LLM/1.4.0rc1/llm-api/reference/Eagle3DecodingConfig.html) and its main branch of summer 2026. Paths in
the docstrings are inside those packages. A text names a key where it is set: `--speculative-config` takes JSON (vLLM),
`speculative_config` stands in the YAML file of `--extra_llm_api_options` (TensorRT-LLM), flags are typed (SGLang).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from driftcli.conditions import StopMeasure, StopRule

Engine = Literal["vllm", "sglang", "tensorrt-llm", "transformers"]
ENGINES: dict[Engine, str] = {"vllm": "0.33", "sglang": "0.5.23", "tensorrt-llm": "1.4.0rc1", "transformers": "5.24"}
NO_SWITCH = "no such switch"
SINK_ROWS = 16  # rows among which a sink is looked for (design rule): SGLang keeps a number of first rows, not the sink itself
NO_ASSISTANT = f"{NO_SWITCH}: an EAGLE head reads the target's states, and an assistant model is a causal language model"


class _Wired(NamedTuple):
    """What one change of a wiring is in the engines that serve EAGLE heads."""

    vllm: str
    sglang: str
    tensorrt: str


def _settings(vllm: str, sglang: str, tensorrt: str, transformers: str) -> dict[Engine, str]:
    return {"vllm": vllm, "sglang": sglang, "tensorrt-llm": tensorrt, "transformers": transformers}


def draft_length(drafts: int, *, self_feeding: bool) -> dict[Engine, str]:
    """Chains of `drafts` proposals. transformers stops earlier by itself unless its confidence threshold is 0, and reads the numbers of
    the assistant's own generation config.

    Source: vLLM config/speculative.py, SGLang arg_groups/speculative_hook.py, TensorRT-LLM llmapi/llm_args.py, transformers
    generation/candidate_generator.py.
    """
    assert drafts > 0
    keys = f'num_assistant_tokens={drafts}, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0'
    return _settings(
        f"--speculative-config: {_json(num_speculative_tokens=drafts)}",
        f"--speculative-num-steps {drafts} --speculative-num-draft-tokens {sglang_draft_tokens(drafts)} --speculative-eagle-topk 1",
        f"speculative_config: max_draft_len: {drafts}",
        NO_ASSISTANT if self_feeding else f"assistant_model.generation_config.update({keys})",
    )


def sglang_draft_tokens(drafts: int) -> int:
    """SGLang's number of draft tokens of a chain: the proposals and the root, which is the last verified token.

    Source: SGLang arg_groups/speculative_hook.py, which sets it to the steps plus one where top-k is 1.
    """
    return drafts + 1


def by_batch_size(best: Sequence[tuple[int, int]], *, self_feeding: bool = True) -> dict[Engine, str]:
    """A number of proposals by batch size, 0 for none. best: batch sizes that were measured, each with its number, which holds up to the
    next one; ValueError without any or for one that is named twice.

    Beyond the largest vLLM and SGLang go on with its number, while TensorRT-LLM drafts nothing. SGLang rounds a batch up to the next one it
    has a CUDA graph for. Source: vLLM v1/spec_decode/dynamic/utils.py, SGLang speculative/adaptive_spec_params.py, TensorRT-LLM
    llmapi/llm_args.py (since pull request 10860 a key is the largest batch of its range, before it was the smallest).
    """
    schedule = dict(sorted(best))
    if not schedule or len(schedule) < len(best):
        raise ValueError(f"draft lengths by batch size need every size once, got {list(best)}")
    deepest = max(schedule.values())
    if deepest == 0:
        return speculation_off()
    return _settings(
        "--speculative-config: "
        + _json(num_speculative_tokens=deepest, num_speculative_tokens_per_batch_size=[list(one) for one in _ranges(schedule)]),
        _sglang_schedule(schedule, deepest) if self_feeding else f"{NO_SWITCH}: --speculative-adaptive takes EAGLE heads alone",
        _tensorrt_schedule(schedule, deepest) if self_feeding else f"{NO_SWITCH}: draft_len_schedule takes EAGLE-3 heads alone",
        f"{NO_SWITCH}: assisted decoding takes one sequence at a time",
    )


def _ranges(schedule: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """First and last batch size and number of each range, from a batch of 1 on; the last range ends where it begins."""
    starts = [1, *list(schedule)[1:]]
    ends = [*(start - 1 for start in starts[1:]), max(schedule)]
    return list(zip(starts, ends, schedule.values(), strict=True))


def _sglang_schedule(schedule: Mapping[int, int], deepest: int) -> str:
    file = json.dumps({str(start): {"candidate_steps": [drafts]} for start, _, drafts in _ranges(schedule)})
    steps = f"--speculative-num-steps {deepest} --speculative-num-draft-tokens {sglang_draft_tokens(deepest)}"
    return f"--speculative-adaptive --speculative-adaptive-config FILE {steps} --speculative-eagle-topk 1, FILE holding {file}"


def _tensorrt_schedule(schedule: Mapping[int, int], deepest: int) -> str:
    if next(iter(schedule.values())) < deepest:
        return f"{NO_SWITCH}: draft_len_schedule must be largest at the smallest batch"
    keys = ", ".join(f"{end}: {drafts}" for _, end, drafts in _ranges(schedule))
    return f"speculative_config: max_draft_len: {deepest}, draft_len_schedule: {{{keys}}}"


def speculation_off() -> dict[Engine, str]:
    """No speculation at all."""
    return _settings(
        "leave out --speculative-config",
        "leave out --speculative-algorithm and every other --speculative flag",
        "leave out speculative_config",
        "leave out assistant_model",
    )


def draft_window(window: int, kept: Literal["nothing", "sink", "system"], *, family: str = "eagle3") -> dict[Engine, str]:
    """A window of `window` rows on the drafter, its query's own included, and what is kept besides.

    vLLM counts as we do. SGLang counts the rows before the query's own in EAGLE-3 heads, where it keeps nothing besides; in EAGLE-1 heads
    the last verified rows, with all of the chain seen besides and every first guess in full. Source: vLLM model_executor/models/llama.py
    and v1/attention/backends/flash_attn.py, SGLang models/llama_eagle3.py, layers/attention/flashattention_backend.py and
    kernels/ops/speculative/cache_locs.py; pull requests vllm-project/vllm#53827 and NVIDIA/TensorRT-LLM#14200, both open.
    """
    assert window > 0
    if family == "assistant":
        text = f"{NO_SWITCH}: an assistant reads the target's own keys, by the windows of its layers"
        return _settings(text, text, text, text)
    config = f'"layer_types": ["sliding_attention"], "sliding_window": {window}'
    return _settings(
        f"{config} in the drafter's config.json, a type for each of its layers"
        if kept == "nothing"
        else f"{NO_SWITCH}: a window keeps nothing besides; draft_attention_window (vllm-project/vllm#53827, open) would not either",
        _sglang_eagle3_window(window, kept) if family == "eagle3" else _sglang_eagle_window(window, kept),
        f"{NO_SWITCH}: EAGLE-3 heads attend to all (NVIDIA/TensorRT-LLM#14200, open)",
        f"{NO_SWITCH}: it drafts with causal language models, whose window is their own",
    )


def _sglang_eagle3_window(window: int, kept: str) -> str:
    if kept != "nothing":
        return f"{NO_SWITCH}: EAGLE-3 heads ignore --speculative-draft-sink-size"
    if window == 1:
        return f"{NO_SWITCH}: --speculative-draft-window-size counts the rows before the query's own and must not be 0"
    return f"--speculative-draft-window-size {window - 1} (and the query's own row; Llama heads alone)"


def _sglang_eagle_window(window: int, kept: str) -> str:
    sink = {
        "nothing": "",
        "sink": f" --speculative-draft-sink-size {SINK_ROWS}",
        "system": " --speculative-draft-sink-size ROWS, ROWS being those before the first user's words",
    }
    return f"--speculative-draft-window-size {window}{sink[kept]}"


PENDING: Mapping[StopMeasure, str] = {
    "confidence": " (vllm-project/vllm#35301, open)",
    "head": " below a number; enable_adaptive_verification verifies less by it where the times of steps say so",
}


def early_stop(rule: StopRule, *, self_feeding: bool = False) -> dict[Engine, str]:
    """Chains that end by themselves. transformers moves its threshold while it decodes, where scikit-learn is installed.

    Source: transformers generation/stopping_criteria.py and candidate_generator.py; pull request vllm-project/vllm#35301, open; issue
    sgl-project/sglang#36715, open; TensorRT-LLM's acceptance_rate_threshold ends speculation for good, no single chain.
    """
    watched = {
        "confidence": "a guess's probability",
        "entropy": "its entropy",
        "state": "its state",
        "prompt": "its attention",
        "survival": "the product of its guesses' probabilities",
        "head": "the product of what its confidence head says",
    }
    what = watched[rule.measure]
    pending = {
        "vllm": PENDING.get(rule.measure, ""),
        "sglang": " (sgl-project/sglang#36715, open)" if rule.measure == "entropy" else "",
    }
    assisted = f"assistant_model.generation_config.assistant_confidence_threshold = {rule.low:g}"
    if rule.measure != "confidence":
        assisted = f"{NO_SWITCH}: no chain ends by {what}"
    return _settings(
        f"{NO_SWITCH}: no chain ends by {what}{pending['vllm']}",
        f"{NO_SWITCH}: no chain ends by {what}{pending['sglang']}; --speculative-adaptive goes by a batch's accepted drafts",
        f"{NO_SWITCH}: no chain ends by {what}; acceptance_rate_threshold ends speculation for good",
        NO_ASSISTANT if self_feeding else assisted,
    )


def attention_bias(field: str, nats: float) -> dict[Engine, str]:
    """A bias on the scores of some keys, `chain_bias` or `sink_bias` of the draft settings; no engine has one."""
    keys = {"chain_bias": "the chain's own keys", "sink_bias": "the sink"}[field]
    return _nowhere(f"a drafter's attention takes no bias by key, none of {nats:+g} nats on {keys}")


def attention_temperature(warming: float) -> dict[Engine, str]:
    """Scores made flatter by depth, `warming` of the draft settings; no engine has it."""
    return _nowhere(f"a drafter's scores have one scale at every depth, none over 1 {warming:+g} a depth")


def _nowhere(why: str) -> dict[Engine, str]:
    return _settings(*[f"{NO_SWITCH}: {why}"] * len(ENGINES))


def template(change: str) -> dict[Engine, str]:
    """Another rendering of the prompts, by the name of the condition that measured it; KeyError for one that no server can be told.

    Every engine tokenises a rendered template without adding a BOS of its own, so the template decides. Source: SGLang
    entrypoints/openai/serving_chat.py, vLLM's ChatCompletionRequest.add_special_tokens, off by default, TensorRT-LLM commands/serve.py,
    transformers tokenization_utils_base.py.
    """
    if change in ("no-system", "other-system"):
        return system_text(given=change == "other-system")
    how = {"no-bos": "without bos_token", "bos-doubled": "with bos_token twice"}[change]
    return _template_file(f"the model's own template {how}")


def _template_file(what: str) -> dict[Engine, str]:
    return _settings(
        f"--chat-template FILE, FILE being {what}",
        f"--chat-template FILE, FILE being {what}",
        f"--chat_template FILE, FILE being {what}",
        f"tokenizer.apply_chat_template(messages, chat_template=TEXT), TEXT being {what}",
    )


def system_text(*, given: bool) -> dict[Engine, str]:
    """A system message of the request's own, or none; a template that puts one in by itself must be changed for none."""
    if given:
        first = f"first of the messages: {json.dumps({'role': 'system', 'content': '...'})}"
        return _settings(first, first, first, first)
    own = _template_file("the model's own template without the system message that it puts in, where it does")
    return {engine: f"no system message among the messages; {text}" for engine, text in own.items()}


def wiring(changes: Mapping[str, object], *, target_type: str = "") -> dict[Engine, str]:
    """What to write into the drafter's config.json or tensors, given `Wiring.changes`, so that an engine puts it together so.

    target_type: the target's `model_type`; SGLang reads layer ids by it. In the layout of speculators the keys of rope stand inside
    `transformer_layer_config`. Source: vLLM model_executor/models/llama_eagle3.py, v1/worker/gpu/spec_decode/eagle/eagle3_utils.py and
    utils.py; SGLang models/llama_eagle3.py and speculative/eagle_worker_v2.py; TensorRT-LLM _torch/models/modeling_speculative.py.
    """
    made = [_capture(value, target_type) if name == "capture" else _FIELDS[name](value) for name, value in changes.items()]
    assert made, "a wiring without a change needs no setting"
    return _settings(
        _joined([one.vllm for one in made]), _joined([one.sglang for one in made]), _joined([one.tensorrt for one in made]), NO_ASSISTANT
    )


def _joined(texts: Sequence[str]) -> str:
    """What cannot be set first, so that the whole says so at once."""
    return "; ".join(sorted(dict.fromkeys(texts), key=lambda text: not text.startswith(NO_SWITCH)))


def vllm_layer_ids(boundaries: Sequence[int]) -> tuple[int, ...]:
    """Ids under `eagle_aux_hidden_state_layer_ids` at the top level: the boundaries themselves, which vLLM walks in ascending order."""
    return tuple(sorted(boundaries))


def sglang_layer_ids(boundaries: Sequence[int], target_type: str = "") -> tuple[int, ...] | None:
    """Ids inside `eagle_config`: layer outputs, so one less than the boundaries; DeepSeek and Kimi targets read them so only where the
    first is 1, else as boundaries. None where no ids mean these boundaries.

    Source: SGLang 0.5.23, set_eagle3_layers_to_capture in models/llama.py, qwen3.py, gpt_oss.py and deepseek_v2.py.
    """
    rising = sorted(boundaries)
    if target_type.startswith(("deepseek", "kimi")) and rising[0] != 2:
        return None if rising[0] == 1 else tuple(rising)
    return None if rising[0] == 0 else tuple(boundary - 1 for boundary in rising)


def tensorrt_layer_ids(boundaries: Sequence[int]) -> tuple[int, ...] | None:
    """Ids of `eagle3_layers_to_capture`: layer outputs, ascending; None for the embeddings, which are no layer's output.

    Source: TensorRT-LLM _torch/speculative/eagle3.py, whose default 1, L/2 - 1, L - 4 is that of all others as layer outputs.
    """
    return None if min(boundaries) == 0 else tuple(sorted(boundary - 1 for boundary in boundaries))


def block_order(boundaries: Sequence[int]) -> tuple[int, ...]:
    """Which column blocks of fc.weight, counted from 0, stand one behind the other once the streams come in ascending order."""
    return tuple(sorted(range(len(boundaries)), key=lambda place: boundaries[place]))


def _capture(value: object, target_type: str) -> _Wired:
    assert isinstance(value, tuple)
    if len(value) == 1:
        return _everywhere(f"{NO_SWITCH}: a head of one stream reads the target's last hidden state")
    order = block_order(value)
    moved = "" if order == tuple(range(len(value))) else f", and fc.weight with its column blocks {list(order)}, stream norms alike"
    sglang, tensorrt = sglang_layer_ids(value, target_type), tensorrt_layer_ids(value)
    key = "eagle_aux_hidden_state_layer_ids"
    nothing = f"{NO_SWITCH}: no layer ids mean boundaries {sorted(value)}"
    return _Wired(
        f"{_json(**{key: list(vllm_layer_ids(value))})} in the drafter's config.json{moved}",
        nothing if sglang is None else f"{_json(eagle_config={key: list(sglang)})} in the drafter's config.json{moved}",
        nothing if tensorrt is None else f"speculative_config: eagle3_layers_to_capture: {list(tensorrt)}{moved}",
    )


def _feedback(value: object) -> _Wired:
    text = f"{_json(norm_output=value == 'normed')} in the drafter's config.json"
    return _Wired(text, text, text)


def _residual(value: object) -> _Wired:
    always = f"{NO_SWITCH}: the residual is always raw"
    if value == "raw":
        always += ", so nothing is to be set"
    return _Wired(f"{_json(norm_before_residual=value == 'normed')} in the drafter's config.json", always, always)


NORM_TENSORS = {
    "embedding": "input_layernorm of the first layer",
    "hidden": "hidden_norm of the first layer",
    "fusion": "input_norm and every fc_norm",
    "mlp": "post_attention_layernorm of every layer",
    "final": "norm",
    "every": "every norm",
}


def _ones(value: object) -> _Wired:
    return _everywhere(f"weights of 1 in {NORM_TENSORS[str(value)]}, in the drafter's tensors")


def _vocabulary(value: object) -> _Wired:
    if value == "absolute":
        return _everywhere("d2t - arange(len(d2t)) in place of d2t, in the drafter's tensors")
    return _everywhere("d2t as it is: its entries are added to the draft ids")


def _rope(value: object) -> _Wired:
    if value == "default":
        return _everywhere(f"{_json(rope_theta=10000, rope_scaling=None)} and no rope_parameters, in the drafter's config.json")
    return _everywhere("rope_theta, rope_scaling and rope_parameters of the target's config.json, in the drafter's")


def _embedding(value: object) -> _Wired:
    shared = "the target's rows are taken whatever the file holds, where both are as wide"
    if value == "own":
        return _Wired("embed_tokens.weight as it is: rows that differ from the target's are kept", *[f"{NO_SWITCH}: {shared}"] * 2)
    return _Wired("no embed_tokens.weight in the drafter's tensors", *[f"{NO_SWITCH}: {shared}, so nothing is to be set"] * 2)


def _head(value: object) -> _Wired:
    if value == "own":
        return _everywhere("lm_head.weight as it is")
    return _everywhere("the target's rows arange(len(d2t)) + d2t, or all without d2t, as lm_head.weight in the drafter's tensors")


def _everywhere(text: str) -> _Wired:
    return _Wired(text, text, text)


def _json(**keys: object) -> str:
    """Keys and values as they stand in JSON, without the braces around."""
    return json.dumps(keys)[1:-1]


_FIELDS: dict[str, Callable[[object], _Wired]] = {
    "feedback": _feedback,
    "residual": _residual,
    "ones": _ones,
    "vocabulary": _vocabulary,
    "rope": _rope,
    "embedding": _embedding,
    "head": _head,
}
