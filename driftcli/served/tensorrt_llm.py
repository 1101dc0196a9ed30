"""TensorRT-LLM: counters of draft tokens at `/prometheus/metrics`, and the draft length beside them. Read, not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.errors import ServerError
from driftcli.served.http import Client, child, text
from driftcli.served.metrics import Samples, read_metrics
from driftcli.served.server import Counts, Facts, Reply, Totals, completed, named_model

PREFIX, PATH = "trtllm_", "/prometheus/metrics"
DRAFTED = ("trtllm_spec_decode_num_draft_tokens", "trtllm_spec_decode_drafted_tokens")  # the name varies by version


@dataclass(frozen=True, slots=True)
class TensorRtLlm:
    """A server of `trtllm-serve`."""

    client: Client
    facts: Facts

    def reply(self, ids: Sequence[int], most: int, *, greedy: bool = True) -> Reply:
        """As the contract."""
        asked = {"model": self.facts.model, "prompt": list(ids), "max_tokens": most, "detokenize": False}
        return Reply(completed(self.client, {**asked, **({"temperature": 0} if greedy else {})})[1])

    def totals(self) -> Totals | None:
        """As the contract; every round drafts as many tokens, so rounds are told by them."""
        samples = read_metrics(self.client.find(PATH) or b"", PREFIX)
        drafted, tokens = _drafted(samples), samples.total("trtllm_generation_tokens")
        if drafted is None or tokens is None:
            raise ServerError(
                f"{self.client.url}{PATH}: counts no draft tokens, expected {DRAFTED[0]}_total; start it with return_perf_metrics"
            )
        return Totals(Counts(int(drafted) // self.facts.drafts, None, int(drafted)), int(tokens))


def recognised(client: Client) -> TensorRtLlm | None:
    """The server as TensorRT-LLM, None where it is another; raises ServerError for one that does not speculate."""
    samples = read_metrics(client.find(PATH) or b"", PREFIX)
    if not samples.by_name:
        return None
    version = text(child(client.find_json("/version"), "version")) or "of unknown version"
    told = samples.labels("trtllm_speculative_config_info").get("spec_num_tokens", "")
    if not told.isdecimal() or not 0 < int(told[:9]) < 1000:
        raise ServerError(f"{client.url}: TensorRT-LLM {version} names no draft length (spec_num_tokens), so it does not speculate")
    name, _, longest = named_model(client)
    return TensorRtLlm(client, Facts("TensorRT-LLM", version, name, int(told), longest))


def _drafted(samples: Samples) -> float | None:
    return next((found for name in DRAFTED if (found := samples.total(name)) is not None), None)
