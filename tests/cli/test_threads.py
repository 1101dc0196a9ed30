from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from driftcli.cli.threads import allowed_threads, let_waiting_threads_sleep, quota, threads


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({}, "0::/", math.inf),
        ({"cpu.max": "max 100000"}, "0::/", math.inf),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "400000 100000", "a/cpu.max": "max 100000", "a/b/cpu.max": "800000 100000"}, "0::/a/b", 4.0),  # of the group around it
        ({"a/cpu.max": "100000 100000"}, "0::/b", math.inf),  # somebody else's
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", math.inf),
        ({"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "100000"}, "5:memory:/\n4:cpu,cpuacct:/job", 2.5),
        ({"cpu.max": "what is this"}, "garbage", math.inf),
    ],
)
def test_the_quota_is_the_least_of_the_groups_that_a_process_is_in(files: dict[str, str], own: str, cores: float, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    for name, content in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{content}\n")
    (tmp_path / "own").write_text(f"{own}\n")
    assert quota(groups, tmp_path / "own") == cores


def test_without_control_groups_the_cores_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("driftcli.cli.threads.GROUPS", tmp_path)
    monkeypatch.setattr("driftcli.cli.threads.OWN_GROUPS", tmp_path / "gone")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 7}, raising=False)
    assert allowed_threads() == 3
    monkeypatch.setattr("driftcli.cli.threads.quota", lambda *_: 1.2)
    assert allowed_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert allowed_threads() == 5


def test_what_the_environment_says_of_waiting_threads_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_threads_are_as_before_outside() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
