"""What `driftcli plan` says against what the run then takes, on this machine: `python -m tests.benchmarks.plan [CASE ...]`.

Each case is planned and then run at once, in processes of its own with one thread. Besides the clock, which on a machine that others use
says as much about them, the computing time is told: what was foreseen of it is the seconds times the share of a core that the plan saw.
Memory is told by what the plan takes it for, and its peak beside the most that was resident. DRIFTCLI_SMOLLM2 names the folder of the real
target, without which its cases are left out; the target of the long case is the bundled one with its positions extended.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.long_contexts import extended

ROOT = Path(__file__).parents[2]
HEADS = ROOT / "examples/smollm2"
LINE = "from driftcli.cli.main import main; main()"
CASES = {
    "bundled-8": ["--quick", "--limit", "8"],
    "bundled-24": ["--quick"],
    "bundled-whole-24": ["--no-quick", "--limit", "24"],
    "bundled-long-4": ["--probe", "context-length", "--lengths", "4096,8064", "--limit", "4", "--max-new-tokens", "64"],
    "smollm2-8": ["--drafter", f"{HEADS}/post-norm", "--probe", "chain-length", "--limit", "8", "--max-new-tokens", "32"],
    "smollm2-quick-4": ["--drafter", f"{HEADS}/pre-norm", "--quick", "--limit", "4", "--max-new-tokens", "32"],
}
LONGEST = 8192  # positions of the target of the long case


def taken_by(arguments: list[str], out: Path) -> tuple[float, float, int]:
    """Seconds on the clock, of computing, and the largest resident set in bytes, of one command; its stdout goes to a file."""
    started = time.perf_counter()
    with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", LINE, *arguments],
            {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            file_actions=[(os.POSIX_SPAWN_DUP2, stdout.fileno(), 1), (os.POSIX_SPAWN_DUP2, stderr.fileno(), 2)],
        )
        _, status, used = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(out.with_suffix(".err").read_text()[-2000:])
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def counted(run: Path) -> dict[str, float]:
    """Replies that were written in a run, their tokens, and bytes on disk."""
    rows = [row for file in (run / "trajectories").glob("*.parquet") for row in pq.read_table(file).to_pylist() if row["generated"]]
    texts = {(row["prompt"], row["turn"], tuple(row["ids"])): row for row in rows}.values()  # some conditions have the same
    files = list(run.rglob("*.parquet"))
    tokens = sum(row["length"] - row["prompt_length"] for row in texts)
    return {"replies": len(texts), "written": tokens, "disk": sum(file.stat().st_size for file in files)}


def compare(case: str, options: list[str]) -> None:
    """Plan a case, run it, print both."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        planning = taken_by(["plan", *options, "--threads", "1", "--format", "json"], here / "plan.json")
        plan = json.loads((here / "plan.json").read_text())
        load = os.getloadavg()[0]
        clock, computing, peak = taken_by(["diagnose", *options, "--threads", "1", "--out", str(here / "run")], here / "report.txt")
        found = counted(here / "run")
    share = plan["machine"]["core_share"]
    print(f"\n{case}: load {load:.1f}, share of a core {share:.0%}, planning took {planning[0]:.0f} s ({planning[1]:.1f} s of computing)")
    print(f"{'':24}{'planned':>12}{'at most':>12}{'taken':>12}")
    expected, most = plan["seconds"]["expected"], plan["seconds"]["most"]
    rows = [
        ("seconds on the clock", expected, most, clock),
        ("seconds of computing", expected * share, most * share, computing),
        *((name, plan[name]["expected"], plan[name]["most"], found[name]) for name in ("replies", "written")),
        ("disk, MB", plan["disk"]["expected"] / 1e6, plan["disk"]["most"] / 1e6, found["disk"] / 1e6),
    ]
    for name, planned, most_of_it, taken in rows:
        print(f"{name:24}{planned:12,.1f}{most_of_it:12,.1f}{taken:12,.1f}")
    memory = {part: size / 1e6 for part, size in plan["memory"].items()}
    print(f"{'peak memory, MB':24}{memory['peak']:24,.1f}{peak / 1e6:12,.1f}  planned over taken {memory['peak'] * 1e6 / peak:.2f}")
    print("".join(f"  {part} {size:,.1f}" for part, size in memory.items() if part != "peak"), flush=True)


def main() -> None:
    """All cases, or those that are named."""
    real = os.environ.get("DRIFTCLI_SMOLLM2")
    with tempfile.TemporaryDirectory() as folder:
        target, drafter = extended(Path(folder), LONGEST)
        for case in sys.argv[1:] or CASES:
            more = ["--target", target, "--drafter", drafter] if "long" in case else []
            more = ["--target", str(real)] if case.startswith("smollm2") else more
            if real or not case.startswith("smollm2"):
                compare(case, [*CASES[case], *more])


if __name__ == "__main__":
    main()
