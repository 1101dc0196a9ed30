from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from driftcli.sources import fingerprint as fingerprints
from driftcli.sources.files import Source
from driftcli.sources.fingerprint import fingerprint
from tests.edits import CONFIG, WEIGHTS


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_fingerprint_changes_with_any_file_that_matters_and_with_nothing_else(copy: Callable[[str], Path], file: str) -> None:
    folder = copy("target")
    source = Source("target", folder)
    before = fingerprint(source)
    assert re.fullmatch("[0-9a-f]{16}", before)
    (folder / "README.md").write_text("hello")
    assert fingerprint(Source("elsewhere", folder)) == before
    content = bytearray((folder / file).read_bytes())
    content[-3] ^= 1
    (folder / file).write_bytes(bytes(content))
    assert fingerprint(source) != before


def test_a_large_file_is_told_by_its_size_and_by_evenly_spaced_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "WHOLE_HASH", 1000)
    (tmp_path / WEIGHTS).write_bytes(bytes(3 << 20))
    source = Source("large", tmp_path)
    before = fingerprint(source)
    for content in (bytes((3 << 20) + 1), bytes(2 << 20) + b"\1" + bytes((1 << 20) - 1)):
        (tmp_path / WEIGHTS).write_bytes(content)
        assert fingerprint(source) != before
