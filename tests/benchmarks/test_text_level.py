"""What is counted in transformers' universal assisted decoding is what it kept, and the rule beside it is the tool's own."""

from __future__ import annotations

from itertools import pairwise, takewhile
from pathlib import Path

import pytest
import torch
from transformers.generation.candidate_generator import AssistedCandidateGeneratorDifferentTokenizers as ByText

from driftcli.conditions import BASELINE
from driftcli.domain import Absent, Estimate, RunSpec
from driftcli.engine.run import measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.traces.reader import read_run
from tests.benchmarks.text_level import Assisted, Counted, Round, counted, heard, lines
from tests.engine.test_run import job, silent
from tests.families.causal_lm.tokenizers import write_reordered
from tests.tiny import prompts, trajectories

DEPTH, TOKENS = 4, 24


@pytest.fixture(scope="module")
def other(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drafter close to the target, with other ids for its tokens and one token more."""
    return write_reordered(models / "lm", tmp_path_factory.mktemp("other") / "lm", longer=True)


@pytest.fixture(scope="module")
def pair(models: Path, other: Path) -> LoadedPair:
    return load_pair(str(models / "target"), str(other), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def assisted(models: Path, other: Path) -> Assisted:
    return Assisted.of(str(models / "target"), str(other), DEPTH)


def test_kept_are_the_leading_tokens_that_the_target_chose_and_rounds_follow_one_another(pair: LoadedPair, assisted: Assisted) -> None:
    kept = 0
    for text in trajectories(pair.target, prompts(4), [], TOKENS):  # type: ignore[arg-type]
        ids, start = text.ids.tolist(), text.prompt_length
        out, rounds = assisted.decode(text.ids[:start], len(ids) - start)
        assert out == ids and rounds[0].known == start
        for one in rounds:
            if one.known + DEPTH <= len(ids):
                wanted = ids[one.known :]
                assert one.kept == len(list(takewhile(lambda both: both[0] == both[1], zip(one.proposed, wanted, strict=False))))
                kept += one.kept
        assert all(after.known == before.known + before.kept + 1 for before, after in pairwise(rounds))
    assert kept > 0


def test_one_to_one_is_the_acceptance_length_that_the_tool_measures(pair: LoadedPair, assisted: Assisted, tmp_path: Path) -> None:
    asked = prompts(9)
    found = counted(pair, assisted, asked, DEPTH, TOKENS).length("token")
    spec = RunSpec(depth=DEPTH, max_new_tokens=TOKENS, batch_size=9)
    run = read_run(measure(job(pair, tmp_path / "run", asked, spec=spec), silent))
    measured = run.estimate(walk_acceptance_length, BASELINE)
    assert isinstance(found, Estimate) and isinstance(measured, Estimate)
    assert found.value == pytest.approx(measured.value, abs=1e-9) and 1 < found.value < DEPTH + 1


def test_lengths_are_kept_tokens_over_rounds_and_their_difference_is_paired() -> None:
    by_text, by_token = [Round(3, (7, 8), 1), Round(5, (), 0)], [Round(3, (7, 8, 9), 2)]
    found = Counted([by_text] * 9, [by_token] * 9)
    lengths = [found.length("text"), found.length("token"), found.difference()]
    assert [one.value for one in lengths if isinstance(one, Estimate)] == [1.5, 3.0, -1.5]
    text, token, difference = lines(found)
    assert text.endswith("| 1.00 | 50% | 18 |") and token.endswith("| 3.00 | 0% | 9 |")
    assert "9 texts, 0 written otherwise" in difference
    assert isinstance(Counted([by_text], [by_token]).length("text"), Absent)


def test_transformers_is_left_as_it_was() -> None:
    propose, update = ByText.get_candidates, ByText.update_candidate_strategy
    with heard():
        assert ByText.get_candidates is not propose and ByText.update_candidate_strategy is not update
    assert ByText.get_candidates is propose and ByText.update_candidate_strategy is update
