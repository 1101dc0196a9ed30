"""Speed foreseen by a run and `driftcli costs`, held against vLLM itself: `ENV/bin/python -m tests.benchmarks.vllm_speed RUN --target T
--drafter D`, in an environment with vLLM and driftcli, for a finished run of the pair whose replies are the target's own.

Foreseen are the rounds of the run's chains times what a round costs. vLLM decodes the same texts, one at a time, behind their first token;
engines of all draft lengths are held at once and take turns, text by text. Speeds are over plain decoding, so that a machine which others
use hits both sides alike; tokens a second are beside them. The column of the other half foresees each half's speed from the prompts of the
other one. Costs of single steps in transformers stand beside those of whole rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from driftcli.served.foreseen import Text, first_of, texts_of
from driftcli.statistics.costs import Costs
from driftcli.statistics.costs_file import read_costs
from driftcli.traces.reader import read_run

QUIET = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def costs_of(engine: str, given: argparse.Namespace, out: Path) -> Costs:
    """What the command says of rounds in an engine."""
    words = ["costs", "--engine", engine, "--target", given.target, "--drafter", given.drafter, "--dtype", "float32", "--threads", "1"]
    words += ["--draft-lengths", ",".join(map(str, given.lengths)), "--context", str(given.context), "--out", str(out)]
    words += ["--engine-args", '{"enforce_eager": true}'] if engine == "vllm" else []
    subprocess.run([sys.executable, "-c", "from driftcli.cli.main import main; main()", *words], check=True, stdout=sys.stderr)
    return read_costs(out, max(given.lengths))


def engines(given: argparse.Namespace, longest: int) -> dict[int, Any]:
    """vLLM's engine by draft length, 0 for plain decoding."""
    from vllm import LLM  # after its environment is set

    def of(drafts: int) -> Any:
        speculative = {"method": "eagle3", "model": given.drafter, "num_speculative_tokens": drafts} if drafts else None
        return LLM(
            model=given.target,
            speculative_config=speculative,
            dtype="float32",
            enforce_eager=True,
            max_model_len=longest,
            max_num_seqs=1,
            enable_prefix_caching=False,
            seed=0,
        )

    return {drafts: of(drafts) for drafts in (0, *given.lengths)}


def decoded(engine: Any, text: Text, most: int) -> tuple[float, int, list[int]]:
    """Seconds and steps behind the reply's first token, and the reply."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=most, ignore_eos=True, detokenize=False)
    engine.add_request("one", {"prompt_token_ids": list(text.prompt)}, sampling)
    outputs: Sequence[Any] = ()
    while not outputs:
        outputs = engine.step()
    started, steps = perf_counter(), 0
    while engine.has_unfinished_requests():
        outputs, steps = engine.step() or outputs, steps + 1
    return perf_counter() - started, steps, list(outputs[0].outputs[0].token_ids)


def measured(texts: Sequence[Text], given: argparse.Namespace) -> Mapping[int, np.ndarray]:
    """By draft length, (text, 2): tokens behind the first and the seconds that vLLM took for them; every reply is the run's own, and every
    round begins where the run foresees it.
    """
    held = engines(given, max(len(text.ids) for text in texts) + 64)
    found: dict[int, list[tuple[int, float]]] = {drafts: [] for drafts in held}
    for turn, text in enumerate([texts[0], *texts]):  # the first is a warm-up
        for drafts in list(held) if turn % 2 else list(reversed(held)):
            most = text.most(drafts)
            seconds, steps, reply = decoded(held[drafts].llm_engine, text, most)
            assert tuple(reply) == text.reply[:most], f"{text.key}: vLLM's reply is another one"
            assert drafts == 0 or steps == text.counts(drafts, most).rounds, f"{text.key}: {steps} rounds of {drafts}"
            found[drafts].append((most - 1, seconds))
    return {drafts: np.array(rows[1:]) for drafts, rows in found.items()}


def foreseen(texts: Sequence[Text], drafts: int, costs: Costs) -> tuple[float, float]:
    """Tokens a second of rounds of so many draft tokens by these costs, and speed over plain decoding."""
    tokens = sum(text.most(drafts) - 1 for text in texts)
    rounds = sum(text.counts(drafts, text.most(drafts)).rounds for text in texts)
    kept, one = tokens - rounds, costs.deciding
    seconds = rounds * one.round_seconds(drafts) + kept * one.draft_read
    return tokens / seconds, tokens * one.plain / seconds


def rate(rows: np.ndarray) -> float:
    """Tokens a second."""
    tokens, seconds = rows.sum(axis=0)
    return float(tokens / seconds)


def main() -> None:
    """Time, decode, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--drafter", required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--context", type=int, default=64)
    given = parser.parse_args()
    os.environ.update(QUIET)
    texts = first_of(texts_of(read_run(given.run), max(given.lengths)), given.prompts)
    with TemporaryDirectory() as folder:
        whole, single = (costs_of(engine, given, Path(folder) / f"{engine}.json") for engine in ("vllm", "transformers"))
    took = measured(texts, given)
    print(f"{len(texts)} texts, plain decoding: {rate(took[0]):.1f} tokens/s, by costs {1 / whole.deciding.plain:.1f}")
    print("drafts  tokens/s  foreseen           speed  foreseen         from the other half  from transformers' steps")
    for drafts in given.lengths:
        a_second, (rate_told, speed_told) = rate(took[drafts]), foreseen(texts, drafts, whole)
        speed = a_second / rate(took[0])
        halves = [rate(took[drafts][half::2]) / rate(took[0][half::2]) for half in (0, 1)]
        others = [foreseen(texts[1 - half :: 2], drafts, whole)[1] for half in (0, 1)]
        across = " ".join(f"{told / true - 1:+6.1%}" for told, true in zip(others, halves, strict=True))
        steps = foreseen(texts, drafts, single)[1]
        print(
            f"{drafts:6d}  {a_second:8.1f}  {rate_told:8.1f} {rate_told / a_second - 1:+6.1%}  {speed:6.3f}  {speed_told:8.3f} "
            f"{speed_told / speed - 1:+6.1%}  {across:>19}  {steps:8.3f} {steps / speed - 1:+6.1%}"
        )


if __name__ == "__main__":
    main()
