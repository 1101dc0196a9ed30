"""Every case."""

from __future__ import annotations

from tests.families.mtp import deepseek_cases, dense_cases, hybrid_cases, qwen_cases

CASES = (*qwen_cases.CASES, *deepseek_cases.CASES, *dense_cases.CASES, *hybrid_cases.CASES)
