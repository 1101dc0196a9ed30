"""The witnesses themselves: every target loads whole, every switch moves the output, a chain begins as its row does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.witness import Reading, Streams, Witness, read_streams, read_target

ANCHOR, DEPTH = 8, 3
IDS = torch.randint(4, 250, (14,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Witness, Streams]:
    folder = write(request.param, tmp_path_factory.mktemp(request.param.name))
    return Witness.of(request.param, folder), read_streams(read_target(folder), IDS)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def test_a_chain_begins_as_its_fresh_row(read: tuple[Witness, Streams]) -> None:
    witness, streams = read
    fresh, chain = witness.fresh(IDS, streams), witness.chain(IDS, streams, ANCHOR, DEPTH)
    torch.testing.assert_close(chain.logits[0], fresh.logits[ANCHOR - 1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chain.states[0], fresh.states[ANCHOR - 1], rtol=1e-4, atol=1e-4)
    assert fresh.logits.isfinite().all() and float(fresh.logits.std()) > 0.1


def switches(case: Case) -> dict[str, Reading]:
    found = {"hand_in": Reading(hand_in="pre"), "zeroed": Reading(zeroed=True), "other_order": Reading(other_order=True)}
    if "final_norm" in case.names:
        found["feedback"] = Reading(feedback="raw")
    if case.turned:
        found["other_rope"] = Reading(other_rope=True)
    if case.modules > 1:
        found["per_depth"] = Reading(per_depth=True)
    return found


def test_every_switch_moves_the_output(read: tuple[Witness, Streams]) -> None:
    witness, streams = read
    fresh, chain = witness.fresh(IDS, streams).logits, witness.chain(IDS, streams, ANCHOR, 2).logits
    for name, reading in switches(witness.case).items():
        other = witness.read_as(reading)
        by_row, deep = apart(other.fresh(IDS, streams).logits, fresh), apart(other.chain(IDS, streams, ANCHOR, 2).logits[1], chain[1])
        blind = name in {"feedback", "per_depth"}  # a fresh row is fed by the target
        assert (by_row < 1e-5) is blind and max(by_row, deep) > 1e-3, name


def test_positions_that_begin_elsewhere_move_nothing(read: tuple[Witness, Streams]) -> None:
    witness, streams = read
    one, other = (witness.read_as(Reading(first_position=first)).fresh(IDS, streams) for first in (0, 1))
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-3, atol=1e-3)


def test_every_tensor_of_a_head_moves_the_output(read: tuple[Witness, Streams]) -> None:
    witness, streams = read
    plain = witness.fresh(IDS, streams).logits
    around = {part: witness.tensors[witness.case.place(name, witness.config, 0)] for part, name in witness.case.names.items()}
    for name, tensor in {**around, **dict(witness.layers[False][0].layers.named_parameters())}.items():
        kept = tensor.data.clone()
        tensor.data.copy_(kept * 1.5 + 0.1 * torch.randn(kept.shape, generator=torch.Generator().manual_seed(5)))
        idle = ".indexer." in name  # chooses rows where there are more than it may keep
        assert (apart(witness.fresh(IDS, streams).logits, plain) > 1e-5) is not idle, name
        tensor.data.copy_(kept)


@pytest.mark.parametrize("case", [case for case in CASES if case.float8], ids=lambda case: case.name)
def test_float8_is_a_head_s_layer_and_not_what_stands_around_it(case: Case, tmp_path: Path) -> None:
    tensors = load_file(write(case, tmp_path) / "model.safetensors")
    scaled = {name for name in tensors if name + "_scale_inv" in tensors}
    assert all((tensor.dtype == torch.float8_e4m3fn) is (name in scaled) for name, tensor in tensors.items())
    of_layers = {"0", "1", "2"} if case.float8 == "all" else {"layers"} if "mimo" in case.name else {"2"}
    assert {name.split(".")[2] for name in scaled} == of_layers
    assert not any("eh_proj" in name or "gate.weight" in name or "norm" in name for name in scaled)
