"""One training run of a head: its plan, optimiser, progress, and where it resumes."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import typer
from torch import Tensor, nn

from driftcli.errors import FormatError, RunError
from driftcli.target.language_model import LanguageModel
from driftcli.training.conversations import Conversation, packed
from driftcli.training.losses import Loss, Precision, TargetHead, pooled
from driftcli.training.sampling import Among, Drawn
from driftcli.training.streams import Streams

STEP_WEIGHT = 0.8  # loss of unrolled step s counts 0.8 ** s, as in EAGLE-3's training code
HELD_OUT, MOST_HELD_OUT = 32, 96  # every 32nd conversation, of a large set 96 in all, is never trained on and gives the validation figures
USUAL_UNROLL = 8  # heads unrolled up to here are trained on the same conversations: those long enough for each of them
MEASURED = 20  # steps after which a run of so many minutes knows how many it has
PROVISIONAL = 1000  # steps of such a run until then
BETWEEN_CHECKS = 100  # steps at least, after which the held-out conversations are read and the state is written
WHILE_HEALING = 20  # the same of a head that has learned already, and may soon be as good as it gets
CHECKS = 25  # such looks in a long run
CHECKED = 64  # rows of a held-out batch that count where the loss is over few tokens: there they are scored over all


@dataclass(frozen=True)
class Plan:
    """All that makes two runs the same; plain: how many of the steps come first and do not unroll, which most of what a head knows can be
    learned by in a fraction of the time; vocabulary: draft tokens, of an MTP head those that the loss is over, 0 for all; held: what the
    streams are of.

    start: where the layer begins: as the target's `last` one, `random`, or as an older head, by its name and fingerprint. minutes: that
    the steps were made to fill, 0 where they were given. rows: counted of each batch, 0 for all.
    """

    head: Literal["pre", "post", "mtp", "dflash", "dspark", "healed"]
    unroll: int
    plain: int
    steps: int
    tokens: int
    rate: float
    seed: int
    vocabulary: int
    precision: Precision
    held: dict[str, str]
    start: str = "random"
    minutes: float = 0.0
    rows: int = 0

    @property
    def between_checks(self) -> int:
        """Steps from one look at the held-out conversations to the next."""
        return max(self._least, self.steps // CHECKS // self._least * self._least)

    @property
    def _least(self) -> int:
        return WHILE_HEALING if self.head == "healed" else BETWEEN_CHECKS

    def filling(self, step: float, check: float, spent: float) -> Plan:
        """This plan with as many steps as end in time, by the seconds that a step and a check take and those that are gone."""
        left = self.minutes * 60 - spent - 2 * check
        return replace(self, steps=MEASURED + max(1, int(left / (step + check / self._least))))


def split(
    conversations: Sequence[Conversation], unroll: int, apart: Collection[int] = (), again: Sequence[int] = (), chain: int = 0
) -> tuple[list[int], list[int]]:
    """Conversations to train on, some of them again, and those held out: those that are to be kept apart, else some; left out of both are
    those with nothing to guess at some unrolled step, or without a reply of `chain` tokens.
    """
    every, reach = max(HELD_OUT, -(-len(conversations) // MOST_HELD_OUT)), max(unroll, USUAL_UNROLL)
    whole = [
        row
        for row, talk in enumerate(conversations)
        if any(max(start, reach + 1) < min(end, len(talk.ids) - reach + 1) for start, end in talk.spans)
        and any(end - start >= chain for start, end in talk.spans)
    ]
    held = set(apart) or {row for row in whole if not row % every}
    training, kept = [row for row in whole if row not in held], [row for row in whole if row in held]
    if not training or not kept:
        long = f", with replies of {chain} tokens" if chain else ""
        raise FormatError(
            f"the replies leave {len(training)} conversations to train on and {len(kept)} to hold out, expected some of both{long}"
        )
    usable = frozenset(training)
    return [*training, *(row for row in again if row in usable)], kept


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


def chosen_precision(device: torch.device) -> Precision:
    """Of a head's products where nobody says: many CPUs have no bfloat16 units."""
    return "float32" if device.type == "cpu" else "bfloat16"


def optimiser_of(head: nn.Module, rate: float) -> torch.optim.AdamW:
    """The optimiser of every head here."""
    return torch.optim.AdamW(head.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)


@dataclass(frozen=True)
class Best:
    """The head that did best on the held-out conversations so far, after how many steps, and how many draft tokens of a chain were accepted
    there.
    """

    step: int
    accepted: float
    head: dict[str, Tensor]


@dataclass
class Run:
    """The head, its optimiser, and where it stands in its plan. patience: share of the plan's steps after which a head that got no better
    on the held-out conversations is given up, the best one kept; None to keep the last one.
    """

    head: nn.Module
    optimiser: torch.optim.AdamW
    folder: Path
    plan: Plan
    step: int = 0
    patience: float | None = None
    best: Best | None = None

    def save(self) -> None:
        """Write what `restore` needs, aside and renamed."""
        aside, plan = self.folder / "training_state.tmp", asdict(self.plan)
        best = None if self.best is None else vars(self.best)
        state = {"head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step, "plan": plan, "best": best}
        torch.save(state, aside)
        aside.rename(self.folder / "training_state.pt")

    def weigh(self, right: Tensor) -> None:
        """Keep the head where a look found more draft tokens accepted than any look before; right: at each step the share that guess right
        of the chains that did so far, (step,).
        """
        accepted = float(right.cumprod(0).sum())
        if self.patience is not None and (self.best is None or accepted > self.best.accepted):
            self.best = Best(self.step, accepted, {name: weight.clone() for name, weight in self.head.state_dict().items()})

    @property
    def chain(self) -> int:
        """Reply tokens in a row that a conversation must have: where the best head is kept, every chain lies in a reply as a whole."""
        return 0 if self.patience is None else self.plan.unroll

    @property
    def ended(self) -> bool:
        """Whether the plan is done, or the head has got no better for so long that it is given up."""
        given_up = self.best is not None and self.step - self.best.step >= (self.patience or 0) * self.plan.steps
        return given_up or self.step >= self.plan.steps

    def restore(self) -> None:
        """Take up a killed run where its last state was written, its log cut back to there; RunError for a run of another plan."""
        if (path := self.folder / "training_state.pt").is_file():
            state = torch.load(path, weights_only=True)
            if self.plan.minutes:
                self.plan = replace(self.plan, steps=state["plan"]["steps"])
            if state["plan"] != (plan := asdict(self.plan)):
                raise RunError(f"{self.folder}: holds a run with {state['plan']}, expected {plan}; name another --out")
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, best = state["step"], state.get("best")  # which older runs did not keep
            self.best = None if best is None else Best(**best)
            typer.echo(f"resumed at step {self.step}", err=True)
        if (log := self.folder / "loss.csv").is_file():
            head, *rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text(
                "".join([head, *(row for row in rows if int(row.split(",")[0]) <= self.step)]) if self.step else "", encoding="utf-8"
            )

    def learn(self, losses: Sequence[Loss]) -> None:
        """One optimiser step with warm-up and cosine decay to a tenth; a batch with nothing to guess moves nothing."""
        warm = min(1.0, (self.step + 1) / 50)
        rate = self.plan.rate * warm * (0.55 + 0.45 * math.cos(math.pi * self.step / self.plan.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        if any(loss.rows for loss in losses):
            torch.stack([loss.learned * STEP_WEIGHT**step for step, loss in enumerate(losses)]).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1


def train(
    run: Run,
    data: Streams,
    target: LanguageModel,
    read: TargetHead,
    losses: Callable[..., Iterator[Loss]],
    frequent: Tensor | None = None,
    apart: Collection[int] = (),
    again: Sequence[int] = (),
) -> None:
    """Train to the last step of the plan, printing progress, writing `loss.csv` and the state now and then.

    losses: of a batch, one an unrolled step or guess, from head, the target's embeddings and head, batch, unroll, rows to count and tokens
    to score over. frequent: tokens that the loss is over, beside some drawn for each batch; all by default. apart: conversations
    to hold out. again: those to learn from that often besides.
    """
    device, embed = target.device, target.embedding.float()
    lengths = [len(talk.ids) for talk in data.conversations]
    training, kept = split(data.conversations, run.plan.unroll, apart, again, run.chain)
    if run.plan.minutes and not run.step:
        run.plan = replace(run.plan, steps=PROVISIONAL)
    held_out, order = batches(lengths, kept, run.plan.tokens, 0), passes(lengths, training, run.plan)

    def losses_of(rows: Sequence[int], unroll: int, drawn: Drawn, among: Among | None = None) -> list[Loss]:
        with torch.autocast(device.type, torch.bfloat16, enabled=run.plan.precision == "bfloat16"):
            return list(losses(run.head, embed, read, data.batch(rows, device), unroll, drawn, among))

    def learned_from(rows: Sequence[int], unroll: int, seed: int) -> list[Loss]:
        among = None if frequent is None else Among.drawn(frequent, len(read.rows), seed).to(device)
        return losses_of(rows, unroll, Drawn(run.plan.rows, seed), among)

    def checked() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            counted = run.plan.rows or (0 if frequent is None else CHECKED)
            return pooled([losses_of(rows, run.plan.unroll, Drawn(counted, number)) for number, rows in enumerate(held_out)])

    if run.patience is not None and run.best is None:
        run.weigh(checked()[1])
    started, first = time.time(), run.step
    while not run.ended:
        unroll = 1 if run.step < run.plan.plain else run.plan.unroll
        run.learn(found := learned_from(order[run.step], unroll, run.plan.seed + run.step))
        if run.plan.minutes and run.step == MEASURED:
            learned = time.time()
            checked()
            run.plan = run.plan.filling((learned - started) / MEASURED, time.time() - learned, time.time() - started)
            order = passes(lengths, training, run.plan)
        if run.step % run.plan.between_checks and run.step != run.plan.steps:
            continue
        nats, right = checked()
        _tell(run, found, nats, right, (time.time() - started) / (run.step - first))
        run.weigh(right)
        run.save()
    if run.best is not None:
        typer.echo(f"kept the head of step {run.best.step} of {run.step}, the best on the held-out conversations", err=True)
        run.head.load_state_dict(run.best.head)


def _tell(run: Run, found: Sequence[Loss], nats: Tensor, right: Tensor, a_step: float) -> None:
    """Print and note what a look found; a_step: seconds."""
    shown = " ".join(f"{share:.3f}" for share in right)
    typer.echo(
        f"step {run.step} of {run.plan.steps}: loss {found[0].nats.item():.3f}, held out {nats[0].item():.3f}, "
        f"agreement by step {shown}, {a_step * (run.plan.steps - run.step):.0f} s left",
        err=True,
    )
    said = [loss.nats.item() for loss in found]
    note(run.folder / "loss.csv", run.step, [*said, *[None] * (run.plan.unroll - len(said)), *nats.tolist(), *right.tolist()])


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
