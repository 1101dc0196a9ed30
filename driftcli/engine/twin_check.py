"""Whether the run of a target's twin may be held against a run to come: the same question, asked of another target.

What changes the texts, or what is asked of the drafter on them, refuses; targets, engines, dtypes and devices may differ, which is
what is asked. Each refusal is one sentence. The first check needs no model, so that nobody waits for one in vain.
"""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.domain import ModelCard, Prompt, RunSpec
from driftcli.engine.texts import foreseen
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair
from driftcli.printable import few
from driftcli.texts.pieces import piece_columns
from driftcli.texts.prompts import content_hash
from driftcli.traces.parquet import holding
from driftcli.traces.reader import Run
from driftcli.traces.schema import VERSION
from driftcli.traces.shift import texts

DO = "measure both alike"
ALIKE = {"depth": "--depth", "max_new_tokens": "--max-new-tokens", "temperature": "--temperature"}  # of both requests, with their options


def check_request(twin: Run, spec: RunSpec, prompts: Sequence[Prompt]) -> None:
    """RunError unless the twin's run answers the same prompts, greedily and by itself, with replies and chains as long."""
    if (schema := twin.manifest["schema"]) != VERSION:
        raise RunError(f"{_of(twin)} is written with trace schema {schema}, expected {VERSION}; measure it again")
    for name, option in ALIKE.items():
        if (there := getattr(twin.spec, name)) != (here := getattr(spec, name)):
            raise RunError(f"{_of(twin)} was asked with {option} {there:g}, this one with {here:g}; {DO}")
    if spec.temperature:
        raise RunError(f"{_of(twin)}: replies drawn at temperature {spec.temperature:g} part by chance, expected greedy ones; {DO}, at 0")
    if given := sorted(holding(twin.trajectories, {"generated": [False]})["prompt"].to_pylist()):
        raise RunError(f"{_of(twin)} has given replies ({few(given)}), expected those that its target wrote; leave `response` out")
    _check_prompts(twin, prompts)


def _check_prompts(twin: Run, prompts: Sequence[Prompt]) -> None:
    batches = twin.manifest["batches"]
    assert isinstance(batches, list)
    answered = {one for batch in batches for one in batch}
    if lost := [prompt.id for prompt in prompts if content_hash(prompt) not in answered]:
        what = f"{len(lost)} of the {len(prompts)} prompts ({few(lost)})"
        raise RunError(f"{_of(twin)} has no reply to {what} as they are asked here; measure both on one prompt file, with one --limit")


def check_pair(twin: Run, pair: LoadedPair, prompts: Sequence[Prompt]) -> None:
    """RunError unless the twin's run had the same drafter, read alike, and its target the same tokens for each prompt."""
    here, there = pair.card, twin.pair
    if here.drafter.fingerprint != there.drafter.fingerprint and not (
        _carried(here.drafter, here.target) and _carried(there.drafter, there.target)
    ):
        drafters = f"{there.drafter.name} {there.drafter.fingerprint}, this one {here.drafter.name} {here.drafter.fingerprint}"
        raise RunError(f"{_of(twin)} has the drafter {drafters}; {DO}, with one drafter")
    readings = [one.record["reading"].value if "reading" in one.record else None for one in (there, here)]
    if readings[0] != readings[1]:
        raise RunError(f"{_of(twin)} reads the head as {readings[0]}, this one as {readings[1]}; {DO}, with one --reading")
    _check_tokens(twin, pair, prompts)


def _carried(drafter: ModelCard, target: ModelCard) -> bool:
    """Whether the drafter is the target's own head, in the same files, which no two targets share."""
    return drafter.fingerprint == target.fingerprint


def _check_tokens(twin: Run, pair: LoadedPair, prompts: Sequence[Prompt]) -> None:
    known, pieces = twin.vocabulary.known, piece_columns(pair.target.tokenizer)
    other = [number for number, told in zip(pieces["id"], pieces["bytes"], strict=True) if known.get(number, told) != told]  # type: ignore[call-overload]
    if other:
        raise RunError(
            f"{_of(twin)} has another tokenizer: {len(other)} of its tokens stand for other text here, the first is {other[0]}; {DO}"
        )
    found = texts(twin.path, twin.reference)
    unlike = [prompt.id for prompt in prompts if list(foreseen(pair.target.tokenizer, prompt, 0).ids) != list(found[prompt.id, 0][0])]
    if unlike:
        what = f"{len(unlike)} of {len(prompts)} prompts ({few(unlike)})"
        raise RunError(f"{_of(twin)} renders {what} to other tokens; {DO}, with one chat template")


def _of(twin: Run) -> str:
    return f"--against-target {twin.path}: this run"
