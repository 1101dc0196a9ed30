"""What the files of block drafters declare, by system, and what is refused before a weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.domain import APART, System
from driftcli.errors import FormatError, PairError
from driftcli.families.block.alternatives import alternatives
from driftcli.families.block.declaration import BlockDeclaration, declare_block
from driftcli.families.block.drafter import Block
from driftcli.families.block.scan import scan_block
from driftcli.families.formats import detect
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Json, Source
from driftcli.target.facts import TargetFacts, read_facts
from tests.edits import drop_config, edit_config, edit_tensors, refused
from tests.families.block.cases import CASES, IDS, MASK, ROWS, write
from tests.tiny import WIDTH

VLLM: System = "as_served:vllm"
SGLANG: System = "as_served:sglang"
TRAINED: System = "as_trained"


@pytest.fixture(scope="module")
def facts(models: Path) -> TargetFacts:
    return read_facts(Source("target", models / "target"))


def declared(folder: Path, facts: TargetFacts) -> BlockDeclaration:
    checkpoint = open_checkpoint(Source(folder.name, folder))
    return declare_block(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), facts)


def edited(folder: Path, **own: Json) -> Path:
    """A z-lab drafter with these keys in its `dflash_config`."""
    inside = CASES["zlab"].config["dflash_config"]
    assert isinstance(inside, dict)
    return edit_config(write(CASES["zlab"], folder), dflash_config={**inside, **own})


def test_layer_ids_name_outputs_in_zlabs_words_and_boundaries_in_speculators(facts: TargetFacts, tmp_path: Path) -> None:
    for name in ("zlab", "speculators", "deepspec-none"):
        d = declared(write(CASES[name], tmp_path / name), facts)
        assert d.reading().capture.value == tuple(layer + 1 for layer in IDS)
    raw = declared(edit_config(write(CASES["zlab"], tmp_path / "raw"), eagle_aux_hidden_state_layer_ids=[2, 4, 6]), facts)
    assert raw.reading().capture.value == (2, 4, 6)


def test_the_last_layers_output_is_taken_behind_the_norm_by_those_who_trained_with_transformers_alone(
    facts: TargetFacts, tmp_path: Path
) -> None:
    d = declared(edited(tmp_path / "last", target_layer_ids=[1, 4, 7]), facts)
    assert (d.reading(VLLM).capture.value, d.reading(TRAINED).capture.value) == ((2, 5, 8), (2, 5, 9))


@pytest.mark.parametrize(
    ("name", "vllm", "trained"),
    [
        ("zlab", (False, False), (False, False)),
        ("zlab-sliding", (True, False), (True, False)),
        ("zlab-sliding-open", (False, False), (False, False)),
        ("speculators-sliding", (False, False), (True, False)),  # vLLM takes an absent flag for a free one
        ("speculators-sliding-open", (False, False), (False, False)),
    ],
)
def test_who_sees_whom_follows_each_systems_rule(
    name: str, vllm: tuple[bool, ...], trained: tuple[bool, ...], facts: TargetFacts, tmp_path: Path
) -> None:
    d = declared(write(CASES[name], tmp_path / name), facts)
    assert (d.reading(VLLM).causal.value, d.reading(TRAINED).causal.value) == (vllm, trained)


def test_a_flag_for_sliding_layers_makes_every_layer_causal_in_vllm(facts: TargetFacts, tmp_path: Path) -> None:
    d = declared(edit_config(write(CASES["speculators-sliding"], tmp_path / "s"), sliding_window_non_causal=False), facts)
    assert (d.reading(VLLM).causal.value, d.reading(TRAINED).causal.value) == ((True, True), (True, False))
    assert "trained to see the whole block" in scan(tmp_path / "s").pitfalls[0]


def test_a_window_without_its_switch_is_none_in_training_and_refused_by_servers(facts: TargetFacts, tmp_path: Path) -> None:
    d = declared(drop_config(write(CASES["zlab-sliding"], tmp_path / "s"), "use_sliding_window"), facts)
    assert d.system == TRAINED
    assert d.reading().windows.value == (None, None)
    refused(FormatError, lambda: d.reading(VLLM), "use_sliding_window")
    assert declared(edited(tmp_path / "u", use_swa=True, swa_window_size=6), facts).reading(VLLM).windows.value == (6, 6)


def test_what_a_row_guesses_is_told_by_the_flag_and_by_each_systems_default(facts: TargetFacts, tmp_path: Path) -> None:
    first = declared(write(CASES["deepspec-vanilla"], tmp_path / "d"), facts)
    assert first.guesses() == first.guesses(SGLANG) == ROWS
    silent = declared(drop_config(write(CASES["speculators-dspark"], tmp_path / "s"), "sample_from_anchor"), facts)
    assert (silent.guesses(VLLM), silent.guesses(TRAINED)) == (ROWS - 1, ROWS)
    assert "guess another place" in scan(tmp_path / "s").pitfalls[0]
    assert declared(write(CASES["zlab"], tmp_path / "z"), facts).guesses() == ROWS - 1


def test_draft_lengths_are_apart_only_where_a_block_has_as_many_rows_as_drafted_and_they_see_one_another(
    facts: TargetFacts, tmp_path: Path
) -> None:
    whole, causal = (declared(write(CASES[name], tmp_path / name), facts) for name in ("zlab", "zlab-causal"))
    assert whole.record()["draft_lengths"].value == APART
    assert whole.record(SGLANG)["draft_lengths"].value != APART
    assert causal.record()["draft_lengths"].value != APART


def test_corrections_that_a_server_has_no_place_for_are_refused_by_it_alone(facts: TargetFacts, tmp_path: Path) -> None:
    for name, system in (("deepspec-gated", VLLM), ("deepspec-rnn", VLLM), ("deepspec-none", SGLANG), ("speculators", SGLANG)):
        d = declared(write(CASES[name], tmp_path / name), facts)
        with pytest.raises(FormatError):
            d.reading(system)
        assert d.reading(TRAINED)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"mask_token_id": None}, "mask_token_id is missing"),
        ({"mask_token_id": 9999}, "a token of the target's"),
        ({"mask_token_id": True}, "a token of the target's"),
        ({"target_layer_ids": [1, 4]}, "reads 3 streams"),
        ({"target_layer_ids": [1, 4, "x"]}, "a list of layer numbers"),
        ({"block_size": 1}, "a whole number from 2"),
        ({"sample_from_anchor": True}, "first row guesses nothing"),
        ({"causal": 3}, "true or false"),
        ({"input_embedding_scale": -1.0}, "a positive number"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(own: dict[str, Json], says: str, facts: TargetFacts, tmp_path: Path) -> None:
    refused(FormatError, lambda: declared(edited(tmp_path / "z", **own), facts), says)


def test_a_mask_with_an_embedding_of_its_own_is_refused(facts: TargetFacts, tmp_path: Path) -> None:
    folder = write(CASES["zlab"], tmp_path / "z")
    (folder / "mask_embedding.pt").write_bytes(b"x")
    refused(FormatError, lambda: declared(folder, facts), "mask_embedding.pt holds the mask's embedding")


def test_layers_beyond_the_targets_belong_to_another_target(facts: TargetFacts, tmp_path: Path) -> None:
    refused(PairError, lambda: declared(edited(tmp_path / "z", target_layer_ids=[1, 4, 8]), facts), "has 8 layers")


def test_every_tensor_has_a_place_or_the_file_is_refused(facts: TargetFacts, tmp_path: Path) -> None:
    whole = write(CASES["zlab"], tmp_path / "z")
    cases: tuple[tuple[Mapping[str, Tensor | None], str], ...] = (
        ({"aux_hidden_norms.0.weight": torch.ones(WIDTH)}, "a DFlash drafter of Laguna's own kind"),
        ({"layers.1.self_attn.q_norm.weight": None}, "layers.1.self_attn.q_norm.weight is missing"),
        ({"layers.0.self_attn.attention_sink_bias": torch.ones(4)}, "has no place"),
        ({"layers.1.mlp.up_proj.weight": torch.ones(95, WIDTH)}, "has shape (95, 48), expected (96, 48)"),
        ({"fc.weight": torch.ones(WIDTH, 3 * WIDTH + 1)}, "whole streams of 48"),
        ({"norm.weight": torch.ones(WIDTH, dtype=torch.int32)}, "stored as I32"),
        ({"lm_head.weight": torch.ones(100, WIDTH)}, "no d2t says which"),
    )
    for number, (changes, says) in enumerate(cases):
        broken = edit_tensors(write(CASES["zlab"], tmp_path / str(number)), changes)
        refused(FormatError, lambda folder=broken: declared(folder, facts), says)  # type: ignore[misc]
    assert len(declared(whole, facts).anatomy.names) == 25


def test_dflash2_is_read_whole_or_refused_and_run_by_those_that_know_its_class(facts: TargetFacts, tmp_path: Path) -> None:
    plain = declared(write(CASES["zlab-dflash2"], tmp_path / "z"), facts)
    assert (plain.candidates, plain.anatomy.taps, plain.anatomy.groups) == (9, 2, 4) and plain.system == VLLM
    assert plain.record()["correction"].value == "selector" and plain.record()["candidates"].source == "config:dflash_config.selector_top_k"
    assert "leaves its convolutions and candidate selector out" in str(plain.readings["as_served:sglang"])
    cases: tuple[tuple[Mapping[str, Tensor | None], str], ...] = (
        ({"candidate_selector.successor_codebook": None}, "successor_codebook is missing"),
        ({"layers.1.mlp_conv.base_kernel": None}, "layers.1.mlp_conv.base_kernel is missing"),
        ({"layers.0.attention_conv.kernel_projection.weight": torch.ones(15, WIDTH)}, "whole groups of numbers"),
        ({"layers.1.mlp_conv.base_kernel": torch.ones(2, 3, WIDTH)}, "expected (2, 2, 48)"),
    )
    for number, (changes, says) in enumerate(cases):
        broken = edit_tensors(write(CASES["zlab-dflash2"], tmp_path / str(number)), changes)
        refused(FormatError, lambda folder=broken: declared(folder, facts), says)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ({"conv_group_size": 16}, "conv_group_size is 16, expected 12, as its tensors have it"),
        ({"selector_rank": 8}, "expected 6"),
        ({"selector_top_k": 0}, "a number of candidates from 1 to 260"),
    ],
)
def test_a_config_of_dflash2_that_its_tensors_belie_is_refused(
    inside: dict[str, Json], says: str, facts: TargetFacts, tmp_path: Path
) -> None:
    case = CASES["zlab-dflash2"]
    own = case.config["dflash_config"]
    assert isinstance(own, dict)
    changed = replace(case, config={**case.config, "dflash_config": {**own, **inside}})
    refused(FormatError, lambda: declared(write(changed, tmp_path), facts), says)


def test_candidates_beside_dflash_config_are_read_in_training_alone(facts: TargetFacts, tmp_path: Path) -> None:
    case = CASES["zlab-dflash2"]
    own = case.config["dflash_config"]
    assert isinstance(own, dict)
    inside = {key: value for key, value in own.items() if key != "selector_top_k"}
    found = declared(write(replace(case, config={**case.config, "dflash_config": inside, "selector_top_k": 5}), tmp_path), facts)
    assert found.candidates == 5 and found.system == TRAINED and "inside dflash_config alone" in str(found.readings[VLLM])


def test_what_the_files_leave_open_is_one_change_each(facts: TargetFacts, tmp_path: Path) -> None:
    plain = alternatives(declared(write(CASES["zlab"], tmp_path / "z"), facts), None, (1, MASK))
    assert set(plain) == {
        *(Wiring(capture=moved) for moved in ((3, 6, 8), (1, 4, 6))),
        *(Wiring(mask=1), Wiring(seen="causal"), Wiring(slots="the place behind them"), Wiring(rotation="pairs")),
        *(Wiring(rope="default"), Wiring(rope="Qwen3")),
    }
    sliding = alternatives(declared(write(CASES["zlab-sliding"], tmp_path / "s"), facts))
    assert {Wiring(window="dropped"), Wiring(seen="causal"), Wiring(seen="both ways")} <= set(sliding)
    lost = alternatives(declared(edit_config(write(CASES["zlab"], tmp_path / "l"), sliding_window=4), facts))
    assert Wiring(window="configured") in lost


def test_norms_may_have_had_the_number_of_the_target_or_of_the_trainers_class(facts: TargetFacts, tmp_path: Path) -> None:
    def open_with(eps: float, of_target: object) -> list[float | None]:
        folder = edit_config(write(CASES["zlab"], tmp_path / f"{eps}-{of_target}"), rms_norm_eps=eps)
        found = alternatives(declared(folder, replace(facts, config={**facts.config, "rms_norm_eps": of_target})))
        return [wiring.eps for wiring in found if wiring.eps is not None]

    assert open_with(0.1, 1e-5) == [1e-5, 1e-6]
    assert open_with(0.1, 1e-6) == [1e-6]
    assert open_with(1e-6, 1e-6) == []
    assert open_with(1e-5, 1e-5) == [1e-6]
    assert open_with(0.1, None) == open_with(0.1, 100.0) == open_with(0.1, "1e-5") == [1e-6]


def test_a_bias_by_the_token_before_may_be_left_out_and_a_selector_not(facts: TargetFacts, tmp_path: Path) -> None:
    with_bias = {
        name for name, case in CASES.items() if Wiring(bias="left out") in alternatives(declared(write(case, tmp_path / name), facts))
    }
    assert with_bias == {name for name, case in CASES.items() if "markov_head.markov_w1.weight" in case.tensors} > {"deepspec-rnn"}


def test_rows_of_its_own_may_be_the_targets_instead_where_they_differ(models: Path, tmp_path: Path) -> None:
    """Read by the target's rows a drafter is the one without rows of its own; equal copies of them leave nothing open."""
    target, own = models / "target", write(CASES["deepspec-vanilla"], tmp_path / "own")
    held = load_file(target / "model.safetensors")
    copies = {"embed_tokens.weight": held["model.embed_tokens.weight"], "lm_head.weight": held["lm_head.weight"]}
    shared = edit_tensors(write(CASES["deepspec-vanilla"], tmp_path / "shared"), dict.fromkeys(copies))
    copied = edit_tensors(write(CASES["deepspec-vanilla"], tmp_path / "copied"), copies)
    with_own, without, equal = (load_pair(str(target), str(folder), torch.device("cpu"), "float32") for folder in (own, shared, copied))
    asked = {Wiring(embedding="target's"), Wiring(head="target's")}
    assert asked <= set(with_own.card.alternatives)
    assert not asked & set(without.card.alternatives)
    assert not asked & set(equal.card.alternatives)
    assert isinstance(with_own.drafter, Block) and isinstance(without.drafter, Block)
    as_target = with_own.drafter.wired(Wiring(embedding="target's", head="target's"))
    torch.testing.assert_close(as_target.embedding, without.drafter.embedding)
    torch.testing.assert_close(as_target.head, without.drafter.head)


def test_a_pair_of_blocks_has_a_card_that_says_so(models: Path, tmp_path: Path) -> None:
    pair = load_pair(str(models / "target"), str(write(CASES["zlab-sliding"], tmp_path / "z")), torch.device("cpu"), "float32")
    card = pair.card
    assert (card.family, card.token_offset, card.guesses_side_by_side, card.lengths_apart) == ("block", 0, True, True)
    assert card.no_recursion is not None and "one pass" in card.no_recursion
    assert {Wiring(mask=1), Wiring(window="dropped")} <= set(card.alternatives)
    assert set(pair.boundaries) >= {1, 2, 3, 4, 5, 6, 7, 8}


def scan(folder: Path) -> Scan:
    found = scan_checkpoint(str(folder), None)
    assert isinstance(found, Scan)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_scan_needs_no_target_and_says_what_the_block_is(name: str, tmp_path: Path) -> None:
    found = scan(write(CASES[name], tmp_path / name))
    guesses = ROWS - (
        not (
            name.startswith("deepspec")
            or (name.startswith("speculators-dspark") and not any(part in name for part in ("filled", "confident")))
        )
    )
    (block,) = [check.text for check in found.checks if check.subject == "block"]
    assert block.startswith(f"{ROWS} rows guess {guesses} tokens at once")
    assert found.record["mask_token"].value == MASK


def test_a_dspark_of_gemma_4_is_read_as_vllm_and_its_trainer_compute_it(facts: TargetFacts, tmp_path: Path) -> None:
    d, own = (declared(write(CASES[name], tmp_path / name), facts) for name in ("deepspec-gemma4", "deepspec-gemma4-gated"))
    assert (
        d.system == VLLM
        and own.system == TRAINED
        and d.reading(VLLM).scales.value == d.reading(TRAINED).scales.value == (WIDTH**0.5, 1.0, 2.5)
    )
    assert d.reading().rope.value == {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 5000.0}
    assert (d.anatomy.heads, d.anatomy.keys, d.anatomy.size) == (4, 1, 16)
    refused(FormatError, lambda: d.reading(SGLANG), "Gemma 4's", "no DSpark class", "method dspark")
    said = {
        name: [check.text for check in scan_block(one).checks if check.subject == "layers"] for name, one in (("keys", d), ("own", own))
    }
    both = "Gemma 4's, with norms on both sides of attention and MLP"
    assert said == {"keys": [f"{both}, and keys for values"], "own": [both]}
    unbound = declared(write(CASES["deepspec-gemma4-none"], tmp_path / "n"), facts)
    assert unbound.reading().scales.value == (WIDTH**0.5, 1.0, 0.0) and unbound.system == VLLM


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers.1.layer_scalar": None}, ("layers.1.layer_scalar is missing", "export it again")),
        ({"layers.0.post_feedforward_layernorm.weight": None}, ("layers.0.post_feedforward_layernorm.weight is missing",)),
        ({"layers.1.self_attn.v_proj.weight": torch.zeros(16, WIDTH)}, ("layers.1.self_attn.v_proj.weight has no place",)),
        ({"layers.0.layer_scalar": torch.zeros(2)}, ("layers.0.layer_scalar has shape (2,), expected (1,)",)),
    ],
)
def test_a_dspark_of_gemma_4_that_is_not_whole_is_refused(
    changes: Mapping[str, Tensor | None], says: tuple[str, ...], facts: TargetFacts, tmp_path: Path
) -> None:
    folder = edit_tensors(write(CASES["deepspec-gemma4"], tmp_path / "g"), changes)
    refused(FormatError, lambda: declared(folder, facts), *says)


def test_gemma_4_s_activation_and_layers_belong_together(facts: TargetFacts, tmp_path: Path) -> None:
    folder = edit_config(write(CASES["deepspec-gemma4"], tmp_path / "g"), hidden_activation="silu")
    refused(FormatError, lambda: declared(folder, facts), "hidden_activation is 'silu'", "gelu_pytorch_tanh, Gemma 4's")
    of_zlab = edit_tensors(write(CASES["zlab"], tmp_path / "z"), {"layers.0.layer_scalar": torch.ones(1)})
    refused(FormatError, lambda: declared(of_zlab, facts), "layers.0.layer_scalar has no place in a block drafter that is measured")


def test_a_rotation_of_the_targets_base_that_differs_elsewhere_is_told_by_what_differs(facts: TargetFacts, tmp_path: Path) -> None:
    d = declared(write(CASES["deepspec-gemma4"], tmp_path / "g"), facts)
    (said,) = [check.text for check in scan_block(d).checks if check.subject == "rope"]
    assert said.startswith(
        "turns by partial_rotary_factor 0.25, rope_theta 5000.0, rope_type proportional, the target by rope_theta 5000.0"
    )
    other = declared(edited(tmp_path / "z"), replace(facts, config={**facts.config, "rope_parameters": {"rope_theta": 100.0}}))
    assert any(check.text.startswith("turns by 5000.0, the target by 100.0;") for check in scan_block(other).checks)
