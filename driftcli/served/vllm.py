"""vLLM: counters at `/metrics`, by position, of all engines; a reply's own where the server was started with per-request metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.errors import ServerError
from driftcli.served.http import Client, child, text, whole, wholes
from driftcli.served.metrics import Samples, read_metrics
from driftcli.served.server import Counts, Facts, Reply, Totals, completed, kept_at_least, named_model

PREFIX, SPEC = "vllm:", "vllm:spec_decode_num_"


@dataclass(frozen=True, slots=True)
class Vllm:
    """A vLLM server."""

    client: Client
    facts: Facts

    def reply(self, ids: Sequence[int], most: int, *, greedy: bool = True) -> Reply:
        """As the contract."""
        asked = {"model": self.facts.model, "prompt": list(ids), "max_tokens": most, "return_token_ids": True}
        answer, tokens = completed(self.client, {**asked, **({"temperature": 0, "repetition_penalty": 1.0} if greedy else {})})
        return Reply(tokens, _own_counts(child(answer, "metrics", "speculative_decoding"), self.facts.drafts))

    def totals(self) -> Totals | None:
        """As the contract."""
        samples = _samples(self.client)
        rounds, drafted, tokens = (samples.total(name) for name in (f"{SPEC}drafts", f"{SPEC}draft_tokens", "vllm:generation_tokens"))
        if rounds is None or drafted is None or tokens is None:
            raise ServerError(f"{self.client.url}/metrics: the counters of speculative decoding are gone; is it the server of before?")
        return Totals(Counts(int(rounds), _kept_at(samples), int(drafted)), int(tokens))


def recognised(client: Client) -> Vllm | None:
    """The server as vLLM, None where it is another; raises ServerError for a vLLM that does not speculate."""
    samples = _samples(client)
    if not samples.by_name:
        return None
    version = text(child(client.find_json("/version"), "version")) or "of unknown version"
    kept = _kept_at(samples)
    if not samples.has(f"{SPEC}drafts") or not kept:
        raise ServerError(
            f"{client.url}: vLLM {version} counts no draft tokens, so it does not speculate; start it with --speculative-config, "
            "and without --disable-log-stats"
        )
    name, _, longest = named_model(client)
    cache = samples.labels("vllm:cache_config_info").get("enable_prefix_caching", "")
    said = {"prefix cache": {"True": "on", "False": "off"}[cache]} if cache in ("True", "False") else {}
    return Vllm(client, Facts("vLLM", version, name, len(kept), longest, counts_behind=True, said=said))


def _samples(client: Client) -> Samples:
    return read_metrics(client.find("/metrics") or b"", PREFIX)


def _kept_at(samples: Samples) -> tuple[int, ...]:
    """Rounds that kept the draft token of each position; as long as chains are, since vLLM counts every position from the start."""
    counted = {
        int(place): int(value)
        for place, value in samples.by_label(f"{SPEC}accepted_tokens_per_pos", "position").items()
        if place.isdecimal()
    }
    length = next(place for place in range(len(counted) + 1) if place not in counted)
    return tuple(counted[place] for place in range(length))


def _own_counts(told: object, drafts: int) -> Counts | None:
    """A request's own counts: rounds by how many draft tokens they kept, 0 first."""
    rounds, kept, drafted = (
        whole(child(told, "num_spec_steps")),
        wholes(child(told, "acceptance_histogram")),
        whole(child(told, "num_draft_tokens")),
    )
    return None if rounds is None else Counts(rounds, kept_at_least(kept, rounds, drafts), drafted)
