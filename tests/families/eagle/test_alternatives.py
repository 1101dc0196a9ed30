from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings, Wiring
from driftcli.engine.chains import draft_chains
from driftcli.engine.drafted import Drafted
from driftcli.engine.trajectories import Trajectory
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import Json
from tests.edits import edit_config, edit_tensors
from tests.tiny import WIDTH, HeadSpec, bare_trajectory, write_head

LENGTH, PROMPT, DEPTH = 40, 12, 3
OPEN = HeadSpec(own_embedding=True)
DECLARED = Wiring()


def load(models: Path, head: Path) -> LoadedPair:
    return load_pair(str(models / "target"), str(head), torch.device("cpu"), "float32")


def names(pair: LoadedPair) -> list[str]:
    return [str(wiring) for wiring in pair.card.alternatives]


def trajectory() -> Trajectory:
    random = torch.Generator().manual_seed(2)
    streams = {boundary: torch.randn(LENGTH - 1, WIDTH, generator=random) for boundary in range(10)}
    return bare_trajectory("any", torch.randint(4, 260, (LENGTH,), generator=random), PROMPT, streams)


def drafted(pair: LoadedPair, wiring: Wiring = DECLARED) -> Drafted:
    return draft_chains(pair.drafter, trajectory(), DraftSettings(DEPTH, wiring=wiring), DEPTH, free=False)  # type: ignore[arg-type]


def assert_same(one: Drafted, other: Drafted) -> None:
    for mine, theirs in zip(one.forced, other.forced, strict=True):
        assert mine.guesses.drafted.tolist() == theirs.guesses.drafted.tolist()
        torch.testing.assert_close(mine.guesses.draft_prob, theirs.guesses.draft_prob, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.state, theirs.state, rtol=1e-4, atol=1e-5)


def test_all_that_a_plain_head_leaves_open_is_listed(models: Path) -> None:
    assert names(load(models, models / "pre")) == [
        "capture-1-3-4", "capture-3-5-6", "rope-default", "feedback-normed", "residual-normed", "ones-embedding", "ones-hidden", "ones-mlp",
        "ones-final", "ones-every", "head-target",
    ]  # fmt: skip


def test_an_own_embedding_norms_before_fc_and_a_rotation_unlike_the_targets_are_open_too(models: Path, tmp_path: Path) -> None:
    head = edit_config(write_head(tmp_path / "head", HeadSpec(post_norm=True, own_embedding=True)), rope_theta=777.0)
    assert {"rope-target", "rope-default", "embedding-target", "ones-fusion", "feedback-raw"} <= set(names(load(models, head)))


def test_a_head_that_shares_the_targets_rows_has_no_other_ones(models: Path, tmp_path: Path) -> None:
    assert "head-target" not in names(load(models, write_head(tmp_path / "head", HeadSpec(own_head=False))))


def test_layers_that_the_config_names_leave_the_default_ones_open(models: Path, tmp_path: Path) -> None:
    head = edit_config(write_head(tmp_path / "head"), eagle_aux_hidden_state_layer_ids=[1, 3, 6])
    captures = [wiring.capture for wiring in load(models, head).card.alternatives if wiring.capture]
    assert captures == [(0, 2, 5), (2, 4, 7), (2, 4, 5)]


def test_a_causal_lm_leaves_nothing_open(models: Path) -> None:
    assert load(models, models / "lm").card.alternatives == ()


class Edit(NamedTuple):
    """A wiring, and the change of the files that must come to the same."""

    wiring: Wiring
    config: Mapping[str, Json] = {}
    tensors: Mapping[str, Tensor | None] = {}


ONE = torch.ones(WIDTH)
LAYER = "midlayer."
EDITS = {
    "capture": Edit(Wiring(capture=(3, 5, 6)), {"eagle_aux_hidden_state_layer_ids": [3, 5, 6]}),
    "feedback": Edit(Wiring(feedback="normed"), {"norm_output": True}),
    "residual": Edit(Wiring(residual="normed"), {"norm_before_residual": True}),
    "rope": Edit(Wiring(rope="default"), {"rope_theta": 10000.0}),
    "head": Edit(Wiring(head="target's"), {}, {"lm_head.weight": None}),
    "embedding": Edit(Wiring(embedding="target's"), {}, {"embed_tokens.weight": None}),
    "embedding's norm": Edit(Wiring(ones="embedding"), {}, {f"{LAYER}input_layernorm.weight": ONE}),
    "state's norm": Edit(Wiring(ones="hidden"), {}, {f"{LAYER}hidden_norm.weight": ONE}),
    "mlp's norm": Edit(Wiring(ones="mlp"), {}, {f"{LAYER}post_attention_layernorm.weight": ONE}),
    "last norm": Edit(Wiring(ones="final"), {}, {"norm.weight": ONE}),
    "two at once": Edit(Wiring(feedback="normed", head="target's"), {"norm_output": True}, {"lm_head.weight": None}),
}


@pytest.mark.parametrize("name", list(EDITS))
def test_a_wiring_is_what_files_that_say_so_give(name: str, models: Path, tmp_path: Path) -> None:
    edit = EDITS[name]
    plain = load(models, write_head(tmp_path / "plain", OPEN))
    said = load(models, edit_tensors(edit_config(write_head(tmp_path / "said", OPEN), **edit.config), edit.tensors))
    assert_same(drafted(plain, edit.wiring), drafted(said))
    with pytest.raises(AssertionError):
        assert_same(drafted(plain), drafted(said))


def test_every_norm_before_fc_at_one_is_what_files_of_ones_give(models: Path, tmp_path: Path) -> None:
    spec = HeadSpec(post_norm=True)
    said = edit_tensors(write_head(tmp_path / "said", spec), {f"fc_norm.{number}.weight": ONE.clone() for number in range(3)})
    assert_same(drafted(load(models, models / "post"), Wiring(ones="fusion")), drafted(load(models, said)))


def test_a_map_that_can_be_read_both_ways_is_open_and_gives_other_tokens(models: Path, tmp_path: Path) -> None:
    ids = torch.arange(120) * 2  # as offsets 0, 3, 6 ...; both stay inside 400 tokens only if few are mapped
    head = edit_tensors(write_head(tmp_path / "head", HeadSpec(draft_vocabulary=60, own_head=True)), {"d2t": ids[:60], "t2d": None})
    pair = load(models, head)
    assert pair.card.record["vocab_map"].value == "offset"
    assert "vocabulary-absolute" in names(pair)
    offset, absolute = drafted(pair), drafted(pair, Wiring(vocabulary="absolute"))
    assert [int(token) // 3 for token in offset.forced[0].guesses.drafted] == [
        int(token) // 2 for token in absolute.forced[0].guesses.drafted
    ]


def test_gains_of_one_throughout_are_noted(models: Path, tmp_path: Path) -> None:
    gains = ("hidden_norm", "input_layernorm", "post_attention_layernorm")
    changes: dict[str, Tensor | None] = {"norm.weight": ONE, **{f"{LAYER}{name}.weight": ONE.clone() for name in gains}}
    assert load(models, edit_tensors(write_head(tmp_path / "head"), changes)).card.record["norm_gains"].value == "all exactly 1"
    assert load(models, models / "pre").card.record["norm_gains"].value == "as written"


def test_a_head_of_one_stream_may_have_read_it_before_the_final_norm(layouts: Path) -> None:
    pair = load_pair(str(layouts / "target"), str(layouts / "eagle1"), torch.device("cpu"), "float32")
    layers = len(pair.target.layers)
    assert pair.drafter.boundaries == (layers + 1,)  # type: ignore[union-attr]
    assert [wiring.capture for wiring in pair.card.alternatives if wiring.capture] == [(layers,), (layers - 1,)]
