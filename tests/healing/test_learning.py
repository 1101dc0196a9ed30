"""What training keeps: the head that did best on the held-out conversations, also of a run that is taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from driftcli.errors import FormatError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.head import TrainedDrafter, units
from driftcli.healing.losses import AcceptanceLoss
from driftcli.healing.retrofit import normed_feedback
from driftcli.healing.weights import weights
from driftcli.loading.pair import load_pair
from driftcli.target.language_model import LanguageModel
from driftcli.training.conversations import Conversation
from driftcli.training.learning import Plan, Run, optimiser_of, split
from driftcli.training.losses import Loss, TargetHead, pooled
from driftcli.training.streams import Batch


def begun(folder: Path, patience: float | None) -> Run:
    head = nn.Linear(2, 2, bias=False)
    plan = Plan("healed", 3, 0, 5000, 64, 1e-3, 0, 2, "float32", {})
    return Run(head, optimiser_of(head, 1e-3), folder, plan, patience=patience)


def looked(run: Run, step: int, *right: float) -> None:
    """A look after so many steps, the head's weights being all its number."""
    run.step = step
    with torch.no_grad():
        run.head.weight.fill_(step)  # type: ignore[operator]
    run.weigh(torch.tensor(right))


def test_the_best_head_is_the_one_whose_chains_get_furthest(tmp_path: Path) -> None:
    run = begun(tmp_path, patience=0.08)
    looked(run, 0, 0.8, 0.5, 0.5)  # 0.8 + 0.4 + 0.2
    looked(run, 200, 0.7, 0.7, 0.7)  # 0.7 + 0.49 + 0.343: better, though its first guess is worse
    looked(run, 400, 0.9, 0.6, 0.1)  # 0.9 + 0.54 + 0.054
    assert run.best is not None
    assert run.best.step == 200
    assert run.best.accepted == pytest.approx(1.533)
    assert not run.ended
    run.save()
    again = begun(tmp_path, patience=0.08)
    again.restore()
    looked(again, 600, 0.1, 0.1, 0.1)
    assert again.best is not None
    assert torch.equal(again.best.head["weight"], torch.full((2, 2), 200.0))
    assert again.ended, "400 of 5000 steps went by without a better head"


def test_steps_that_no_chain_comes_to_add_nothing_to_what_is_accepted(tmp_path: Path) -> None:
    def check(*steps: tuple[float, int]) -> list[Loss]:
        return [Loss(torch.tensor(1.0), torch.tensor(right), rows) for right, rows in steps]

    nats, right = pooled([check((0.5, 4), (0.5, 2), (0.0, 0)), check((0.0, 4), (0.0, 0), (0.0, 0))])
    assert nats.tolist() == [1.0, 1.0, 0.0]
    assert right.tolist() == [0.25, 0.5, 0.0]
    run = begun(tmp_path, patience=0.08)
    run.weigh(right)
    assert run.best is not None
    assert run.best.accepted == pytest.approx(3 / 8), "two of eight guesses were right, one of the two behind them"


def test_a_batch_whose_replies_are_shorter_than_a_chain_moves_nothing(tmp_path: Path) -> None:
    eagle, unroll = load_pair("bundled:target", "bundled:post-norm", torch.device("cpu"), "float32"), 4
    drafter, target, width = eagle.drafter, eagle.target, eagle.target.head.shape[1]
    assert isinstance(drafter, Eagle3)
    assert isinstance(target, LanguageModel)
    talk = Conversation(list(range(1, 41)), [(20, 20 + unroll - 1)])
    assert split([talk] * 64, unroll)[0], "such a conversation is trained on"
    replied = torch.zeros(1, 40, dtype=torch.bool).index_fill(1, torch.arange(*talk.spans[0]), True)
    batch = Batch(torch.tensor([talk.ids]), torch.randn(1, 40, width * len(drafter.boundaries)), torch.randn(1, 40, width), replied)
    run = begun(tmp_path, patience=2)
    run.head = TrainedDrafter(drafter, ["final_gain"], drafter.boundaries)
    run.optimiser = optimiser_of(run.head, 1e-3)
    read = TargetHead.of(target, drafter.vocabulary.to_target, "float32")
    found = list(AcceptanceLoss(0.0)(run.head, target.embedding, read, batch, unroll))
    assert [loss.rows for loss in found] == [0] * unroll
    run.learn(found)
    assert run.step == 1
    assert torch.equal(run.head.own["final_gain"], weights(drafter)["final_gain"].float())


def test_a_run_that_kept_no_best_head_yet_goes_on(tmp_path: Path) -> None:
    run = begun(tmp_path, patience=None)
    run.step = 300
    run.save()
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    del state["best"]
    torch.save(state, tmp_path / "training_state.pt")
    again = begun(tmp_path, patience=0.08)
    again.restore()
    assert (again.step, again.best) == (300, None)


def test_without_patience_the_last_head_is_kept_to_the_end_of_the_plan(tmp_path: Path) -> None:
    run = begun(tmp_path, patience=None)
    looked(run, 0, 1.0, 1.0, 1.0)
    looked(run, 4999, 0.0, 0.0, 0.0)
    assert run.best is None
    assert not run.ended
    looked(run, 5000, 0.0, 0.0, 0.0)
    assert run.ended


def test_conversations_that_are_kept_apart_are_not_trained_on() -> None:
    talks = [Conversation(list(range(40)), [(10, 40)]) for _ in range(64)]
    training, kept = split(talks, 4, apart=range(3))
    assert kept == [0, 1, 2]
    assert training == list(range(3, 64))
    training, kept = split(talks, 4, range(3), again=[2, 5, 5])
    assert training[-3:] == [63, 5, 5], "what is kept apart is not trained on again"
    training, kept = split(talks, 4)
    assert set(kept).isdisjoint(training)
    assert len(kept) + len(training) == 64


def test_conversations_whose_replies_are_shorter_than_a_chain_are_neither_learned_from_nor_held_out() -> None:
    short, long = Conversation(list(range(60)), [(20, 23), (30, 33)]), Conversation(list(range(60)), [(20, 23), (30, 34)])
    talks = [long, short] * 64
    assert 1 in split(talks, 4)[0], "where a chain may reach beyond a reply"
    training, kept = split(talks, 4, chain=4)
    assert sorted([*training, *kept]) == list(range(0, 128, 2)) and kept
    with pytest.raises(FormatError, match="leave 64 conversations to train on and 0 to hold out, expected some of both, with replies of 4"):
        split(talks, 4, apart=range(1, 9, 2), chain=4)


@pytest.mark.parametrize("size", [1 / 64, 19.0])
def test_a_step_is_as_long_for_a_weight_that_a_treatment_made_larger_or_smaller(size: float) -> None:
    """Normed feedback at a size of 19 makes the output head 1/14 as large, for which a plain step of Adam would be 14 times as long."""
    drafter = load_pair("bundled:target", "bundled:pre-norm", torch.device("cpu"), "float32").drafter
    assert isinstance(drafter, Eagle3)
    made = normed_feedback(drafter, size)
    places = ["head", "final_gain", "layers.0.mlp.down"]
    before, after = (TrainedDrafter(one, places, drafter.boundaries, units(drafter, one)) for one in (drafter, made))
    for place, weight in after.own.items():
        assert torch.equal(weight, weights(made)[place]), "nothing is rounded"
    lengths = []
    for head in (before, after):
        old = {place: weight.detach().clone() for place, weight in head.own.items()}
        optimiser = optimiser_of(head, 1e-3)
        torch.stack([weight.sum() for weight in head.own.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        lengths.append({place: float(((head.own[place] - old[place]).norm() / old[place].norm()).detach()) for place in places})
    for place in places:
        assert lengths[1][place] == pytest.approx(lengths[0][place], rel=0.5), place
    assert units(drafter, drafter) == {}
