"""Train a multi-token-prediction head of DeepSeek-V3's form for a Llama target, on the target's own replies.

    python examples/train_mtp.py --target smollm2-135m-instruct --replies replies.jsonl.gz --cache streams --out mtp
    python examples/train_mtp.py --target smollm2-135m-instruct --replies replies.jsonl.gz --cache streams --out mtp-3 --unroll 3

Published heads are trained for one step, as the first line does, and draft several by repeating it. Replies and cache are those of
`train_eagle3.py`. Written as an extracted head (NextN): the target's `config.json` with `num_nextn_predict_layers`, `model.safetensors`
with the layer behind the target's last, `loss.csv` and a card, `README.md`.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from transformers.utils import logging as transformers_logging

from driftcli.sources.files import resolve
from driftcli.target.language_model import choose_device, load_language_model
from driftcli.training.learning import Plan, Run, chosen_precision, optimiser_of, train
from driftcli.training.losses import TargetHead
from driftcli.training.replies import Request
from driftcli.training.sampling import TAIL
from training import options
from training.card import write_card
from training.command import run
from training.mtp import MtpHead, Start, export
from training.options import streams_of
from training.unrolled import unrolled_losses


def main(
    target: options.Target,
    out: options.Out,
    cache: options.Cache,
    replies: options.Replies,
    write: options.Write = 0,
    prompts: options.Prompts = None,
    wave: options.Wave = 192,
    user_tokens: options.UserTokens = 64,
    reply_tokens: options.ReplyTokens = 200,
    length: options.Length = 2048,
    unroll: options.Unroll = 1,
    start: Annotated[Start, typer.Option(help="Where the layer begins: as the target's last one, or from nothing.")] = "last",
    plain_steps: options.PlainSteps = 0,
    steps: options.Steps = 1600,
    minutes: options.Minutes = 0.0,
    tokens: options.Tokens = 2048,
    rows: Annotated[int, typer.Option(min=0, help="Reply tokens, drawn at random, that count of each batch; 0 for all.")] = 0,
    vocabulary: Annotated[
        int, typer.Option(min=0, help=f"Most frequent reply tokens that the loss is over, and {TAIL:,} drawn of the others; 0 for all.")
    ] = 0,
    rate: options.Rate = 1e-3,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.TargetDtype = "auto",
    precision: options.HeadPrecision = None,
) -> None:
    """Train one head and export it."""
    transformers_logging.disable_progress_bar()
    options.require_one_length(plain_steps, minutes)
    model = load_language_model(resolve(target), choose_device(device), dtype)
    torch.manual_seed(seed)
    head = MtpHead.of(model, start).to(model.device)
    data = streams_of(model, cache, replies, Request(write, wave, user_tokens, reply_tokens, length, seed), prompts)
    out.mkdir(parents=True, exist_ok=True)
    precision = precision or chosen_precision(model.device)
    plan = Plan("mtp", unroll, plain_steps, steps, tokens, rate, seed, vocabulary, precision, data.held, start, minutes, rows)
    training = Run(head, optimiser_of(head, rate), out, plan)
    training.restore()
    frequent = data.frequent(vocabulary, model.config.vocab_size) if vocabulary else None
    train(training, data, model, TargetHead.of(model, None, precision), unrolled_losses, frequent)
    export(head, model, out)
    write_card(out, model.source.name, data, training.plan)


if __name__ == "__main__":
    run(main)
