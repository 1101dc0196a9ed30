"""Train an EAGLE-3 head, pre-norm or post-norm (EAGLE 3.1), for any target that driftcli loads, on the target's own replies.

    python examples/train_eagle3.py --target smollm2-135m-instruct --norm pre  --replies replies.jsonl.gz --cache streams --out pre
    python examples/train_eagle3.py --target smollm2-135m-instruct --norm post --replies replies.jsonl.gz --cache streams --out post

The target runs once: its streams and the input of its head go to `--cache`, which every further head reuses, so two heads see the same
data in the same order. Written in SafeAILab layout: `config.json`, `model.safetensors`, `loss.csv` and a card, `README.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from transformers.utils import logging as transformers_logging

from driftcli.errors import UsageError
from driftcli.sources.files import resolve
from driftcli.target.language_model import Dtype, choose_device, load_language_model
from training.card import write_card
from training.command import run
from training.conversations import read_conversations
from training.head import Head, HeadShape, export
from training.learning import Plan, Precision, Run, draft_vocabulary, require_known_head, train
from training.replies import Request, user_turns, write_replies
from training.streams import capture


def main(
    target: Annotated[str, typer.Option(help="Hub id or folder of the target.")],
    norm: Annotated[Literal["pre", "post"], typer.Option(help="What the head feeds back: its raw state, or the normed one (EAGLE 3.1).")],
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run in it is resumed.")],
    cache: Annotated[Path, typer.Option(help="Folder for the target's streams, shared by all heads of one target and data set.")],
    replies: Annotated[
        Path, typer.Option(help="Conversations, JSON Lines with ids and spans; written first by --write-replies or --prompts unless there.")
    ],
    write: Annotated[int, typer.Option("--write-replies", min=0, help="Let the target write this many replies, in whole waves.")] = 0,
    prompts: Annotated[Path | None, typer.Option(help="Let the target answer these instead, JSON Lines as driftcli reads them.")] = None,
    wave: Annotated[int, typer.Option(min=1, help="Replies that the target writes in one wave.")] = 192,
    user_tokens: Annotated[int, typer.Option(min=1, help="Longest user turn that the target writes.")] = 64,
    reply_tokens: Annotated[int, typer.Option(min=1, help="Longest reply that the target writes.")] = 200,
    length: Annotated[int, typer.Option(min=8, help="Longest conversation that is kept whole, in tokens.")] = 2048,
    unroll: Annotated[int, typer.Option(min=1, help="Steps that the head feeds on itself in training.")] = 3,
    plain_steps: Annotated[int, typer.Option(min=0, help="First optimiser steps without unrolling, several times faster each.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 1600,
    tokens: Annotated[int, typer.Option(min=1, help="Padded tokens a batch.")] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    draft_vocabulary_size: Annotated[int, typer.Option(min=1, help="Most frequent reply tokens that the head can propose.")] = 4096,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option()] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the target; auto: float32 on a CPU, the config's on a GPU.")] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of the head's products; default: float32 on a CPU, since many have no bfloat16 units, else bfloat16."),
    ] = None,
) -> None:
    """Train one head and export it."""
    transformers_logging.disable_progress_bar()
    if write and prompts:
        raise UsageError("--write-replies and --prompts: the target either asks itself or answers what is given; leave one out")
    model = load_language_model(resolve(target), choose_device(device), dtype)
    shape = HeadShape.of(model, draft_vocabulary_size)
    if replies.exists():
        typer.echo(f"conversations are taken from {replies}", err=True)
    elif write or prompts:
        write_replies(model, Request(write, wave, user_tokens, reply_tokens, length, seed), replies, user_turns(prompts) if prompts else ())
    conversations = read_conversations(replies, shape.vocab_size)
    require_known_head(model, conversations[0].ids)
    data = capture(model, conversations, cache)
    ids = draft_vocabulary(data, shape.draft_vocab_size, shape.vocab_size)
    torch.manual_seed(seed)
    head = Head(shape, post_norm=norm == "post").to(model.device)
    with torch.no_grad():
        head.lm_head.weight.copy_(model.head[ids.to(model.head.device)])
    out.mkdir(parents=True, exist_ok=True)
    precision = precision or ("float32" if model.device.type == "cpu" else "bfloat16")
    plan = Plan(norm, unroll, plain_steps, steps, tokens, rate, seed, len(ids), precision, data.held)
    training = Run(head, torch.optim.AdamW(head.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01), out, plan)
    training.restore()
    train(training, data, model, ids)
    export(head, ids, out)
    write_card(out, model.source.name, data, plan)


if __name__ == "__main__":
    run(main)
