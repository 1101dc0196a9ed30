"""The chains that are trained are those that the engine drafts, and their gradients are those of finite differences."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest
import torch

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_together
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.mtp.head import Mtp
from driftcli.healing.head import TrainedDrafter
from driftcli.healing.losses import AcceptanceLoss
from driftcli.healing.unrolled import forced_chains
from driftcli.healing.weights import weights, with_weights
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target.language_model import LanguageModel
from driftcli.training.losses import TargetHead
from driftcli.training.sampling import ALL_ROWS, Among
from driftcli.training.streams import Batch
from tests.tiny import prompts, trajectories

DEPTH, CPU = 4, torch.device("cpu")


@pytest.fixture(scope="module", params=["pre-norm", "post-norm", "mtp"])
def pair(request: pytest.FixtureRequest) -> LoadedPair:
    return load_pair("bundled:target", f"bundled:{request.param}", CPU, "float32")


@pytest.mark.parametrize("window", [None, 5, "from anchor"])
def test_a_chain_with_gradients_is_the_engines_forced_chain(pair: LoadedPair, window: int | str | None) -> None:
    drafter = pair.drafter
    if window is not None:
        layer = drafter.layers[0]  # type: ignore[union-attr]
        made = replace(layer, window=5, from_anchor=window == "from anchor")
        drafter = replace(drafter, layers=(made,)) if isinstance(drafter, Eagle3) else replace(drafter, layer=made)  # type: ignore
    texts = trajectories(pair.target, prompts(2), drafter.boundaries, 24)  # type: ignore[arg-type, union-attr]
    drafted = draft_together(drafter, texts, DraftSettings(depth=DEPTH), DEPTH, free=False)  # type: ignore[arg-type]
    for number, text in enumerate(texts):
        rows = len(text.text.ids) - 1 - DEPTH
        streams = {boundary: stream[None] for boundary, stream in text.streams.items()}
        steps = list(forced_chains(drafter, text.ids[None], streams, rows, DEPTH))  # type: ignore[arg-type]
        begins, count = drafted.anchors.offsets[number], drafted.anchors.counts[number]
        for step, queries in zip(steps, drafted.forced, strict=True):
            mine = slice(text.prompt_length - 1, text.prompt_length - 1 + count)
            theirs = slice(begins, begins + count)
            assert queries.state is not None
            torch.testing.assert_close(step.state[mine], queries.state[theirs], rtol=1e-4, atol=1e-5)
            guesses = drafter.to_target(drafter.logits(step.output[mine]).argmax(-1))  # type: ignore[union-attr]
            assert guesses.tolist() == queries.guesses.drafted[theirs].tolist()


def test_gradients_are_those_of_finite_differences(pair: LoadedPair) -> None:
    held = {place: tensor.double() for place, tensor in weights(pair.drafter).items()}
    (text,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 10)  # type: ignore[arg-type, union-attr]
    streams = {boundary: stream[None].double() for boundary, stream in text.streams.items()}
    place = next(name for name in held if name.endswith("attention.q.weight"))
    turned = torch.randn(held[place].shape, generator=torch.Generator().manual_seed(0)).double()

    def total(by: torch.Tensor) -> torch.Tensor:
        drafter = with_weights(pair.drafter, {**held, place: held[place] + by * turned})
        return torch.stack([step.output.sum() for step in forced_chains(drafter, text.ids[None], streams, 8, 3)]).sum()  # type: ignore[arg-type]

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    total(at).backward()  # type: ignore[no-untyped-call]
    apart = torch.tensor(1e-3, dtype=torch.float64)
    assert at.grad is not None
    assert at.grad.item() == pytest.approx(((total(apart) - total(-apart)) / (2 * apart)).item(), rel=2e-2)


def test_a_drafter_with_its_own_weights_is_the_same(pair: LoadedPair) -> None:
    same = with_weights(pair.drafter, weights(pair.drafter))
    assert all(tensor is weights(pair.drafter)[place] for place, tensor in weights(same).items())
    doubled = {place: 2 * tensor for place, tensor in weights(pair.drafter).items()}
    assert all(torch.equal(tensor, doubled[place]) for place, tensor in weights(with_weights(pair.drafter, doubled)).items())


def test_a_loss_over_all_tokens_is_the_same_whether_they_are_named_or_not() -> None:
    mtp = load_pair("bundled:target", "bundled:mtp", CPU, "float32")
    target, drafter = mtp.target, mtp.drafter
    assert isinstance(target, LanguageModel)
    assert isinstance(drafter, Mtp)
    assert drafter.boundary == len(target.layers) + 1, "it reads what the output head reads"
    (text,) = trajectories(target, prompts(1), drafter.boundaries, 20)
    ids, stream = text.ids[None, :-1], text.streams[drafter.boundary][None]
    batch = Batch(ids, stream, stream, torch.arange(ids.shape[1])[None] >= text.prompt_length)
    head, read = TrainedDrafter(drafter, [], drafter.boundaries), TargetHead.of(target, None, "float32")
    every = torch.arange(len(target.head))
    among = Among(every, torch.zeros(len(every)))
    loss = AcceptanceLoss(0.5)
    whole, named = (list(loss(head, target.embedding, read, batch, 3, ALL_ROWS, tokens)) for tokens in (None, among))
    for one, other in zip(whole, named, strict=True):
        torch.testing.assert_close(one.nats, other.nats)


def test_chains_from_some_rows_are_those_of_all(pair: LoadedPair) -> None:
    texts = trajectories(pair.target, prompts(2), pair.drafter.boundaries, 24)  # type: ignore[arg-type, union-attr]
    length = min(len(text.ids) for text in texts) - 1  # the last token has no stream
    ids = torch.stack([text.ids[:length] for text in texts])
    streams = {at: torch.stack([text.streams[at][:length] for text in texts]) for at in texts[0].streams}
    rows = length - 1 - DEPTH
    chosen = torch.tensor([[0, 3, rows - 1], [2, 5, 6]])
    every = forced_chains(pair.drafter, ids, streams, rows, DEPTH)  # type: ignore[arg-type]
    some = forced_chains(pair.drafter, ids, streams, rows, DEPTH, chosen)  # type: ignore[arg-type]
    for whole, few in zip(every, some, strict=True):
        wanted = torch.unflatten(whole.state, 0, (2, rows))[torch.arange(2)[:, None], chosen].flatten(0, 1)
        torch.testing.assert_close(few.state, wanted, rtol=1e-4, atol=1e-5)
        assert len(few.output) == chosen.numel()


def test_a_loss_is_that_of_every_chain_until_its_first_wrong_guess_by_hand(pair: LoadedPair) -> None:
    texts = trajectories(pair.target, prompts(2), pair.drafter.boundaries, 24)  # type: ignore[arg-type, union-attr]
    target, drafter, longest, unroll = pair.target, pair.drafter, max(len(text.ids) for text in texts), 3
    assert isinstance(target, LanguageModel)
    assert isinstance(drafter, Eagle3 | Mtp)
    padded = [torch.nn.functional.pad(text.ids, (0, longest - len(text.ids))) for text in texts]
    tops = torch.randn(2, longest, target.head.shape[1], generator=torch.Generator().manual_seed(0))
    wide = [
        torch.cat([torch.nn.functional.pad(text.streams[at], (0, 0, 0, longest - len(text.streams[at]))) for at in drafter.boundaries], -1)
        for text in texts
    ]
    replied = torch.stack([(torch.arange(longest) >= text.prompt_length) & (torch.arange(longest) < len(text.ids)) for text in texts])
    batch = Batch(torch.stack(padded), torch.stack(wide), tops, replied)
    ids = drafter.vocabulary.to_target if isinstance(drafter, Eagle3) else None
    head, read = TrainedDrafter(drafter, [], drafter.boundaries), TargetHead.of(target, ids, "float32")
    nats, right, kept = ([list[float]() for _ in range(unroll)] for _ in range(3))
    for number, text in enumerate(texts):
        rows = len(text.ids) - 1 - unroll
        streams = {at: text.streams[at][None] for at in text.streams}
        steps = list(forced_chains(drafter, text.ids[None], streams, rows, unroll))
        for row in range(text.prompt_length - 2, rows):  # from the row whose first guess is the reply's first token
            whole, so_far = row + 2 >= text.prompt_length and row + 1 + unroll < len(text.ids), 1.0
            for step in range(unroll if whole else 0):
                wanted, scores = read.logits(tops[number, row + 1 + step]).softmax(-1), drafter.logits(steps[step].output[row])
                nats[step].append(float(-(wanted * scores.log_softmax(-1)).sum()))
                kept[step].append(so_far := so_far * float(torch.minimum(wanted, scores.softmax(-1)).sum()))
                right[step].append(float(drafter.to_target(scores.argmax()) == text.ids[row + 2 + step]))
                if not right[step][-1]:
                    break
    assert 0 < len(nats[2]) < len(nats[1]) < len(nats[0]), "some chains end, others go on"
    for share in (0.0, 0.25):
        for number, loss in enumerate(AcceptanceLoss(share)(head, target.embedding, read, batch, unroll)):
            assert loss.rows == len(nats[number])
            assert loss.agreement.item() == pytest.approx(mean(right[number]), rel=1e-4)
            assert loss.nats.item() == pytest.approx((1 - share) * mean(nats[number]) - share * sum(kept[number]) / len(nats[0]), rel=1e-4)


def test_steps_that_no_chain_comes_to_cost_nothing() -> None:
    loss = AcceptanceLoss(0.0)
    eagle = load_pair("bundled:target", "bundled:post-norm", CPU, "float32")
    drafter, target = eagle.drafter, eagle.target
    assert isinstance(target, LanguageModel)
    assert isinstance(drafter, Eagle3)
    (text,) = trajectories(target, prompts(1), drafter.boundaries, 20)
    lacking = int((drafter.vocabulary.to_draft < 0).nonzero()[0])  # a token that it cannot guess
    wrong = torch.full_like(text.ids[None, :-1], lacking)
    wide, tops = torch.cat([text.streams[at] for at in drafter.boundaries], -1)[None], text.streams[drafter.boundaries[0]][None]
    batch = Batch(wrong, wide, tops, torch.arange(wrong.shape[1])[None] >= text.prompt_length)
    head = TrainedDrafter(drafter, ["final_gain"], drafter.boundaries)
    read = TargetHead.of(target, drafter.vocabulary.to_target, "float32")
    found = list(loss(head, target.embedding, read, batch, 4))
    assert [step.rows > 0 for step in found] == [True, False, False, False]
    torch.stack([step.learned for step in found]).sum().backward()  # type: ignore[no-untyped-call]
    assert head.own["final_gain"].grad is not None
    assert head.own["final_gain"].grad.isfinite().all()
