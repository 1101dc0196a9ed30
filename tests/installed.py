"""Packages as they are installed: modules and a dist-info folder with entry points, in a folder to be put on sys.path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

GOOD = '''"""Does a stranger's probe work?"""
from probes.streams import Streams
from dataclasses import dataclass
@dataclass(frozen=True)
class Mine(Streams):
    name: str = "strange-streams"
PROBE = Mine()
CLASHING = Streams()
HALF = object()
def table(run, verdict):
    """Verdict and prompts, with commas."""
    return f"{verdict.severity},{run.n_prompts}"
def nothing(run, verdict):
    return None
'''
RAISES = "print('on stdout'); raise RuntimeError('it wants\\na licence \\x1b[31m')"
LEAVES = "raise SystemExit(0)"


def install(
    folder: Path, name: str, modules: Mapping[str, str], probes: Mapping[str, str], formats: Mapping[str, str], version: str = "1.2"
) -> None:
    """Write a package as an installer leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    groups = {"driftcli.probes": probes, "driftcli.formats": formats}
    lines = [line for group, entries in groups.items() for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def install_strangers(folder: Path) -> None:
    """Two packages: one probe and one format that can be used, and every kind of one that cannot."""
    install(
        folder,
        "drift-strangers",
        {"drift_strange": GOOD, "drift_raises": RAISES, "drift_leaves": LEAVES},
        {
            "strange-streams": "drift_strange:PROBE",
            "raises": "drift_raises:PROBE",
            "leaves": "drift_leaves",
            "half": "drift_strange:HALF",
            "a-class": "drift_strange:Mine",
            "misnamed": "drift_strange:PROBE",
            "streams": "drift_strange:CLASHING",
            "absent": "drift_nowhere:PROBE",
            "odd": "not a reference",
        },
        {
            "strange-table": "drift_strange:table",
            "no-text": "drift_strange:nothing",
            "no-function": "drift_strange:PROBE",
            "json": "drift_raises:x",
        },
    )
    install(folder, "drift-zweite", {}, {"strange-streams": "drift_strange:PROBE"}, {})
