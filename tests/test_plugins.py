from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from driftcli.cli.battery import OWN, installed_probes, load_battery, trusted_battery
from driftcli.cli.main import main
from driftcli.errors import PluginError, ProbeError, UsageError
from driftcli.plugins import Failed, Loaded, offered
from driftcli.report.formats import renderer
from probes.streams import Streams
from tests.installed import install, install_strangers
from tests.report.synthetic import write_run

STRANGE = ("drift_strange", "drift_raises", "drift_leaves")
WHY = {
    "raises": "cannot be imported (RuntimeError: it wants a licence \x1b[31m)",
    "leaves": "cannot be imported (SystemExit: 0)",
    "half": "has no name, expected an object with name, axes, conditions and judge (see driftcli.probe.Probe)",
    "a-class": "is a class, expected an object; name an instance of it, such as PROBE = Mine()",
    "misnamed": "calls itself strange-streams, expected misnamed as its entry point",
    "streams": "has the name of one of driftcli's own, which is kept",
    "odd": "points to 'not a reference', expected module:object",
    "absent": "cannot be imported (ModuleNotFoundError: No module named 'drift_nowhere')",
    "strange-streams": "has the name of one of drift-strangers 1.2, which is kept",
}


@pytest.fixture(autouse=True)
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with packages that add to driftcli, none of them imported yet."""
    install_strangers(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in STRANGE:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "site"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_an_installed_probe_is_found_by_its_name_and_every_useless_one_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    found = installed_probes()
    assert [one.plugin.name for one in found if isinstance(one, Loaded)] == ["strange-streams"]
    failed = {one.plugin.name: one.reason for one in found if isinstance(one, Failed)}
    assert failed == WHY
    assert capsys.readouterr() == ("", "on stdout\n")  # stdout is for results
    (probe,) = load_battery(["strange-streams"])
    assert isinstance(probe, Streams) and probe.name == "strange-streams"


def test_our_own_names_cannot_be_taken() -> None:
    assert load_battery(["streams"]) == (OWN["streams"],)
    assert renderer("json").__module__ == "driftcli.report.json"


@pytest.mark.parametrize("name", sorted(set(WHY) - {"streams", "strange-streams"}))
def test_a_useless_one_that_is_asked_for_is_refused_with_its_package_and_its_reason(name: str) -> None:
    with pytest.raises(ProbeError) as refused:
        load_battery([name])
    reason = WHY[name].replace("\x1b", "\\x1b")
    assert str(refused.value) == f"--probe {name}, of drift-strangers 1.2: {reason}; `driftcli probes` lists what can be used"


def test_an_unknown_name_is_met_with_those_that_are_installed_too() -> None:
    with pytest.raises(
        UsageError, match=r"did you mean strange-streams\? expected one of wiring, .*strange-streams, or package\.module:NAME"
    ):
        load_battery(["strange-stream"])
    with pytest.raises(UsageError, match=r"did you mean strange-table\? expected one of terminal, .*no-function, .*strange-table"):
        renderer("strange_table")


def test_a_run_folder_may_name_what_is_installed_and_works_and_no_module() -> None:
    battery, strangers = trusted_battery(["streams", "strange-streams", "raises", "drift_strange:PROBE", "elsewhere"], [])
    assert [probe.name for probe in battery] == ["streams", "strange-streams"]
    assert strangers == ["raises", "drift_strange:PROBE", "elsewhere"]
    with pytest.raises(ProbeError, match="it wants a licence"):
        trusted_battery(["raises"], ["raises"])


def test_the_list_of_probes_names_them_their_package_and_what_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = printed(capsys, "probes")
    assert (code, err) == (0, "on stdout\n")
    own, added = out.split("\nProbes of other packages, for --probe NAME:\n")
    probes, rest = added.split("\nReport formats of other packages, for --format NAME:\n")
    formats, useless = rest.split("\nInstalled, and cannot be used:\n")
    assert probes == "strange-streams   (drift-strangers 1.2; notes only)\n    Does a stranger's probe work?\n"
    assert "strange-table   (drift-strangers 1.2; a format)\n    Verdict and prompts, with commas.\n" in formats
    assert (
        "raises   (drift-strangers 1.2; driftcli.probes)\n    cannot be imported (RuntimeError: it wants a licence \\x1b[31m)\n" in useless
    )
    assert "strange-streams   (drift-zweite 1.2; driftcli.probes)\n" in useless
    assert "json   (drift-strangers 1.2; driftcli.formats)\n    has the name of one of driftcli's own, which is kept\n" in useless
    assert "no-function   (drift-strangers 1.2; driftcli.formats)\n    is a Mine, expected a function" in useless
    assert max(map(len, out.splitlines())) <= 100
    assert "strange" not in own


def test_a_report_is_printed_by_an_installed_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    code, out, _ = printed(capsys, "report", str(run), "--format", "strange-table")
    assert (code, out.count(","), out.rstrip().endswith(",16")) == (0, 1, True)
    with pytest.raises(PluginError, match="gave a NoneType, expected text"):
        from driftcli.report.formats import show
        from driftcli.report.verdict import judge
        from driftcli.traces.reader import read_run

        found = read_run(run)
        show(found, judge(found, ()), "no-text", full=False)


@pytest.mark.parametrize(
    ("format", "code", "said"),
    [
        ("jsn", 2, "--format jsn: no such format; did you mean json? expected one of terminal, json, markdown"),
        ("no-function", 3, "--format no-function, of drift-strangers 1.2: is a Mine, expected a function of a run and a verdict"),
    ],
)
def test_a_format_that_cannot_be_used_is_refused_before_anything_is_measured_or_read(
    format: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["diagnose"], ["report", "no-such-run"]):
        ended, out, err = printed(capsys, *command, "--format", format)
        assert (ended, out) == (code, "")
        assert err.startswith(f"error: {said}")


def test_a_package_whose_entry_points_cannot_be_read_is_listed_and_hides_no_other(strangers: Path) -> None:
    install(strangers, "drift-garbled", {}, {}, {})
    (strangers / "drift_garbled-1.2.dist-info" / "entry_points.txt").write_text("[driftcli.probes]\nno equals sign\n", encoding="utf-8")
    (strangers / "nameless-1.dist-info").mkdir()
    (strangers / "nameless-1.dist-info" / "entry_points.txt").write_bytes(b"[driftcli.probes]\n\xff = a:b\n")
    found = {plugin.package: plugin.refused for plugin in offered("driftcli.probes", OWN)}
    assert found["drift-garbled 1.2"].startswith("cannot be read (")
    assert "drift-strangers 1.2" in found


@pytest.mark.parametrize("command", ["['--help']", "['report', '--help']", "['explain', 'DRIFT-STATE']"])
def test_nothing_of_other_packages_is_imported_unasked(command: str, strangers: Path) -> None:
    code = f"import sys\nfrom driftcli.cli.main import main\ntry:\n    main({command})\nexcept SystemExit:\n    print(sorted(sys.modules), file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONPATH": f"{strangers}:{Path(__file__).parents[1]}", "PATH": ""},
    )
    assert "'driftcli.cli.main'" in ran.stderr
    assert not any(name in ran.stderr for name in STRANGE)


def test_a_battery_that_nobody_named_is_ours_alone() -> None:
    assert [probe.name for probe in load_battery([])] == list(OWN)
    assert "drift_strange" not in sys.modules
