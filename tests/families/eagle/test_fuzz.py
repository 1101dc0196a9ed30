"""Whatever is broken in a checkpoint of any layout, it ends in a drafter that drafts or in a refusal of one sentence.

    python -m tests.families.eagle.test_fuzz --examples 2000

prints how many were tried, loaded, refused and crashed. A crash is any other exception, a number in the drafter that neither the file nor
the target holds, an output that is not finite, or memory beyond the file's size.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import SYSTEMS, Sourced
from driftcli.engine.chains import draft_chains
from driftcli.errors import DriftError, FormatError
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.eagle.pitfalls import pitfalls
from driftcli.families.formats import detect
from driftcli.loading.scan import scan_checkpoint
from driftcli.scanned import Unread
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.edits import PROVENANCE, tensors_of
from tests.families.eagle.mutations import KINDS, PICKLE, Mutant, packed
from tests.layouts import LAYOUTS, VOCABULARY, write_layout_target
from tests.tiny import LAYERS, WIDTH, bare_trajectory

Ending = Literal["loaded", "refused"]
MARGIN = 64  # MB beyond the largest file that reading may take
TOKENS = 8


@dataclass(frozen=True)
class Bench:
    """The target, loaded once, and a folder to write in."""

    folder: Path
    target: LanguageModel

    @classmethod
    def at(cls, folder: Path) -> Bench:
        source = Source("target", write_layout_target(folder / "target"))
        return cls(folder, load_language_model(source, torch.device("cpu"), "float32"))

    def examine(self, mutant: Mutant) -> Ending:
        """How the checkpoint ends; raises AssertionError, or whatever was raised, when it crashes."""
        shutil.rmtree(self.folder / "fuzzed", ignore_errors=True)
        folder = mutant.write(self.folder / "fuzzed")
        scanned = _refusal(lambda: _scanned(folder, None)) is None
        _refusal(lambda: _scanned(folder, self.folder / "target"))
        found: list[Eagle3 | Eagle] = []
        refused = _refusal(lambda: found.extend(_drafters(Source("fuzzed", folder), self.target)))
        assert scanned or not found, "loads with its target, but cannot be scanned without"
        assert found or refused is not None, "neither read nor refused"
        return "loaded" if found else "refused"


def _refusal(call: Callable[[], object]) -> DriftError | None:
    """The refusal by `call`, held to one printable sentence; None when it went through."""
    try:
        call()
    except DriftError as error:
        return _sentence(error)
    return None


def _sentence(error: DriftError) -> DriftError:
    said = str(error)
    assert type(error) is not DriftError
    assert said.isprintable(), f"not one printable line: {said!r}"
    assert 20 < len(said) < 1000, f"{len(said)} characters: {said[:300]}"
    return error


def _scanned(folder: Path, target: Path | None) -> None:
    found = scan_checkpoint(str(folder), None if target is None else str(target))
    if isinstance(found, Unread):
        raise FormatError(found.refusal)
    _require_sources(found.record)


def _require_sources(record: dict[str, Sourced]) -> None:
    for name, said in record.items():
        assert PROVENANCE.fullmatch(said.source), f"{name} comes from {said.source!r}"


def _drafters(source: Source, target: LanguageModel) -> Iterator[Eagle3 | Eagle]:
    """The drafter of every reading that is not refused, each proved to draft with its own numbers; the last refusal when there is none."""
    checkpoint = open_checkpoint(source)
    format = detect(source, checkpoint.config, checkpoint.shapes)
    if format.family == "causal-lm":
        load_language_model(source, torch.device("cpu"), "float32")  # no tokenizer is there, so it refuses
        raise AssertionError("a head was loaded as a language model")
    declaration, refused = declare(checkpoint, format, target.facts), []
    pitfalls(declaration)
    for system in SYSTEMS:
        if isinstance(reading := declaration.readings[system], DriftError):
            refused.append(_sentence(reading))
            continue
        declaration.differences(system)
        try:
            drafter, record = read_eagle(declaration, target, system)
        except DriftError as error:
            refused.append(_sentence(error))
            continue
        _require_sources(record)
        _require_known_numbers(drafter, checkpoint, declaration, target)
        _require_drafts(drafter, target)
        yield drafter
    if len(refused) == len(SYSTEMS):
        raise refused[-1]


def _require_known_numbers(drafter: Eagle3 | Eagle, checkpoint: Checkpoint, declaration: Declaration, target: LanguageModel) -> None:
    """Every number of the drafter is in the file, in the target, or a gain of 1."""
    path = checkpoint.source.folder / PICKLE
    stored = torch.load(path, weights_only=True) if path.exists() else load_file(checkpoint.source.folder / "model.safetensors")
    ids = torch.from_numpy(declaration.to_target)
    own = stored.get(declaration.names.get("embed_tokens.weight", ""))
    rows = [target.head[ids], *([own[ids]] if own is not None else [])]
    known = [tensor.detach().to(target.head) for tensor in (*stored.values(), target.embedding, target.head, *rows)]
    for tensor in tensors_of(drafter):
        if tensor.is_floating_point():
            assert bool((tensor == 1).all()) or any(torch.equal(tensor, each) for each in known), f"{tuple(tensor.shape)} from nowhere"


class _Listened:
    """A drafter that holds its logits to be finite over its draft vocabulary."""

    def __init__(self, drafter: Eagle3 | Eagle) -> None:
        self._drafter = drafter

    def __getattr__(self, name: str) -> object:
        return getattr(self._drafter, name)

    def wired(self, wiring: Wiring) -> object:
        """As declared, and still heard."""
        assert wiring == Wiring()
        return self

    def logits(self, output: Tensor) -> Tensor:
        logits = self._drafter.logits(output)
        vocabulary = len(self._drafter.vocabulary.to_target) if isinstance(self._drafter, Eagle3) else VOCABULARY
        assert logits.shape == (len(output), vocabulary)
        assert bool(torch.isfinite(logits).all()), "logits that are not finite"
        return logits


def _require_drafts(drafter: Eagle3 | Eagle, target: LanguageModel) -> None:
    """A chain of two steps over a text of a few tokens."""
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(0, VOCABULARY, (TOKENS,), generator=random)
    streams = {boundary: torch.randn(TOKENS - 1, WIDTH, generator=random) for boundary in range(LAYERS + 2)}
    drafted = draft_chains(_Listened(drafter), bare_trajectory("fuzz", ids, 3, streams), DraftSettings(depth=2), 2, free=True)  # type: ignore[arg-type]
    for queries in (drafted.fresh, *drafted.forced, *drafted.free):
        assert queries.state is not None and bool(torch.isfinite(queries.state).all()), "a state that is not finite"
        assert bool(torch.isfinite(queries.masses.entropy).all()), "attention that is not finite"
        assert bool((queries.guesses.drafted >= 0).all() and (queries.guesses.drafted < len(target.head)).all())


# --- memory


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Let the peak start anew from what is held now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def warm_up(bench: Bench) -> None:
    """Load every layout once, so that what stays in memory anyway is there."""
    for layout in LAYOUTS:
        assert bench.examine(Mutant(layout.name, (), layout.config, *packed(layout.tensors, layout))) == "loaded", layout.name


# --- as a test


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench.at(tmp_path_factory.mktemp("fuzz"))
    warm_up(made)
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_checkpoint_with_anything_broken_is_read_and_drafts_or_is_refused(kind: str, bench: Bench) -> None:
    endings: Counter[Ending] = Counter()
    forget_peak()
    before = peak()

    @settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(KINDS[kind])
    def examine(mutant: Mutant) -> None:
        endings[bench.examine(mutant)] += 1

    examine()
    assert min(endings["loaded"], endings["refused"]) > 2, f"{endings}: mutations that all end alike prove nothing"
    assert peak() - before < MARGIN, "more memory was taken than the files are large"


# --- as a count


@dataclass
class Tally:
    """Endings of one kind, and the crashes with their mutants."""

    endings: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)


def count(kind: str, bench: Bench, examples: int, start: int) -> Tally:
    """Endings of so many random mutants."""
    tally = Tally()

    @seed(start)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate], verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(KINDS[kind])
    def examine(mutant: Mutant) -> None:
        before = peak()
        try:
            tally.endings[bench.examine(mutant)] += 1
            assert peak() - before < MARGIN, f"{peak() - before:.0f} MB were taken"
        except Exception as error:  # whatever comes is what is counted
            tally.endings["crashed"] += 1
            (*_, last) = traceback.extract_tb(error.__traceback__)
            tally.crashes.append(
                f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:300]}\n  {str(mutant)[:600]}"
            )

    examine()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description="Count how broken checkpoints of every layout end.")
    parser.add_argument("--examples", type=int, default=500, help="over all kinds of mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(KINDS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kinds = [asked.kind] if asked.kind else list(KINDS)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.at(Path(folder))
        warm_up(bench)
        loaded = peak()
        tallies = {kind: count(kind, bench, asked.examples // len(kinds), asked.seed) for kind in kinds}
        grown = peak() - loaded
    total = sum((tally.endings for tally in tallies.values()), Counter[str]())
    print(f"{'mutated':10}{'tried':>8}{'loaded':>8}{'refused':>9}{'crashed':>9}")
    for kind, endings in [*((kind, tally.endings) for kind, tally in tallies.items()), ("all", total)]:
        print(f"{kind:10}{sum(endings.values()):8}{endings['loaded']:8}{endings['refused']:9}{endings['crashed']:9}")
    print(f"{len(LAYOUTS)} layouts; peak memory grew by {grown:.0f} MB beyond the {loaded:.0f} MB with target and every layout loaded once")
    for crash in [crash for tally in tallies.values() for crash in tally.crashes][:40]:
        print(crash, file=sys.stderr)
    sys.exit(bool(total["crashed"]))


if __name__ == "__main__":
    main()
