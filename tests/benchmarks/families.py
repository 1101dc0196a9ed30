"""One row a family and layout that is read: `python -m tests.benchmarks.families [WORD ...]` prints a table in Markdown.

Each row is of a small self-made checkpoint: as what its files are detected, how many of its tensors move what is drafted, and how far the
engine is from somebody else's computation, measured now (`tests.families.agreements`). Words leave the rows that hold one of them.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.cells import draft
from driftcli.errors import DriftError
from driftcli.families.block.scan import GEMMA_4
from driftcli.families.causal_lm.tokens import one_table
from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.formats import FORMATS, open_drafter
from driftcli.families.layout import LANGUAGE_MODELS
from driftcli.families.mtp.kinds import KINDS, LING_3, OWN_HEAD, SPECULATORS, TRAINED
from driftcli.families.mtp.names import mtp_tensors
from driftcli.families.without_files import without_files
from driftcli.loading.pair import load_pair
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Scan, Unread
from driftcli.sources.files import resolve
from driftcli.target.language_model import quiet_transformers
from tests.families.agreements import Check, Subject, subjects
from tests.tiny import prompts, trajectories

CPU, DEPTH = torch.device("cpu"), 3
READ = "nobody: read in the servers' sources, not run"
EXPERT = re.compile(r"\.experts\.\d+\.")
EAGLE_31 = "EAGLE 3.1"  # as a scan says of a head's norms
Pair = tuple[str, str]  # names of a target and a drafter


@dataclass(frozen=True)
class Row:
    """What is printed of a layout. tensors: used and stored, absent for a drafter without files or a layout without a case."""

    detected: str
    cases: int
    tensors: str
    error: str
    against: str

    def __str__(self) -> str:
        return f"| {self.detected} | {self.cases or '-'} | {self.tensors} | {self.error} | {self.against} |"


def detected(pair: Pair) -> str:
    """What a drafter is, by the detection of `driftcli scan`: its layout, what the scan says of it beyond that, and of a language model
    whether its tokens are the target's, as loading tells.
    """
    target, drafter = pair
    if (own := without_files(drafter)) is not None:
        return str((own.record(layers=2) if isinstance(own, EarlyExit) else own.record)["format"].value)
    scan = scan_checkpoint(drafter, target)
    assert isinstance(scan, Scan), scan
    if drafter == OWN_HEAD:
        return scan.format
    opened = open_drafter(resolve(drafter))
    assert not isinstance(opened, Unread)
    format, more = opened[1], list[str]()
    if scan.format != format.name:
        more.append(scan.format)
    if any(check.subject == "norms" and EAGLE_31 in check.text for check in scan.checks):
        more.append(EAGLE_31)
    if any(check.subject == "layers" and check.text.startswith(GEMMA_4) for check in scan.checks):
        more.append(f"{GEMMA_4} layers")
    if format.family in LANGUAGE_MODELS and not one_table(resolve(target), resolve(drafter)):
        more.append("another tokenizer")
    return ": ".join((format.name, *more))


def weights_of(pair: Pair) -> tuple[Path, list[str]]:
    """The file that holds a drafter's tensors, and their names; a head inside its target has but a part of the file."""
    target, drafter = pair
    folder = Path(target if drafter == OWN_HEAD else drafter)
    (path,) = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt")]
    names = list(read(path))
    return path, list(mtp_tensors(names)) if drafter == OWN_HEAD else names


def read(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path)


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    else:
        torch.save(dict(tensors), path)


def moved(tensor: Tensor) -> Tensor:
    """The tensor with other numbers of its kind."""
    if tensor.dtype == torch.bool:
        return ~tensor
    if not tensor.is_floating_point():
        return tensor + 1
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    return (tensor.float() * (1 + 0.5 * noise) + 0.1 * noise).to(tensor.dtype)


def drafts(pair: Pair) -> list[Tensor]:
    """All that a drafter says on some texts: tokens, probabilities, states, and what a confidence head says."""
    loaded = load_pair(*pair, CPU, "float32")
    depth = len(loaded.drafter.stages) if isinstance(loaded.drafter, FeedForward) else DEPTH
    made = trajectories(loaded.target, prompts(6), loaded.boundaries, 24)  # type: ignore[arg-type]
    found = draft(loaded, [text for text in made if text.n_anchors(depth)], DraftSettings(depth=depth), depth, free=False)
    told = [(*vars_of(queries.guesses), queries.state) for queries in (found.fresh, *found.forced)]
    return [one for some in told for one in some if one is not None]


def vars_of(guesses: object) -> tuple[Tensor | None, ...]:
    return tuple(getattr(guesses, name) for name in ("drafted", "draft_prob", "wanted_prob", "entropy", "confidence"))


def told_with(pair: Pair, path: Path, held: Mapping[str, Tensor], name: str, other: Tensor) -> list[Tensor] | None:
    """What is said with another tensor under a name, None where that is refused."""
    write(path, {**held, name: other})
    try:
        return drafts(pair)
    except DriftError:
        return None
    finally:
        write(path, held)


def alike(some: list[Tensor], others: list[Tensor] | None) -> bool:
    """Whether what is said is the same, number for number."""
    if others is None or len(some) != len(others):
        return False
    return all(torch.equal(one.nan_to_num(9), two.nan_to_num(9)) for one, two in zip(some, others, strict=True))


def tensors_used(pair: Pair) -> str:
    """How many of a drafter's tensors move what it drafts, of those stored, and which do not; experts that no row is handed to move nothing,
    but are read: NaN in them is refused.
    """
    path, names = weights_of(pair)
    held, before = read(path), drafts(pair)
    idle = [name for name in names if alike(before, told_with(pair, path, held, name, moved(held[name])))]
    spare = [
        name for name in idle if EXPERT.search(name) and told_with(pair, path, held, name, torch.full_like(held[name], torch.nan)) is None
    ]
    rest = [name for name in idle if name not in spare]
    shown = [*rest[:3], *([f"{len(rest) - 3} more"] if len(rest) > 3 else [])]
    said = [f"not {', '.join(shown)}"] if shown else []
    said += [f"{len(spare)} of experts that no row here was handed to"] if spare else []
    return ", ".join((f"{len(names) - len(idle)} of {len(names)}", *said))


def row(subject: Subject, pair: Pair, folder: Path) -> Row:
    """A written layout's row, with all that is written to check it in a folder."""
    found: Check = subject.check(folder)
    tensors = "no files" if without_files(pair[1]) else tensors_used(pair)
    error = "-" if found.error is None else f"{found.error:.0e}"
    return Row(detected(pair), len(subject.cases), tensors, error, found.against)


def known() -> list[str]:
    """Every layout and kind of head by the registries that the tool reads by, and the drafters without files."""
    kinds = [kind.name for kind in (*KINDS, LING_3, SPECULATORS, TRAINED)]
    return list(dict.fromkeys([*(format.name for format in FORMATS), *kinds]))


def lacking(found: list[str]) -> list[Row]:
    """Rows of what is known and has no case."""
    said = {part for name in found for part in (name, *name.split(": "))}
    return [Row(name, 0, "-", "-", READ) for name in known() if name not in said]


def written(folder: Path) -> Iterator[tuple[str, Pair, Subject]]:
    """What each layout is detected as, with its first case in a folder."""
    for number, subject in enumerate(subjects(detected, folder / "detected")):
        pair = subject.write(folder / str(number))
        yield detected(pair), pair, subject


def rows(folder: Path, words: Sequence[str]) -> Iterator[Row]:
    """The rows that are asked for, one by one, of all if no word is."""
    found = []
    for number, (name, pair, subject) in enumerate(written(folder)):
        found.append(name)
        if not words or any(word in name for word in words):
            yield row(subject, pair, folder / f"{number}-checked")
    yield from (one for one in lacking(found) if not words)


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    quiet_transformers()
    torch.set_num_threads(1)
    print("| detected as | cases | tensors used of stored | largest error, of the RMS | against |\n|---|--:|---|--:|---|")
    with TemporaryDirectory() as folder:
        for each in rows(Path(folder), sys.argv[1:]):
            print(each, flush=True)


if __name__ == "__main__":
    main()
