"""Trajectories: each prompt continued once by the target, with the streams that the drafter reads captured while it generates.

The continuation is plain greedy decoding to the target's own end tokens; penalties and sampling settings of its generation config are set
aside and named. Captured streams cover positions `0 .. N - 2`: the last token is never fed to the target, and no query needs its state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from driftcli.domain import Message, Prompt
from driftcli.engine.attention import MASKED
from driftcli.engine.capture import StreamCapture
from driftcli.engine.rendering import REPLY, Rendered, render
from driftcli.errors import PromptError
from driftcli.loading.target import LanguageModel

CHUNK = 512  # tokens of a text that the target reads at once: masks and activations of a long one would not fit (chosen by us)
OTHER_SETTINGS = {"eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_from_model_config", "use_cache"}


@dataclass(frozen=True)
class Trajectory:
    """Token ids of a prompt and its continuation, with what was captured of the target.

    ids, labels (position,); target_prob and target_entropy (reply token,) in nats; streams by boundary, (position - 1, width).
    """

    prompt: Prompt
    turn: int
    rendered: Rendered
    ids: Tensor
    target_prob: Tensor
    target_entropy: Tensor
    agrees: Tensor
    streams: dict[int, Tensor]

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt; the first reply token is the first anchor."""
        return len(self.rendered.ids)

    @property
    def labels(self) -> Tensor:
        """Label of each token, template, prompt or verified, by position."""
        reply = [REPLY] * (len(self.ids) - self.prompt_length)
        return torch.tensor([*self.rendered.labels, *reply])

    def n_anchors(self, horizon: int) -> int:
        """Anchors whose guesses up to `horizon` all lie inside."""
        return max(0, len(self.ids) - horizon - self.prompt_length)


class _NextTokens(LogitsProcessor):
    """Notes the target's best probability and entropy at every step; changes nothing."""

    def __init__(self) -> None:
        self.prob: list[Tensor] = []
        self.entropy: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        prob, entropy = _prob_and_entropy(scores, None)
        self.prob.append(prob)
        self.entropy.append(entropy)
        return scores


def _prob_and_entropy(logits: Tensor, wanted: Tensor | None) -> tuple[Tensor, Tensor]:
    """Probability of the wanted tokens, or of the likeliest for None, and entropy in nats; (query, vocabulary) -> (query,) each.

    The likeliest token's weight is exp(0), so its probability needs no second look.
    """
    gaps = (logits.float() - logits.amax(-1, keepdim=True)).clamp_(min=MASKED)  # finite also for a token that is ruled out
    weights = gaps.exp()
    total = weights.sum(-1)
    prob = total.reciprocal() if wanted is None else weights.gather(-1, wanted[:, None])[:, 0] / total
    return prob, total.log() - weights.mul_(gaps).sum(-1) / total


def ignored_settings(target: LanguageModel) -> tuple[str, ...]:
    """What the target's generation config asks for and plain greedy decoding sets aside, as `name=value`."""
    own = target.model.generation_config.to_diff_dict()
    return tuple(f"{key}={value}" for key, value in sorted(own.items()) if key not in OTHER_SETTINGS and value not in (None, False))


@contextmanager
def plain_decoding(target: LanguageModel) -> Iterator[GenerationConfig]:
    """The target decodes greedily to its own end tokens inside; transformers would fill what is left open from the model's own config."""
    own = target.model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else target.tokenizer.eos_token_id
    pad = own.pad_token_id if own.pad_token_id is not None else (end[0] if isinstance(end, list) else end) or 0
    plain = GenerationConfig(eos_token_id=end, pad_token_id=pad, bos_token_id=own.bos_token_id)  # type: ignore[no-untyped-call]
    target.model.generation_config = plain
    try:
        yield plain
    finally:
        target.model.generation_config = own


@torch.inference_mode()
def trajectories(target: LanguageModel, prompts: Sequence[Prompt], boundaries: Sequence[int], max_new_tokens: int) -> list[Trajectory]:
    """Every turn of every prompt, continued turn by turn in one batch; earlier replies become the conversation of later turns."""
    found: list[Trajectory] = []
    open_turns: list[tuple[Prompt, tuple[str, ...]]] = [(prompt, ()) for prompt in prompts]
    turn = 0
    while open_turns:
        rendered = [
            render(target.tokenizer, prompt.id, _conversation(prompt, turn, replies), prompt.text) for prompt, replies in open_turns
        ]
        made = _continue(target, [prompt for prompt, _ in open_turns], rendered, boundaries, max_new_tokens)
        found += [replace(trajectory, turn=turn) for trajectory in made]
        following = []
        for (prompt, replies), trajectory in zip(open_turns, made, strict=True):
            if turn + 1 < len(prompt.turns):
                reply = str(target.tokenizer.decode(trajectory.ids[trajectory.prompt_length :], skip_special_tokens=True))
                following.append((prompt, (*replies, reply)))
        open_turns, turn = following, turn + 1
    return found


def _conversation(prompt: Prompt, turn: int, replies: tuple[str, ...]) -> list[Message]:
    """The messages before the target's answer of `turn`, the gaps filled by its earlier replies."""
    given = prompt.turns[turn]
    ends = {len(earlier) - 1: reply for earlier, reply in zip(prompt.turns, replies, strict=False)}
    filled: list[Message] = []
    for index, message in enumerate(given):
        filled.append(message)
        if index in ends:
            filled.append(Message("assistant", ends[index]))
    return filled


def _continue(
    target: LanguageModel, prompts: list[Prompt], rendered: list[Rendered], boundaries: Sequence[int], max_new_tokens: int
) -> list[Trajectory]:
    asked = [index for index, prompt in enumerate(prompts) if prompt.response is None]
    made: dict[int, Trajectory] = {}
    if asked:
        batch = _generate(target, [prompts[i] for i in asked], [rendered[i] for i in asked], boundaries, max_new_tokens)
        made |= dict(zip(asked, batch, strict=True))
    return [made[i] if i in made else _given(target, prompts[i], rendered[i], boundaries) for i in range(len(prompts))]


def _generate(
    target: LanguageModel, prompts: list[Prompt], rendered: list[Rendered], boundaries: Sequence[int], max_new_tokens: int
) -> list[Trajectory]:
    longest = max(len(text.ids) for text in rendered)
    pads = [longest - len(text.ids) for text in rendered]
    noted = _NextTokens()
    with plain_decoding(target) as settings, StreamCapture(target.decoder, target.layers, boundaries, longest + max_new_tokens) as capture:
        padded = [[settings.pad_token_id] * pad + text.ids for pad, text in zip(pads, rendered, strict=True)]
        mask = [[0] * pad + [1] * len(text.ids) for pad, text in zip(pads, rendered, strict=True)]
        out = target.model.generate(  # type: ignore[operator]
            torch.tensor(padded, device=target.device),
            attention_mask=torch.tensor(mask, device=target.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            prefill_chunk_size=CHUNK,
            logits_processor=LogitsProcessorList([noted]),
        )
        streams = capture.take()
    prob, entropy = torch.stack(noted.prob, dim=1).cpu(), torch.stack(noted.entropy, dim=1).cpu()
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    made = []
    for row, pad in enumerate(pads):
        reply = out[row, longest:].cpu()
        stops = torch.isin(reply, torch.tensor([end for end in ends if end is not None])).nonzero()
        length = int(stops[0]) + 1 if len(stops) else len(reply)
        kept = {boundary: stream[row, pad : longest + length - 1].clone() for boundary, stream in streams.items()}
        whole = torch.cat([torch.tensor(rendered[row].ids), reply[:length]])
        agrees = torch.ones(length, dtype=torch.bool)
        made.append(Trajectory(prompts[row], 0, rendered[row], whole, prob[row, :length], entropy[row, :length], agrees, kept))
    return made


def _given(target: LanguageModel, prompt: Prompt, rendered: Rendered, boundaries: Sequence[int]) -> Trajectory:
    """The trajectory of a given response: one teacher-forced pass in chunks, its own argmax noted beside."""
    reply = target.tokenizer(prompt.response, add_special_tokens=False).input_ids
    if not reply:
        raise PromptError(
            f"prompt {prompt.id}: its response has no tokens, expected some text; leave `response` out to let the target answer"
        )
    whole = torch.tensor([*rendered.ids, *reply])
    start, probs, entropies, agrees, cache = len(rendered.ids), [], [], [], None
    with StreamCapture(target.decoder, target.layers, boundaries, len(whole)) as capture:
        for at in range(0, len(whole) - 1, CHUNK):
            chunk = whole[at : min(at + CHUNK, len(whole) - 1)]
            out = target.model(
                chunk[None].to(target.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=max(1, min(len(chunk), at + len(chunk) - start + 1)),
            )
            cache = out.past_key_values
            wanted = whole[at + 1 : at + 1 + len(chunk)][-out.logits.shape[1] :]
            if at + len(chunk) < start:
                continue
            logits = out.logits[0].cpu()
            prob, entropy = _prob_and_entropy(logits, wanted)
            probs.append(prob)
            entropies.append(entropy)
            agrees.append(logits.argmax(-1) == wanted)
        streams = {boundary: stream[0] for boundary, stream in capture.take().items()}
    return Trajectory(prompt, 0, rendered, whole, torch.cat(probs), torch.cat(entropies), torch.cat(agrees), streams)
