"""What is kept of texts while they are written is what one pass over each of them gives, computed here by the plain forward of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from driftcli.target.beginnings import SHARED, common
from driftcli.target.decoding import KEPT, _beside, keepable, kept_tokens
from driftcli.target.growing import sees_all
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Kept, Reading, Writing, kept_bytes
from tests.target.test_decoding import KINDS, MOST, OTHERS, PROMPTS, a_model, ending, some_prompts

WIDTH, LAYERS, PLENTY = 32, 3, 1 << 30
BOUNDARIES = (0, 1, LAYERS, LAYERS + 1)
READ = [name for name in KINDS if name != "gpt2"]  # which has no list of layers to read streams from


@dataclass(frozen=True)
class Given:
    """A text to look up."""

    ids: Sequence[int]
    prompt_length: int


@torch.inference_mode()
def afresh(target: LanguageModel, text: Given, temperature: float = 1.0) -> tuple[dict[int, Tensor], Tensor, Tensor, Tensor]:
    """Streams by boundary, and of each reply token probability, entropy and first choice: of one text alone, without a cache."""
    before = list[Tensor]()
    hook = target.layers[-1].register_forward_hook(lambda _, __, out: before.append(out if isinstance(out, Tensor) else out[0]))
    out = target.model(torch.tensor([list(text.ids)]), output_hidden_states=True, use_cache=False)
    hook.remove()
    states = dict(enumerate(out.hidden_states[:-1])) | {LAYERS: before[0], LAYERS + 1: out.hidden_states[-1]}
    logs = (out.logits[0].double() / temperature).log_softmax(-1)[text.prompt_length - 1 : -1]
    probs = logs.gather(-1, torch.tensor(text.ids[text.prompt_length :])[:, None])[:, 0].exp()
    return {name: state[0, :-1] for name, state in states.items()}, probs, -(logs.exp() * logs).sum(-1), logs.argmax(-1)


def rms(states: Tensor) -> Tensor:
    """Root of the mean square of all numbers."""
    return states.square().mean().sqrt()


def assert_kept(target: LanguageModel, prompts: list[list[int]], replies: list[list[int]], kept: Kept, temperature: float = 1.0) -> None:
    """Every text is kept as it is read afresh."""
    for prompt, reply in zip(prompts, replies, strict=True):
        text = Given([*prompt, *reply], len(prompt))
        assert_read(target, text, kept.reading(text, temperature), temperature)


def assert_read(target: LanguageModel, text: Given, found: Reading | None, temperature: float = 1.0) -> None:
    """Of a text is told what it gives afresh, states to 1e-5 of their RMS."""
    assert found is not None and found.entropies is not None
    streams, probs, entropies, choices = afresh(target, text, temperature)
    assert tuple(found.streams) == BOUNDARIES
    for boundary, stream in found.streams.items():
        expected = streams[boundary]
        assert stream.shape == expected.shape == (len(text.ids) - 1, expected.shape[1])
        assert float(rms(stream - expected)) <= 1e-5 * float(rms(expected)), boundary
    torch.testing.assert_close(found.probs.double(), probs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.entropies.double(), entropies, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.choices, choices)


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("kind", READ)
def test_what_is_kept_of_a_text_is_what_it_gives_read_alone(kind: str, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    target = ending(a_model(KINDS[kind]), prompts)
    expected = target.write(prompts, Writing(MOST))
    assert len({len(reply) for reply in expected}) > 1
    for chunk, at_once, step in ((512, 512, 1 << 22), (7, 50, 1 << 40), (512, 512, -(1 << 16))):
        monkeypatch.setattr("driftcli.target.in_process.CHUNK", chunk)
        monkeypatch.setattr("driftcli.target.growing.AT_ONCE", {"cpu": at_once})
        monkeypatch.setattr("driftcli.target.decoding.A_STEP", step)
        kept = Kept(BOUNDARIES, PLENTY)
        assert target.write(prompts, Writing(MOST, kept=kept)) == expected
        assert_kept(target, prompts, expected, kept)


def some_texts(prompts: list[list[int]]) -> list[Given]:
    """Texts with random replies: behind every prompt, behind a part of one and something else, and behind nothing that is known."""
    random = torch.Generator().manual_seed(2)
    lengths = [1, 2, 40, 7, 9, 3, 25, 12]

    def some(count: int) -> list[int]:
        return torch.randint(4, 260, (count,), generator=random).tolist()

    behind = [[*prompt[: len(prompt) // 2], *some(5)] for prompt in prompts]
    begun = [*prompts, *behind, [300, 301, *some(20)]]
    return [Given([*ids, *some(lengths[place % len(lengths)])], len(ids)) for place, ids in enumerate(begun)]


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("kind", READ)
def test_texts_that_begin_as_prompts_do_are_read_beside_them(kind: str, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    target, texts = ending(a_model(KINDS[kind]), prompts), some_texts(prompts)
    expected = target.write(prompts, Writing(MOST))
    for chunk, at_once, most in ((512, 512, 2048), (7, 50, 100), (7, 50, 2048)):
        monkeypatch.setattr("driftcli.target.in_process.CHUNK", chunk)
        monkeypatch.setattr("driftcli.target.growing.AT_ONCE", {"cpu": at_once})
        monkeypatch.setattr("driftcli.target.together.ON_CPU", most)
        kept = Kept(BOUNDARIES, PLENTY)
        assert target.write(prompts, Writing(MOST, kept=kept, beside=texts)) == expected
        assert_kept(target, prompts, expected, kept)
        read = [text for text in texts if kept.has(text, 1.0)]
        for text in read:
            assert_read(target, text, kept.reading(text, 1.0))
        begun = [text for text in texts if any(common([text.ids[: text.prompt_length - 1], prompt]) >= SHARED for prompt in prompts)]
        assert read == (begun if sees_all(target.model.config) else [])
        assert len(begun) >= len(prompts) - 1


def test_of_a_text_beside_only_what_is_behind_its_prompt_is_read() -> None:
    prompts, read = some_prompts(alike=False), list[int]()
    target = a_model(KINDS["llama"])
    texts = [Given([*prompt, *range(10, 30)], len(prompt)) for prompt in prompts if len(prompt) > SHARED]
    hook = target.model.model.register_forward_pre_hook(
        lambda _, args, given: read.append((args[0] if args else given["input_ids"]).numel()), with_kwargs=True
    )
    target.write(prompts, Writing(1, kept=Kept(BOUNDARIES, PLENTY)))
    without = sum(read)
    read.clear()
    target.write(prompts, Writing(1, kept=Kept(BOUNDARIES, PLENTY), beside=[*texts, *texts]))
    hook.remove()
    assert sum(read) - without == 20 * len(texts)


def test_texts_beside_are_left_alone_where_replies_are_drawn_or_there_is_no_room_for_them() -> None:
    prompts, target = some_prompts(alike=False), a_model(KINDS["llama"])
    texts = [Given([*prompt, *range(10, 30)], len(prompt)) for prompt in prompts]
    written = kept_bytes(sum(len(prompt) + MOST for prompt in prompts), len(BOUNDARIES), WIDTH)
    for room, temperature in ((PLENTY, 0.7), (written, 0.0), (written + 1, 0.0)):
        kept = Kept(BOUNDARIES, room)
        replies = target.write(prompts, Writing(MOST, temperature, kept=kept, beside=texts))
        assert not any(kept.has(text, one) for text in texts for one in (0.7, 1.0))
        assert_kept(target, prompts, replies, kept, temperature or 1.0)
    assert kept.room == 1, "what does not fit takes no room from what may come"
    assert [_beside(target, prompts, Writing(MOST, kept=Kept(BOUNDARIES, room), beside=texts), 512) is None for room in (0, 1)] == [
        True,
        False,
    ]


def test_what_is_said_of_drawn_replies_is_said_at_their_temperature() -> None:
    prompts, kept = some_prompts(alike=True), Kept(BOUNDARIES, PLENTY)
    target = ending(a_model(KINDS["llama"]), prompts)
    torch.manual_seed(5)
    replies = target.write(prompts, Writing(MOST, 0.7, kept=kept))
    torch.manual_seed(5)
    assert target.write(prompts, Writing(MOST, 0.7)) == replies
    assert_kept(target, prompts, replies, kept, 0.7)
    assert kept.reading(Given([*prompts[0], *replies[0]], len(prompts[0])), 1.0) is None


def test_texts_of_the_same_tokens_are_told_apart_by_where_their_replies_begin() -> None:
    prompts, kept = some_prompts(alike=False), Kept(BOUNDARIES, PLENTY)
    target = ending(a_model(KINDS["llama"]), prompts)
    prompt, reply = max(zip(prompts, target.write(prompts, Writing(MOST)), strict=True), key=lambda one: 2 < len(one[1]) < MOST)
    further = [prompt, [*prompt, *reply[:2]]]
    replies = target.write(further, Writing(MOST, kept=kept))
    assert replies == [reply, reply[2:]], "both end by the same token"
    assert_kept(target, further, replies, kept)


@pytest.mark.parametrize("most", [1, 2])
def test_replies_of_a_token_or_two_are_kept(most: int) -> None:
    prompts, kept = some_prompts(alike=False), Kept(BOUNDARIES, PLENTY)
    target = a_model(KINDS["llama"])
    assert_kept(target, prompts, target.write(prompts, Writing(most, kept=kept)), kept)


def test_nothing_is_kept_beyond_its_room_and_once_it_was_let_go_of() -> None:
    prompts, target = some_prompts(alike=False), a_model(KINDS["llama"])
    least = kept_bytes(sum(len(prompt) + MOST for prompt in prompts), len(BOUNDARIES), WIDTH)
    narrow, enough = Kept(BOUNDARIES, least - 1), Kept(BOUNDARIES, least)
    for kept, expected in ((narrow, False), (enough, True)):
        replies = target.write(prompts, Writing(MOST, kept=kept))
        texts = [Given([*prompt, *reply], len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)]
        assert [kept.reading(text, 1.0) is not None for text in texts] == [expected] * len(prompts)
    assert enough.let_go() and not enough.let_go()
    target.write(prompts, Writing(MOST, kept=enough))
    assert kept.reading(texts[0], 1.0) is None


def test_a_model_in_half_precision_on_a_gpu_or_decoded_by_generate_is_read_afresh() -> None:
    llama, cpu = a_model(KINDS["llama"]).model, torch.device("cpu")
    assert keepable(llama, cpu, torch.float32)
    assert not keepable(llama, cpu, torch.bfloat16)
    assert not keepable(llama, torch.device("cuda"), torch.float32)
    assert not any(keepable(a_model(config).model, cpu, torch.float32) for config in OTHERS.values())
    assert kept_tokens(llama, cpu, torch.bfloat16, 3) == 0
    assert kept_tokens(llama, cpu, torch.float32, 3) == KEPT // (4 * 3 * WIDTH)
