from __future__ import annotations

from pathlib import Path

import torch

from driftcli.engine.forecast import forecast
from driftcli.loading.pair import load_pair
from tests.engine.test_run import job
from tests.tiny import TEMPLATE, prompts

STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def test_a_template_that_wants_roles_to_alternate_does_not_stand_in_the_way_of_prompts_with_several_turns(
    models: Path, tmp_path: Path
) -> None:
    pair = load_pair(str(models / "target"), str(models / "pre"), torch.device("cpu"), "float32")
    free = forecast(job(pair, tmp_path / "r", prompts(3, turns=2)))
    pair.target.tokenizer.chat_template = STRICT + TEMPLATE
    strict = forecast(job(pair, tmp_path / "r", prompts(3, turns=2)))
    assert (strict.texts, strict.drafter_tokens) == (free.texts, free.drafter_tokens) == (6, 6 * 16 * 4)
