"""What healing gives, against fair controls: `python -m tests.benchmarks.healing RUN --replies FILE --out FOLDER [--budget 20m] [--seeds 0 1 2]`

RUN diagnosed a pre-norm EAGLE-3 head. Every arm learns for the same time from the same replies and is judged by the same run's other
prompts, and the arms are held against one another there:

    retrofit alone        normed feedback put in, nothing trained
    more training         the head as it is, trained further on chains as deep as those served: the fair control
    retrofit, training    `driftcli heal` as findings ask for it
    with fc-norm          the same with a norm in front of fc for each stream
    from scratch          a post-norm head (examples/train_eagle3.py --norm post) from random weights

Prints for every arm and seed acceptance length, first guesses, compounding and tax before and after, with intervals; then each arm against
more training. What is in FOLDER already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from driftcli.cli.comparison import compared
from driftcli.comparison.changes import Change
from driftcli.comparison.pairwise import Comparison
from driftcli.comparison.telling import shown_change
from driftcli.traces.reader import read_run

ROOT = Path(__file__).resolve().parents[2]
TOOL = [sys.executable, "-m", "driftcli"]
ARMS: dict[str, tuple[str, ...]] = {
    "retrofit alone": ("--treatment", "norm-output", "--rate", "0"),
    "more training": ("--treatment", "unroll"),
    "retrofit, training": ("--treatment", "norm-output", "--treatment", "unroll"),
    "with fc-norm": ("--treatment", "norm-output", "--treatment", "fc-norm", "--treatment", "unroll"),
}
SCRATCH, CONTROL = "from scratch", "more training"
SHOWN = ("acceptance_length", "accuracy_1", "handoff", "self_feeding_tax", "compounding_")
ENDED = (0, 4)  # healed, and not shown to be


def arm_folder(out: Path, arm: str, seed: int) -> Path:
    """Where an arm is."""
    return out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"


def heal(asked: argparse.Namespace, arm: str, seed: int) -> None:
    """One arm by `driftcli heal`."""
    folder = arm_folder(asked.out, arm, seed)
    if (folder / "diagnosis" / "findings.json").exists():
        return
    budget = "10s" if arm == "retrofit alone" else asked.budget
    command = [
        *TOOL,
        "heal",
        "--run",
        asked.run,
        "--out",
        folder,
        "--replies",
        asked.replies,
        "--budget",
        budget,
        "--seed",
        str(seed),
        *ARMS[arm],
    ]
    ended = subprocess.run([*map(str, command), "--format", "json"], check=False, stdout=subprocess.DEVNULL, cwd=ROOT)
    assert ended.returncode in ENDED, f"{arm}, seed {seed}: exit {ended.returncode}"


def from_scratch(asked: argparse.Namespace, seed: int) -> None:
    """A post-norm head from random weights on the same replies for the same time, diagnosed on the prompts that judge the others."""
    folder, like = arm_folder(asked.out, SCRATCH, seed), arm_folder(asked.out, CONTROL, seed)
    if (folder / "diagnosis" / "findings.json").exists():
        return
    said = read_run(asked.run).manifest["asked"]
    assert isinstance(said, dict)
    minutes = float(asked.budget.removesuffix("m"))
    size = (
        json.loads((ROOT / "driftcli" / "bundled" / "pre-norm" / "config.json").read_text())["draft_vocab_size"]
        if asked.vocabulary is None
        else asked.vocabulary
    )
    train = [sys.executable, "examples/train_eagle3.py", "--target", said["target"], "--norm", "post", "--replies", asked.replies, "--cache", asked.out / "cache",
             "--out", folder / "head", "--unroll", "8", "--minutes", str(minutes), "--seed", str(seed), "--draft-vocabulary-size", str(size), "--rate", "2e-3"]  # fmt: skip
    subprocess.run(list(map(str, train)), check=True, cwd=ROOT)
    prompts = like / "work" / "judging.jsonl"
    request = json.loads((like / "diagnosis" / "run.json").read_text())["asked"]
    probes = [word for name in request["probes"] for word in ("--probe", name)]
    diagnose = [*TOOL, "diagnose", "--target", said["target"], "--drafter", folder / "head", "--prompts", prompts, "--depth", request["depth"],
                "--max-new-tokens", request["max_new_tokens"], "--out", folder / "diagnosis", *probes, *(["--quick"] if request["quick"] else []),
                "--limit", request["limit"]]  # fmt: skip
    subprocess.run(list(map(str, diagnose)), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def number(change: Change) -> str:
    """A number after, and how it changed."""
    after = "" if change.after.value is None else f"{change.after.value:.2f}"
    return f"{after} {shown_change(change)} {change.word}"


def row(found: Comparison) -> str:
    """The numbers that tell what was healed and what it cost."""
    return " | ".join(number(change) for change in found.changes if change.number.name.startswith(SHOWN))


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--replies", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="20m", help="whole minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--vocabulary", type=int, help="draft vocabulary of the head from scratch; default: that of bundled:pre-norm")
    asked = parser.parse_args()
    asked.run, asked.replies, asked.out = asked.run.resolve(), asked.replies.resolve(), asked.out.resolve()
    for seed in asked.seeds:
        for arm in ARMS:
            heal(asked, arm, seed)
        from_scratch(asked, seed)
        for arm in (*ARMS, SCRATCH):
            after = arm_folder(asked.out, arm, seed) / "diagnosis"
            print(f"seed {seed} | {arm} | {row(_held(asked.run, after))}", flush=True)
        for arm in (*ARMS, SCRATCH):
            if arm != CONTROL:
                control = arm_folder(asked.out, CONTROL, seed) / "diagnosis"
                print(
                    f"seed {seed} | {arm}, against {CONTROL} | {row(_held(control, arm_folder(asked.out, arm, seed) / 'diagnosis'))}",
                    flush=True,
                )


def _held(before: Path, after: Path) -> Comparison:
    found = compared([before, after], 0.02, force=False)
    assert isinstance(found, Comparison)
    return found


if __name__ == "__main__":
    main()
