"""Train an EAGLE-3 head, pre-norm or post-norm (EAGLE 3.1), for any target that driftcli loads, on the target's own replies.

    python examples/train_eagle3.py --target smollm2-135m-instruct --norm pre  --replies replies.jsonl.gz --cache streams --out pre
    python examples/train_eagle3.py --target smollm2-135m-instruct --norm post --replies replies.jsonl.gz --cache streams --out post

The target runs once: its streams and the input of its head go to `--cache`, which every further head reuses, so two heads see the same
data in the same order. The head here is a plain module of its own, written from the papers (arXiv:2503.01840, arXiv:2605.09992) and
sharing no code with driftcli's engine: that the engine measures what was trained is a test of both. Written in SafeAILab layout:
`config.json`, `model.safetensors`, `loss.csv`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from driftcli.engine.capture import StreamCapture
from driftcli.loading.files import resolve
from driftcli.loading.target import Dtype, LanguageModel, choose_device, load_language_model

STEP_WEIGHT = 0.8  # loss of unrolled step s counts 0.8 ** s, as in EAGLE-3's training code
HELD_OUT = 32  # every 32nd reply is never trained on and gives the validation figures


@dataclass(frozen=True)
class HeadShape:
    """Sizes of the head, in SafeAILab's config names; one decoder layer, three streams."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    draft_vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int = 2048
    num_hidden_layers: int = 1


@dataclass(frozen=True)
class Reply:
    """Token ids of a rendered prompt and its reply; the reply starts at `start`."""

    ids: list[int]
    start: int


class Norm(nn.RMSNorm):
    """RMSNorm in float32, whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        """The normed input, in its own dtype."""
        return super().forward(x.float()).to(x.dtype)


class Head(nn.Module):
    """EAGLE-3: streams -> fc -> one decoder layer over (embedding, state); post-norm: a norm per stream, normed state fed back."""

    def __init__(self, shape: HeadShape, *, post_norm: bool) -> None:
        super().__init__()
        width, self.shape, self.post_norm = shape.hidden_size, shape, post_norm
        self.head_dim = width // shape.num_attention_heads
        kv_width = shape.num_key_value_heads * self.head_dim

        def norm() -> Norm:
            return Norm(width, eps=shape.rms_norm_eps)

        self.fc_norm = nn.ModuleList([norm() for _ in range(3)]) if post_norm else None
        self.fc = nn.Linear(3 * width, width, bias=False)
        self.hidden_norm, self.input_layernorm, self.post_attention_layernorm, self.norm = norm(), norm(), norm(), norm()
        self.q_proj, self.o_proj = nn.Linear(2 * width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(2 * width, kv_width, bias=False), nn.Linear(2 * width, kv_width, bias=False)
        self.gate_proj, self.up_proj = (nn.Linear(width, shape.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate_size, width, bias=False)
        self.lm_head = nn.Linear(width, shape.draft_vocab_size, bias=False)

    def fuse(self, streams: Tensor) -> Tensor:
        """Streams (batch, row, 3 * width) -> the first state (batch, row, width)."""
        if self.fc_norm is not None:
            streams = torch.cat([norm(part) for norm, part in zip(self.fc_norm, streams.chunk(3, dim=-1), strict=True)], dim=-1)
        return self.fc(streams)

    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and next state of unrolled step `step`; appends this step's keys and values, which only the row's own chain sees later."""
        residual = state
        x = torch.cat([self.input_layernorm(embeddings), self.hidden_norm(state)], dim=-1)
        batch, rows, _ = x.shape
        cos, sin = rotary(torch.arange(rows, device=x.device) + step, self.head_dim, self.shape.rope_theta)

        def split(y: Tensor) -> Tensor:
            return y.view(batch, rows, -1, self.head_dim).transpose(1, 2)

        groups = self.shape.num_attention_heads // self.shape.num_key_value_heads
        query = rotate(split(self.q_proj(x)), cos, sin)
        keys.append(rotate(split(self.k_proj(x)), cos, sin).repeat_interleave(groups, dim=1))
        values.append(split(self.v_proj(x)).repeat_interleave(groups, dim=1))
        attended = attend(query, keys, values).transpose(1, 2).reshape(batch, rows, -1)
        state = residual + self.o_proj(attended)
        normed = self.post_attention_layernorm(state)
        state = state + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))
        out = self.norm(state)
        return self.lm_head(out), out if self.post_norm else state


def rotary(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (position, head_dim) of the default RoPE."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on (batch, head, row, head_dim), halves rotated as in Llama."""
    first, second = x.float().chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def attend(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention of an unrolled step: causal over the rows of step 0, plus the row's own earlier steps."""
    scale, rows = query.shape[-1] ** -0.5, query.shape[2]
    causal = torch.ones(rows, rows, dtype=torch.bool, device=query.device).tril()
    scores = [(query @ keys[0].transpose(2, 3)).float().mul(scale).masked_fill(~causal, -torch.inf)]
    scores += [(query * key).float().sum(-1, keepdim=True) * scale for key in keys[1:]]
    shares = torch.cat(scores, dim=-1).softmax(-1).to(query.dtype)
    out = shares[..., :rows] @ values[0]
    for number, value in enumerate(values[1:]):
        out = out + shares[..., rows + number, None] * value
    return out


def read_replies(path: Path) -> list[Reply]:
    """Replies from JSON Lines, gzipped or not, each with `ids` and `prompt_length`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Reply(row["ids"], row["prompt_length"]) for row in rows]


@torch.inference_mode()
def write_replies(target: LanguageModel, count: int, path: Path, seed: int, length: int, batch: int = 64) -> None:
    """Let the target write its own data: it continues its template's user turn at temperature 1, then answers (greedy for every second
    batch).
    """
    tokenizer, marker = target.tokenizer, "\u2063"
    opening, _, closing = tokenizer.apply_chat_template(
        [{"role": "user", "content": marker}], tokenize=False, add_generation_prompt=True
    ).partition(marker)
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
    torch.manual_seed(seed)
    with path.open("w", encoding="utf-8") as out:
        for start in range(0, count, batch):
            turn = tokenizer([opening] * batch, return_tensors="pt", add_special_tokens=False).to(target.device)
            asked = target.model.generate(
                **turn, max_new_tokens=96, do_sample=True, temperature=1.0, top_k=0, pad_token_id=tokenizer.pad_token_id
            )
            users = [text.strip() for text in tokenizer.batch_decode(asked[:, turn.input_ids.shape[1] :], skip_special_tokens=True)]
            prompts = tokenizer(
                [opening + user + closing for user in users], return_tensors="pt", padding=True, add_special_tokens=False
            ).to(target.device)
            choice = {"do_sample": False} if start // batch % 2 else {"do_sample": True, "temperature": 0.8, "top_k": 0}
            answers = target.model.generate(**prompts, max_new_tokens=length, pad_token_id=tokenizer.pad_token_id, **choice)
            for row, (mask, user) in enumerate(zip(prompts.attention_mask, users, strict=True)):
                ids = [*prompts.input_ids[row][mask.bool()].tolist(), *answers[row, mask.shape[0] :].tolist()]
                end = next((i for i in range(int(mask.sum()), len(ids)) if ids[i] == tokenizer.eos_token_id), len(ids) - 1)
                out.write(json.dumps({"user": user, "ids": ids[: end + 1], "prompt_length": int(mask.sum())}) + "\n")
            typer.echo(f"{start + batch} of {count} replies written", err=True)


@dataclass(frozen=True)
class Streams:
    """What the target computed on every reply, by row of `offsets`: three streams side by side, and what its head reads; both bfloat16 on
    disk.
    """

    replies: list[Reply]
    offsets: np.ndarray
    streams: np.ndarray
    tops: np.ndarray

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """ids, streams, tops (batch, position, ...) padded to the longest of `rows`, the reply mask, and the lengths."""
        lengths = torch.tensor([len(self.replies[row].ids) for row in rows])
        longest = int(lengths.max())
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        streams = torch.zeros(len(rows), longest, self.streams.shape[1], dtype=torch.bfloat16)
        tops = torch.zeros(len(rows), longest, self.tops.shape[1], dtype=torch.bfloat16)
        replied = torch.zeros(len(rows), longest, dtype=torch.bool)
        for place, row in enumerate(rows):
            reply, span = self.replies[row], slice(self.offsets[row], self.offsets[row + 1])
            ids[place, : len(reply.ids)] = torch.tensor(reply.ids)
            streams[place, : len(reply.ids)] = torch.from_numpy(self.streams[span]).view(torch.bfloat16)
            tops[place, : len(reply.ids)] = torch.from_numpy(self.tops[span]).view(torch.bfloat16)
            replied[place, reply.start : len(reply.ids)] = True
        return ids.to(device), streams.to(device), tops.to(device), replied.to(device), lengths


@torch.inference_mode()
def capture(target: LanguageModel, replies: list[Reply], cache: Path, rows_at_once: int = 8) -> Streams:
    """The target's streams at boundaries 2, L // 2, L - 3 on every reply, computed once and kept in `cache`."""
    count, width = len(target.layers), target.config.hidden_size
    boundaries = (2, count // 2, count - 3)
    offsets = np.cumsum([0, *(len(reply.ids) for reply in replies)])
    cache.mkdir(parents=True, exist_ok=True)
    files = {name: cache / f"{name}.npy" for name in ("streams", "tops")}
    done = cache / "done.json"
    said = hashlib.sha256(json.dumps([reply.ids for reply in replies]).encode()).hexdigest()
    known = {"replies": said, "target": target.source.name, "dtype": str(target.head.dtype)}
    if not done.is_file() or json.loads(done.read_text()) != known:
        done.unlink(missing_ok=True)
        maps = {
            name: np.lib.format.open_memmap(path, "w+", np.int16, (int(offsets[-1]), width * (3 if name == "streams" else 1)))
            for name, path in files.items()
        }
        tops: list[Tensor] = []
        hook = target.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: tops.append(args[0].detach()))
        order, started = sorted(range(len(replies)), key=lambda row: len(replies[row].ids)), time.time()
        for start in range(0, len(order), rows_at_once):
            rows = order[start : start + rows_at_once]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(replies[row].ids) for row in rows], batch_first=True).to(target.device)
            with StreamCapture(target.decoder, target.layers, boundaries, ids.shape[1]) as streams:
                target.model(ids, use_cache=False)
            joined = torch.cat([stream.to("cpu") for stream in streams.take().values()], dim=-1).bfloat16().view(torch.int16).numpy()
            top = tops.pop().to("cpu").bfloat16().view(torch.int16).numpy()
            for place, row in enumerate(rows):
                span, length = slice(offsets[row], offsets[row + 1]), len(replies[row].ids)
                maps["streams"][span], maps["tops"][span] = joined[place, :length], top[place, :length]
            if start // rows_at_once % 20 == 0:
                typer.echo(f"captured {start + len(rows)} of {len(replies)} replies, {time.time() - started:.0f} s", err=True)
        hook.remove()
        done.write_text(json.dumps(known))
    return Streams(replies, offsets, np.load(files["streams"], mmap_mode="r+"), np.load(files["tops"], mmap_mode="r+"))


def draft_vocabulary(replies: Sequence[Reply], size: int, vocabulary: int) -> Tensor:
    """The `size` most frequent ids of the replies, ascending; unseen ids fill up from the lowest."""
    counts = np.bincount(np.concatenate([np.array(reply.ids[reply.start :]) for reply in replies]), minlength=vocabulary)
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[:size]).copy())


@dataclass(frozen=True)
class Loss:
    """Of one unrolled step: cross-entropy in nats, top-1 agreement with the target in [0, 1], rows counted."""

    nats: Tensor
    agreement: Tensor
    rows: Tensor


def unrolled_losses(
    head: Head, embed: Tensor, top_rows: Tensor, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], unroll: int
) -> Iterator[Loss]:
    """Loss of each unrolled step against the target's distribution over the draft vocabulary, on the rows whose wanted token is part of the
    reply.

    Row i of step s holds token x[i+1+s] at position i+s and predicts x[i+2+s], for which the target's state is that of position i+1+s.
    """
    ids, streams, tops, replied, _ = batch
    rows = ids.shape[1] - 1 - unroll
    keys: list[Tensor] = []
    values: list[Tensor] = []
    state = head.fuse(streams[:, :rows].to(head.fc.weight.dtype))
    for step in range(unroll):
        logits, state = head.step(F.embedding(ids[:, 1 + step : 1 + step + rows], embed), state, step, keys, values)
        mask = replied[:, 2 + step : 2 + step + rows]
        wanted = (tops[:, 1 + step : 1 + step + rows][mask].to(top_rows.dtype) @ top_rows.T).float()
        guessed = logits[mask].float()
        nats = -(wanted.softmax(-1) * guessed.log_softmax(-1)).sum(-1).mean()
        yield Loss(nats, (guessed.argmax(-1) == wanted.argmax(-1)).float().mean().detach(), mask.sum())


def batches(lengths: Sequence[int], rows: Sequence[int], tokens: int, seed: int) -> list[list[int]]:
    """Rows of similar length together, about `tokens` padded tokens a batch, the batches in an order drawn from `seed`."""
    random = np.random.default_rng(seed)
    order = sorted(rows, key=lambda row: lengths[row] + random.random())
    found: list[list[int]] = [[]]
    for row in order:
        if found[-1] and (len(found[-1]) + 1) * lengths[row] > tokens:
            found.append([])
        found[-1].append(row)
    random.shuffle(found)
    return found


@dataclass
class Run:
    """One training run: the head, its optimiser, and where it stands."""

    head: Head
    optimiser: torch.optim.AdamW
    folder: Path
    total_steps: int
    peak_rate: float
    plan: dict[str, int | float]
    step: int = 0

    def save(self) -> None:
        """Write what `restore` needs, aside and renamed."""
        aside = self.folder / "training_state.tmp"
        torch.save({"head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step, "plan": self.plan}, aside)
        aside.rename(self.folder / "training_state.pt")

    def restore(self) -> None:
        """Take up a killed run where its last state was written."""
        if (path := self.folder / "training_state.pt").is_file():
            state = torch.load(path, weights_only=True)
            if state["plan"] != self.plan:
                raise typer.BadParameter(f"{self.folder} holds a run with {state['plan']}, now {self.plan}; name another --out")
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
            typer.echo(f"resumed at step {self.step}", err=True)

    def learn(self, losses: Sequence[Loss]) -> None:
        """One optimiser step with warm-up and cosine decay to a tenth."""
        warm = min(1.0, (self.step + 1) / 50)
        rate = self.peak_rate * warm * (0.55 + 0.45 * math.cos(math.pi * self.step / self.total_steps))
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


def train(run: Run, data: Streams, target: LanguageModel, ids: Tensor, unroll: int, tokens: int, seed: int, log: Path) -> None:
    """Train to `run.total_steps`, printing progress, writing the loss to `log` and the state every 100 steps."""
    embed, top_rows = target.embedding.float(), target.head[ids.to(target.head.device)].bfloat16()
    lengths = [len(reply.ids) for reply in data.replies]
    training = [row for row in range(len(lengths)) if row % HELD_OUT]
    held_out = batches(lengths, [row for row in range(len(lengths)) if not row % HELD_OUT], tokens, 0)
    device, started, first = target.device, time.time(), run.step
    plan = _plan(lengths, training, tokens, seed, run.total_steps)

    def losses_of(rows: Sequence[int]) -> list[Loss]:
        with torch.autocast(device.type, torch.bfloat16):
            return list(unrolled_losses(run.head, embed, top_rows, data.batch(rows, device), unroll))

    while run.step < run.total_steps:
        run.learn(losses := losses_of(plan[run.step]))
        if run.step % 100 and run.step != run.total_steps:
            continue
        with torch.inference_mode():
            nats, right = pooled([losses_of(rows) for rows in held_out])
        left = (time.time() - started) / (run.step - first) * (run.total_steps - run.step)
        shown = " ".join(f"{share:.3f}" for share in right)
        typer.echo(
            f"step {run.step} of {run.total_steps}: loss {losses[0].nats.item():.3f}, held out {nats[0].item():.3f}, "
            f"agreement by step {shown}, {left:.0f} s left",
            err=True,
        )
        note(log, run.step, [*(loss.nats.item() for loss in losses), *nats.tolist(), *right.tolist()])
        run.save()


def note(log: Path, step: int, numbers: list[float]) -> None:
    """Add a line to the loss log: for each unrolled step the batch's loss, the held-out loss and the held-out agreement."""
    names = [f"{name}_{number}" for name in ("loss", "held_out_loss", "held_out_agreement") for number in range(1, len(numbers) // 3 + 1)]
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([*([["step", *names]] if new else []), [step, *(f"{number:.4f}" for number in numbers)]])


def _plan(lengths: Sequence[int], training: Sequence[int], tokens: int, seed: int, steps: int) -> list[list[int]]:
    found: list[list[int]] = []
    while len(found) < steps:
        found += batches(lengths, training, tokens, seed + len(found))
    return found


def export(head: Head, ids: Tensor, vocabulary: int, out: Path) -> None:
    """`config.json` and `model.safetensors` in SafeAILab's layout with the EAGLE 3.1 fields, weights in bfloat16."""
    outer = ("fc", "norm", "lm_head")
    tensors = {
        name if name.startswith(outer) else _layer_name(name): value.detach().bfloat16().cpu().contiguous()
        for name, value in head.state_dict().items()
    }
    tensors["d2t"] = ids - torch.arange(len(ids))
    tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    flags = {"fc_norm": True, "norm_output": True} if head.post_norm else {}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **asdict(head.shape),
        **flags,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _layer_name(name: str) -> str:
    part = name.split(".", maxsplit=1)[0]
    group = "self_attn." if part in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp." if part.endswith("_proj") else ""
    return f"midlayer.{group}{name}"


def main(
    target: Annotated[str, typer.Option(help="Hub id or folder of the target.")],
    norm: Annotated[Literal["pre", "post"], typer.Option(help="What the head feeds back: its raw state, or the normed one (EAGLE 3.1).")],
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run in it is resumed.")],
    cache: Annotated[Path, typer.Option(help="Folder for the target's streams, shared by all heads of one target and data set.")],
    replies: Annotated[
        Path, typer.Option(help="Replies to train on, JSON Lines with ids and prompt_length; written first with --write-replies.")
    ],
    write: Annotated[int, typer.Option("--write-replies", help="Let the target write this many replies to --replies first.")] = 0,
    reply_tokens: Annotated[int, typer.Option(help="Longest reply that --write-replies lets the target write.")] = 256,
    unroll: Annotated[int, typer.Option(help="Steps that the head feeds on itself in training.")] = 3,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 1600,
    tokens: Annotated[int, typer.Option(help="Padded tokens a batch.")] = 2048,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    draft_vocabulary_size: Annotated[int, typer.Option(help="Most frequent reply tokens that the head can propose.")] = 4096,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option()] = "auto",
    capture_dtype: Annotated[Dtype, typer.Option(help="Precision in which the target reads the replies.")] = "bfloat16",
) -> None:
    """Train one head and export it."""
    model = load_language_model(resolve(target), choose_device(device), capture_dtype)
    if write and not replies.exists():
        write_replies(model, write, replies, seed, reply_tokens)
    config = model.config
    bent = [
        name for name in ("final_logit_softcapping", "logits_scaling", "logit_scale") if getattr(config, name, None) not in (None, 1, 1.0)
    ]
    if bent or "rope_theta" not in config.rope_parameters:
        raise typer.BadParameter(
            f"{target}: {', '.join(bent) or 'RoPE by layer type'} is not supported by this script; choose another --target"
        )
    data = capture(model, read_replies(replies), cache)
    shape = HeadShape(
        config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_key_value_heads, config.vocab_size,
        draft_vocabulary_size, config.rms_norm_eps, config.rope_parameters["rope_theta"],
    )  # fmt: skip
    ids = draft_vocabulary(data.replies, draft_vocabulary_size, config.vocab_size)
    torch.manual_seed(seed)
    head = Head(shape, post_norm=norm == "post").to(model.device)
    with torch.no_grad():
        head.lm_head.weight.copy_(model.head[ids.to(model.device)])
    out.mkdir(parents=True, exist_ok=True)
    plan: dict[str, int | float] = {"steps": steps, "tokens": tokens, "rate": rate, "unroll": unroll, "seed": seed}
    run = Run(head, torch.optim.AdamW(head.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01), out, steps, rate, plan)
    run.restore()
    train(run, data, model, ids, unroll, tokens, seed, out / "loss.csv")
    export(head, ids, config.vocab_size, out)


if __name__ == "__main__":
    typer.run(main)
