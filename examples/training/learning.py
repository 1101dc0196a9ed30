"""One training run of a head: losses at each unrolled step, optimiser, progress, and where it resumes."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from transformers import PretrainedConfig

from driftcli.errors import FormatError, RunError
from driftcli.target.language_model import LanguageModel
from training.conversations import Conversation, packed
from training.head import Head
from training.streams import Batch, HeadInputs, Streams

STEP_WEIGHT = 0.8  # loss of unrolled step s counts 0.8 ** s, as in EAGLE-3's training code
HELD_OUT, MOST_HELD_OUT = 32, 96  # every 32nd conversation, of a large set 96 in all, is never trained on and gives the validation figures
USUAL_UNROLL = 8  # heads unrolled up to here are trained on the same conversations: those long enough for each of them
MOST_APART = 1e-2  # of a target's probabilities from those recomputed; bfloat16 alone moves them by a few thousandths
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Plan:
    """All that makes two runs the same; plain: how many of the steps come first and do not unroll, which most of what a head knows can be
    learned by in a fraction of the time; vocabulary: draft tokens, held: what the streams are of.
    """

    norm: Literal["pre", "post"]
    unroll: int
    plain: int
    steps: int
    tokens: int
    rate: float
    seed: int
    vocabulary: int
    precision: Precision
    held: dict[str, str]


@dataclass(frozen=True)
class Loss:
    """Of one unrolled step: cross-entropy in nats, top-1 agreement with the target within the draft vocabulary in [0, 1], rows counted."""

    nats: Tensor
    agreement: Tensor
    rows: int


@dataclass(frozen=True)
class TargetHead:
    """Rows of the target's output head (token, width), and its config, which may bend the logits."""

    rows: Tensor
    config: PretrainedConfig

    @torch.no_grad()
    def probabilities(self, tops: Tensor) -> Tensor:
        """The target's distribution over the tokens of `rows`, (..., token), from what its head reads, (..., width)."""
        logits = (tops.to(self.rows.dtype) @ self.rows.T).float() * (getattr(self.config, "logit_scale", None) or 1.0)
        logits = logits / (getattr(self.config, "logits_scaling", None) or 1.0)
        if cap := getattr(self.config, "final_logit_softcapping", None):
            logits = cap * (logits / cap).tanh()
        return logits.softmax(-1)


@torch.inference_mode()
def require_known_head(target: LanguageModel, ids: Sequence[int]) -> None:
    """Raise FormatError for a target that makes its distribution otherwise than `TargetHead`: a head would learn the wrong one."""
    with HeadInputs(target) as tops:
        own = target.model(torch.tensor([ids], device=target.device), use_cache=False).logits[0, -1].float().softmax(-1)
    known = TargetHead(target.head, target.config).probabilities(tops.found[0][0, -1])
    if (apart := (own - known.to(own)).abs().max().item()) > MOST_APART:
        raise FormatError(
            f"{target.source.name}: its probabilities are up to {apart:.3g} from those of its output head, so it bends its logits in a way "
            "that is not known here, expected plain, scaled or softcapped ones; use another target"
        )


def unrolled_losses(head: Head, embed: Tensor, target: TargetHead, batch: Batch, unroll: int) -> Iterator[Loss]:
    """Loss of each unrolled step against the target's distribution, on the rows whose wanted token is part of a reply.

    Row i of step s holds token x[i+1+s] at position i+s and predicts x[i+2+s], for which the target's state is that of position i+1+s.
    """
    rows = batch.ids.shape[1] - 1 - unroll
    wanted_at = batch.replied.roll(-1, dims=1)
    place = wanted_at.flatten().cumsum(0).view_as(batch.ids) - 1
    wanted = target.probabilities(batch.tops[wanted_at])
    keys: list[Tensor] = []
    values: list[Tensor] = []
    state = head.fuse(batch.streams[:, :rows].to(head.fc.weight.dtype))
    for step in range(unroll):
        out, state = head.step(F.embedding(batch.ids[:, 1 + step : 1 + step + rows], embed), state, step, keys, values)
        positions = slice(1 + step, 1 + step + rows)
        counted = wanted_at[:, positions]
        guessed, truth = head.lm_head(out[counted]).float(), wanted[place[:, positions][counted]]
        agreement = (guessed.argmax(-1) == truth.argmax(-1)).float().mean()
        yield Loss(F.cross_entropy(guessed, truth), agreement.detach(), len(guessed))


def draft_vocabulary(data: Streams, size: int, vocabulary: int) -> Tensor:
    """The `size` most frequent ids of all replies, ascending; unseen ids fill up from the lowest."""
    said = np.concatenate([np.array(talk.ids[start:end]) for talk in data.conversations for start, end in talk.spans])
    counts = np.bincount(said, minlength=vocabulary)
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[:size]).copy())


def split(conversations: Sequence[Conversation], unroll: int) -> tuple[list[int], list[int]]:
    """Conversations to train on, and those held out; left out of both are those with nothing to guess at some unrolled step."""
    every, reach = max(HELD_OUT, -(-len(conversations) // MOST_HELD_OUT)), max(unroll, USUAL_UNROLL)
    whole = [
        row
        for row, talk in enumerate(conversations)
        if any(max(start, reach + 1) < min(end, len(talk.ids) - reach + 1) for start, end in talk.spans)
    ]
    training, kept = [row for row in whole if row % every], [row for row in whole if not row % every]
    if not training or not kept:
        raise FormatError(f"the replies leave {len(training)} conversations to train on and {len(kept)} to hold out, expected some of both")
    return training, kept


def batches(lengths: Sequence[int], rows: Sequence[int], tokens: int, seed: int) -> list[list[int]]:
    """Rows of similar length together, about `tokens` padded tokens a batch, the batches in an order drawn from `seed`."""
    random = np.random.default_rng(seed)
    found = packed(sorted(rows, key=lambda row: lengths[row] + random.random()), lambda row: lengths[row], tokens)
    random.shuffle(found)
    return found


def passes(lengths: Sequence[int], rows: Sequence[int], plan: Plan) -> list[list[int]]:
    """The batch of each step of the plan: whole passes over `rows`, each in an order of its own."""
    found: list[list[int]] = []
    while len(found) < plan.steps:
        found += batches(lengths, rows, plan.tokens, plan.seed + len(found))
    return found[: plan.steps]


@dataclass
class Run:
    """The head, its optimiser, and where it stands in its plan."""

    head: Head
    optimiser: torch.optim.AdamW
    folder: Path
    plan: Plan
    step: int = 0

    def save(self) -> None:
        """Write what `restore` needs, aside and renamed."""
        aside, plan = self.folder / "training_state.tmp", asdict(self.plan)
        torch.save({"head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step, "plan": plan}, aside)
        aside.rename(self.folder / "training_state.pt")

    def restore(self) -> None:
        """Take up a killed run where its last state was written, its log cut back to there; RunError for a run of another plan."""
        if (path := self.folder / "training_state.pt").is_file():
            state = torch.load(path, weights_only=True)
            if state["plan"] != (plan := asdict(self.plan)):
                raise RunError(f"{self.folder}: holds a run with {state['plan']}, expected {plan}; name another --out")
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
            typer.echo(f"resumed at step {self.step}", err=True)
        if (log := self.folder / "loss.csv").is_file():
            head, *rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text(
                "".join([head, *(row for row in rows if int(row.split(",")[0]) <= self.step)]) if self.step else "", encoding="utf-8"
            )

    def learn(self, losses: Sequence[Loss]) -> None:
        """One optimiser step with warm-up and cosine decay to a tenth."""
        warm = min(1.0, (self.step + 1) / 50)
        rate = self.plan.rate * warm * (0.55 + 0.45 * math.cos(math.pi * self.step / self.plan.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([loss.nats * STEP_WEIGHT**step for step, loss in enumerate(losses)]).sum().backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1


def pooled(checks: Sequence[Sequence[Loss]]) -> tuple[Tensor, Tensor]:
    """Loss and agreement of each unrolled step over several batches, weighted by their rows; (step,) each."""
    rows, nats, right = (
        torch.tensor([[float(getattr(loss, name)) for loss in check] for check in checks]) for name in ("rows", "nats", "agreement")
    )
    return (nats * rows).sum(0) / rows.sum(0), (right * rows).sum(0) / rows.sum(0)


def train(run: Run, data: Streams, target: LanguageModel, ids: Tensor) -> None:
    """Train to the last step of the plan, printing progress, writing `loss.csv` and the state every 100 steps."""
    device, plan = target.device, run.plan
    embed = target.embedding.float()
    low = plan.precision == "bfloat16"
    read = TargetHead(target.head[ids.to(target.head.device)].to(device, torch.bfloat16 if low else torch.float32), target.config)
    lengths = [len(talk.ids) for talk in data.conversations]
    training, kept = split(data.conversations, plan.unroll)
    held_out, order = batches(lengths, kept, plan.tokens, 0), passes(lengths, training, plan)
    started, first = time.time(), run.step

    def losses_of(rows: Sequence[int], unroll: int = plan.unroll) -> list[Loss]:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            return list(unrolled_losses(run.head, embed, read, data.batch(rows, device), unroll))

    while run.step < plan.steps:
        run.learn(losses := losses_of(order[run.step], 1 if run.step < plan.plain else plan.unroll))
        if run.step % 100 and run.step != plan.steps:
            continue
        with torch.inference_mode():
            nats, right = pooled([losses_of(rows) for rows in held_out])
        left = (time.time() - started) / (run.step - first) * (plan.steps - run.step)
        shown = " ".join(f"{share:.3f}" for share in right)
        typer.echo(
            f"step {run.step} of {plan.steps}: loss {losses[0].nats.item():.3f}, held out {nats[0].item():.3f}, "
            f"agreement by step {shown}, {left:.0f} s left",
            err=True,
        )
        learned = [loss.nats.item() for loss in losses]
        note(run.folder / "loss.csv", run.step, [*learned, *[None] * (plan.unroll - len(learned)), *nats.tolist(), *right.tolist()])
        run.save()


def note(log: Path, step: int, numbers: Sequence[float | None]) -> None:
    """Add a line to the loss log: for each unrolled step the batch's loss, empty where it was not unrolled so far, the held-out loss and
    the held-out agreement.
    """
    names = [f"{name}_{number}" for name in ("loss", "held_out_loss", "held_out_agreement") for number in range(1, len(numbers) // 3 + 1)]
    new = not log.is_file() or not log.stat().st_size
    with log.open("a", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(
            [*([["step", *names]] if new else []), [step, *("" if number is None else f"{number:.4f}" for number in numbers)]]
        )
