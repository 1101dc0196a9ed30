"""Every case; as a command, writes the named ones into folders of their names."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.families.mtp import deepseek_cases, dense_cases, hybrid_cases, qwen_cases, step_cases
from tests.families.mtp.cases import write

CASES = (*qwen_cases.CASES, *deepseek_cases.CASES, *dense_cases.CASES, *hybrid_cases.CASES, *step_cases.CASES)

if __name__ == "__main__":
    for case in CASES:
        if case.name in sys.argv[2:]:
            write(case, Path(sys.argv[1]) / case.name)
