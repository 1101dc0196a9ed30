"""Every family and layout by small self-made checkpoints, and how far the engine is from what somebody else computes with them.

Each check is the comparison that the family's own tests make. An error is the largest difference in units of the RMS of what is compared:
states and scores, or, where a drafter shows neither, a token's log-probability in units of the RMS of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from driftcli.conditions import DraftSettings
from driftcli.domain import System
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.lookup_chains import draft_lookups
from driftcli.engine.trajectories import Trajectory
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.formats import FORMATS
from driftcli.families.lookup.lookup import Lookup
from driftcli.families.mtp.kinds import KINDS, LING_3, TRAINED
from driftcli.loading.pair import load_pair
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.benchmarks.layouts import agreement
from tests.edits import edit_config
from tests.engine import golden
from tests.engine.test_early_exit import LAYERS, cut_model
from tests.engine.test_keyless_chains import TRANSFORMERS, VLLM, Pair, states_by_transformers
from tests.engine.test_lookup_chains import drafts
from tests.engine.test_other_tokens import mapped, write_other
from tests.engine.test_stage_chains import FORMULAS, LAST, STEPS, read, wanted_of_golden
from tests.engine.test_stage_chains import GOLDEN as WITH_STEPS
from tests.engine.test_stage_chains import draft as draft_heads
from tests.families.assistant import cases as assistants
from tests.families.block import cases as blocks
from tests.families.eagle import peagle
from tests.families.feed_forward import cases as heads
from tests.families.mtp.all_cases import CASES as MTP
from tests.families.mtp.cases import Case as MtpCase
from tests.families.mtp.cases import write as write_mtp
from tests.families.mtp.measured import both, declared, readings
from tests.families.mtp.test_extracted import alone, converted, states
from tests.families.mtp.test_golden import GOLDEN as MTP_GOLDEN
from tests.families.mtp.test_golden import witness_apart
from tests.golden.steps.producers import FORMULA, producer_of, recipe, with_version
from tests.layouts import layout, write_layout, write_layout_target
from tests.tiny import prompts, trajectories, write_noisy_copy, write_target

CPU, DEPTH, PARD_MASK = torch.device("cpu"), 4, 3
PRODUCERS = {"medusa": "FasterDecoding/Medusa", "speculator": "foundation-model-stack/fms-extras"}
HERE = f"transformers {transformers.__version__}"


@dataclass(frozen=True)
class Check:
    """against: whose computation. error: the largest difference in units of the RMS, None where the check is of another kind."""

    against: str
    error: float | None = None


@dataclass(frozen=True)
class Subject:
    """A layout's drafters.

    cases: their names, of which the first is written. write: puts target and drafter into a folder, and says how they are named. check: all
    of them, with what is written in a folder.
    """

    cases: Sequence[str]
    write: Callable[[Path], tuple[str, str]] = field(repr=False)
    check: Callable[[Path], Check] = field(repr=False)


# ---- golden steps


def all_of(found: Iterable[str]) -> str:
    """Every one once."""
    return "; ".join(dict.fromkeys(found))


def layout_pair(name: str, folder: Path) -> tuple[str, str]:
    target = write_layout_target(folder / "target")
    return str(target), str(write_layout(folder / name, layout(name)))


def eagle(steps: Sequence[str]) -> Subject:
    """The golden steps of layouts that are detected alike."""
    names = sorted({golden.split(step)[0] for step in steps}, key=lambda name: (len(name), name))  # the plainest first

    def check(folder: Path) -> Check:
        target, errors = golden.golden_target(folder / "golden"), list[float]()
        for step in steps:
            held = load_file(golden.GOLDEN / f"{step}.safetensors")
            errors.append(golden.steps_apart(*golden.draft_steps(step, held, target, folder / "steps" / step), held))
        return Check(all_of(map(producer_of, steps)), max(errors))

    return Subject(names, lambda folder: layout_pair(names[0], folder), check)


def converted_eagle() -> Subject:
    """Converted for a class that is gone: no golden steps, but chains drafted alone by the published formula."""

    def check(folder: Path) -> Check:
        layout_pair("eagle1-converted", folder)
        target = load_language_model(Source("target", folder / "target"), CPU, "float32")
        plain = LlamaForCausalLM.from_pretrained(folder / "target").eval()
        return Check(FORMULA, agreement(folder, layout("eagle1-converted"), target, plain)[2])

    return Subject(["eagle1-converted"], lambda folder: layout_pair("eagle1-converted", folder), check)


def block_case(case: blocks.Case, folder: Path) -> tuple[str, str]:
    return str(write_layout_target(folder / "target")), str(blocks.write(case, folder / case.name))


def block(names: Sequence[str]) -> Subject:
    """Block drafters of one layout, each as it was trained."""

    def check(folder: Path) -> Check:
        target, errors = golden.golden_target(folder / "golden"), list[float]()
        for name in names:
            drafter = golden.read_block_case(name, target, folder / "blocks")
            found, _ = golden.draft_block(drafter, blocks.ROWS - (not drafter.anchor_first))
            errors.append(golden.off(found, golden.golden_block(name)[f"rows.{blocks.ROWS}"]))
        source, named = recipe("block_steps"), {"zlab": "z-lab's dflash", "deepspec": "deepseek-ai/DeepSpec", "speculators": "speculators"}
        return Check(with_version(named[names[0].partition("-")[0]], source), max(errors))

    return Subject(names, lambda folder: block_case(blocks.CASES[names[0]], folder), check)


def in_vllms_layout(case: blocks.Case) -> blocks.Case:
    """A P-EAGLE drafter as it is published for vLLM: the layer's settings at the top, and no word of speculators."""
    inner = case.config["transformer_layer_config"]
    assert isinstance(inner, dict)
    own = {"pard_token": peagle.MASK, "eagle_aux_hidden_state_layer_ids": list(peagle.BOUNDARIES), "draft_vocab_size": blocks.VOCABULARY}
    config = {**inner, **own, "model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"]}
    return blocks.Case("vllm", {**config, "parallel_drafting": True, "norm_before_residual": False}, case.tensors, case.boundaries)


def parallel(cases: Sequence[blocks.Case], golden_names: Sequence[str], system: System | None = golden.TRAINED) -> Subject:
    """P-EAGLE in one layout. golden_names: of the golden files of the same tensors. system: whose reading, None for the declared one."""

    def check(folder: Path) -> Check:
        target, errors = golden.golden_target(folder / "golden"), list[float]()
        for case, name in zip(cases, golden_names, strict=True):
            found, _ = golden.draft_parallel(golden.read_parallel(case, target, folder / "chains" / name, system))
            errors.append(golden.off(found, golden.golden_parallel(name)))
        return Check(with_version("speculators", recipe("peagle_steps")), max(errors))

    return Subject([case.name for case in cases], lambda folder: block_case(cases[0], folder), check)


# ---- MTP heads


def mtp_errors(case: MtpCase, folder: Path) -> Iterator[float]:
    """Of every guess and every state that is handed on, in every system's reading."""
    for _, pair, witness in readings(case, write_mtp(case, folder)):
        for prob, scores, state, own in both(pair, witness):
            yield log_apart(prob, scores, int(scores.argmax()))
            if state is not None:
                yield golden.apart(state[None], own[None])


def mtp(cases: Sequence[MtpCase]) -> Subject:
    """Heads of one kind inside their targets."""

    def check(folder: Path) -> Check:
        errors = [error for case in cases for error in mtp_errors(case, folder / "readings" / case.name)]
        held = [witness_apart(case, path, folder / "golden" / case.name) for case, path in MTP_GOLDEN if case in cases]
        also = f", which is apart from {with_version('speculators', recipe('mtp_steps'))} by {max(held):.0e}" if held else ""
        return Check(f"{HERE}, the family's own layer{also}", max(errors))

    return Subject([case.name for case in cases], lambda folder: (str(write_mtp(cases[0], folder / "target")), "mtp"), check)


def moved_mtp(name: str, moved: Callable[[str, Path], tuple[str, str]]) -> Subject:
    """A head taken out of its target, against the same inside."""

    def check(folder: Path) -> Check:
        target, drafter = moved(name, folder / "moved")
        inside, apart = (states(load_pair(target, one, CPU, "float32")) for one in ("mtp", drafter))
        return Check("the same head inside its target", golden.apart(apart, inside))

    return Subject([name], lambda folder: moved(name, folder), check)


# ---- assistants, and heads without attention


def assistant() -> Subject:
    """Assistants of Gemma 4, whose states are the class's own where its queries are given the places of vLLM's and of its own."""

    def check(folder: Path) -> Check:
        errors = list[float]()
        for name in assistants.CASES:
            pair = Pair(name, folder / "pairs" / name)
            made = pair.texts[1]
            for system, before in ((TRANSFORMERS, 0), (VLLM, 1)):
                drafted = pair.draft(system, [made])
                for place in range(drafted.n_anchors):
                    held = states_by_transformers(pair, list(made.text.ids), made.prompt_length + place, before)
                    found = torch.stack([queries.state[place] for queries in drafted.forced if queries.state is not None])
                    errors.append(golden.apart(found, held))
        return Check(f"{HERE}, its own class", max(errors))

    def write(folder: Path) -> tuple[str, str]:
        target, drafter = assistants.write_pair("plain", folder)
        return str(target), str(drafter)

    return Subject(list(assistants.CASES), write, check)


def log_apart(prob: Tensor, scores: Tensor, token: int) -> float:
    """Of a token's log-probability from that of the scores (vocabulary,), in units of their RMS."""
    return float((prob.log() - scores.log_softmax(-1)[token]).abs() / scores.square().mean().sqrt())


def feed_forward(kind: str) -> Subject:
    """Medusa's, Hydra's or MLPSpeculator's heads."""
    names = [name for name in heads.CASES if name.partition("-")[0] == kind]

    def check(folder: Path) -> Check:
        target = load_target(folder / "checked")
        made = trajectories(target, prompts(2), [LAST], 20)
        errors = [error for name in names for error in stage_errors(name, target, made, folder / "heads")]
        by_class = [name for name in names if name in WITH_STEPS]
        errors += [error for name in by_class for error in golden_stage_errors(name, target, folder / "golden")]
        classes = [with_version(PRODUCERS[kind], recipe("feed_forward_steps"))] if by_class else []
        return Check(all_of([*classes, FORMULA]), max(errors))

    def write(folder: Path) -> tuple[str, str]:
        return str(write_target(folder / "target")), str(heads.write(heads.CASES[names[0]], folder / names[0]))

    return Subject(names, write, check)


def golden_stage_errors(name: str, target: LanguageModel, folder: Path) -> Iterator[float]:
    """Of the wanted tokens on the golden text, from the producer's own class."""
    logits = load_file(STEPS / f"{name}.safetensors")["logits"]
    return (log_apart(*one) for one in wanted_of_golden(read(name, target, folder), logits))


def stage_errors(name: str, target: LanguageModel, texts: Sequence[Trajectory], folder: Path) -> Iterator[float]:
    """Of the wanted tokens, at every depth of every anchor."""
    drafted, at = draft_heads(read(name, target, folder), list(texts), free=False), 0
    for made, count in zip(texts, drafted.anchors.counts, strict=True):
        for anchor in range(made.prompt_length, made.prompt_length + count):
            ids, state = list(made.text.ids), made.streams[LAST][anchor - 1]
            scores = FORMULAS[name.partition("-")[0]](heads.CASES[name].tensors, target, state, ids[anchor : anchor + heads.HEADS])
            for depth, (queries, own) in enumerate(zip(drafted.forced, scores, strict=True), 1):
                yield log_apart(queries.guesses.wanted_prob[at], own, ids[anchor + depth])
            at += 1


# ---- language models, and drafters without files


def load_target(folder: Path) -> LanguageModel:
    """The tiny target, written into a folder."""
    return load_language_model(Source("target", write_target(folder)), CPU, "float32")


Plain = Callable[[Sequence[int], int], tuple[Tensor, Sequence[int]]]  # text up to an anchor, depth: scores, and what each is of


def language_model(write: Callable[[Path], tuple[str, str]], plain: Callable[[Path], Plain], name: str, against: str) -> Subject:
    """A drafting language model, against a plain forward over each anchor's text."""

    @torch.inference_mode()
    def check(folder: Path) -> Check:
        pair, score, errors = load_pair(*write(folder / "pair"), CPU, "float32"), plain(folder / "pair"), list[float]()
        assert isinstance(pair.drafter, CausalLm)
        for made in trajectories(pair.target, prompts(2), [], 16):  # type: ignore[arg-type]
            drafted, ids = draft_lm_chains(pair.drafter, [made], DraftSettings(DEPTH), DEPTH, free=False), made.ids.tolist()
            for anchor in range(made.prompt_length, made.prompt_length + drafted.n_anchors):
                for depth, queries in enumerate(drafted.forced, 1):
                    scores, tokens = score(ids[: anchor + depth], depth)
                    if (wanted := ids[anchor + depth]) in tokens:
                        prob = queries.guesses.wanted_prob[anchor - made.prompt_length]
                        errors.append(log_apart(prob, scores, list(tokens).index(wanted)))
        return Check(against, max(errors))

    return Subject([name], write, check)


def noisy(folder: Path) -> tuple[str, str]:
    target = write_target(folder / "target")
    return str(target), str(write_noisy_copy(target, folder / "lm"))


def pard(folder: Path) -> tuple[str, str]:
    target, drafter = noisy(folder)
    return target, str(edit_config(Path(drafter), pard_token=PARD_MASK))


def other_tokens(folder: Path) -> tuple[str, str]:
    return str(write_target(folder / "target")), str(write_other(folder / "lm"))


def early_exit(folder: Path) -> tuple[str, str]:
    return str(write_target(folder / "target")), f"early-exit:{LAYERS}"


def forward(folder: Path, *, masked: bool = False) -> Plain:
    """Of a model in a folder; masked: a chain's own tokens are masks."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def scores(ids: Sequence[int], depth: int) -> tuple[Tensor, Sequence[int]]:
        seen = [*ids[: len(ids) - depth + 1], *[PARD_MASK] * (depth - 1)] if masked else ids
        found = model(torch.tensor([list(seen)])).logits[0, -1]
        return found, range(len(found))

    return scores


def of_shared_tokens(folder: Path) -> Plain:
    """Of a model with another tokenizer, over the tokens that both have, as the target's."""
    model, own = AutoModelForCausalLM.from_pretrained(folder / "lm").eval(), mapped()

    def scores(ids: Sequence[int], _: int) -> tuple[Tensor, Sequence[int]]:
        found = model(torch.tensor([[own.fed(token) for token in ids]])).logits[0, -1]
        return found[list(own.own.values())], list(own.own)

    return scores


def lookup() -> Subject:
    """A lookup has no numbers: what it drafts is held against what transformers looks up."""

    def check(folder: Path) -> Check:
        target, same, every = load_target(folder / "checked"), 0, 0
        search = PromptLookupCandidateGenerator(num_output_tokens=DEPTH, max_matching_ngram_size=3, max_length=10**6)
        for made in trajectories(target, prompts(6), [], 40):
            found = draft_lookups(Lookup(), [made], DraftSettings(DEPTH), DEPTH, free=False)
            for place in range(found.n_anchors):
                seen = made.ids[None, : made.prompt_length + place + 1]
                same += search.get_candidates(seen)[0][0, seen.shape[1] :].tolist() == drafts(found, place)
                every += 1
        return Check(f"{HERE}, its prompt lookup: the same draft at {same} of {every} anchors")

    return Subject(["lookup"], lambda folder: (str(write_target(folder / "target")), "lookup"), check)


# ---- all of them


def grouped(names: Iterable[str], detected: Callable[[str], str]) -> list[list[str]]:
    """Names by what they are detected as, in the order of the layouts that are known."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(detected(name), []).append(name)
    order = [*(format.name for format in FORMATS), *(kind.name for kind in (*KINDS, LING_3, TRAINED))]
    return [found[one] for one in sorted(found, key=lambda one: (order.index(one.partition(": ")[0]), one))]


def subjects(detected: Callable[[tuple[str, str]], str], folder: Path) -> Iterator[Subject]:
    """Every layout once. detected: what a target and a drafter are, by their names; folder: for what is written to find out."""

    def of_layout(step: str) -> str:
        return detected(layout_pair(golden.split(step)[0], folder / step))

    def of_block(name: str) -> str:
        return detected(block_case(blocks.CASES[name], folder / name))

    yield from map(eagle, grouped(golden.STEPS, of_layout))
    yield converted_eagle()
    yield parallel(list(peagle.CASES.values()), list(peagle.CASES))
    yield parallel([in_vllms_layout(peagle.CASES["plain"])], ["plain"], None)
    kinds = grouped([case.name for case in MTP], lambda name: declared(write_mtp(by_name(name), folder / "mtp" / name)).kind.name)
    yield from (mtp([by_name(name) for name in names]) for names in kinds)
    yield moved_mtp("glm4_moe", alone)
    yield moved_mtp("qwen3_5", converted)
    yield from map(block, grouped(blocks.CASES, of_block))
    yield assistant()
    yield from map(feed_forward, ("medusa", "hydra", "speculator"))
    yield language_model(noisy, lambda folder: forward(folder / "lm"), "noisy copy", f"{HERE}, its own forward")
    own = f"{HERE}, its own forward over the tokens that both have"
    yield language_model(other_tokens, of_shared_tokens, "another tokenizer", own)
    yield language_model(pard, lambda folder: forward(folder / "lm", masked=True), "noisy copy", f"{HERE}, its own forward over masks")
    cut = f"{HERE}, a model of so many layers"
    yield language_model(early_exit, lambda folder: forward(cut_model(folder / "target", folder / "cut")), "early-exit", cut)
    yield lookup()


def by_name(name: str) -> MtpCase:
    return next(case for case in MTP if case.name == name)
