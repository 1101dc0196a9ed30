from __future__ import annotations

import math

import pytest
import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index, model_index_to_eval_results

from driftcli.errors import RunError
from driftcli.report.model_card import render
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Recipe
from tests.report.test_markdown import EVIL, SHOWN, plain


def front(card: str) -> dict:  # type: ignore[type-arg]
    _, matter, _ = card.split("---\n", 2)
    return yaml.safe_load(matter)


def results(card: str) -> dict[str, EvalResult]:
    """The metrics as the hub's own library reads them."""
    name, found = model_index_to_eval_results(front(card)["model-index"])
    assert eval_results_to_model_index(name, found) == [
        {"name": name, "results": [_without_absent(result) for result in front(card)["model-index"][0]["results"]]}
    ]
    return {str(one.metric_type): one for one in ModelCardData(model_name=name, eval_results=found).eval_results or []}


def _without_absent(value: object) -> object:
    """A value as the hub's library writes it: it leaves out what is null."""
    if isinstance(value, dict):
        return {key: _without_absent(one) for key, one in value.items() if one is not None}
    return [_without_absent(one) for one in value] if isinstance(value, list) else value


def test_the_hubs_own_library_reads_the_numbers_with_all_that_they_depend_on(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING))
    found = results(render(run, verdict))
    assert list(found) == ["acceptance-length", "acceptance-length-whole-replies", "accuracy", "compounding"]
    length = found["acceptance-length"]
    assert math.isclose(length.metric_value, 2.55, abs_tol=0.005)  # as the golden report has it
    assert length.metric_name == "acceptance length (depth 8, greedy)"
    args = length.metric_args or {}
    assert {name: args[name] for name in ("depth", "rule", "n_prompts", "target", "dtype")} == {
        "depth": 8,
        "rule": "greedy",
        "n_prompts": 16,
        "target": "Some-Target-8B",
        "dtype": "bfloat16",
    }
    assert args["interval_95"][0] < length.metric_value < args["interval_95"][1]
    assert args["definition"].startswith("1 + mean accepted draft tokens")


def test_a_drafter_without_state_has_no_compounding(judged: Judged) -> None:
    assert "compounding" not in results(render(*judged(Recipe(WITHOUT_STATE))))


def test_on_given_replies_no_acceptance_is_claimed(judged: Judged) -> None:
    found = results(render(*judged(Recipe(DRIFTING, argmax_share=0.8))))
    assert "acceptance-length" not in found
    assert found["text-match-length"].metric_name == "text match length (depth 8, greedy)"


def test_a_run_without_numbers_is_refused(judged: Judged) -> None:
    with pytest.raises(RunError, match="no number of this run has an interval"):
        render(*judged(Recipe(prompts=(), short=("a", "b"))))


def test_hostile_names_stay_values_and_text(judged: Judged) -> None:
    evil = f'{EVIL}\n---\nlicense: "mit"\n- !!python/object:os.system {{a: b}}'
    card = render(*judged(Recipe(DRIFTING, target=evil, drafter=evil)))
    assert list(front(card)) == ["model-index"]
    assert results(card)["accuracy"].metric_args["target"].startswith(SHOWN)  # type: ignore[index]
    assert card.count("\n---\n") == 1
    assert SHOWN in plain(card.split("---\n", 2)[2])


def test_the_same_run_gives_the_same_card(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING))
    assert render(run, verdict) == render(run, verdict)
