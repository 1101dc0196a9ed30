"""What `diagnose`, and `plan` about it, were asked: the options of the command line as one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from driftcli.domain import RunSpec
from driftcli.report.choices import ReadingChoice

DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Request:
    """What `diagnose` was asked; budget: seconds that the run may take."""

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
