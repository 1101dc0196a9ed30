"""What writing replies costs, ours against `generate` of transformers: `python tests/benchmarks/writing.py [--target DIR] [--batch N]`.

Both write the replies of the same batches, in turns, in one process, and must write the same tokens. Batches are those that a run forms of
the built-in prompts. A way counts by the fastest of its turns, in processor seconds on a CPU, because other work on the machine only ever
adds time. A step is one more token of the longest reply; reading the prompts is told apart, as what a reply of one token takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

import torch
from transformers.utils import logging as transformers_logging

from driftcli.engine.texts import foreseen
from driftcli.sources.files import resolve
from driftcli.target.in_process import choosing, plain_decoding, until_end
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.target.target import Writing
from driftcli.texts.prompts import builtin_prompts, content_hash

Ids = Sequence[Sequence[int]]
Way = Callable[[LanguageModel, Ids, int, float], list[list[int]]]


@torch.inference_mode()
def generated(target: LanguageModel, prompts: Ids, most: int, temperature: float) -> list[list[int]]:
    """What `generate` writes: all prompts padded to the longest, all replies decoded to the end of the last."""
    longest = max(map(len, prompts))
    with plain_decoding(target) as settings:
        ids = [[settings.pad_token_id] * (longest - len(one)) + list(one) for one in prompts]
        mask = [[0] * (longest - len(one)) + [1] * len(one) for one in prompts]
        out = target.model.generate(  # type: ignore[operator]
            torch.tensor(ids, device=target.device), attention_mask=torch.tensor(mask, device=target.device), max_new_tokens=most,
            prefill_chunk_size=512, **choosing(temperature),
        )  # fmt: skip
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    return [until_end(reply, ends) for reply in out[:, longest:].tolist()]


def written(target: LanguageModel, prompts: Ids, most: int, temperature: float) -> list[list[int]]:
    """What driftcli writes."""
    return target.write(prompts, Writing(most, temperature))


WAYS: dict[str, Way] = {"generate": generated, "driftcli": written}


def timed(target: LanguageModel, batches: Sequence[Ids], most: int, temperature: float, turns: int) -> list[list[int]]:
    """Print what both ways cost, and return the replies, which must be the same."""
    clock = process_time if target.device.type == "cpu" else perf_counter
    replies: dict[str, list[list[int]]] = {}
    seconds = {(name, length): float("inf") for name in WAYS for length in (1, most)}
    for _ in range(turns):
        for (name, length), best in seconds.items():
            torch.manual_seed(0)
            started = clock()
            found = [reply for batch in batches for reply in WAYS[name](target, batch, length, temperature)]
            seconds[name, length] = min(best, clock() - started)
            if length == most:
                assert replies.setdefault(name, found) == found
    other = [number for number, (one, two) in enumerate(zip(*replies.values(), strict=True)) if one != two]
    assert not other, f"other tokens in replies {other}"
    tokens, steps = sum(map(len, found)), sum(max(map(len, _part(found, batches, number))) - 1 for number in range(len(batches)))
    for name in WAYS:
        reading, whole = seconds[name, 1], seconds[name, most]
        rate, step = tokens / whole, 1000 * (whole - reading) / steps
        print(f"  {name:<12}{whole:>8.2f} s{rate:>10.0f} tokens/s{reading:>8.2f} s reading{step:>9.2f} ms a step")
    return found


def _part(replies: list[list[int]], batches: Sequence[Ids], number: int) -> list[list[int]]:
    before = sum(map(len, batches[:number]))
    return replies[before : before + len(batches[number])]


def main() -> None:
    """Time both ways on the CPU or a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="bundled:target")
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=80)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    target = load_language_model(resolve(asked.target), torch.device(asked.device), "auto")
    prompts = sorted(builtin_prompts(), key=content_hash)[: asked.prompts]
    ids = [foreseen(target.tokenizer, prompt, 0).ids for prompt in prompts]
    batches = [ids[at : at + asked.batch] for at in range(0, len(ids), asked.batch)]
    lengths = f"{min(map(len, ids))}-{max(map(len, ids))}"
    print(f"{asked.target}, {len(ids)} prompts of {lengths} tokens in batches of {asked.batch}, up to {asked.tokens} new tokens")
    timed(target, batches, asked.tokens, asked.temperature, asked.turns)


if __name__ == "__main__":
    main()
