"""Blocks as the engine drafts them are those that transformers itself drafts, round by round, while it decodes with `dflash`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel
from transformers.generation.candidate_generator import DFlashTokenCandidateGenerator

from driftcli.conditions import DraftSettings
from driftcli.engine.block_chains import draft_blocks
from driftcli.target.capture import StreamCapture
from driftcli.target.language_model import LanguageModel
from tests.engine.golden import golden_target, read_block_case
from tests.engine.rounds import drafted_by_generate
from tests.families.block.cases import CASES, IDS, INNER, LAYERS, MASK, ROWS, SIZE
from tests.golden.steps.seeds import seeded_ids
from tests.tiny import WIDTH, bare_trajectory

RENAMED = {"fc.weight": "encoder.fc.weight", "hidden_norm.weight": "encoder.output_norm_enc.weight"}
Rounds = list[tuple[int, list[int]]]  # places of anchors, and what was drafted behind them


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return golden_target(tmp_path_factory.mktemp("transformers") / "target")


def assistant() -> MuseGlimmerAssistantModel:
    """transformers' one class of DFlash, with the tensors of z-lab's layout."""
    config = MuseGlimmerAssistantConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=SIZE,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        max_position_embeddings=512,
        layer_types=["full_attention"] * LAYERS,
        block_size=ROWS,
        mask_token_id=MASK,
        target_layer_ids=list(IDS),
    )
    made: MuseGlimmerAssistantModel = MuseGlimmerAssistantModel(config).eval()  # type: ignore[no-untyped-call]
    made.load_state_dict({RENAMED.get(name, name): tensor for name, tensor in CASES["zlab"].tensors.items()})
    return made


def decoded(target: LanguageModel, prompt: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Rounds]:
    """What transformers writes behind a prompt, and every round that it drafts for it."""
    rounds = drafted_by_generate(DFlashTokenCandidateGenerator, monkeypatch)
    options = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    ids = target.model.generate(prompt[None], assistant_model=assistant(), speculation_type="dflash", **options)  # type: ignore[operator]
    return ids[0], [one for one in rounds if one[1]]


@torch.inference_mode()
def test_every_round_of_transformers_drafts_what_the_engine_does(
    target: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = seeded_ids()[:8]
    ids, rounds = decoded(target, prompt, monkeypatch)
    block = read_block_case("zlab", target, tmp_path)
    with StreamCapture(target.decoder, target.layers, block.boundaries, len(ids)) as capture:
        target.model(ids[None])
    streams = {boundary: stream[0] for boundary, stream in capture.take().items()}
    text = bare_trajectory("decoded", ids, len(prompt), streams)
    drafted = draft_blocks(block, [text], DraftSettings(ROWS - 1), ROWS - 1, free=True)
    found = torch.stack([queries.guesses.drafted for queries in drafted.free], dim=1)
    compared = [(found[anchor - len(prompt)].tolist(), guesses) for anchor, guesses in rounds if anchor < len(prompt) + drafted.n_anchors]
    assert len(compared) > 10 and len({tuple(guesses) for _, guesses in compared}) > 5
    assert all(ours[: len(theirs)] == theirs for ours, theirs in compared)
