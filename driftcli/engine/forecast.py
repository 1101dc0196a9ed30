"""What a run will take, before it starts: counted where it can be, timed on a few tokens of the pair itself where it cannot.

Replies may end early: every one is counted as long as it may become. What is written to disk is not timed, so the seconds are rough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from driftcli.conditions import DraftSettings, TextSettings
from driftcli.engine.cells import draft, sharing_texts
from driftcli.engine.run import Job
from driftcli.engine.texts import Text, foreseen
from driftcli.engine.timing import seconds
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.target.language_model import LanguageModel
from driftcli.texts.rendering import REPLY

SAMPLE, PROMPT = 96, 32  # tokens of the text that is timed, and of its prompt (chosen by us)


@dataclass(frozen=True)
class Forecast:
    """Texts that the target writes and tokens that the drafter proposes in forced chains, each at most, and seconds, roughly."""

    texts: int
    drafter_tokens: int
    seconds: float


def forecast(job: Job) -> Forecast:
    """What `job` will take if all that is known before it starts is measured anew."""
    rendered = [len(foreseen(job.pair.target, prompt).ids) for prompt in job.prompts]
    turns = sum(len(prompt.turns) for prompt in job.prompts)
    share, reply = turns / len(job.prompts), job.spec.max_new_tokens
    usual = sum(rendered) / len(rendered)
    speed = _timed(job)
    written = tokens = 0
    seconds = 0.0
    for (text, some), group in sharing_texts(job.conditions()).items():
        texts = round((min(some, len(job.prompts)) if some else len(job.prompts)) * (1 if text.length else share))
        length = max(text.length, usual) + reply
        reads = 2 if text == TextSettings() and job.searches else 1
        seconds += texts * length * speed.read * reads
        if not text.replayed:
            written += texts
            seconds += texts * (reply * speed.write + (length - reply) * speed.read)
        for condition in group:
            depth = condition.settings.depth
            tokens += texts * reply * depth
            seconds += texts * (length * speed.fresh + reply * max(0, depth - 1) * speed.chain * (1 + condition.drafts_free))
    return Forecast(written, tokens, seconds)


@dataclass(frozen=True)
class _Speed:
    """Seconds a token: read by the target alone, written by it in a batch, read by the drafter, drafted in a chain."""

    read: float
    write: float
    fresh: float
    chain: float


def _timed(job: Job) -> _Speed:
    target, size = job.pair.target, min(job.spec.batch_size, len(job.prompts))
    ids = torch.randint(0, target.config.vocab_size, (SAMPLE,), generator=torch.Generator().manual_seed(0))
    labels = [1] * PROMPT + [REPLY] * (SAMPLE - PROMPT)
    text = Text(job.prompts[0], 0, tuple(ids.tolist()), tuple(labels), PROMPT, True, 0, "")
    drafter = job.pair.drafter
    trajectory = read_text(target, text, [] if isinstance(drafter, CausalLm) else drafter.boundaries)
    anchors = trajectory.n_anchors(2)
    one, two = (_seconds(lambda depth=depth: _drafted(job, trajectory, depth)) for depth in (1, 2))  # type: ignore[misc]
    return _Speed(
        read=_seconds(lambda: read_text(target, text, [])) / SAMPLE,
        write=_seconds(lambda: _step(target, size)) / size,
        fresh=one / SAMPLE,
        chain=max(0.0, two - one) / anchors,
    )


def _drafted(job: Job, trajectory: Trajectory, depth: int) -> None:
    draft(job.pair, trajectory, DraftSettings(depth), 2, free=False)


@torch.inference_mode()
def _step(target: LanguageModel, size: int) -> None:
    target.model(torch.zeros(size, 1, dtype=torch.long, device=target.device), use_cache=False)


def _seconds(call: Callable[[], object]) -> float:
    """The faster of two calls, since the first one warms up."""
    return min(seconds(call) for _ in range(2))
