"""SGLang: every reply of `/generate` carries its own counts in `meta_info`; `/server_info` says how long chains are. Read, not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.errors import ServerError
from driftcli.served.http import Client, child, text, whole, wholes
from driftcli.served.server import Counts, Facts, Reply, Totals, kept_at_least, named_model


@dataclass(frozen=True, slots=True)
class Sglang:
    """An SGLang server."""

    client: Client
    facts: Facts

    def reply(self, ids: Sequence[int], most: int, *, greedy: bool = True) -> Reply:
        """As the contract."""
        sampling = {"max_new_tokens": most, **({"temperature": 0, "repetition_penalty": 1.0} if greedy else {})}
        answer = self.client.post("/generate", {"input_ids": list(ids), "sampling_params": sampling})
        told, tokens = child(answer, "meta_info"), wholes(child(answer, "output_ids"))
        rounds = whole(child(told, "spec_verify_ct"))
        if tokens is None or rounds is None:
            lacking = "token ids (output_ids)" if tokens is None else "count of verifications (spec_verify_ct)"
            raise ServerError(f"{self.client.url}/generate: the reply holds no {lacking}, expected those of SGLang while it speculates")
        kept = wholes(child(told, "spec_correct_drafts_histogram")) or wholes(child(told, "spec_accept_histogram"))
        drafted = whole(child(told, "spec_num_proposed_drafts"))
        return Reply(tokens, Counts(rounds, kept_at_least(kept, rounds, self.facts.drafts), drafted))

    def totals(self) -> Totals | None:
        """As the contract: replies carry their own."""
        return None


def recognised(client: Client) -> Sglang | None:
    """The server as SGLang, None where it is another; raises ServerError for one that does not speculate, or drafts trees."""
    told = client.find_json("/server_info") or client.find_json("/get_server_info")
    if not isinstance(told, dict) or "speculative_algorithm" not in told:
        return None
    version = text(told.get("version")) or "of unknown version"
    if not isinstance(told["speculative_algorithm"], str):
        raise ServerError(f"{client.url}: SGLang {version} does not speculate; start it with --speculative-algorithm")
    steps, width = whole(told.get("speculative_num_steps")), whole(told.get("speculative_eagle_topk"))
    if width not in (None, 1):
        raise ServerError(
            f"{client.url}: SGLang {version} drafts trees (topk {width}), expected chains; start it with --speculative-eagle-topk 1"
        )
    tokens = whole(told.get("speculative_num_draft_tokens"))
    drafts = steps or (tokens - 1 if tokens else 0)
    if not drafts:
        raise ServerError(f"{client.url}/server_info: does not say how many tokens are drafted, expected speculative_num_steps")
    cache = told.get("disable_radix_cache")
    said = {"prefix cache": "off" if cache else "on"} if isinstance(cache, bool) else {}
    longest = whole(told.get("context_length")) or named_model(client)[2]
    return Sglang(client, Facts("SGLang", version, text(told.get("model_path")), drafts, longest, said=said))
