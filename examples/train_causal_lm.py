"""Train a small language model with a tokenizer of its own to draft for a target, from what that target wrote.

    python examples/train_causal_lm.py --target bundled:target --replies replies.jsonl.gz --out drafter

A Llama of two layers and width 128 with a byte-level BPE of 1,500 tokens and no end token but its own: a drafter as people find them
beside a target of another family. It reads whole conversations, the target's special tokens as the text that they are.
"""

from __future__ import annotations

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

from driftcli.sources.files import resolve
from driftcli.training.conversations import packed, read_conversations
from training.command import run

UNKNOWN, END = "<unk>", "</s>"
LONGEST, WARM_UP = 320, 50  # tokens of a text; optimiser steps


def train_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` tokens, merged as these texts ask for, in which digits stay together."""
    bpe = Tokenizer(models.BPE(unk_token=UNKNOWN))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=[UNKNOWN, END], initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token=UNKNOWN, eos_token=END, clean_up_tokenization_spaces=False)


def batches(rows: Sequence[list[int]], tokens: int, seed: int) -> Iterator[Tensor]:
    """Ids padded with -1, about `tokens` a batch, without end: those of like length together, in an order drawn anew each time round."""
    found, draw = packed(sorted(rows, key=len), len, tokens), torch.Generator().manual_seed(seed)
    while True:
        for place in torch.randperm(len(found), generator=draw).tolist():
            yield torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in found[place]], batch_first=True, padding_value=-1)


def loss_of(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Mean cross-entropy in nats; ids: (row, position), -1 behind a text's end."""
    logits = model(ids.clamp(min=0)).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-1)


def main(
    target: Annotated[str, typer.Option(help="The target that wrote the replies, for its tokenizer.")],
    replies: Annotated[Path, typer.Option(help="Conversations as token ids, JSON Lines, as train_eagle3.py writes them.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vocabulary: Annotated[int, typer.Option(help="Tokens of the drafter's own tokenizer.")] = 1500,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 3.0,
    tokens: Annotated[int, typer.Option(help="Padded tokens a batch.")] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train tokenizer and model."""
    reader = AutoTokenizer.from_pretrained(resolve(target).folder)
    texts = [reader.decode(one.ids) for one in read_conversations(replies, len(reader))]
    tokenizer = train_tokenizer(texts, vocabulary)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    started, rows = time.time(), [ids[:LONGEST] for ids in tokenizer(texts).input_ids]
    for step, ids in enumerate(batches(rows, tokens, seed), 1):
        spent = (time.time() - started) / 60
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / WARM_UP) * max(0.05, 1 - spent / minutes)
        loss = loss_of(model, ids)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0 or spent >= minutes:
            typer.echo(f"step {step}: loss {loss.item():.3f}, {60 * spent:.0f} s", err=True)
        if spent >= minutes:
            break
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    run(main)
