from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from lxml import etree, html

from driftcli.cli.main import main
from driftcli.cli.outputs import SUMMARY
from driftcli.served import asking
from driftcli.traces.reader import Run
from tests.report.outputs.outcomes import EVIL
from tests.report.outputs.test_junit import SCHEMA
from tests.report.outputs.test_sarif import schema
from tests.served.world import SHIFTED, AsTensorRtLlm, AsVllm, Engine, made_run, served

KINDS = ("json", "junit", "sarif", "github", "markdown", "html")
KEY = "sk-never-stored"


class AsHostileVllm(AsVllm):
    """vLLM whose version and model are called what breaks documents."""

    def got(self, path: str) -> object | None:
        models = {"data": [{"id": EVIL.replace("\ud800", ""), "owned_by": "vllm", "max_model_len": self.engine.longest}]}
        return {"/v1/models": models, "/version": {"version": EVIL.replace("\ud800", "")}}.get(path) or super().got(path)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOOK_AGAIN", 0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SUMMARY, raising=False)
    monkeypatch.setenv("DRIFTCLI_SERVER_KEY", KEY)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 24 prompts and two other wirings."""
    return made_run(tmp_path_factory.mktemp("served") / "run")


def asked(run: Run, engine: Engine, *words: str, kind: type[BaseHTTPRequestHandler] = AsVllm) -> int | str | None:
    """The exit code of the command, against a server that runs meanwhile."""
    with served(engine, kind) as url, pytest.raises(SystemExit) as stopped:
        main(["server", url, "--run", str(run.path), *words])
    return stopped.value.code


def outputs() -> list[str]:
    return [f"--output=kind={kind},path=out.{kind}" for kind in KINDS]


def read(kind: str) -> str:
    return Path(f"out.{kind}").read_text(encoding="utf-8")


def test_every_output_says_what_the_exit_code_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(run, Engine.of(run, SHIFTED), "--fail-on", "mild", "--format", "json", *outputs()) == 4
    printed = capsys.readouterr().out
    assert json.loads(read("json")) == json.loads(printed)
    document = etree.fromstring(read("junit").encode())
    SCHEMA.assertValid(document)
    assert [(case.get("name"), [child.tag for child in case]) for case in document.iter("testcase")] == [
        ("SERVED-OTHERWISE", ["failure"]),
        ("SERVED-DECAYS", ["system-out"]),
    ]
    log = json.loads(read("sarif"))
    assert [error.message for error in schema().iter_errors(log)] == []
    assert [(one["ruleId"], one["level"]) for one in log["runs"][0]["results"]] == [("SERVED-OTHERWISE", "error")]
    assert log["runs"][0]["invocations"][0]["exitCode"] == 4
    assert read("github").startswith("::error title=driftcli server%3A SERVED-OTHERWISE failed::the server does not compute")
    assert read("markdown").startswith("## driftcli server: served otherwise: ")
    page = html.document_fromstring(read("html"))
    assert [section.findtext("h2/span") for section in page.iter("section")] == ["failed", "passed"]
    assert "exit code 4" in "".join(page.itertext())
    assert not any(KEY in read(kind) for kind in KINDS) and KEY not in printed


def test_a_sound_server_passes_every_rule_and_what_is_too_little_cannot_be_told(run: Run) -> None:
    assert asked(run, Engine.of(run), "--fail-on", "mild", "--output", "kind=junit,path=out.junit") == 0
    assert [[child.tag for child in case] for case in etree.fromstring(read("junit").encode()).iter("testcase")] == [["system-out"]] * 2
    assert asked(run, Engine.of(run), "--fail-on", "mild", "--limit", "10", "--output", "kind=junit,path=out.junit") == 5
    document = etree.fromstring(read("junit").encode())
    SCHEMA.assertValid(document)
    assert [[child.tag for child in case] for case in document.iter("testcase")] == [["error"], ["skipped"]]
    assert "10 prompts are too few" in "".join(document.itertext())  # decay is not judged on so few, and the reason is said


def test_what_a_hostile_server_calls_itself_stays_text_in_every_output(run: Run) -> None:
    assert asked(run, Engine.of(run), *outputs(), kind=AsHostileVllm) == 0
    document = etree.fromstring(read("junit").encode())
    SCHEMA.assertValid(document)
    assert {one.tag for one in document.iter()} == {"testsuites", "testsuite", "properties", "property", "testcase", "system-out"}
    (result,) = [one.get("value") for one in document.iter("property") if one.get("name") == "result"]
    assert "<img src=x onerror=alert(1)>" in result and "\\x1b" in result
    assert [error.message for error in schema().iter_errors(json.loads(read("sarif")))] == []
    assert all(line.startswith("::") and not line.startswith("::error") for line in read("github").splitlines())
    page = html.document_fromstring(read("html"))
    assert {str(element.tag) for element in page.iter()} & {"img", "script", "a"} == set()
    assert not re.search(r"(?<!\\)<img", read("markdown")) and "\x1b" not in "".join(map(read, KINDS))
    assert json.loads(read("json"))["server"]["version"].startswith("a|b <img")


def test_what_was_not_asked_or_is_not_told_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked(run, Engine.of(run), kind=AsTensorRtLlm)
    said = " ".join(capsys.readouterr().out.split())
    assert "prefix cache: the server does not say" in said
    assert "as the server samples unless told: not asked for (--own-sampling)" in said
    asked(run, Engine.of(run), "--own-sampling")
    said = " ".join(capsys.readouterr().out.split())
    assert "prefix cache: on" in said and "not asked for" not in said


def test_an_output_that_cannot_be_written_is_refused_before_the_server_is_asked(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine.of(run)
    assert asked(run, engine, "--output", "kind=html,path=no/such/page.html") == 2
    assert engine.requests == [] and "there is no folder no/such" in capsys.readouterr().err
