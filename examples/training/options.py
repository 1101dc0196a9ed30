"""What both training scripts are asked, and the conversations and streams that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from driftcli.errors import UsageError
from driftcli.target.language_model import Dtype, LanguageModel
from driftcli.training.conversations import read_conversations
from driftcli.training.losses import Precision, require_known_head
from driftcli.training.replies import Request, user_turns, write_replies
from driftcli.training.streams import Streams, capture, usual_boundaries

Target = Annotated[str, typer.Option(help="Hub id or folder of the target.")]
Out = Annotated[Path, typer.Option(help="Folder to write; a killed run in it is resumed.")]
Cache = Annotated[Path, typer.Option(help="Folder for the target's streams, shared by all heads of one target and data set.")]
Replies = Annotated[
    Path, typer.Option(help="Conversations, JSON Lines with ids and spans; written first by --write-replies or --prompts unless there.")
]
Write = Annotated[int, typer.Option("--write-replies", min=0, help="Let the target write this many replies, in whole waves.")]
Prompts = Annotated[Path | None, typer.Option(help="Let the target answer these instead, JSON Lines as driftcli reads them.")]
Wave = Annotated[int, typer.Option(min=1, help="Replies that the target writes in one wave.")]
UserTokens = Annotated[int, typer.Option(min=1, help="Longest user turn that the target writes.")]
ReplyTokens = Annotated[int, typer.Option(min=1, help="Longest reply that the target writes.")]
Length = Annotated[int, typer.Option(min=8, help="Longest conversation that is kept whole, in tokens.")]
Unroll = Annotated[int, typer.Option(min=1, help="Steps that the head feeds on itself in training.")]
PlainSteps = Annotated[int, typer.Option(min=0, help="First optimiser steps without unrolling, several times faster each.")]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")]
Minutes = Annotated[float, typer.Option(min=0, help="Train for about so long instead of --steps: the first steps are timed.")]
Tokens = Annotated[int, typer.Option(min=1, help="Padded tokens a batch.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Seed = Annotated[int, typer.Option()]
Device = Annotated[str, typer.Option()]
TargetDtype = Annotated[Dtype, typer.Option(help="Precision of the target; auto: float32 on a CPU, the config's on a GPU.")]
BlockKind = Literal["dflash", "dspark"]
HeadPrecision = Annotated[
    Precision | None,
    typer.Option(help="Of the head's products; default: float32 on a CPU, since many have no bfloat16 units, else bfloat16."),
]


def require_one_length(plain_steps: int, minutes: float) -> None:
    """UsageError where both are asked."""
    if plain_steps and minutes:
        raise UsageError("--plain-steps and --minutes: the first steps are to tell how long all take; leave one out")


def streams_of(
    target: LanguageModel, cache: Path, replies: Path, asked: Request, prompts: Path | None, boundaries: Sequence[int] = ()
) -> Streams:
    """The target's streams on its replies, which it writes first where they are not there; UsageError where two ways to write are named.

    boundaries: of the streams, ascending; EAGLE-3's usual ones by default.
    """
    if asked.replies and prompts:
        raise UsageError("--write-replies and --prompts: the target either asks itself or answers what is given; leave one out")
    if replies.exists():
        typer.echo(f"conversations are taken from {replies}", err=True)
    elif asked.replies or prompts:
        write_replies(target, asked, replies, user_turns(prompts) if prompts else ())
    conversations = read_conversations(replies, target.config.vocab_size)
    require_known_head(target, conversations[0].ids)
    return capture(target, conversations, cache, boundaries or usual_boundaries(target))
