"""The kinds of servers that can be asked, once: a kind is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable

from driftcli.errors import ServerError
from driftcli.served import sglang, tensorrt_llm, vllm
from driftcli.served.http import Client
from driftcli.served.server import Server, named_model

KINDS: dict[str, Callable[[Client], Server | None]] = {
    "vLLM": vllm.recognised,
    "SGLang": sglang.recognised,
    "TensorRT-LLM": tensorrt_llm.recognised,
}


def connect(client: Client) -> Server:
    """The server behind a URL, as what it is; raises ServerError where it cannot be reached, is none of these or does not speculate."""
    named_model(client)
    for recognised in KINDS.values():
        if (server := recognised(client)) is not None:
            return server
    raise ServerError(
        f"{client.url}: shows no counters of {', '.join(KINDS)} (/metrics, /server_info, /prometheus/metrics), so acceptance cannot be "
        "read; name the server itself, not a router in front of it, and start it with its metrics on"
    )
