from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from driftcli.cli.main import PIPE_CLOSED
from driftcli.cli.net import INTERRUPTED
from driftcli.domain import Estimate
from driftcli.errors import DriftError, UsageError
from driftcli.report.verdict import EXIT_FAILED, EXIT_INCONCLUSIVE
from driftcli.statistics.curves import forced_accuracy
from driftcli.terms import BY_WORDS, plain
from driftcli.traces.reader import read_run
from tests.edits import edit_config
from tests.report.synthetic import DRIFTING, Recipe, write_run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200


def test_ci_runs_exactly_the_readmes_test_command() -> None:
    commands = [line for line in README.splitlines() if line.startswith("pip install") and "pytest" in line]
    assert len(commands) == 1
    assert "not real and not slow and not vllm and not browser" in commands[0]
    assert "grep '^pip install.*pytest' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_flag_that_the_readme_names_exists() -> None:
    called = [sys.executable, "-c", "from driftcli.cli.main import main; main()"]
    offered = "".join(
        subprocess.run([*called, name, "--help"], capture_output=True, text=True, check=True).stdout
        for name in ("diagnose", "report", "scan", "plan", "compare", "check", "inspect", "heal", "server")
    )
    own = {
        flag
        for line in README.splitlines()
        if "driftcli " in line
        for flag in re.findall(r"(?<!\S)--[a-z-]+", line.split("driftcli ", 1)[1])
    }
    assert own
    assert {flag for flag in own if flag not in offered} == set()


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert listed == {0, UsageError.exit_code, DriftError.exit_code, EXIT_FAILED, EXIT_INCONCLUSIVE, INTERRUPTED, PIPE_CLOSED}


def test_every_term_of_the_readme_can_be_explained() -> None:
    table = README.split("## Terms")[1].split("\n\n")[1].splitlines()[2:]
    names = [name for line in table for name in line.split("|")[1].strip().split(", ")]
    assert len(names) > 10
    assert [name for name in names if plain(name) not in BY_WORDS] == []


def test_the_query_of_the_readme_gives_accuracy_by_feed_and_depth_of_the_baseline(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", Recipe(DRIFTING, extra={"other": ("a-probe", DRIFTING)}))
    (query,) = re.findall(r"`(select .*?)`", README)
    rows = duckdb.sql(query.replace("RUN", str(run))).fetchall()
    forced = {depth: share for feed, depth, share in rows if feed == "forced"}
    expected = [one.value for one in read_run(run).by_depth(forced_accuracy) if isinstance(one, Estimate)]
    assert [forced[depth] for depth in range(1, 9)] == pytest.approx(expected)


def test_the_scan_in_the_readme_is_what_the_tool_prints(tmp_path: Path) -> None:
    head = shutil.copytree(ROOT / "examples" / "smollm2" / "post-norm", tmp_path / "specforge-head")
    edit_config(head, eagle_config={"eagle_aux_hidden_state_layer_ids": [6, 17, 26]})
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text('{"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152}')
    called = [
        sys.executable,
        "-c",
        "from driftcli.cli.main import main; main()",
        "scan",
        "--drafter",
        "specforge-head",
        "--target",
        "smollm2",
    ]
    printed = subprocess.run(called, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    (shown,) = [block for block in README.split("```") if "HOW EACH SYSTEM COMPUTES IT" in block]
    assert shown.strip() in "\n".join(line.rstrip() for line in printed.splitlines())
