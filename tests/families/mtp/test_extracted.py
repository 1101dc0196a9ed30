"""A head in a folder of its own drafts as the same one inside its target; heads that are not measured are refused by their name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.cli.main import main
from driftcli.conditions import DraftSettings
from driftcli.domain import RunSpec, Skipped
from driftcli.engine.chains import draft_chains
from driftcli.engine.run import measure
from driftcli.errors import FormatError, UsageError
from driftcli.families.mtp.head import Mtp, MtpModules
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan
from driftcli.traces.reader import read_run
from probes.chain_length import ChainLength
from tests.edits import edit_config, refused
from tests.engine.test_run import job, silent
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import write
from tests.tiny import prompts, trajectories

CPU, DEPTH = torch.device("cpu"), 3
BY_NAME = {case.name: case for case in CASES}
SPECULATORS = {  # as its converter names what Qwen3.5 stores
    r"^mtp\.fc\.": "mtp_layers.0.input_proj.",
    r"^mtp\.pre_fc_norm_embedding\.": "mtp_layers.0.token_layernorm.",
    r"^mtp\.pre_fc_norm_hidden\.": "mtp_layers.0.hidden_layernorm.",
    r"^mtp\.norm\.": "mtp_layers.0.final_layernorm.",
    r"^mtp\.layers\.0\.": "mtp_layers.0.",
}


def of_head(folder: Path) -> dict[str, Tensor]:
    tensors = load_file(folder / "model.safetensors")
    layers = json.loads((folder / "config.json").read_text()).get("num_hidden_layers", 2)
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("mtp.", f"model.layers.{layers}.", "model.mtp"))}


def folder_of_its_own(folder: Path, tensors: dict[str, Tensor], config: dict[str, object]) -> str:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def alone(name: str, folder: Path) -> tuple[str, str]:
    """A target, and its head extracted as NextN folders are."""
    target = write(BY_NAME[name], folder / "target")
    renumbered = {re.sub(r"^model\.layers\.\d+\.", "model.layers.0.", stored): tensor for stored, tensor in of_head(target).items()}
    return str(target), folder_of_its_own(folder / "head", renumbered, json.loads((target / "config.json").read_text()))


def converted(name: str, folder: Path) -> tuple[str, str]:
    """A target, and its head as speculators converts it."""
    target, held = write(BY_NAME[name], folder / "target"), dict[str, Tensor]()
    for name_there, tensor in of_head(target).items():
        stored = name_there
        for ours, theirs in SPECULATORS.items():
            stored = re.sub(ours, theirs, stored)
        held[stored] = tensor
    inner = json.loads((target / "config.json").read_text())
    config = {"speculators_model_type": "mtp", "architectures": ["MTPDraftModel"], "transformer_layer_config": inner}
    return str(target), folder_of_its_own(folder / "head", held, {**config, "num_nextn_predict_layers": 1})


def states(pair: LoadedPair) -> Tensor:
    assert isinstance(pair.drafter, Mtp)
    text = next(text for text in trajectories(pair.target, prompts(3), pair.drafter.boundaries, 10) if text.n_anchors(DEPTH))
    found = draft_chains(pair.drafter, text, DraftSettings(depth=DEPTH), DEPTH, free=False).forced[-1].state
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["deepseek_v3", "glm4_moe", "qwen3_5", "mimo_v2_flash"])
def test_a_nextn_folder_drafts_as_the_head_inside(name: str, tmp_path: Path) -> None:
    target, head = alone(name, tmp_path)
    inside, apart = (load_pair(target, drafter, CPU, "float32") for drafter in ("mtp", head))
    torch.testing.assert_close(states(apart), states(inside), rtol=0, atol=0)
    assert apart.card.drafter.name == head and apart.card.family == "mtp"
    scan = scan_checkpoint(head, target)
    assert isinstance(scan, Scan) and scan.format == inside.card.record["format"].value


def test_a_head_in_speculators_layout_drafts_as_the_one_that_it_was_converted_from(tmp_path: Path) -> None:
    target, head = converted("qwen3_5", tmp_path)
    inside, apart = (load_pair(target, drafter, CPU, "float32") for drafter in ("mtp", head))
    torch.testing.assert_close(states(apart), states(inside), rtol=0, atol=0)
    assert apart.card.record["format"].value == "MTP head in speculators layout"


@pytest.mark.parametrize(
    ("model_type", "says"), [("deepseek_v4", "hyper-connections"), ("inkling", "relative positions"), ("minimax_m3", "an indexer picks")]
)
def test_families_that_are_not_measured_are_refused_by_their_name(model_type: str, says: str, tmp_path: Path) -> None:
    target = write(BY_NAME["glm4_moe"], tmp_path / "target")
    edit_config(target, model_type=model_type)
    refused(FormatError, lambda: scan_checkpoint("mtp", str(target)), says, "not measured here yet", "counters")


def test_a_reading_that_no_engine_has_is_refused(tmp_path: Path) -> None:
    target = write(BY_NAME["mimo"], tmp_path / "target")
    asked = "as_served:transformers"
    refused(UsageError, lambda: load_pair(str(target), "mtp", CPU, "float32", reading=asked), "expected declared or one of as_served:vllm")


def test_modules_of_a_depth_each_are_measured_without_a_word_on_drift_and_no_deeper_than_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write(BY_NAME["glm4_moe-2"], tmp_path / "target")
    pair = load_pair(str(target), "mtp", CPU, "float32")
    assert isinstance(pair.drafter, MtpModules) and pair.card.no_recursion is not None and "weights" in pair.card.no_recursion
    assert not any("no place in the model" in note for note in pair.card.notes)
    asked = job(pair, tmp_path / "run", prompts(9), spec=RunSpec(depth=2, max_new_tokens=12, batch_size=9))
    run = read_run(measure(asked, silent))
    assert [said.state for said in ChainLength().judge(run) if isinstance(said, Skipped)] == ["not applicable"]
    assert {row["feed"] for row in pq.read_table(run.path / "steps").to_pylist()} == {"fresh", "forced"}
    deeper = ["diagnose", "--target", str(target), "--depth", "3", "--limit", "2", "--max-new-tokens", "9", "--out", str(tmp_path / "deep")]
    assert ended(deeper) == 2
    assert "has 2 heads, one a depth, so no chain is deeper; use --depth 2" in capsys.readouterr().err


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(str(stopped.value.code))
