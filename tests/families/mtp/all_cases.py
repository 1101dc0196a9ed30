"""Every case."""

from __future__ import annotations

from tests.families.mtp import deepseek_cases, qwen_cases

CASES = (*qwen_cases.CASES, *deepseek_cases.CASES)
