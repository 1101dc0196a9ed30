"""What `diagnose`, and `plan` about it, were asked: the options of the command line as one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from driftcli.domain import RunSpec
from driftcli.report.choices import ReadingChoice

if TYPE_CHECKING:
    from driftcli.sources.files import Json  # which brings the hub

DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]
EngineChoice = Literal["transformers", "vllm"]


@dataclass(frozen=True)
class Request:
    """What `diagnose` was asked; budget: seconds that the run may take. engine: what runs the target; engine_args: of vLLM's.

    num_processes: that share the run, None for as many as there are GPUs for. against_target: the run of the target's twin that this one is
    held against.
    """

    target: str
    drafter: str
    prompts: Path | None
    probes: Sequence[str]
    spec: RunSpec
    limit: int | None
    device: str
    dtype: DtypeChoice
    reading: ReadingChoice
    remote_code: bool
    out: Path | None
    force: bool
    costs: Path | None = None
    batch_sizes: Sequence[int] = (1,)
    threads: int | None = None
    budget: int | None = None
    engine: EngineChoice = "transformers"
    engine_args: Mapping[str, Json] = field(default_factory=dict)
    num_processes: int | None = None
    against_target: Path | None = None
