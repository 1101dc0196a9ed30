"""What is written token by token, against `generate` of transformers, one prompt at a time and without padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

from driftcli.sources.files import Source
from driftcli.target.decoding import decodable, neighbours
from driftcli.target.language_model import LanguageModel
from driftcli.target.recorded import recordable
from driftcli.target.target import Writing
from tests.tiny import tokenizer

SIZES = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}


def sized(kind: type[PretrainedConfig], **more: object) -> PretrainedConfig:
    """The config of a small model."""
    return kind(**{**SIZES, **more})  # type: ignore[arg-type]


KINDS = {
    "llama": sized(LlamaConfig),
    "llama3": sized(LlamaConfig, rope_parameters=LLAMA3),
    "mistral, a window": sized(MistralConfig, sliding_window=16),
    "qwen2": sized(Qwen2Config),
    "qwen3, some windows": sized(Qwen3Config, use_sliding_window=True, sliding_window=16, max_window_layers=1),
    "qwen3, experts": sized(Qwen3MoeConfig, **EXPERTS),
    "gemma2": sized(Gemma2Config, sliding_window=16, query_pre_attn_scalar=8),
    "gpt2": GPT2Config(vocab_size=260, n_embd=32, n_layer=3, n_head=4, n_positions=256, initializer_range=0.4),
    "gpt-neox": sized(GPTNeoXConfig, num_key_value_heads=4),
    "gpt-oss": sized(GptOssConfig, sliding_window=16, num_local_experts=2, num_experts_per_tok=1),
}
OTHERS = {
    "frequencies by the longest text": sized(LlamaConfig, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
    "a step of its own": sized(Phi3Config),
    "states besides keys": sized(Qwen3NextConfig, num_hidden_layers=4, **EXPERTS),
}
SHARED = [7, 30, 11, 45, 60, 2, 9, 81, 33, 14]
LENGTHS = (3, 40, 5, 5, 17, 90, 4, 33)
MOST = 24


def a_model(config: PretrainedConfig, seed: int = 0) -> LanguageModel:
    """A random model, whose greedy text is neither noise nor one loop."""
    torch.manual_seed(seed)
    model = Auto.from_config(config)  # type: ignore[no-untyped-call]
    return LanguageModel(Source("a model", Path()), model.eval(), tokenizer())


def some_prompts(*, alike: bool) -> list[list[int]]:
    """Prompts of random tokens, most unlike the others; they begin alike where asked."""
    random = torch.Generator().manual_seed(1)
    return [(SHARED if alike else []) + torch.randint(4, 260, (length,), generator=random).tolist() for length in LENGTHS]


def related_prompts() -> list[list[int]]:
    """Prompts that begin as another does, as whole ones before them go on, by families, one twice, and one like none."""
    own = some_prompts(alike=False)
    longest, other = own[5], own[1]
    going_on = [longest[:count] + own[place] for count, place in ((12, 0), (30, 2), (60, 3), (88, 6), (90, 4))]
    return [own[7], *going_on, longest, SHARED + other, SHARED + own[4], SHARED + other[:9] + own[0], longest[:60], own[7], other[:9]]


PROMPTS = {"unlike": some_prompts(alike=False), "all alike": some_prompts(alike=True), "related": related_prompts()}


@torch.inference_mode()
def alone(target: LanguageModel, ids: list[int], most: int = MOST) -> list[int]:
    """What `generate` writes behind a prompt that has no company."""
    mask = torch.ones(1, len(ids), dtype=torch.long)
    out = target.model.generate(  # type: ignore[operator]
        torch.tensor([ids]), attention_mask=mask, max_new_tokens=most, do_sample=False
    )
    reply: list[int] = out[0, len(ids) :].tolist()
    return reply


def ending(target: LanguageModel, prompts: list[list[int]]) -> LanguageModel:
    """The same model, some of whose replies end at a token that they come by."""
    target.model.generation_config.eos_token_id = None
    whole = [alone(target, ids) for ids in prompts]
    tokens = sorted({token for reply in whole for token in reply})
    ends = max(tokens, key=lambda token: len({reply.index(token) for reply in whole if token in reply}))
    target.model.generation_config.eos_token_id = [ends]
    target.model.generation_config.pad_token_id = 0
    assert len({len(alone(target, ids)) for ids in prompts}) > 1
    return target


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_in_company_is_the_one_that_generate_writes_alone(
    kind: str, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ending(a_model(KINDS[kind]), prompts)
    assert decodable(target.model)
    expected = [alone(target, ids) for ids in prompts]
    assert target.write(prompts, Writing(MOST)) == expected
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", 7)
    monkeypatch.setattr("driftcli.target.growing.AT_ONCE", {"cpu": 50})
    assert target.write(prompts, Writing(MOST)) == expected
    monkeypatch.setattr("driftcli.target.decoding.A_STEP", -(1 << 16))
    assert target.write(prompts, Writing(MOST)) == expected
    monkeypatch.setattr("driftcli.target.decoding.A_PASS", {"cpu": 0})
    assert target.write(prompts, Writing(MOST)) == expected


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What goes into a target that `noting` was asked of; prompts are read at once as far as they do not wait for one another."""
    monkeypatch.setattr("driftcli.target.decoding.A_STEP", 1 << 40)
    monkeypatch.setattr("driftcli.target.growing.AT_ONCE", {"cpu": 1 << 20})
    return []


def noting(target: LanguageModel, read: list[tuple[int, ...]]) -> LanguageModel:
    """The same model, of whose passes it is noted how many rows and tokens they have."""
    target.model.register_forward_pre_hook(lambda _, given: read.append(given[0].shape))
    return target


def test_what_prompts_begin_with_is_read_with_the_shortest(read: list[tuple[int, ...]]) -> None:
    noting(a_model(KINDS["llama"]), read).write(some_prompts(alike=True), Writing(1))
    assert read == [(1, len(SHARED) + min(LENGTHS)), (len(LENGTHS) - 1, max(LENGTHS))]


@pytest.mark.parametrize(
    ("step", "a_pass", "expected"),
    [(1 << 40, 0, [(1, 20), (1, 30), (2, 40)]), (-(1 << 30), 0, [(1, 20), (1, 30), (1, 1), (1, 40)]), (1 << 40, 70, [(1, 20), (3, 70)])],
    ids=["together", "in parts of one", "some tokens twice rather than pass after pass"],
)
def test_conversations_that_go_on_are_read_once(
    step: int, a_pass: int, expected: list[tuple[int, int]], read: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = some_prompts(alike=False)[5]
    monkeypatch.setattr("driftcli.target.decoding.A_STEP", step)
    monkeypatch.setattr("driftcli.target.decoding.A_PASS", {"cpu": a_pass})
    noting(a_model(KINDS["llama"]), read).write([ids[:20], [*ids[:50], 9], ids[:50], ids], Writing(1))
    assert read == expected


def test_a_model_with_windows_reads_every_prompt_whole(read: list[tuple[int, ...]]) -> None:
    noting(a_model(KINDS["mistral, a window"]), read).write(some_prompts(alike=True), Writing(1))
    assert read == [(len(LENGTHS), len(SHARED) + max(LENGTHS))]


def test_a_reply_that_ended_is_stepped_no_more() -> None:
    prompts = some_prompts(alike=False)[:4]
    target, rows = ending(a_model(KINDS["llama"]), prompts), list[int]()
    lengths = [len(reply) for reply in target.write(prompts, Writing(MOST))]
    target.model.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[0]))
    target.write(prompts, Writing(MOST))
    assert len(set(lengths)) > 1
    assert sum(rows) == len(prompts) + sum(lengths) - len(prompts)


def test_how_far_replies_are_is_told_up_to_the_end() -> None:
    target, told = a_model(KINDS["llama"]), list[int]()
    target.model.generation_config.eos_token_id = None
    target.write(some_prompts(alike=False), Writing(MOST, say=told.append))
    assert told == sorted(told)
    assert told[-1] == MOST


@torch.inference_mode()
def test_what_is_drawn_is_what_generate_draws() -> None:
    prompts = some_prompts(alike=False)
    target = ending(a_model(sized(LlamaConfig, initializer_range=0.15)), prompts)  # by which several tokens are likely
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    torch.manual_seed(5)
    out = target.model.generate(  # type: ignore[operator]
        padded, attention_mask=mask, max_new_tokens=MOST, do_sample=True, temperature=0.7, top_k=0, top_p=1.0
    )
    torch.manual_seed(5)
    drawn = target.write(prompts, Writing(MOST, temperature=0.7))
    assert [reply.tolist()[: len(own)] for reply, own in zip(out[:, longest:], drawn, strict=True)] == drawn
    assert len({len(reply) for reply in drawn}) > 1


Step = Callable[[], torch.Tensor]


def repeated(step: Step, device: torch.device) -> Step:
    """What stands for a recorded step, since there is no GPU: the step itself, into one place."""
    assert device.type == "cpu"
    made = step().clone()
    return lambda: made.copy_(step())


def stuck(step: Step, _: torch.device) -> Step:
    """One that is right once."""
    made = step().clone()
    return lambda: made


def unrecordable(*_: object) -> Step:
    """One that looks at numbers on the way."""
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("record", "says"),
    [(repeated, ""), (stuck, "chooses other tokens when recorded"), (unrecordable, "not permitted when stream is capturing")],
)
@pytest.mark.parametrize("alike", [False, True])
def test_a_recorded_step_is_used_only_if_it_chooses_what_the_step_chooses(
    alike: bool, record: Callable[[Step, torch.device], Step], says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompts, taken = some_prompts(alike=alike), list[bool]()
    target = ending(a_model(KINDS["llama"]), prompts)
    expected = [alone(target, ids) for ids in prompts]
    monkeypatch.setattr("driftcli.target.growing.recordable", lambda _: True)
    monkeypatch.setattr("driftcli.target.recorded.recorded", record)
    monkeypatch.setattr("driftcli.target.growing.WORTH_RECORDING", 6)
    monkeypatch.setattr("driftcli.target.decoding.A_STEP", 1 << 40)
    hook = partial(noted_masks, taken)
    target.model.register_forward_pre_hook(hook, with_kwargs=True)
    assert target.write(prompts, Writing(MOST)) == expected
    assert says in caplog.text
    assert bool(caplog.text) == bool(says)
    assert taken[-1] == (not says)


def noted_masks(taken: list[bool], _: torch.nn.Module, __: object, options: dict[str, torch.Tensor]) -> None:
    """Note of a step whether its mask is that of fixed tensors."""
    taken.append(options["attention_mask"].dim() == 4)


def test_nothing_is_recorded_on_a_cpu() -> None:
    assert not recordable(a_model(KINDS["llama"]))


@pytest.mark.parametrize("kind", OTHERS)
def test_models_that_need_more_at_a_step_are_left_to_generate(kind: str) -> None:
    target, prompts = a_model(OTHERS[kind]), some_prompts(alike=False)[:3]
    target.model.generation_config.eos_token_id = 1
    assert not decodable(target.model)
    assert target.write(prompts, Writing(6)) == [alone(target, ids, 6) for ids in prompts]


def test_prompts_are_parted_so_that_the_least_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.decoding.A_STEP", 30)
    lengths, most, weights, token = [2, 3, 3, 20, 21, 90], 8, 70, 2

    def read(parts: list[slice]) -> float:
        return sum(100 + len(lengths[part]) * (lengths[part][-1] + most / 2) * token for part in parts)

    inner = range(1, len(lengths))
    cuts = [(0, *cut, len(lengths)) for count in range(len(lengths)) for cut in combinations(inner, count)]
    ways = [[slice(*pair) for pair in pairwise(cut)] for cut in cuts]
    assert neighbours(lengths, most, weights, token) == min(ways, key=read)
    assert neighbours(lengths, most, 10**9, token) == [slice(0, 6)]
