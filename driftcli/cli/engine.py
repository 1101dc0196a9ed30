"""What runs the target, as options ask for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from driftcli.cli.request import EngineChoice
from driftcli.errors import UsageError
from driftcli.printable import one_line

if TYPE_CHECKING:
    from driftcli.sources.files import Json  # which brings the hub

EXAMPLE = '{"tensor_parallel_size": 2}'


def checked_engine(engine: EngineChoice, args: str | None) -> Mapping[str, Json]:
    """The arguments of the target's engine, none for transformers; UsageError for an engine that is not here or cannot do what is asked."""
    if engine == "transformers":
        if args is not None:
            raise UsageError("--engine-args: they are vLLM's, and transformers runs the target; add --engine vllm, or leave them out")
        return {}
    if find_spec("vllm") is None:
        raise UsageError("--engine vllm: vllm is not installed here; install driftcli[vllm], or use --engine transformers")
    return {} if args is None else _read(args)


def _read(args: str) -> Mapping[str, Json]:
    try:
        found = json.loads(args)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--engine-args {one_line(args, 60)}: no JSON ({one_line(str(error), 120)}), expected an object as {EXAMPLE}"
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"--engine-args {one_line(args, 60)}: expected an object, as {EXAMPLE}")
    return found
