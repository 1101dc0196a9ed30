"""What somebody who controls a checkpoint, a prompt file or a run folder can make the tool do: nothing but a refusal in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
import torch

from driftcli.cli.main import main
from driftcli.domain import Message
from driftcli.errors import DriftError, FormatError, PromptError, RunError, SourceError
from driftcli.loading.pair import LoadedPair
from driftcli.sources.bounds import LARGEST_SMALL_FILE
from driftcli.sources.files import Source
from driftcli.target.facts import check_declared
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.texts.rendering import render
from driftcli.traces.schema import VERSION
from driftcli.traces.writer import open_run
from tests.edits import edit_config
from tests.report.synthetic import DRIFTING, Recipe, write_run

CANARY = "stranger_canary"


@pytest.fixture
def target(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / "target", tmp_path / "target"))


def load(folder: Path) -> LanguageModel:
    return load_language_model(Source("m", folder), torch.device("cpu"), "float32")


# ---- code


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module on the path that says so when it is imported."""
    (tmp_path / f"{CANARY}.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return CANARY


def test_a_report_never_imports_what_a_run_folder_names(tmp_path: Path, canary: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", Recipe(DRIFTING))
    manifest = json.loads((run / "run.json").read_text())
    manifest["request"]["probes"] += [f"{canary}:PROBE", f"evil\x1b[31m.{canary}:PROBE"]
    (run / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run)])
    shown = capsys.readouterr()
    assert (ended.value.code, canary in sys.modules) == (0, False)
    assert f"{canary}:PROBE is left out: code that a run folder names is run only if --probe {canary}:PROBE says so too" in shown.err
    assert "\x1b" not in shown.err + shown.out
    with pytest.raises(RuntimeError, match="imported"):
        main(["report", str(run), "--probe", f"{canary}:PROBE"])


@pytest.mark.parametrize("asked", ["flash_attention_2", "kernels-community/flash-attn", "eager", "no-such-attention"])
@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_the_attention_of_a_target_is_ours_whatever_its_config_asks_for(target: Path, key: str, asked: str) -> None:
    edit_config(target, **{key: asked})
    assert load(target).model.config._attn_implementation == "sdpa"


# ---- templates


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x", "takes more than 1 s for one conversation"),
        ("{{ 'a' * 10 ** 10 }}", "takes more than 1024 MiB for one conversation"),
        ("{{ 'a' * 10 ** 7 }}{{ messages[0].content }}", "makes 10000002 characters of 2"),
    ],
)
def test_a_template_that_takes_too_much_is_refused_in_bounded_time(
    pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.setattr("driftcli.sources.bounds.LONGEST_RENDERING", 1.0)
    tokenizer = pair("pre").target.tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", template)
    began = monotonic()
    with pytest.raises(PromptError, match=f"prompt p: the target's chat template {said}"):
        render(tokenizer, "p", [Message("user", "hi")], None)
    assert monotonic() - began < 10


def test_a_template_that_asks_for_the_date_is_given_the_same_on_any_day(
    pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = pair("pre").target.tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", "{{ strftime_now('%d %B %Y %H:%M') }} {{ messages[0].content }}")
    assert render(tokenizer, "p", [Message("user", "hi")], None).text == "01 January 2025 00:00 hi"


# ---- files


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors", "chat_template.jinja"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(target: Path, name: str) -> None:
    (target / name).unlink(missing_ok=True)
    os.mkfifo(target / name)
    with pytest.raises(DriftError, match=f"{name}: is no regular file, expected one"):
        load(target)
    (target / name).unlink()
    (target / name).symlink_to("/dev/zero")
    with pytest.raises(DriftError, match=f"{name}: is no regular file, expected one"):
        load(target)


def test_a_config_larger_than_any_is_refused_unread(target: Path) -> None:
    with (target / "tokenizer_config.json").open("wb") as file:
        file.truncate(LARGEST_SMALL_FILE + 1)
    with pytest.raises(SourceError, match=r"tokenizer_config\.json: holds 256 MiB, expected at most 256"):
        load(target)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, far beyond"),
        ({"num_hidden_layers": 60}, "num_hidden_layers is 60, the weights hold . layers"),
        ({"hidden_size": 10**8}, "hidden_size is 100000000, far beyond the size of any stored tensor"),
        ({"vocab_size": 10**10}, "vocab_size is 10000000000, far beyond"),
        ({"text_config": {"intermediate_size": 10**12}}, "intermediate_size is 1000000000000, far beyond"),
    ],
)
def test_a_config_that_declares_more_than_its_weights_hold_is_refused_before_anything_is_laid_out(
    target: Path, changes: dict[str, object], said: str
) -> None:
    edit_config(target, **changes)
    began = monotonic()
    with pytest.raises(FormatError, match=said):
        load(target)
    assert monotonic() - began < 5


def test_what_real_configs_declare_is_within_the_bounds() -> None:
    packed = {"model.layers.0.mlp.up_proj.qweight": (512, 14336), "model.embed_tokens.weight": (128256, 4096), "model.layers.31.x": (4096,)}
    check_declared("llama", {"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 128256, "max_position_embeddings": 131072}, packed)
    check_declared("moe", {"num_experts": 512, "moe_intermediate_size": 1024, "n_routed_experts": 256, "head_dim": 128}, packed)


def test_a_tokenizer_of_other_weights_is_told_by_its_first_strange_token(
    pair: Callable[[str], LoadedPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driftcli.engine.run import measure
    from tests.engine.test_run import job, silent

    loaded = pair("pre")
    monkeypatch.setattr(type(loaded.target), "embedding", loaded.target.embedding[:20])
    with pytest.raises(PromptError, match=r"its tokenizer gives token \d+, the target's embedding has 20 rows"):
        measure(job(loaded, tmp_path / "r"), silent)


def test_a_changed_checkpoint_says_which_files_changed(tmp_path: Path) -> None:
    def begun(weights: str) -> dict[str, object]:
        card = {"name": "t", "files": {"config.json": "a", "model.safetensors": weights, "tokenizer.json": "c"}}
        return {
            "schema": VERSION,
            "complete": False,
            "request": {"target": weights, "conditions": []},
            "pair": {"target": card},
            "batches": [],
        }

    open_run(tmp_path / "r", begun("b"), [], 4, force=False)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"holds another request \(the target's files changed: model\.safetensors\); name another folder"):
        open_run(tmp_path / "r", begun("B"), [], 4, force=False)  # type: ignore[arg-type]
