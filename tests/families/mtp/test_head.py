"""Against transformers' own decoder layer, norm and rotary embedding of the family, over whole sequences."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5DecoderLayer, Qwen3_5RMSNorm, Qwen3_5TextRotaryEmbedding

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import RunSpec
from driftcli.engine.chains import draft_chains
from driftcli.engine.run import measure
from driftcli.errors import FormatError, UsageError
from driftcli.families.mtp.head import Mtp
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.report.verdict import judge
from driftcli.traces.reader import read_run
from tests.edits import edit_tensors, refused
from tests.engine.test_run import job, silent
from tests.families.mtp.tiny import LAYERS, config, mtp_tensors, write_qwen
from tests.tiny import prompts, trajectories

CPU, DEPTH = torch.device("cpu"), 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen") / "target")


@pytest.fixture(scope="module")
def pair(folder: Path) -> LoadedPair:
    return load_pair(str(folder), "mtp", CPU, "float32")


class Own:
    """The head by transformers' modules: a chain of depth d is one causal pass over all its rows."""

    def __init__(self, *, one_plus: bool = True) -> None:
        one = copy.deepcopy(config())
        one.layer_types, one.num_hidden_layers, one._attn_implementation = ["full_attention"], 1, "eager"
        held = mtp_tensors()
        self.fc = held["mtp.fc.weight"]
        self.layer, self.rotary = Qwen3_5DecoderLayer(one, 0).eval(), Qwen3_5TextRotaryEmbedding(one)
        at = "mtp.layers.0."
        self.layer.load_state_dict({name.removeprefix(at): tensor for name, tensor in held.items() if name.startswith(at)}, strict=True)
        self.norms = {
            name: Qwen3_5RMSNorm(one.hidden_size, one.rms_norm_eps) for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")
        }
        for name, norm in self.norms.items():
            norm.weight.data = held[f"mtp.{name}.weight"] - (0 if one_plus else 1)

    @torch.no_grad()
    def states(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """What is handed on and read by the output head, (row, width)."""
        rows = len(hidden)
        x = torch.cat([self.norms["pre_fc_norm_embedding"](embedded), self.norms["pre_fc_norm_hidden"](hidden)], -1) @ self.fc.T
        positions = torch.arange(rows)[None]
        mask = torch.full((rows, rows), float("-inf")).triu(1)[None, None]
        turned = self.rotary(x[None], positions[None].expand(3, 1, -1))
        z = self.layer(x[None], position_embeddings=turned, attention_mask=mask, position_ids=positions)
        return self.norms["norm"](z[0] if isinstance(z, tuple) else z).reshape(rows, -1)


def chained(own: Own, pair: LoadedPair, ids: Tensor, hidden: Tensor, anchor: int, *, held: bool) -> list[Tensor]:
    """States of a forced chain from one anchor, by depth; held: every step reads the target's state that the first one did."""
    embedding, states, found = pair.target.embedding, hidden[:anchor], []
    for depth in range(1, DEPTH + 1):
        found.append(own.states(embedding[ids[1 : anchor + depth]], states)[-1])
        states = torch.cat([states, (hidden[anchor - 1] if held else found[-1])[None]])
    return found


@pytest.mark.parametrize("held", [False, True])
def test_fresh_and_forced_chains_equal_transformers_own_layer(held: bool, pair: LoadedPair) -> None:
    assert isinstance(pair.drafter, Mtp) and pair.drafter.boundaries == (LAYERS + 1,)
    own = Own()
    for text in trajectories(pair.target, prompts(2), pair.drafter.boundaries, 12):
        ids, hidden = text.ids, text.streams[LAYERS + 1]
        drafted = draft_chains(pair.drafter, text, DraftSettings(depth=DEPTH, held=held), DEPTH, free=False)
        first = text.prompt_length
        whole = own.states(pair.target.embedding[ids[1:]], hidden[: len(ids) - 1])
        assert drafted.fresh.state is not None
        torch.testing.assert_close(drafted.fresh.state, whole[first - 1 :][: len(drafted.fresh.state)], rtol=1e-4, atol=1e-4)
        for place in range(drafted.n_anchors):
            for depth, state in enumerate(chained(own, pair, ids, hidden, first + place, held=held)):
                found = drafted.forced[depth].state
                assert found is not None
                torch.testing.assert_close(found[place], state, rtol=1e-3, atol=1e-3)


def test_gains_that_are_read_as_they_stand_are_told_apart(pair: LoadedPair) -> None:
    (text,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 12)  # type: ignore[union-attr]
    ids, hidden = text.ids, text.streams[LAYERS + 1]
    right, wrong = (Own(one_plus=one).states(pair.target.embedding[ids[1:]], hidden[: len(ids) - 1]) for one in (True, False))
    assert float((right - wrong).abs().max()) > 0.1


def test_the_card_says_what_it_is_and_what_is_open(pair: LoadedPair, folder: Path) -> None:
    card = pair.card
    assert (card.family, card.token_offset, card.no_recursion) == ("mtp", 1, None)
    assert card.drafter.name == f"{folder}, its MTP head" and card.target.name == str(folder)
    assert card.notes == ("drafts with the target's own Qwen3.5 MTP head (15 tensors)",)
    assert card.alternatives == (
        Wiring(capture=(LAYERS,)), Wiring(feedback="raw"), Wiring(order="hidden-first"), Wiring(gains="weight"),
        Wiring(first_row="zeroed"), Wiring(rotation="pairs"), Wiring(turned="all"), Wiring(turned="half"),
    )  # fmt: skip
    assert card.record["capture"].value == (LAYERS + 1,) and card.record["feedback"].value == "normed"


def test_every_open_wiring_computes_something_else(pair: LoadedPair) -> None:
    (text,) = trajectories(pair.target, prompts(1), (LAYERS, LAYERS + 1), 12)
    declared = draft_chains(pair.drafter, text, DraftSettings(depth=DEPTH), DEPTH, free=False)  # type: ignore[arg-type]
    for wiring in (*pair.card.alternatives, Wiring(ones="every"), Wiring(ones="hidden")):
        other = draft_chains(pair.drafter, text, DraftSettings(depth=DEPTH, wiring=wiring), DEPTH, free=False)  # type: ignore[arg-type]
        deep = [drafted.forced[2].guesses.draft_prob for drafted in (declared, other)]
        assert float((deep[0] - deep[1]).abs().max()) > 1e-3
        first = [drafted.fresh.guesses.draft_prob for drafted in (declared, other)]
        assert torch.equal(*first) is (wiring == Wiring(feedback="raw"))  # depth 1 is blind to what is fed back


def test_a_target_is_diagnosed_with_its_own_head(pair: LoadedPair, tmp_path: Path) -> None:
    run = read_run(measure(job(pair, tmp_path / "r", prompts(9), spec=RunSpec(depth=3, max_new_tokens=12, batch_size=9)), silent))
    assert run.pair.family == "mtp" and judge(run, ()).headline


def test_a_scan_names_the_head_and_how_it_is_measured(folder: Path) -> None:
    seen = scan_checkpoint("mtp", str(folder))
    assert seen.format == "Qwen3.5 MTP head" and seen.record["gains"].value == "1 + weight"  # type: ignore[union-attr]
    whole = scan_checkpoint(str(folder), None)
    assert whole.format == "causal language model that carries an MTP head"  # type: ignore[union-attr]
    assert any("`--drafter mtp` measures it" in check.text for check in whole.checks)  # type: ignore[union-attr]
    refused(UsageError, lambda: scan_checkpoint("mtp", None), "expected --target")


BROKEN: list[tuple[dict[str, Tensor | None], tuple[str, ...]]] = [
    ({"mtp.layers.0.mlp.up_proj.weight": None}, ("tensor mtp.layers.0.mlp.up_proj.weight is missing",)),
    ({"mtp.layers.0.mlp.gate.weight": torch.ones(4, 48)}, ("tensor mtp.layers.0.mlp.gate.weight has no place",)),
    ({"mtp.layers.1.mlp.up_proj.weight": torch.ones(96, 48)}, ("tensor mtp.layers.1.mlp.up_proj.weight has no place",)),
    ({"mtp.fc.weight": torch.ones(48, 48)}, ("mtp.fc.weight has shape (48, 48), expected (48, 96)",)),
    ({"mtp.fc.weight": torch.ones(48, 96, dtype=torch.int8)}, ("mtp.fc.weight is stored as I8",)),
    ({"mtp.norm.weight": torch.full((48,), float("nan"))}, ("mtp.norm.weight holds NaN",)),
]


@pytest.mark.parametrize(("changes", "says"), BROKEN)
def test_a_head_that_is_not_whole_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Tensor | None], says: tuple[str, ...]
) -> None:
    broken = edit_tensors(Path(shutil.copytree(folder, tmp_path / "broken")), changes)
    refused(FormatError, lambda: load_pair(str(broken), "mtp", CPU, "float32"), *says)


def test_a_target_without_a_head_or_with_one_of_another_kind_is_refused(models: Path, tmp_path: Path) -> None:
    refused(UsageError, lambda: load_pair(str(models / "target"), "mtp", CPU, "float32"), "carries no MTP head that could draft")
    other = Path(shutil.copytree(models / "target", tmp_path / "other"))
    edit_tensors(other, {"model.layers.8.eh_proj.weight": torch.ones(2)})
    refused(FormatError, lambda: load_pair(str(other), "mtp", CPU, "float32"), "the MTP head of llama is not measured yet")
