"""Each treatment against the illness that it is for: `python -m tests.benchmarks.planted_illnesses --replies FILE --out FOLDER [--budget 3m]`

Heads of the bundled target that lack one thing, each healed by the treatment that is for it and by more training alone (`unroll`):

    small vocabulary   bundled:post-norm with only the 600 draft tokens that the replies hold most often
    single steps       a post-norm head trained for the budget without ever feeding on its own state
    short texts        bundled:post-norm trained on, for the budget, on the first 96 tokens of each conversation alone
    one template       bundled:post-norm, which was trained on one

Printed of each: what the diagnosis found before, acceptance length before and after, what was treated, and whether a cure was shown; on
prompts that nothing was learned from. What is in FOLDER already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from driftcli.durations import duration
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.healing.judged import TREATED
from driftcli.healing.places import head_files
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.vocabulary import with_map_of
from driftcli.loading.pair import load_pair
from driftcli.mitigations.treatment import Treatment
from driftcli.outcome import FAILED
from driftcli.target.language_model import LanguageModel
from driftcli.training.conversations import Conversation, read_conversations, write_conversations

ROOT = Path(__file__).resolve().parents[2]
TOOL = (sys.executable, "-m", "driftcli")
TARGET, SOUND = "bundled:target", "bundled:post-norm"
TOKENS, SHORT = 600, 96  # of a small vocabulary, and of a short text


@dataclass(frozen=True)
class Illness:
    """A head that lacks one thing: how it is made, from replies and into a folder, the probes that find it, and what is for it."""

    make: Callable[[argparse.Namespace, Path], str]
    probes: Sequence[str]
    treatment: Treatment


def with_tokens_said_most(count: int, replies: Path, out: Path) -> str:
    """The sound head with so many of its draft tokens, those that replies hold most often."""
    pair = load_pair(TARGET, SOUND, torch.device("cpu"), "float32")
    head, target = pair.drafter, pair.target
    assert isinstance(head, Eagle3)
    assert isinstance(target, LanguageModel)
    said = [token for talk in read_conversations(replies, len(target.head)) for start, end in talk.spans for token in talk.ids[start:end]]
    counts = torch.tensor(said).bincount(minlength=len(target.head))[head.vocabulary.to_target]
    kept = counts.argsort(descending=True, stable=True)[:count].sort().values
    made = replace(head, head=head.head[kept], vocabulary=DraftVocabulary.of(head.vocabulary.to_target[kept], len(target.head)))
    write_files(with_weights_of(with_map_of(head_files(SOUND, target, head), made), made, {}), out)
    return str(out)


def small_vocabulary(asked: argparse.Namespace, out: Path) -> str:
    return with_tokens_said_most(TOKENS, asked.replies, out)


def trained(asked: argparse.Namespace, out: Path, replies: Path, unroll: int, *more: str) -> str:
    """A post-norm head trained for the budget."""
    line = [sys.executable, "examples/train_eagle3.py", "--target", TARGET, "--norm", "post", "--replies", replies, "--cache", out / "streams",
            "--out", out / "head", "--unroll", unroll, "--minutes", duration(asked.budget) / 60, "--rate", "2e-3",
            *more]  # fmt: skip
    run(line)
    return str(out / "head")


def single_steps(asked: argparse.Namespace, out: Path) -> str:
    return trained(asked, out, asked.replies, 1, "--draft-vocabulary-size", "1536")


def short_texts(asked: argparse.Namespace, out: Path) -> str:
    """The sound head after it was trained on the beginnings of conversations alone."""
    talks = read_conversations(asked.replies, 1 << 30)
    cut = [Conversation(talk.ids[:SHORT], [(a, min(b, SHORT)) for a, b in talk.spans if a < SHORT]) for talk in talks]
    out.mkdir(parents=True, exist_ok=True)
    write_conversations(out / "short.jsonl", [talk for talk in cut if talk.spans])
    return trained(asked, out, out / "short.jsonl", 8, "--from", SOUND)


def as_it_is(_: argparse.Namespace, __: Path) -> str:
    return SOUND


ILLNESSES: Mapping[str, Illness] = {
    "small vocabulary": Illness(small_vocabulary, ("controls", "vocabulary"), "vocabulary"),
    "single steps": Illness(single_steps, ("controls", "chain-length"), "unroll"),
    "short texts": Illness(short_texts, ("controls", "context-length"), "contexts"),
    "one template": Illness(as_it_is, ("controls", "template", "system-prompt"), "templates"),
}


def run(line: Sequence[object], ended: Sequence[int] = (0,)) -> str:
    """What a command prints; it must end as expected."""
    found = subprocess.run([str(word) for word in line], check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert found.returncode in ended, f"{line}: exit {found.returncode}"
    return found.stdout


def healed(asked: argparse.Namespace, before: Path, treatment: Treatment, folder: Path) -> dict[str, object]:
    """What `driftcli heal --format json` said, kept in the folder."""
    told = folder / "told.json"
    if not told.exists():
        line = [*TOOL, "heal", "--run", before, "--out", folder, "--replies", asked.replies, "--budget", asked.budget, "--format", "json"]
        said = run([*line, "--treatment", treatment], (0, FAILED))
        told.write_text(said)
    found: dict[str, object] = json.loads(told.read_text())
    return found


def main() -> None:
    """Plant, diagnose, heal, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=lambda name: Path(name).resolve(), required=True)
    parser.add_argument("--out", type=lambda name: Path(name).resolve(), required=True)
    parser.add_argument("--budget", default="3m", help="of each training, as of driftcli heal")
    asked = parser.parse_args()
    print("| planted | found before | treatment | number | before | after | change | | cured |\n|---|---|---|---|---|---|---|---|---|")
    for name, illness in ILLNESSES.items():
        folder = asked.out / name.replace(" ", "-")
        before = folder / "before"
        if not (before / "findings.json").exists():
            head = illness.make(asked, folder / "planted")
            probes = [word for probe in illness.probes for word in ("--probe", probe)]
            run([*TOOL, "diagnose", "--target", TARGET, "--drafter", head, *probes, "--max-new-tokens", 48, "--lengths", "256,512,1024",
                 "--no-quick", "--out", before, "--force"])  # fmt: skip
        codes = ", ".join(one["code"] for one in json.loads((before / "findings.json").read_text())) or "nothing"
        for treatment in dict.fromkeys((illness.treatment, "unroll")):
            tell(name, codes, treatment, illness, healed(asked, before, treatment, folder / treatment))


def tell(name: str, codes: str, treatment: Treatment, illness: Illness, told: Mapping[str, object]) -> None:
    """The rows of one treatment: acceptance length, first guesses, and what the illness is about."""
    comparison = told["comparison"]
    assert isinstance(comparison, dict)
    shown = ("acceptance_length", "accuracy_1", "accuracy_8", *TREATED.get(illness.treatment, ()))
    for one in comparison["changes"]:
        if one["number"].startswith(shown) and "-window-" not in one["number"]:
            difference = one["difference"]
            change = f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
            values = f"{one['before']['value']:.3f} | {one['after']['value']:.3f}"
            print(
                f"| {name} | {codes} | {treatment} | {one['number']} | {values} | {change} | {one['word']} | {told['cured']} |", flush=True
            )


if __name__ == "__main__":
    main()
