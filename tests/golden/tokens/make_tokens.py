"""Writes the golden maps of two vocabularies: what vLLM's own class makes of the small tokenizers of `tests.families.causal_lm`.

Run once, from the repository root, in an environment with vLLM 0.33:

    PYTHONPATH=. python -m tests.golden.tokens.make_tokens

A file holds, for rows as many as tokens and for two less, the target's id of each drafter id, -1 for what is not proposed, and the
drafter's id of each target id as vLLM feeds it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from vllm.v1.spec_decode.vocab_mapping import VocabMapping

from tests.families.causal_lm.tokenizers import pairs

HERE = Path(__file__).parent


def main() -> None:
    for name, (target, drafter) in pairs().items():
        found = {}
        for fewer in (0, 2):
            rows, own = len(target) - fewer, len(drafter) - fewer
            made = VocabMapping(target, drafter, rows, own, torch.device("cpu"))
            found[str(fewer)] = {
                "proposed": made.draft_to_target_ids.tolist(),
                "fed": made.map_target_to_draft_ids(torch.arange(rows)).tolist(),
            }
        (HERE / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
