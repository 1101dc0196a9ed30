"""Train a DFlash drafter for any target that driftcli loads, on the target's own replies.

    python examples/train_dflash.py --target tiny/target --replies tiny/answers.jsonl.gz --cache tiny/streams --out tiny/dflash --rows 96

Replies and cache are those of `train_eagle3.py`. Written in z-lab's layout: `config.json`, `model.safetensors`, `loss.csv` and a card,
`README.md`. The mask token is the target's padding token unless one is named.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from transformers.utils import logging as transformers_logging

from driftcli.errors import UsageError
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, choose_device, load_language_model
from driftcli.training.learning import Plan, Run, chosen_precision, optimiser_of, train
from driftcli.training.losses import TargetHead
from driftcli.training.replies import Request
from training import options
from training.card import write_card
from training.command import run
from training.dflash import DFlash, block_losses, export
from training.layer import HeadShape
from training.options import streams_of


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
    block_size: Annotated[int, typer.Option(min=2, help="Rows of a block: the anchor's, and one a guess.")] = 16,
    layers: Annotated[int, typer.Option(min=1, help="Decoder layers.")] = 2,
    mask: Annotated[int | None, typer.Option(min=0, help="Id of the mask token; default: the target's padding token.")] = None,
    steps: options.Steps = 1600,
    minutes: options.Minutes = 0.0,
    tokens: options.Tokens = 2048,
    rows: Annotated[int, typer.Option(min=0, help="Anchors, drawn at random, whose blocks count of each batch; 0 for all.")] = 96,
    rate: options.Rate = 1e-3,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.TargetDtype = "auto",
    precision: options.HeadPrecision = None,
) -> None:
    """Train one drafter and export it."""
    transformers_logging.disable_progress_bar()
    model = load_language_model(resolve(target), choose_device(device), dtype)
    torch.manual_seed(seed)
    head = DFlash(HeadShape.of(model, model.config.vocab_size), layers, block_size, mask_of(model, mask)).to(model.device)
    data = streams_of(model, cache, replies, Request(write, wave, user_tokens, reply_tokens, length, seed), prompts)
    out.mkdir(parents=True, exist_ok=True)
    precision = precision or chosen_precision(model.device)
    start = f"{layers} layers, mask token {head.mask}"
    plan = Plan("dflash", block_size - 1, 0, steps, tokens, rate, seed, 0, precision, data.held, start, minutes, rows)
    training = Run(head, optimiser_of(head, rate), out, plan)
    training.restore()
    train(training, data, model, TargetHead.of(model, None, precision), block_losses)
    export(head, model, out)
    write_card(out, model.source.name, data, training.plan)


def mask_of(target: LanguageModel, asked: int | None) -> int:
    """The mask token, a UsageError where it is none of the target's."""
    found = asked if asked is not None else target.tokenizer.pad_token_id
    if found is None or found >= len(target.head):
        raise UsageError(f"--mask {found}: expected a token of the target's {len(target.head)}, and it has no padding token; name one")
    return int(found)


if __name__ == "__main__":
    run(main)
