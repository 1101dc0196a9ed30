"""Train a block drafter, a DFlash or a DSpark, for any target that driftcli loads, on the target's own replies.

    python examples/train_dflash.py --target tiny/target --replies tiny/answers.jsonl.gz --cache tiny/blocks --out tiny/dflash
    python examples/train_dflash.py --target tiny/target --replies tiny/answers.jsonl.gz --cache tiny/blocks --out tiny/dspark --rank 16

Replies are those of `train_eagle3.py`; the cache is another one where other streams are read. `--rank` makes a DSpark: every row guesses,
biased by the token before, and a confidence head says how sure it is. Written are `config.json` and `model.safetensors`, a DFlash in
z-lab's layout and a DSpark in speculators', `loss.csv` and a card, `README.md`. The mask token is the target's padding token unless one is
named.
"""

from __future__ import annotations

from dataclasses import replace
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
from driftcli.training.streams import usual_boundaries
from training import options
from training.blocks import BlockDrafter, BlockShape, block_losses, export
from training.card import write_card
from training.command import run
from training.copying import able_to_copy
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
    guesses: Annotated[int, typer.Option(min=1, help="Tokens that a block guesses.")] = 15,
    layers: Annotated[int, typer.Option(min=1, help="Decoder layers.")] = 2,
    inner: Annotated[int, typer.Option(min=0, help="Inner width of each layer's MLP; 0 for the target's.")] = 0,
    head_size: Annotated[int, typer.Option(min=0, help="Numbers of an attention head, as many as before in all; 0 for the target's.")] = 0,
    base: Annotated[float, typer.Option(min=0, help="RoPE base; 0 for the target's.")] = 0.0,
    streams: Annotated[str, typer.Option(help="Boundaries of the target's streams, ascending; default: 2,L/2,L-3.")] = "",
    mask: Annotated[int | None, typer.Option(min=0, help="Id of the mask token; default: the target's padding token.")] = None,
    rank: Annotated[int, typer.Option(min=0, help="Of a DSpark's bias by the token before; 0 for a DFlash, which has none.")] = 0,
    copying: Annotated[bool, typer.Option(help="Begin with a circuit that looks up what stood behind a token before.")] = False,
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
    read = boundaries_of(model, streams)
    layer = layer_of(HeadShape.of(model, model.config.vocab_size), inner, head_size, base)
    shape = BlockShape(layer, layers, guesses + (not rank), mask_of(model, mask), read, rank)
    head = BlockDrafter(shape).to(model.device)
    data = streams_of(model, cache, replies, Request(write, wave, user_tokens, reply_tokens, length, seed), prompts, read)
    if copying:
        able_to_copy(head, model.embedding.float(), data, seed)
    out.mkdir(parents=True, exist_ok=True)
    precision, start = precision or chosen_precision(model.device), "copying" if copying else "random"
    kind: options.BlockKind = "dspark" if rank else "dflash"
    plan = Plan(kind, guesses, 0, steps, tokens, rate, seed, 0, precision, data.held, start, minutes, rows)
    training = Run(head, optimiser_of(head, rate), out, plan)
    training.restore()
    train(training, data, model, TargetHead.of(model, None, precision), block_losses)
    export(head, model, out)
    write_card(out, model.source.name, data, training.plan, shape.said)


def boundaries_of(target: LanguageModel, asked: str) -> tuple[int, ...]:
    """Of the streams that are read; a UsageError where they are none of the target's."""
    found = tuple(int(part) for part in asked.split(",")) if all(part.strip().isdigit() for part in asked.split(",")) else ()
    found = found or (usual_boundaries(target) if not asked else ())
    if not found or list(found) != sorted(set(found)) or not 1 <= found[0] <= found[-1] <= len(target.layers):
        raise UsageError(f"--streams {asked}: expected ascending numbers from 1 to {len(target.layers)}, the target's layers, as in 2,4,5")
    return found


def layer_of(shape: HeadShape, inner: int, head_size: int, base: float) -> HeadShape:
    """The target's sizes but for those that are asked; a UsageError for heads that do not fit the same width."""
    queries, keys = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
    size = head_size or shape.head_dim
    if size % 2 or queries % size or keys % size:
        raise UsageError(f"--head-size {size}: expected an even divisor of {queries} numbers of queries and {keys} of keys")
    return replace(
        shape,
        intermediate_size=inner or shape.intermediate_size,
        head_dim=size,
        num_attention_heads=queries // size,
        num_key_value_heads=keys // size,
        rope_theta=base or shape.rope_theta,
    )


def mask_of(target: LanguageModel, asked: int | None) -> int:
    """The mask token, a UsageError where it is none of the target's."""
    found = asked if asked is not None else target.tokenizer.pad_token_id
    if found is None or found >= len(target.head):
        raise UsageError(f"--mask {found}: expected a token of the target's {len(target.head)}, and it has no padding token; name one")
    return int(found)


if __name__ == "__main__":
    run(main)
