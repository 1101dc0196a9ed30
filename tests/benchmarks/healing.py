"""What healing gives, against fair controls: `python -m tests.benchmarks.healing RUN --replies FILE --out FOLDER [--budget 20m] [--seeds 0 1 2]`

RUN diagnosed a pre-norm EAGLE-3 head. Every arm learns for the same time from the same replies and is judged on the same half of the run's
prompts:

    retrofit alone        normed feedback put in, nothing trained
    more training         the head as it is, trained further on chains as deep as those served: the fair control
    retrofit, training    `driftcli heal` as findings ask for it
    with fc-norm          the same with a norm in front of fc for each stream
    from scratch          a post-norm head (examples/train_eagle3.py --norm post) from random weights

Two tables: each arm against the original, and each against more training; a cell is the number of the arm, its difference and the word that
`compare` has for it. Arms begin in another order for each seed, since a machine is not always as busy. What is in FOLDER is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from driftcli.cli.comparison import compared
from driftcli.cli.healing import DIAGNOSIS, TRAINING, WORK, WRITING
from driftcli.comparison.pairwise import Comparison
from driftcli.comparison.telling import rows
from driftcli.comparison.words import BAND
from driftcli.durations import duration
from driftcli.outcome import FAILED
from driftcli.sources.files import read_config, resolve
from driftcli.traces.reader import read_run

ROOT = Path(__file__).resolve().parents[2]
TOOL = (sys.executable, "-m", "driftcli")
ARMS: Mapping[str, Sequence[str]] = {
    "retrofit alone": ("--treatment", "norm-output", "--rate", "0", "--budget", "10s"),
    "more training": ("--treatment", "unroll"),
    "retrofit, training": ("--treatment", "norm-output", "--treatment", "unroll"),
    "with fc-norm": ("--treatment", "norm-output", "--treatment", "fc-norm", "--treatment", "unroll"),
    "from scratch": (),
}
SCRATCH, CONTROL, ORIGINAL = "from scratch", "more training", "the original"
SHOWN = ("acceptance_length", "accuracy_1", "accuracy_", "handoff", "self_feeding_tax", "compounding_")


def folder_of(asked: argparse.Namespace, arm: str, seed: int) -> Path:
    """Where an arm is."""
    found: Path = asked.out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    return found


def done(folder: Path) -> bool:
    return (folder / DIAGNOSIS / "findings.json").exists()


def heal(asked: argparse.Namespace, arm: str, seed: int) -> None:
    """An arm by `driftcli heal`, from the streams of an arm before that learned from the same conversations."""
    own = folder_of(asked, arm, seed) / WORK / "streams"
    alike = [one for one in ARMS if ("--budget" in ARMS[one]) == ("--budget" in ARMS[arm])]
    streams = (folder_of(asked, one, other) / WORK / "streams" for one in alike for other in asked.seeds)
    if not own.exists() and (there := next((folder for folder in streams if folder.exists()), None)) is not None:
        shutil.copytree(there, own, copy_function=os.link)
    line = [*TOOL, "heal", "--run", asked.run, "--out", folder_of(asked, arm, seed), "--replies", asked.replies, "--seed", seed,
            *(() if "--budget" in ARMS[arm] else ("--budget", asked.budget)), *ARMS[arm]]  # fmt: skip
    ended = subprocess.run([str(word) for word in line], check=False, stdout=subprocess.DEVNULL, cwd=ROOT)
    assert ended.returncode in (0, FAILED), f"{arm}, seed {seed}: exit {ended.returncode}"


def from_scratch(asked: argparse.Namespace, seed: int) -> None:
    """A post-norm head from random weights, trained as long on the same replies, diagnosed as a healed one is."""
    folder, like = folder_of(asked, SCRATCH, seed), folder_of(asked, CONTROL, seed)
    said = read_run(asked.run).manifest["asked"]
    assert isinstance(said, dict)
    vocabulary, minutes = read_config(resolve(str(said["drafter"])))["draft_vocab_size"], duration(asked.budget) / 60 * (WRITING + TRAINING)
    train = [sys.executable, "examples/train_eagle3.py", "--target", said["target"], "--norm", "post", "--replies", asked.replies,
             "--cache", asked.out / "streams", "--out", folder / "head", "--unroll", "8", "--minutes", minutes, "--seed", seed,
             "--draft-vocabulary-size", vocabulary, "--rate", "2e-3"]  # fmt: skip
    subprocess.run([str(word) for word in train], check=True, cwd=ROOT)
    request = json.loads((like / DIAGNOSIS / "run.json").read_text())["asked"]
    diagnose = [*TOOL, "diagnose", "--target", said["target"], "--drafter", folder / "head", "--prompts", like / WORK / "judging.jsonl",
                "--depth", request["depth"], "--max-new-tokens", request["max_new_tokens"], "--limit", request["limit"], "--out",
                folder / DIAGNOSIS, "--force", *(word for name in request["probes"] for word in ("--probe", name)),
                "--quick" if request["quick"] else "--no-quick"]  # fmt: skip
    subprocess.run([str(word) for word in diagnose], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def steps(folder: Path) -> int:
    """Steps that an arm learned for, 0 of one that was not trained."""
    logs = [path for path in (folder / WORK / "loss.csv", folder / "head" / "loss.csv") if path.exists()]
    return int(list(csv.DictReader(logs[0].read_text().splitlines()))[-1]["step"]) if logs else 0


def held(before: Path, after: Path) -> Comparison:
    found = compared([before, after], BAND, force=False)
    assert isinstance(found, Comparison)
    return found


def cells(found: Comparison, columns: Sequence[str], *, before: bool = False) -> str:
    """A comparison's numbers by name: what came after with its difference and word, or what was before."""
    told = {change.number.name: rows([change])[0] for change in found.changes}
    one = (told.get(name) for name in columns)
    return " | ".join("-" if row is None else row[1] if before else f"{row[2]} ({row[3]}) {row[4]}" for row in one)


def table(asked: argparse.Namespace, against: str) -> None:
    """Every arm and seed against the original, or against an arm of the same seed."""

    def compared_with(arm: str, seed: int) -> Comparison:
        first = asked.run if against == ORIGINAL else folder_of(asked, against, seed) / DIAGNOSIS
        return held(first, folder_of(asked, arm, seed) / DIAGNOSIS)

    one = compared_with(next(arm for arm in asked.arms if arm != against), asked.seeds[0])
    shown = {change.number.name: change.number.words for change in one.changes if change.number.name.startswith(SHOWN)}
    print(f"\nagainst {against}\n\n| {' | '.join(['arm', 'seed', 'steps', *shown.values()])} |\n{'|---' * (3 + len(shown))}|")
    if against == ORIGINAL:
        print(f"| original | - | - | {cells(one, list(shown), before=True)} |")
    for arm in (arm for arm in asked.arms if arm != against):
        for seed in asked.seeds:
            told = cells(compared_with(arm, seed), list(shown))
            print(f"| {arm} | {seed} | {steps(folder_of(asked, arm, seed))} | {told} |", flush=True)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=lambda name: Path(name).resolve())
    parser.add_argument("--replies", type=lambda name: Path(name).resolve(), required=True)
    parser.add_argument("--out", type=lambda name: Path(name).resolve(), required=True)
    parser.add_argument("--budget", default="20m", help="as of driftcli heal")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        healed = [arm for arm in ARMS if arm != SCRATCH]
        turn = seed % len(healed)
        for arm in [*healed[turn:], *healed[:turn], SCRATCH]:
            if arm not in asked.arms or done(folder_of(asked, arm, seed)):
                continue
            if arm == SCRATCH:
                from_scratch(asked, seed)
            else:
                heal(asked, arm, seed)
    table(asked, ORIGINAL)
    if CONTROL in asked.arms:
        table(asked, CONTROL)


if __name__ == "__main__":
    main()
