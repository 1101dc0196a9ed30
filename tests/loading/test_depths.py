from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driftcli.cli.main import main
from tests.families.block import cases as blocks
from tests.families.eagle import peagle
from tests.families.feed_forward import cases as heads
from tests.families.mtp import cases as mtp
from tests.families.mtp.all_cases import CASES as OF_MTP

MEDUSA = heads.CASES["medusa"]
ALONE = replace(
    MEDUSA,
    tensors={name: part for name, part in MEDUSA.tensors.items() if name.startswith("0.")},
    config={**MEDUSA.config, "medusa_num_heads": 1},
)
Write = Callable[[Path], Path]
CASES: dict[str, tuple[Write, int, str]] = {
    "block": (
        lambda folder: blocks.write(blocks.CASES["zlab"], folder),
        blocks.ROWS - 1,
        f"was trained to guess {blocks.ROWS - 1} tokens a block, and nobody knows what longer ones give",
    ),
    "block-anchor-first": (
        lambda folder: blocks.write(blocks.CASES["deepspec-vanilla"], folder),
        blocks.ROWS,
        f"was trained to guess {blocks.ROWS} tokens a block",
    ),
    "peagle": (
        lambda folder: blocks.write(peagle.CASES["plain"], folder),
        peagle.DEPTHS,
        f"was trained to guess up to {peagle.DEPTHS} tokens in one pass, and nobody knows what more rows give",
    ),
    "one-head": (lambda folder: heads.write(ALONE, folder), 1, "has 1 head, one a depth, so no chain is deeper"),
}


def refused(command: str, target: Path, drafter: str, depth: int, folder: Path) -> int:
    out = ["--out", str(folder)] if command == "diagnose" else []
    with pytest.raises(SystemExit) as ended:
        main([command, *out, "--target", str(target), "--drafter", drafter, "--depth", str(depth), "--limit", "1"])
    return int(str(ended.value.code))


@pytest.mark.parametrize("command", ["plan", "diagnose"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_plan_and_diagnose_refuse_the_same_depths_in_the_same_words(
    command: str, name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, most, why = CASES[name]
    drafter = write(tmp_path / name)
    assert refused(command, models / "target", str(drafter), most + 1, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert f"--depth {most + 1}: {drafter} {why}" in said and said.rstrip().endswith(f"; use --depth {most}")


def test_so_does_a_plan_for_modules_of_a_depth_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two,) = (case for case in OF_MTP if case.name == "glm4_moe-2")
    assert refused("plan", mtp.write(two, tmp_path / "target"), "mtp", 3, tmp_path / "run") == 2
    assert "has 2 heads, one a depth, so no chain is deeper; use --depth 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(CASES))
def test_as_deep_as_a_drafter_goes_is_planned(name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, most, _ = CASES[name]
    asked = ["--target", str(models / "target"), "--drafter", str(write(tmp_path / name)), "--depth", str(most), "--limit", "8"]
    with pytest.raises(SystemExit) as ended:
        main(["plan", *asked, "--max-new-tokens", "16", "--threads", "1"])
    assert not ended.value.code, capsys.readouterr().err
