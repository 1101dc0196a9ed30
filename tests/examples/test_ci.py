from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"
SCHEMAS = {"github-workflow.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}  # the forges' own, in check-jsonschema
SHORT = "--limit 2 --depth 3 --max-new-tokens 12 --probe streams"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_pipeline_is_valid_under_the_schema_of_its_forge(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name]]
    if name == "gitlab-ci.yml":
        command += ["--data-transform", "gitlab-ci"]
    ran = subprocess.run([*command, str(EXAMPLES / name)], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def commands(name: str) -> list[str]:
    """What a pipeline runs in its shell, in order."""
    held = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    if name == "gitlab-ci.yml":
        return held["drafter"]["script"]
    return [step["run"] for step in held["jobs"]["gate"]["steps"] if "run" in step]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_pipeline_installs_and_runs_the_gate_and_keeps_what_the_gate_writes(name: str) -> None:
    assert commands(name) == ["pip install .", "bash examples/ci/gate.sh"]
    text, gate = (EXAMPLES / name).read_text(encoding="utf-8"), (EXAMPLES / "gate.sh").read_text(encoding="utf-8")
    kept = "gate/driftcli.sarif" if name.startswith("github") else "gate/junit.xml"
    assert kept in text
    assert f"path={kept}" in gate


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_commands_of_a_pipeline_run_on_the_pair_that_ships(name: str, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "ci")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "driftcli").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from driftcli.cli.main import main; main()" "$@"\n', encoding="utf-8"
    )
    (tmp_path / "bin" / "driftcli").chmod(0o755)
    own = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "DRIFTCLI_GATE_ARGS": SHORT}
    _, gate = commands(name)  # what is installed is this tree
    ran = subprocess.run(
        ["bash", "-c", gate], cwd=tmp_path, env={**os.environ, **own, "GITHUB_ACTIONS": "true"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 5, ran.stdout + ran.stderr  # two prompts tell nothing
    suite = ElementTree.parse(tmp_path / "gate" / "junit.xml").getroot()
    assert int(suite.attrib["errors"]) > 0
    assert json.loads((tmp_path / "gate" / "driftcli.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert (tmp_path / "gate" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "\n::error title=driftcli check" in ran.stdout
    assert not (tmp_path / "baseline" / "run").exists()
