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

from driftcli.loading.files import resolve
from driftcli.loading.target import Dtype, choose_device, load_language_model
from training.card import write_card
from training.head import Head, HeadShape, export
from training.learning import Precision, Run, draft_vocabulary, train
from training.replies import Plan, read_replies, user_turns, write_replies
from training.streams import capture


def main(
    target: Annotated[str, typer.Option(help="Hub id or folder of the target.")],
    norm: Annotated[Literal["pre", "post"], typer.Option(help="What the head feeds back: its raw state, or the normed one (EAGLE 3.1).")],
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run in it is resumed.")],
    cache: Annotated[Path, typer.Option(help="Folder for the target's streams, shared by all heads of one target and data set.")],
    replies: Annotated[
        Path, typer.Option(help="Replies to train on, JSON Lines with ids and spans; or where --write-replies writes them.")
    ],
    write: Annotated[int, typer.Option("--write-replies", help="Let the target write this many replies to --replies first.")] = 0,
    prompts: Annotated[
        Path | None, typer.Option(help="Let the target answer these first, JSON Lines as driftcli reads them, in place of --write-replies.")
    ] = None,
    wave: Annotated[int, typer.Option(help="Replies that --write-replies lets the target write side by side.")] = 192,
    user_tokens: Annotated[int, typer.Option(help="Longest user turn that --write-replies lets the target write.")] = 64,
    reply_tokens: Annotated[int, typer.Option(help="Longest reply that --write-replies lets the target write.")] = 200,
    length: Annotated[int, typer.Option(help="Longest conversation of --write-replies, in tokens.")] = 2048,
    unroll: Annotated[int, typer.Option(min=1, help="Steps that the head feeds on itself in training.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1600,
    tokens: Annotated[int, typer.Option(help="Padded tokens a batch.")] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    draft_vocabulary_size: Annotated[int, typer.Option(help="Most frequent reply tokens that the head can propose.")] = 4096,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option()] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the target; auto: float32 on a CPU, the config's on a GPU.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the head's products; auto: float32 on a CPU, bfloat16 on a GPU.")] = "auto",
) -> None:
    """Train one head and export it."""
    transformers_logging.disable_progress_bar()
    model = load_language_model(resolve(target), choose_device(device), dtype)
    if (write or prompts) and not replies.exists():
        write_replies(model, Plan(write, wave, user_tokens, reply_tokens, length, seed), replies, user_turns(prompts) if prompts else ())
    data = capture(model, read_replies(replies), cache)
    shape = HeadShape.of(model.config, draft_vocabulary_size)
    ids = draft_vocabulary(data, shape.draft_vocab_size, shape.vocab_size)
    torch.manual_seed(seed)
    head = Head(shape, post_norm=norm == "post").to(model.device)
    with torch.no_grad():
        head.lm_head.weight.copy_(model.head[ids.to(model.head.device)])
    out.mkdir(parents=True, exist_ok=True)
    plan: dict[str, int | float | str] = {
        "norm": norm,
        "unroll": unroll,
        "steps": steps,
        "tokens": tokens,
        "rate": rate,
        "seed": seed,
        "replies": data.fingerprint,
    }
    run = Run(head, torch.optim.AdamW(head.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01), out, steps, rate, plan)
    run.restore()
    train(run, data, model, ids, unroll, tokens, seed, precision)
    export(head, ids, out)
    write_card(out, model.source.name, data, plan, len(ids))


if __name__ == "__main__":
    typer.run(main)
