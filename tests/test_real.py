"""The real pairs: SmolLM2-135M-Instruct and the three heads that ship in `examples/smollm2`. Needs DRIFTCLI_SMOLLM2, the folder that
`examples/export_smollm2.py` wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from driftcli.cli.main import main
from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_chains
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.trajectories import Trajectory
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.statistics.walks import leading_matches, walk
from driftcli.texts.prompts import builtin_prompts, limited
from tests.reference import Lone, speculate, target_streams
from tests.tiny import trajectories

pytestmark = pytest.mark.real
HEADS = Path(__file__).parents[1] / "examples" / "smollm2"
CAPTURE = (2, 15, 27)


@pytest.fixture(scope="module", autouse=True)
def all_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    folder = os.environ.get("DRIFTCLI_SMOLLM2")
    if folder is None:
        pytest.fail("DRIFTCLI_SMOLLM2 is not set: name the folder that examples/export_smollm2.py wrote")
    return Path(folder)


@pytest.fixture(scope="module")
def target(smollm2: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=["pre-norm", "post-norm"])
def pair(request: pytest.FixtureRequest, smollm2: Path) -> LoadedPair:
    return load_pair(str(smollm2), str(HEADS / request.param), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def half(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2 with the first half of its layers, as a causal-LM drafter."""
    folder = tmp_path_factory.mktemp("half")
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    model.model.layers = model.model.layers[: len(model.model.layers) // 2]
    model.config.num_hidden_layers = len(model.model.layers)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    yield folder
    (folder / "model.safetensors").unlink()


def accepted(trajectory: Trajectory, forced: list) -> np.ndarray:
    start, n = trajectory.prompt_length, len(forced[0].guesses.drafted)
    match = [q.guesses.drafted.numpy() == trajectory.ids[start + d : start + d + n].numpy() for d, q in enumerate(forced, 1)]
    return leading_matches(np.stack(match, axis=1))


def test_every_chain_of_a_real_head_equals_the_chain_drafted_alone(pair: LoadedPair, smollm2: Path, target: LlamaForCausalLM) -> None:
    (trajectory, *_) = trajectories(pair.target, limited(builtin_prompts(), 1), CAPTURE, 20)
    result = draft_chains(pair.drafter, trajectory, DraftSettings(depth=8), 8, free=True)
    ids = trajectory.ids.tolist()
    streams = target_streams(target, ids, CAPTURE)
    lone = Lone.of(Path(pair.card.drafter.name), smollm2)
    for place in (0, result.n_anchors - 1):
        for chain, forced in ((result.forced, True), (result.free, False)):
            steps = lone.chain(ids, streams, trajectory.prompt_length + place, 8, forced=forced)
            for step, queries in zip(steps, chain, strict=True):
                assert int(queries.guesses.drafted[place]) == lone.to_target(int(step.logits.argmax()))
                scale = float(step.state.square().mean().sqrt())
                torch.testing.assert_close(queries.state[place], step.state, rtol=1e-3, atol=1e-3 * scale)


def test_accepted_of_a_real_head_equals_naive_speculative_decoding(pair: LoadedPair, smollm2: Path, target: LlamaForCausalLM) -> None:
    (trajectory, *_) = trajectories(pair.target, limited(builtin_prompts(), 3)[2:], CAPTURE, 28)
    result = draft_chains(pair.drafter, trajectory, DraftSettings(depth=5), 5, free=False)
    counts = accepted(trajectory, result.forced)
    visited = np.flatnonzero(walk(counts))
    lone = Lone.of(Path(pair.card.drafter.name), smollm2)
    start, ids = trajectory.prompt_length, trajectory.ids.tolist()
    text, naive = speculate(target, lone, ids[:start], CAPTURE, 5, len(visited))
    assert naive == counts[visited].tolist()
    assert text[: len(ids)] == ids[: len(text)]


def test_half_of_the_model_drafts_as_in_a_plain_loop(half: Path, smollm2: Path) -> None:
    loaded = load_pair(str(smollm2), str(half), torch.device("cpu"), "float32")
    (trajectory, *_) = trajectories(loaded.target, limited(builtin_prompts(), 1), [], 24)
    result = draft_lm_chains(loaded.drafter, [trajectory], DraftSettings(depth=4), 4, free=True)
    plain = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32).eval()
    for place in (0, result.n_anchors - 1):
        ids = trajectory.ids[: trajectory.prompt_length + place + 1].tolist()
        for queries in result.free:
            with torch.inference_mode():
                ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
            assert int(queries.guesses.drafted[place]) == ids[-1]


@pytest.mark.parametrize("name", ["pre-norm", "post-norm", "pre-norm-unroll-1"])
def test_a_real_head_is_diagnosed_from_the_command_line(
    name: str, smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = diagnose(
        [
            "--target",
            str(smollm2),
            "--drafter",
            str(HEADS / name),
            "--limit",
            "8",
            "--probe",
            "chain-length",
            "--out",
            str(tmp_path / "run"),
        ],
        capsys,
    )
    assert report["baseline"]["acceptance_length"]["n_prompts"] == 8
    first, *_, last = report["baseline"]["by_depth"]
    assert first["fresh_accuracy"] == first["forced_accuracy"] > 0.25
    assert last["depth"] == 8
    assert report["verdict"]["axes"]["wiring"]["severity"] == "not measured"


def diagnose(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    with pytest.raises(SystemExit) as stopped:
        main(["diagnose", *arguments, "--format", "json"])
    assert stopped.value.code == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]
