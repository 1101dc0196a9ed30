"""Train an EAGLE-3 head, pre-norm or post-norm (EAGLE 3.1), for any target that driftcli loads, on the target's own replies.

    python examples/train_eagle3.py --target smollm2-135m-instruct --norm pre  --replies replies.jsonl.gz --cache streams --out pre
    python examples/train_eagle3.py --target smollm2-135m-instruct --norm post --replies replies.jsonl.gz --cache streams --out post

The target runs once: its streams and the input of its head go to `--cache`, which every further head reuses, so two heads see the same
data in the same order. Written in SafeAILab layout: `config.json`, `model.safetensors`, `loss.csv` and a card, `README.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import typer
from transformers.utils import logging as transformers_logging

from driftcli.sources.files import resolve
from driftcli.sources.fingerprint import fingerprint
from driftcli.target.language_model import choose_device, load_language_model
from driftcli.training.learning import Plan, Run, chosen_precision, optimiser_of, train
from driftcli.training.losses import TargetHead
from driftcli.training.replies import Request
from training import options
from training.card import write_card
from training.command import run
from training.eagle3 import Head, begin_as, drafted_by, export
from training.layer import HeadShape
from training.options import streams_of
from training.unrolled import unrolled_losses


def main(
    target: options.Target,
    norm: Annotated[Literal["pre", "post"], typer.Option(help="What the head feeds back: its raw state, or the normed one (EAGLE 3.1).")],
    out: options.Out,
    cache: options.Cache,
    replies: options.Replies,
    write: options.Write = 0,
    prompts: options.Prompts = None,
    wave: options.Wave = 192,
    user_tokens: options.UserTokens = 64,
    reply_tokens: options.ReplyTokens = 200,
    length: options.Length = 2048,
    unroll: options.Unroll = 3,
    plain_steps: options.PlainSteps = 0,
    steps: options.Steps = 1600,
    minutes: options.Minutes = 0.0,
    tokens: options.Tokens = 2048,
    rate: options.Rate = 1e-3,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="Folder of a head to go on from that this wrote, instead of nothing; its draft vocabulary is kept."),
    ] = None,
    draft_vocabulary_size: Annotated[int, typer.Option(min=1, help="Most frequent reply tokens that the head can propose.")] = 4096,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.TargetDtype = "auto",
    precision: options.HeadPrecision = None,
) -> None:
    """Train one head and export it."""
    transformers_logging.disable_progress_bar()
    options.require_one_length(plain_steps, minutes)
    model = load_language_model(resolve(target), choose_device(device), dtype)
    begun = resolve(begin) if begin else None
    kept = drafted_by(begun) if begun else None
    shape = HeadShape.of(model, draft_vocabulary_size if kept is None else len(kept))
    torch.manual_seed(seed)
    head = Head(shape, post_norm=norm == "post").to(model.device)
    if begun:
        begin_as(head, begun)
    data = streams_of(model, cache, replies, Request(write, wave, user_tokens, reply_tokens, length, seed), prompts)
    ids = data.frequent(shape.draft_vocab_size, shape.vocab_size) if kept is None else kept
    if not begun:
        with torch.no_grad():
            head.lm_head.weight.copy_(model.head[ids.to(model.head.device)])
    out.mkdir(parents=True, exist_ok=True)
    precision = precision or chosen_precision(model.device)
    start = f"{begun.folder.name} {fingerprint(begun)}" if begun else "random"
    plan = Plan(norm, unroll, plain_steps, steps, tokens, rate, seed, len(ids), precision, data.held, start, minutes)
    training = Run(head, optimiser_of(head, rate), out, plan)
    training.restore()
    train(training, data, model, TargetHead.of(model, ids, precision), unrolled_losses)
    export(head, ids, out)
    write_card(out, model.source.name, data, training.plan)


if __name__ == "__main__":
    run(main)
