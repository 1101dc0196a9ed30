"""From a diagnosed pair to a healed head: gate, data, training, files, and the judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, cast

import typer
from rich.console import Console

from driftcli.cli.battery import trusted_battery
from driftcli.cli.comparison import shown
from driftcli.cli.diagnosis import asked_prompts, diagnose_pair
from driftcli.cli.net import Resumable
from driftcli.cli.progress import Told
from driftcli.cli.request import DtypeChoice, EngineChoice, Request
from driftcli.cli.threads import allowed_threads, threads
from driftcli.conditions import BASELINE
from driftcli.domain import Prompt, Verdict
from driftcli.errors import RunError, UsageError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.mtp.head import Mtp
from driftcli.families.mtp.kinds import OWN_HEAD
from driftcli.healing.card import card
from driftcli.healing.data import Gathering, gather
from driftcli.healing.gate import RunText, same_guesses
from driftcli.healing.judged import Judged, judged, restated
from driftcli.healing.mended import mended, with_offsets
from driftcli.healing.places import HeadFiles, head_files
from driftcli.healing.split import Split, split
from driftcli.healing.stored import with_weights_of, write_files
from driftcli.healing.training import SETTINGS, Course, trained, treated, usual_rate
from driftcli.healing.treatments import chosen
from driftcli.healing.vocabulary import with_map_of
from driftcli.healing.window import best_window, require_chains_in_window, settings_of
from driftcli.loading.pair import InVllm, LoadedPair, Loading, load_pair
from driftcli.mitigations.healable import STORED_OTHERWISE
from driftcli.mitigations.treatment import NAMES, Treatment
from driftcli.outcome import FAILED
from driftcli.printable import counted, printable
from driftcli.report.choices import CompareFormat
from driftcli.report.console import put
from driftcli.report.verdict import judge
from driftcli.sources.files import Json
from driftcli.statistics.survival import Chains
from driftcli.suggestions import meant
from driftcli.target.language_model import LanguageModel, choose_device, quiet_transformers
from driftcli.target.target import Target
from driftcli.texts.prompts import content_hash, prompt_json
from driftcli.traces.layout import ENGINE_FOLDER
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from driftcli.traces.writer import Plain
from driftcli.training.losses import require_known_head
from driftcli.training.streams import capture

WRITING, TRAINING = 0.25, 0.65  # of the budget; what is left goes to loading, capturing and checks (chosen by us)
GATED = 8  # texts on which the trained step is held against the run (chosen by us)
RESTATED = "vocab_map"  # the fact that files only say otherwise what was measured
ASKED_OF_ALL = ("chain-length", "streams", "vocabulary", "domain")  # probes that need the baseline alone, whose findings call for treatment
JUDGING = ("controls", "chain-length", "template", "system-prompt", "context-length", "domain")  # probes that are asked again
TRIED, WORK, DIAGNOSIS = "tried", "work", "diagnosis"


@dataclass(frozen=True)
class Asked:
    """What `heal` was asked; budget in seconds. engine: what writes replies; engine_args: of vLLM's."""

    run: Path
    out: Path
    target: str | None
    drafter: str | None
    budget: int
    treatments: Sequence[str]
    replies: Path | None
    unroll: int | None
    rate: float | None
    acceptance: float
    tokens: int
    seed: int
    device: str
    dtype: DtypeChoice
    threads: int | None
    engine: EngineChoice
    engine_args: Mapping[str, Json]


@dataclass(frozen=True)
class Healed:
    """What came of it: treatments, none for files that were mended alone, what was learned from, and how it was judged."""

    out: Path
    treatments: tuple[str, ...]
    facts: Mapping[str, Json]
    judged: Judged


def heal_pair(asked: Asked) -> Healed:
    """Gate, heal, judge; raises DriftError with one sentence for anything that cannot be."""
    before = read_run(asked.run)
    request = _requested(asked, before)
    sides = split(_prompts(request, before), before.spec.seed)
    if (asked.out / "config.json").exists():
        raise UsageError(f"--out {asked.out}: holds a healed head already; name another folder")
    asked.out.mkdir(parents=True, exist_ok=True)
    with (
        threads(asked.threads or allowed_threads()),
        Resumable(asked.out),
        Told(Console(stderr=True, highlight=False, markup=False)) as told,
    ):
        treatments, facts = _made(asked, before, request, sides, told)
        told.say(f"judging on {counted(len(sides.judging), 'prompt')} that nothing was learned from", "judging")
        only_said = RESTATED in facts
        after, verdict = _diagnosed(asked, replace(request, probes=[*request.probes, *["wiring"] * only_said]), sides)
        runs, facts = (before.against(BASELINE), after.against(BASELINE)), {**facts, **_temperatures(after)}
        found = restated(*runs, verdict.axes["wiring"]) if only_said else judged(*runs, treatments)
        _settle(asked.out, card(request.drafter, request.target, treatments, facts, found), cured=found.cured)
    return Healed(asked.out, treatments, facts, found)


def _requested(asked: Asked, before: Run) -> Request:
    """What the run was asked, for the same pair on what `heal` names, by the engine that ran it."""
    said = before.manifest["asked"]
    assert isinstance(said, Mapping)
    engine, args = _engine(asked.run, said)
    prompts = None if said["prompts"] is None else Path(str(said["prompts"]))
    names = [name for name in before.probe_names if name in JUDGING] or ["controls"]
    target, drafter = asked.target or str(said["target"]), asked.drafter or str(said["drafter"])
    return Request(
        target, drafter, prompts, names, before.spec, None, asked.device, asked.dtype, "declared", False, None, False,
        threads=asked.threads, engine=engine, engine_args=args, num_processes=1,
    )  # fmt: skip


def _engine(run: Path, said: Mapping[str, Plain]) -> tuple[EngineChoice, Mapping[str, Json]]:
    """What ran the target of a run that was asked so, and its arguments; UsageError where that engine is not here."""
    engine = said.get("engine")
    if engine is None:
        return "transformers", {}
    assert isinstance(engine, Mapping)
    if find_spec("vllm") is None:
        raise UsageError(
            f"{run}: its target ran in vLLM, by which the healed head is judged too, and vllm is not installed here; "
            "install driftcli[vllm], or diagnose again with --engine transformers"
        )
    return "vllm", cast("Mapping[str, Json]", engine["args"])


def _prompts(request: Request, before: Run) -> list[Prompt]:
    """The prompts of the run; RunError where they are no longer those that it measured."""
    batches = before.manifest["batches"]
    assert isinstance(batches, list)
    marks = {str(mark) for batch in batches if isinstance(batch, list) for mark in batch}
    found = [prompt for prompt in asked_prompts(request) if content_hash(prompt) in marks]
    if len(found) < len(marks):
        where = request.prompts or "the prompts that ship"
        raise RunError(f"{before.path}: {len(marks) - len(found)} of its {len(marks)} prompts are no longer in {where}; diagnose again")
    return found


def _made(asked: Asked, before: Run, request: Request, sides: Split, told: Told) -> tuple[tuple[Treatment, ...], dict[str, Json]]:
    """Write the head to be judged; what was done to it, and what is to be known of that."""
    quiet_transformers()
    told.say(f"loading {request.target} and {request.drafter}", "loading")
    pair = load_pair(request.target, request.drafter, choose_device(request.device), request.dtype)
    with closing(pair.target):
        _check_pair(pair, before)
        drafter, target = pair.drafter, pair.target
        if not isinstance(drafter, Eagle3 | Mtp) or not pair.card.heal_trains or not isinstance(target, LanguageModel):
            raise UsageError(f"{request.drafter}: a {pair.card.family} drafter, expected an EAGLE-3 head, or an MTP head of one module")
        files = head_files(request.drafter if request.drafter != OWN_HEAD else request.target, target, drafter)
        if isinstance(drafter, Eagle3) and before.wiring.changes:
            told.say(
                f"the weights fit another wiring than the files declare ({before.wiring}): the files are mended, and nothing is trained"
            )
            write_files(mended(files, drafter, before.wiring, target), asked.out / TRIED)
            return (), {"wiring": str(before.wiring)}
        if isinstance(drafter, Eagle3) and (kind := str(pair.card.record["vocab_map"].value)) in STORED_OTHERWISE:
            told.say(f"d2t is stored {STORED_OTHERWISE[kind]}, which servers misread: it is written as offsets, and nothing is trained")
            write_files(with_offsets(files, drafter.vocabulary.to_target), asked.out / TRIED)
            return (), {RESTATED: kind}
        return _treated(asked, before, request, drafter, target, files, sides, told)


def _treated(
    asked: Asked, before: Run, request: Request, drafter: Eagle3 | Mtp, target: LanguageModel, files: HeadFiles, sides: Split, told: Told
) -> tuple[tuple[Treatment, ...], dict[str, Json]]:
    """Gate, gather, treat and train; what was done, and what is to be known of it."""
    battery, _ = trusted_battery([*before.probe_names, *ASKED_OF_ALL], [])
    findings = judge(before, battery).findings
    treatments = chosen(_named(asked.treatments), frozenset(finding.code for finding in findings), drafter)
    failed = {finding.category for finding in findings if finding.code == "DOMAIN-SHIFT"} if "domain" in treatments else set()
    unroll = asked.unroll or before.spec.depth
    window = best_window(before, {prompt.id for prompt in sides.taught}) if "window" in treatments else None
    require_chains_in_window(drafter.layers[0].window if window is None else window.rows, unroll)
    share = same_guesses(drafter, target, before, _texts(before, sides.taught, GATED))
    told.say(f"treatments: {', '.join(treatments)}; the step that is trained drafts {share:.1%} of the run's own draft tokens", "writing")
    if window is not None:
        told.say(f"{window}; vLLM reads it in the files, SGLang takes it from a flag alone, as the card says")
    anew = [prompt for prompt in sides.taught if prompt.category in failed]
    rate = usual_rate(drafter) if asked.rate is None else asked.rate
    writes = asked.replies is None or bool(anew) or "templates" in treatments
    if rate and writes:
        _note_engine(asked)
    with _writer(asked, request, target, told) as writer:
        seconds, words = asked.budget * WRITING if rate else 0.0, int(target.config.vocab_size)
        gathering = Gathering(seconds, asked.replies, asked.seed, asked.out / WORK, words, writer)
        found = gather(gathering, before, sides.taught, treatments, anew)
    told.say(f"reading {counted(len(found.conversations), 'conversation')}", "reading")
    require_known_head(target, found.conversations[0].ids)
    data = capture(target, found.conversations, asked.out / WORK / "streams", sorted(drafter.boundaries))
    made, facts = treated(drafter, treatments, data, target, window)
    minutes = asked.budget / 60 * (TRAINING if writes else WRITING + TRAINING)
    course = Course(unroll, rate, asked.acceptance, asked.tokens, asked.seed, minutes, treatments, found.apart, found.again)
    if rate:
        told.say("training", "training")
    healed, of_training = trained(made, drafter, files, data, target, course, asked.out / WORK)
    if rate and writes:
        facts = {"replies_by": asked.engine, **({"behind_other_templates": found.rendered} if found.rendered else {}), **facts}
    write_files(_files(files, healed, treatments), asked.out / TRIED)
    tokens = sum(end - start for talk in data.conversations for start, end in talk.spans)
    return treatments, {
        "conversations": len(data.conversations), "reply_tokens": tokens, "budget_seconds": asked.budget, "seed": asked.seed,
        "unroll": course.unroll, "rate": rate, "acceptance_share_of_loss": asked.acceptance, **facts, **of_training,
    }  # fmt: skip


def _files(files: HeadFiles, healed: Eagle3 | Mtp, treatments: Sequence[Treatment]) -> HeadFiles:
    """The files of a head with its weights, and what treatments set."""
    settings = {key: value for treatment in treatments for key, value in SETTINGS.get(treatment, {}).items()}
    if "window" in treatments:
        assert isinstance(healed, Eagle3)
        settings |= settings_of(files.config, healed)
    if "vocabulary" in treatments:
        assert isinstance(healed, Eagle3)
        files = with_map_of(files, healed)
    return with_weights_of(files, healed, settings)


def _note_engine(asked: Asked) -> None:
    """Note which engine writes the replies of an attempt; UsageError where another one began to, since what it wrote is kept."""
    known = asked.out / WORK / "replies_by"
    if known.exists() and (begun := known.read_text(encoding="utf-8")) != asked.engine:
        raise UsageError(f"--engine {asked.engine}: {asked.out} holds replies by {begun}; ask for that, or name another --out")
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(asked.engine, encoding="utf-8")


@contextmanager
def _writer(asked: Asked, request: Request, target: LanguageModel, told: Told) -> Iterator[Callable[[], Target]]:
    """What gives the target that writes: the one that is trained on, or vLLM's, started when it is asked for and ended here."""
    with ExitStack() as ending:

        @cache
        def in_vllm() -> Target:
            told.say(f"loading {request.target} into vLLM", "loading")
            args = asked.engine_args or request.engine_args
            loading = Loading(target.device, request.dtype, vllm=InVllm(args, asked.out / WORK / ENGINE_FOLDER))
            writing = loading.target(target.source)
            ending.callback(writing.close)
            writing.start(())
            told.say("writing replies", "writing")
            return writing

        yield in_vllm if asked.engine == "vllm" else lambda: target


def _named(asked: Sequence[str]) -> list[Treatment]:
    if strange := [name for name in asked if name not in NAMES]:
        raise UsageError(f"--treatment {strange[0]}: {meant(strange[0], NAMES)}expected one of {', '.join(NAMES)}")
    return [name for name in NAMES if name in asked]


def _check_pair(pair: LoadedPair, before: Run) -> None:
    """RunError for another pair than the run's."""
    for kind in ("target", "drafter"):
        theirs, ours = getattr(before.pair, kind), getattr(pair.card, kind)
        if theirs.fingerprint != ours.fingerprint:
            raise RunError(f"{before.path}: was measured with a {kind} of other files than {ours.name} has today; diagnose this pair first")


def _texts(before: Run, prompts: Sequence[Prompt], most: int) -> list[RunText]:
    """Some of a run's own texts, of the baseline, that are long enough for a chain."""
    known = {prompt.id for prompt in prompts}
    columns = ["prompt", "turn", "ids", "prompt_length", "anchors"]
    rows = read_table(before.path / "trajectories", columns, before.reference).to_pylist()
    usable = [row for row in rows if row["prompt"] in known and row["anchors"]]
    return [RunText(row["prompt"], row["turn"], row["ids"], row["prompt_length"]) for row in usable[:most]]


def _diagnosed(asked: Asked, request: Request, sides: Split) -> tuple[Run, Verdict]:
    """The head that is to be judged, diagnosed on the prompts that were kept apart."""
    prompts = asked.out / WORK / "judging.jsonl"
    prompts.parent.mkdir(parents=True, exist_ok=True)
    prompts.write_text("".join(f"{json.dumps(prompt_json(prompt))}\n" for prompt in sides.judging), encoding="utf-8")
    found = diagnose_pair(
        replace(request, drafter=str(asked.out / TRIED), prompts=prompts, limit=len(sides.judging), out=asked.out / DIAGNOSIS)
    )
    assert found is not None, "one process measures"
    return found


def _temperatures(run: Run) -> dict[str, Json]:
    """One temperature a depth that fits what the drafter says of how far its chains get, for engines that stop by it."""
    fitted = {told: list(one.whole.temperatures) for told, one in run.survival.items() if isinstance(one, Chains) and not one.unfitted}
    return {f"temperatures_of_{told}_by_depth": [round(float(one), 4) for one in each] for told, each in fitted.items()}


def _settle(out: Path, text: str, *, cured: bool) -> None:
    """Put what was tried where a drafter is looked for, if it is a cure."""
    (out / TRIED / "README.md").write_text(text, encoding="utf-8")
    if cured:
        for file in (out / TRIED).iterdir():
            file.rename(out / file.name)
        (out / TRIED).rmdir()


def end(healed: Healed, format: CompareFormat) -> NoReturn:
    """Print it, and leave by 0 for a cure that is shown, else by 4."""
    found = healed.judged
    if format == "json":
        told = {"schema": 1, "cured": found.cured, "why": found.why, "out": str(healed.out), "treatments": list(healed.treatments)}
        put(json.dumps({**told, **dict(healed.facts), "comparison": json.loads(str(shown(found.comparison, "json")))}, indent=2))
    else:
        put(shown(found.comparison, format))
        put(printable(_sentence(healed)))
    raise typer.Exit(0 if found.cured else FAILED)


def _sentence(healed: Healed) -> str:
    how = f"by {', '.join(healed.treatments)}" if healed.treatments else "by mending its files"
    if healed.facts.get("best_step") == 0:
        how += f", trained in vain (none of {healed.facts['steps']} steps guessed better on held-out conversations)"
    if healed.judged.cured:
        return f"healed {how}: {healed.judged.why}; serve {healed.out}"
    return f"not shown to be healed {how}: {healed.judged.why}; keep the original (what was tried is in {healed.out / TRIED})"
