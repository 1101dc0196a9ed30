"""Does the speed that driftcli predicts hold in a real loop? Decode prompts plainly and speculatively, and compare.

    python examples/speculative_decoding.py --target .cache/smollm2 --drafter examples/smollm2/post-norm
    python examples/speculative_decoding.py --prompts 8 --max-new-tokens 64 --drafts 1 2 3 4 5

Without --target and --drafter it takes the pair that ships. Every prompt is decoded greedily, one at a time, by one token a step and then
by each draft length, so that noise of the machine hits all alike; on a busy machine `--repeats 3` takes the median of three such turns.
What precedes the first token, reading the prompt, is not counted. The prediction takes the seconds of the single steps, timed before every
prompt, and the rounds and kept drafts of the loop; what lies between the steps is in no prediction. A speculative reply must be the plain
one token for token; where rounding makes a step over several tokens choose otherwise than a step over one, the first place is told.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from driftcli.domain import BUNDLED, Absent, Estimate
from driftcli.engine.serving import ServedDrafter, ServedTarget, serve
from driftcli.engine.timing import StepTimer, source
from driftcli.errors import DriftError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.statistics.costs import StepCosts
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.payoff import speed
from driftcli.target.in_process import plain_decoding
from driftcli.target.language_model import choose_device
from driftcli.texts.prompts import builtin_prompts, bundled_prompts, limited
from driftcli.texts.rendering import render


@dataclass(frozen=True)
class Decoded:
    """A reply, the drafts kept in each round behind its first token (none a round of plain decoding), and the seconds of these rounds.

    The last round may have committed tokens behind the reply's end, which are no part of it.
    """

    reply: list[int]
    kept: list[int]
    seconds: float

    @property
    def committed(self) -> int:
        """Tokens that the rounds committed."""
        return len(self.kept) + sum(self.kept)


def decode(pair: LoadedPair, prompt: list[int], longest: int, drafts: int) -> Decoded:
    """The target's greedy reply by rounds of so many drafts, plainly for none."""
    return decode_speculatively(pair, prompt, longest, drafts) if drafts else decode_plainly(pair, prompt, longest)


def decode_plainly(pair: LoadedPair, prompt: list[int], longest: int) -> Decoded:
    """The target's greedy reply, one token a step, with a cache."""
    target, ends = ServedTarget(pair.target), end_tokens(pair)
    reply = target.read(torch.tensor([prompt], device=pair.target.device), 1).choices[0].tolist()
    started = perf_counter()
    while len(reply) < longest and reply[-1] not in ends:
        reply += target.read(torch.tensor([reply[-1:]], device=pair.target.device), 1).choices[0].tolist()
    return Decoded(reply, [0] * (len(reply) - 1), perf_counter() - started)


def decode_speculatively(pair: LoadedPair, prompt: list[int], longest: int, drafts: int) -> Decoded:
    """The same reply by rounds of `drafts` drafts."""
    drafter, ends = serve(pair.drafter, len(prompt) + longest + 2 * drafts, drafts), end_tokens(pair)
    target, device = ServedTarget(pair.target, drafter.boundaries), pair.target.device
    read, behind = target.read(torch.tensor([prompt], device=device), 1), len(prompt) - drafter.token_offset
    ids, kept = [*prompt, *read.choices[0].tolist()], list[int]()
    drafter.read(torch.tensor([prompt[drafter.token_offset :]], device=device), some(read.streams, slice(0, behind)))
    verified, streams = ids[-1:], some(read.streams, slice(behind, None))
    started = perf_counter()
    while len(ids) - len(prompt) < longest and not ends.intersection(verified):
        guesses = draft(drafter, torch.tensor([verified], device=device), streams, drafts)
        read = target.read(torch.tensor([[ids[-1], *guesses]], device=device), drafts + 1)
        choices = read.choices[0].tolist()
        right = next((place for place, guess in enumerate(guesses) if guess != choices[place]), drafts)
        verified, streams = choices[: right + 1], some(read.streams, slice(0, right + 1))
        ids += verified
        kept.append(right)
        target.crop(len(ids) - 1)  # the last token was chosen, not read
    seconds = perf_counter() - started
    reply = ids[len(prompt) :][:longest]
    stop = next((place for place, token in enumerate(reply) if token in ends), len(reply))
    return Decoded(reply[: stop + 1], kept, seconds)


def draft(drafter: ServedDrafter, verified: Tensor, streams: Mapping[int, Tensor], drafts: int) -> list[int]:
    """A chain of `drafts` guesses behind the newly verified tokens (1, n)."""
    chain = [drafter.read(verified, streams)]
    while len(chain) < drafts:
        chain.append(drafter.follow(chain[-1]))
    guesses: list[int] = torch.cat(chain).tolist()
    return guesses


def some(streams: Mapping[int, Tensor], positions: slice) -> dict[int, Tensor]:
    """Streams of some positions."""
    return {boundary: stream[:, positions] for boundary, stream in streams.items()}


def end_tokens(pair: LoadedPair) -> set[int]:
    """Tokens that end a reply."""
    with plain_decoding(pair.target) as settings:
        ends = settings.eos_token_id
    return set(ends if isinstance(ends, list) else [ends])


def first_difference(reply: Sequence[int], other: Sequence[int]) -> int | None:
    """Place of the first token that differs, or that one of them lacks; None where they are the same."""
    differ = (place for place, (one, two) in enumerate(zip(reply, other, strict=False)) if one != two)
    return next(differ, None if len(reply) == len(other) else min(len(reply), len(other)))


def seconds_a_token(replies: Iterable[Decoded]) -> float:
    """Seconds of all rounds over the tokens that they committed."""
    replies = list(replies)
    return sum(reply.seconds for reply in replies) / sum(reply.committed for reply in replies)


def predicted_speed(drafts: int, replies: Sequence[Decoded], costs: StepCosts) -> Estimate | Absent:
    """Expected speed over plain decoding by the steps' times, its interval over prompts and timed turns; none by times that cannot be."""
    if costs.doubt:
        return Absent(costs.doubt)
    rounds = np.array([len(reply.kept) for reply in replies], dtype=float)
    by_sent = np.multiply.outer(rounds, np.arange(drafts + 1) == drafts)
    sums = {"rounds_by_sent": by_sent, "kept": np.array([sum(reply.kept) for reply in replies], dtype=float)}
    return Bootstrap.of(len(replies), 0).estimate(sums, speed(costs))


def row(drafts: int, replies: Sequence[Decoded], plain: Sequence[Decoded], costs: StepCosts) -> tuple[str, bool | None]:
    """One line of the table, and whether what was measured lies within the interval of what was predicted; None where there is none."""
    rounds, kept = sum(len(reply.kept) for reply in replies), sum(sum(reply.kept) for reply in replies)
    seconds = seconds_a_token(replies)
    measured, predicted = seconds_a_token(plain) / seconds, predicted_speed(drafts, replies, costs)
    same = sum(one.reply == other.reply for one, other in zip(replies, plain, strict=True))
    told = f"{drafts:>3}  {1 + kept / rounds:>17.3f}  {1000 * seconds:>8.2f}  {measured:>17.3f}"
    if isinstance(predicted, Absent):
        known = "unknown" if predicted.value is None else f"{predicted.value:.3f}"
        return f"{told}  {f'{known} (no interval)':>22}  {'':>6}  {same:>3} of {len(plain)}", None
    interval = f"{predicted.value:.3f} [{predicted.low:.3f}, {predicted.high:.3f}]"
    error = f"{predicted.value / measured - 1:>+6.1%}"
    return f"{told}  {interval:>22}  {error}  {same:>3} of {len(plain)}", predicted.low <= measured <= predicted.high


def decode_all(
    pair: LoadedPair, prompts: Sequence[list[int]], draft_lengths: Sequence[int], longest: int, repeats: int, timer: StepTimer
) -> dict[int, list[Decoded]]:
    """Replies to all prompts by draft length, 0 for plain decoding; of its repeats each is the one of median seconds."""
    found: dict[int, list[Decoded]] = {drafts: [] for drafts in (0, *draft_lengths)}
    for number, prompt in enumerate(prompts, 1):
        for _ in range(1 + repeats):
            timer.turn()
        turns = [[decode(pair, prompt, longest, drafts) for drafts in found] for _ in range(repeats)]
        for replies, same in zip(found.values(), zip(*turns, strict=True), strict=True):
            replies.append(sorted(same, key=lambda one: one.seconds)[repeats // 2])
        print(f"{number} of {len(prompts)} prompts decoded", file=sys.stderr)
    return found


def compare(pair: LoadedPair, prompts: Sequence[list[int]], draft_lengths: Sequence[int], longest: int, repeats: int) -> None:
    """Time the steps and decode, in turns, and print what came of it."""
    context = round(sum(map(len, prompts)) / len(prompts)) + longest // 2
    timer = StepTimer(pair, 1, max(draft_lengths), context)
    found = decode_all(pair, prompts, draft_lengths, longest, repeats, timer)
    plain, step = found.pop(0), timer.costs()
    print(f"{source(pair.target)}; {len(prompts)} prompts, about {context} tokens of context")
    first = f"first draft {1000 * step.draft_first:.2f} and {1000 * step.draft_read:.2f} for each more token that it reads"
    verify = ", ".join(f"{1000 * seconds:.2f}" for seconds in step.verify)
    print(f"ms a step: {first}, further {1000 * step.draft_step:.2f}, target over 1, 2, ... {verify}")
    for drafts, replies in found.items():
        for number, (one, other) in enumerate(zip(replies, plain, strict=True), 1):
            if (place := first_difference(one.reply, other.reply)) is not None:
                print(f"prompt {number}, {drafts} drafts: differs from the plain reply at token {place} of {len(other.reply)}")
    print(f"plain decoding: {1000 * seconds_a_token(plain):.2f} ms a token")
    if step.doubt:
        print(f"the times of the steps cannot be true: {step.doubt}")
    print("  K  acceptance length  ms/token  measured speed-up      predicted [95%]     error  same replies")
    rows = [row(drafts, replies, plain, step) for drafts, replies in found.items()]
    print("\n".join(line for line, _ in rows))
    if sure := [inside for _, inside in rows if inside is not None]:
        print(f"measured within the interval of what was predicted: {sum(sure)} of {len(sure)} draft lengths")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description="Measured against predicted speed of speculative decoding.")
    parser.add_argument("--target", default=f"{BUNDLED}target", help="hub id or folder")
    parser.add_argument("--drafter", default=f"{BUNDLED}post-norm", help="hub id or folder")
    parser.add_argument("--prompts", type=positive, default=8, help="how many of the built-in prompts")
    parser.add_argument("--max-new-tokens", type=positive, default=64)
    parser.add_argument("--drafts", type=positive, nargs="+", default=[1, 2, 3, 4, 5], help="draft lengths")
    parser.add_argument("--repeats", type=positive, default=1, help="turns of every prompt, of which the median counts")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args(arguments)
    if asked.max_new_tokens < 2:
        parser.error("--max-new-tokens: the first token comes before every round, expected at least 2")
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        pair = load_pair(asked.target, asked.drafter, choose_device(asked.device), "auto")
        known = bundled_prompts() if asked.target.startswith(BUNDLED) else builtin_prompts()
        turns = [(prompt.id, prompt.turns[0], prompt.text) for prompt in limited(known, asked.prompts)]
        prompts = [render(pair.target.tokenizer, *turn).ids for turn in turns]
        compare(pair, prompts, sorted(set(asked.drafts)), asked.max_new_tokens, asked.repeats)
    except DriftError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def positive(word: str) -> int:
    """A positive whole number."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no positive whole number")
    return int(word)


if __name__ == "__main__":
    main()
