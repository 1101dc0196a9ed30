from __future__ import annotations

import json
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.servers import read_registries
from tests.servers.read_registries import main

REGISTRY = 'x = 1\n_SPECULATIVE_DECODING_MODELS = {\n    "ArchA": ("a", "A"),\n    "ArchB": ("vllm.models.b", "B"),\n}\n'


def wheel(path: Path, files: dict[str, str]) -> str:
    with ZipFile(path, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return str(path)


def test_both_registries_are_read_without_running_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = wheel(tmp_path / "vllm-1.2.3-py3.whl", {"vllm/model_executor/models/registry.py": f"import nowhere\n{REGISTRY}"})
    models = {"sglang/srt/models/c.py": "import nowhere\nEntryClass = [C, D]\n", "sglang/srt/models/e.py": "EntryClass = E\n"}
    sglang = wheel(
        tmp_path / "sglang-4.5-py3.whl", {**models, "sglang/srt/models/f.py": "x = 1\n", "sglang/other.py": "EntryClass = [X]\n"}
    )
    monkeypatch.setattr(read_registries, "TABLE", tmp_path / "servers.json")
    monkeypatch.setattr(sys, "argv", ["read_registries", vllm, sglang])
    main()
    table = json.loads((tmp_path / "servers.json").read_text())
    assert table["vllm"] == {"version": "1.2.3", "classes": {"ArchA": "a.A", "ArchB": "vllm.models.b.B"}}
    assert table["sglang"] == {"version": "4.5", "classes": {"C": "c.C", "D": "c.D", "E": "e.E"}}


def test_wheels_of_something_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = wheel(tmp_path / "x-1-py3.whl", {"vllm/model_executor/models/registry.py": "x = 1\n"})
    monkeypatch.setattr(sys, "argv", ["read_registries", empty, empty])
    with pytest.raises(SystemExit, match="name a wheel of vLLM first"):
        main()
