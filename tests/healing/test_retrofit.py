"""A pre-norm head that is fitted with normed feedback guesses first what it guessed before, and is stored as what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_together
from driftcli.errors import UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.mtp.head import Mtp
from driftcli.healing.places import head_files
from driftcli.healing.retrofit import normed_feedback, normed_streams
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.training import SETTINGS
from driftcli.healing.treatments import chosen, unsuited
from driftcli.healing.weights import weights, with_weights
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from tests.tiny import HeadSpec, prompts, trajectories, write_head, write_target

DEPTH, CPU = 4, torch.device("cpu")


@pytest.fixture(scope="module")
def pair() -> LoadedPair:
    return load_pair("bundled:target", "bundled:pre-norm", CPU, "float32")


@pytest.mark.parametrize("size", [0.3, 1.0, 40.0])
def test_the_first_guess_is_scored_as_before_whatever_the_size(pair: LoadedPair, size: float) -> None:
    head = pair.drafter
    assert isinstance(head, Eagle3)
    made = normed_feedback(head, size)
    texts = trajectories(pair.target, prompts(2), head.boundaries, 24)  # type: ignore[arg-type]
    before, after = (draft_together(one, texts, DraftSettings(depth=DEPTH), DEPTH, free=False).forced for one in (head, made))
    torch.testing.assert_close(after[0].guesses.drafted, before[0].guesses.drafted)
    torch.testing.assert_close(after[0].guesses.draft_prob, before[0].guesses.draft_prob, rtol=1e-4, atol=1e-6)
    assert after[0].state is not None
    assert before[0].state is not None
    sizes = after[0].state.square().mean(-1).sqrt()
    torch.testing.assert_close(sizes, torch.full_like(sizes, size), rtol=1e-3, atol=0)
    cosine = torch.cosine_similarity(after[0].state, before[0].state, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_head_of_normed_residual_drafts_the_same_at_every_depth(pair: LoadedPair) -> None:
    assert isinstance(pair.drafter, Eagle3)
    head = replace(pair.drafter, residual="normed")
    assert "size of what it feeds back changes nothing" in unsuited("norm-output", head)
    texts = trajectories(pair.target, prompts(2), head.boundaries, 20)  # type: ignore[arg-type]
    before, after = (
        draft_together(one, texts, DraftSettings(depth=DEPTH), DEPTH, free=False).forced for one in (head, normed_feedback(head, 3.0))
    )
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours.guesses.draft_prob, theirs.guesses.draft_prob, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["pre-norm", "post-norm", "mtp"])
def test_what_is_written_loads_as_the_head_that_it_was(name: str, tmp_path: Path) -> None:
    loaded = load_pair("bundled:target", f"bundled:{name}", CPU, "float32")
    drafter = loaded.drafter
    assert isinstance(drafter, Eagle3 | Mtp)
    files = head_files(f"bundled:{name}", loaded.target, drafter)
    assert {*weights(drafter)} - {*files.names} <= {"embedding", "head"}
    doubled = with_weights(drafter, {place: 2 * tensor for place, tensor in weights(drafter).items() if place in files.names})
    write_files(with_weights_of(files, doubled, {}), tmp_path / "head")
    again = load_pair("bundled:target", str(tmp_path / "head"), CPU, "float32").drafter
    for place, tensor in weights(again).items():
        torch.testing.assert_close(tensor, weights(doubled)[place])


def test_a_gain_that_stands_in_two_places_stays_as_it_is(pair: LoadedPair) -> None:
    head = pair.drafter
    assert isinstance(head, Eagle3)
    twice = replace(head, hidden_gains=(head.embedding_gain, *head.hidden_gains))
    names = head_files("bundled:pre-norm", pair.target, twice).names
    assert "embedding_gain" in head_files("bundled:pre-norm", pair.target, head).names
    assert {"embedding_gain", "hidden_gains.0"}.isdisjoint(names)
    assert names["hidden_gains.1"].endswith("hidden_norm.weight")


def write_fitted(pair: LoadedPair, folder: Path) -> None:
    """The head with normed feedback of size 0.5 and norms of 1, 2 and 3 for its streams."""
    head = pair.drafter
    assert isinstance(head, Eagle3)
    made = normed_streams(normed_feedback(head, 0.5), [1.0, 2.0, 3.0])
    files = with_weights_of(head_files("bundled:pre-norm", pair.target, head), made, {**SETTINGS["norm-output"], **SETTINGS["fc-norm"]})
    write_files(files, folder)


def test_a_fitted_head_is_stored_with_its_flags_and_norms(pair: LoadedPair, tmp_path: Path) -> None:
    write_fitted(pair, tmp_path / "head")
    again = load_pair("bundled:target", str(tmp_path / "head"), CPU, "float32").drafter
    assert isinstance(again, Eagle3)
    assert again.feedback == "normed"
    assert [float(gain.mean()) for gain in again.fusion.stream_norms] == [1.0, 2.0, 3.0]
    assert json.loads((tmp_path / "head" / "config.json").read_text())["norm_output"] is True
    torch.testing.assert_close(again.final_gain, torch.full_like(again.final_gain, 0.5))


def scanned(head: Path) -> Scan:
    found = scan_checkpoint(str(head), "bundled:target")
    assert isinstance(found, Scan)
    return found


def test_what_heal_wrote_is_scanned_as_what_it_is_and_not_as_what_another_trainer_may_have_meant(pair: LoadedPair, tmp_path: Path) -> None:
    write_fitted(pair, tmp_path / "head")
    found = scanned(tmp_path / "head")
    assert {check.state for check in found.checks} == {"ok"}
    assert not found.pitfalls
    assert str(found.record["producer"].value).startswith("driftcli ")
    config = json.loads((tmp_path / "head" / "config.json").read_text())
    (tmp_path / "head" / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "healed_by"}))
    assert "note" in {check.state for check in scanned(tmp_path / "head").checks}


def test_a_shared_output_head_becomes_the_heads_own(tmp_path: Path) -> None:
    target, head = write_target(tmp_path / "target"), write_head(tmp_path / "head", HeadSpec(own_head=False))
    tiny = load_pair(str(target), str(head), CPU, "float32")
    assert isinstance(tiny.drafter, Eagle3)
    assert tiny.drafter.shared_head
    made = normed_feedback(tiny.drafter, 2.0)
    write_files(with_weights_of(head_files(str(head), tiny.target, tiny.drafter), made, {"norm_output": True}), tmp_path / "healed")
    again = load_pair(str(target), str(tmp_path / "healed"), CPU, "float32").drafter
    assert isinstance(again, Eagle3)
    assert not again.shared_head
    torch.testing.assert_close(again.head, made.head, rtol=1e-2, atol=1e-3)


def test_treatments_follow_findings_and_what_suits_the_head(pair: LoadedPair) -> None:
    head = pair.drafter
    assert isinstance(head, Eagle3)
    assert chosen([], frozenset({"DRIFT-STATE"}), head) == ("norm-output", "unroll")
    assert chosen([], frozenset({"DRIFT-STATE", "TEMPLATE-SENSITIVE"}), replace(head, feedback="normed")) == ("unroll", "templates")
    assert chosen(["fc-norm"], frozenset(), head) == ("fc-norm",)
    with pytest.raises(UsageError, match="no finding that training of the head alone mends"):
        chosen([], frozenset({"NO-PAYOFF"}), head)
    with pytest.raises(UsageError, match="--treatment norm-output: it feeds back its normed state"):
        chosen(["norm-output"], frozenset(), replace(head, feedback="normed"))
