"""Speculative decoding by vLLM on the CPU, round by round: `python decode.py < request.json > rounds.json`, in an environment of its own.

The request holds `target`, `drafter`, `method`, which is how vLLM is told the drafter's kind, `depth`, `max_tokens` and `prompts`, a list of
token ids each. What comes back is, for each prompt, the reply's token ids and its rounds: the draft tokens that were verified and how many
were kept; and vLLM's own counters over all of them.
Nothing that vLLM computes is touched: its scheduler is only listened to, in this process and with one request at a time.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}

from vllm import LLM, SamplingParams
from vllm.v1.core.sched.scheduler import Scheduler

ROOM = 64  # positions behind the longest reply, for drafts that reach past its end


def listened_to() -> list[dict[str, Any]]:
    """A list that fills up with every round from now on."""
    rounds: list[dict[str, Any]] = []
    update = Scheduler.update_from_output

    def noting(self: Any, scheduled: Any, made: Any) -> Any:
        for request, drafted in scheduled.scheduled_spec_decode_tokens.items():
            sampled = made.sampled_token_ids[made.req_id_to_index[request]]
            rounds.append({"drafted": [int(token) for token in drafted], "kept": len(sampled) - 1})
        return update(self, scheduled, made)

    Scheduler.update_from_output = noting
    return rounds


def counters(engine: Any) -> dict[str, int]:
    """vLLM's own totals of speculative decoding, by what follows `vllm:spec_decode_num_`."""
    named = {metric.name: metric for metric in engine.get_metrics() if "spec_decode_num_" in metric.name}
    return {name.split("spec_decode_num_")[1]: metric.value for name, metric in named.items() if hasattr(metric, "value")}


def main() -> None:
    """Answer the request on standard input."""
    asked, out = json.load(sys.stdin), os.dup(1)
    os.dup2(2, 1)  # what vLLM prints goes where it disturbs nobody
    longest = max(map(len, asked["prompts"])) + asked["max_tokens"] + ROOM
    engine = LLM(
        model=asked["target"],
        speculative_config={**asked["method"], "model": asked["drafter"], "num_speculative_tokens": asked["depth"]},
        dtype="float32",
        enforce_eager=True,
        max_model_len=longest,
        max_num_seqs=1,
        max_num_batched_tokens=max(4096, longest),
        enable_prefix_caching=False,
        disable_log_stats=False,
        seed=0,
    )
    rounds, found = listened_to(), []
    sampling = SamplingParams(temperature=0.0, max_tokens=asked["max_tokens"], detokenize=False)
    for prompt in asked["prompts"]:
        (answer,) = engine.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)
        found.append({"reply": list(answer.outputs[0].token_ids), "rounds": list(rounds)})
        rounds.clear()
    with os.fdopen(out, "w") as file:
        json.dump({"texts": found, "counters": counters(engine)}, file)


if __name__ == "__main__":
    main()
