"""Train the chat model that ships with driftcli, from nothing: tokenizer, weights, card, and the prompts that it is asked.

    python examples/train_tiny_target.py --replies replies.jsonl.gz --written-by .cache/smollm2 --out driftcli/bundled/target \
        --prompts driftcli/bundled/prompts.jsonl --for-heads tasks.jsonl

A Llama of eight layers and width 128 with a byte-level BPE of 2,048 tokens; `training/tiny_corpus.py` says what it is taught. The prompts
are tasks of the same kinds on lines and facts that it never saw.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from driftcli.errors import FormatError
from driftcli.training.conversations import packed, read_conversations
from training.command import run
from training.tiny_corpus import AGAIN, TASKS, Talk, Task, find, pick, quote, recall, sentences, taught, turns

SPECIAL = ("<s>", "<|end|>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>")  # in the order of their ids
BOS, END, PAD, SYSTEM, _, ASSISTANT = range(len(SPECIAL))
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VOCABULARY, WIDTH, LAYERS, LONGEST = 2048, 128, 8, 1024
LEAST_LINES = 14  # that the longest task takes
HELD_OUT = 16  # every 16th conversation is left for the prompts
MEASURED = (quote, pick, find, recall)  # what prompts ask: a card is told mostly in phrases of its own, which hardly need the prompt
PROMPT_WEIGHT = 0.15  # of a token that no reply holds, in the loss: what users write can hardly be guessed
ECHOES = 60  # steps of nothing but copying at the start
EMBEDDING_STD = 0.1
SHARPNESS = 6.0  # of the head that looks back: the next best offset is about four nats away
CONFIG = LlamaConfig(
    vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
    num_key_value_heads=4, attention_bias=True, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 50_000.0}, bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD,
)  # fmt: skip


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a BoS of its own and the chat template; every digit is a token."""
    bpe = Tokenizer(models.BPE())
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise]),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=SPECIAL[BOS], eos_token=SPECIAL[END], pad_token=SPECIAL[PAD], clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def echoes(tokenizer: PreTrainedTokenizerFast, tokens: int, draw: random.Random) -> Tensor:
    """A batch of conversations that ask to repeat tokens drawn at random, which nothing but copying can answer."""
    length = draw.randint(8, 48)
    before, between, after = (
        tokenizer(piece, add_special_tokens=False).input_ids
        for piece in (f"{SPECIAL[BOS]}<|user|>\n{draw.choice(AGAIN)}: ", "<|end|>\n<|assistant|>\n", "<|end|>\n")
    )
    said = torch.tensor([[draw.randrange(len(SPECIAL), VOCABULARY) for _ in range(length)] for _ in range(tokens // (2 * length + 16))])

    def column(ids: list[int]) -> Tensor:
        return torch.tensor(ids).expand(len(said), -1)

    return torch.cat([column(before), said, column(between), said, column(after)], dim=1)


def batches(tokenizer: PreTrainedTokenizerFast, talks: Sequence[Talk], lines: Sequence[str], tokens: int, seed: int) -> Iterator[Tensor]:
    """Padded ids, about `tokens` a batch, without end: first echoes alone, then conversations, those of like length together."""
    draw = random.Random(seed)
    for _ in range(ECHOES):
        yield echoes(tokenizer, tokens, draw)
    while True:
        texts = [tokenizer.apply_chat_template(taught(draw, talks, lines), tokenize=False) for _ in range(400)]
        ids = sorted((row[:LONGEST] for row in tokenizer(texts, add_special_tokens=False).input_ids), key=len)
        found = packed(ids, len, tokens)
        draw.shuffle(found)
        for number, rows in enumerate(found):
            if number % 8 == 0:
                yield echoes(tokenizer, tokens, draw)
            yield torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


@torch.no_grad()
def able_to_copy(model: LlamaForCausalLM) -> None:
    """Start with an induction circuit, which copying text takes and which a small model needs far more tokens to grow than it gets here.

    Head 0 of the first layer reads the token before, by constant queries and keys: the score of offset n is sum_f cos((n - 1) *
    frequency_f), largest at n = 1. It writes that token into a subspace of the stream, where two heads of the second layer look for the
    token at hand: they find the place behind its earlier occurrence (Olsson et al. 2022, arXiv:2209.11895). All of it is trained on.
    """
    before, after = (layer.self_attn for layer in model.model.layers[:2])
    size, frequencies = CONFIG.head_dim, model.model.rotary_emb.inv_freq
    before.q_proj.bias[:size] = SHARPNESS * torch.cat([frequencies.cos(), -frequencies.sin()])
    before.k_proj.bias[:size] = SHARPNESS * torch.cat([torch.ones(size // 2), torch.zeros(size // 2)])
    token, place = torch.randn(size, WIDTH) / WIDTH**0.5, torch.linalg.qr(torch.randn(WIDTH, size))[0]
    before.v_proj.weight[:size], before.o_proj.weight[:, :size] = token, EMBEDDING_STD * place
    for head in (slice(0, size), slice(size, 2 * size)):
        after.q_proj.weight[head], after.k_proj.weight[head] = 3 * token, 3 * place.T
    model.model.embed_tokens.weight.mul_(EMBEDDING_STD / CONFIG.initializer_range)


def weigh(ids: Tensor) -> Tensor:
    """Weight of each token in the loss: 1 in replies, `PROMPT_WEIGHT` elsewhere, 0 for padding; (row, position)."""
    roles = (ids >= SYSTEM) & (ids <= ASSISTANT)
    latest = torch.where(roles, torch.arange(ids.shape[1]) * len(SPECIAL) + ids, 0).cummax(-1).values % len(SPECIAL)
    return torch.where((latest == ASSISTANT) & ~roles, 1.0, PROMPT_WEIGHT) * (ids != PAD)


def weighted_loss(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Mean cross-entropy in nats, by the tokens' weights."""
    logits = model(ids, attention_mask=(ids != PAD).long()).logits[:, :-1]
    nats, weights = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none"), weigh(ids)[:, 1:]
    return (nats * weights).sum() / weights.sum()


@torch.inference_mode()
def answered(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: Sequence[tuple[str, Talk]]) -> dict[str, float]:
    """Share of the last answer's tokens that the model guesses right, by kind of task."""
    right: dict[str, list[Tensor]] = {}
    for kind, talk in asked:
        start = len(tokenizer.apply_chat_template(talk[:-1], add_generation_prompt=True)["input_ids"])
        ids = torch.tensor([tokenizer.apply_chat_template(talk)["input_ids"][:-1]])
        guessed = model(ids).logits[0, start - 1 : -1].argmax(-1)
        right.setdefault(kind, []).append(guessed == ids[0, start:])
    return {kind: torch.cat(each).float().mean().item() for kind, each in right.items()}


def ask(lines: Sequence[str], kinds: Sequence[Task], each: int, seed: int) -> list[tuple[str, Talk]]:
    """`each` tasks of every kind, with their answers."""
    draw = random.Random(seed)
    return [(task.__name__, task(draw, lines)) for task in kinds for _ in range(each)]


def write_prompts(path: Path, asked: Sequence[tuple[str, Talk]]) -> None:
    """The user's turns of each task; the target fills the gaps between them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        for number, (kind, talk) in enumerate(asked):
            users = [turn for turn in talk if turn["role"] == "user"]
            out.write(json.dumps({"id": f"{kind}-{number:02d}", "messages": users, "category": kind}, ensure_ascii=False) + "\n")


def main(
    replies: Annotated[Path, typer.Option(help="Conversations in ChatML to learn to chat from, as train_eagle3.py writes them.")],
    written_by: Annotated[str, typer.Option(help="The model that wrote them, for its tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    prompts: Annotated[Path, typer.Option(help="File for the prompts that it is measured on.")],
    for_heads: Annotated[Path, typer.Option(help="File for prompts to train heads on, from lines that it was taught.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 2200,
    tokens: Annotated[int, typer.Option(help="Padded tokens a batch.")] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train tokenizer and model, and write the prompts."""
    transformers_logging.disable_progress_bar()
    reader = AutoTokenizer.from_pretrained(written_by)
    talks = [talk for written in read_conversations(replies, len(reader)) if (talk := turns(reader.decode(written.ids)))]
    kept = [talk for number, talk in enumerate(talks) if number % HELD_OUT]
    lines, fresh = sentences(kept), sentences(talks[::HELD_OUT])
    taught_lines = set(lines)
    fresh = [line for line in fresh if line not in taught_lines]
    if min(len(lines), len(fresh)) < LEAST_LINES:
        raise FormatError(
            f"{replies}: {len(talks)} conversations in ChatML give {len(lines)} lines to teach and {len(fresh)} to ask for, "
            f"expected {LEAST_LINES} of each at least; write more"
        )
    asked = ask(fresh, MEASURED, each=10, seed=seed)
    write_prompts(prompts, asked)
    write_prompts(for_heads, ask(lines, TASKS, each=500, seed=seed + 1))
    draw = random.Random(seed)
    tokenizer = train_tokenizer([turn["content"] for _ in range(6000) for turn in taught(draw, kept, lines)])
    torch.manual_seed(seed)
    model = LlamaForCausalLM(CONFIG)
    able_to_copy(model)
    typer.echo(f"{len(kept)} conversations, {len(lines)} lines, {sum(p.numel() for p in model.parameters()):,} weights", err=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    started = time.time()
    for step, ids in zip(range(1, steps + 1), batches(tokenizer, kept, lines, tokens, seed), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 100) * (0.525 + 0.475 * math.cos(math.pi * step / steps))
        loss = weighted_loss(model, ids)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0 or step == steps:
            shown = ", ".join(f"{kind} {share:.0%}" for kind, share in answered(model, tokenizer, asked).items())
            typer.echo(f"step {step} of {steps}: loss {loss.item():.3f}, {time.time() - started:.0f} s, right: {shown}", err=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    run(main)
