"""A run at a temperature, held against decoding that draws every draft token and every verdict on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings
from driftcli.domain import PairCard, Prompt, RunSpec
from driftcli.engine.run import measure
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report.evidence import condition_rows, facts_line, length_lines
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.statistics.curves import sampled_length, walk_acceptance_length
from driftcli.texts.prompts import bundled_prompts
from driftcli.texts.rendering import render
from driftcli.traces.reader import Run, read_run
from driftcli.traces.sums import read_table
from probes.controls import Controls
from probes.sampling import Sampling
from probes.vocabulary import VocabularyCoverage
from tests.engine.test_run import assert_same_rows, job, silent, table
from tests.reference import Lone, Step, target_streams
from tests.tiny import prompts

AT = RunSpec(depth=3, max_new_tokens=16, batch_size=4, temperature=0.8)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Renderings(VocabularyCoverage):
    """A probe of somebody else: the replies replayed and written anew without a template, and at another temperature."""

    name: str = "renderings"

    def conditions(self, pair: PairCard, spec: RunSpec) -> tuple[Condition, ...]:
        texts = {
            "replayed": TextSettings(template="none", replayed=True),
            "anew": TextSettings(template="none"),
            "hot": TextSettings(temperature=2.0),
        }
        return tuple(Condition(name, DraftSettings(spec.depth), self.name, text=text) for name, text in texts.items())


@pytest.fixture(scope="module")
def run(pair: Callable[[str], LoadedPair], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run at a temperature on prompts of two turns."""
    out = tmp_path_factory.mktemp("at") / "r"
    return read_run(measure(job(pair("trained-pre"), out, prompts(8, turns=2), battery=(Renderings(),), spec=AT), silent))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_model_that_drafts_for_itself_is_never_refused_by_rejection_sampling(temperature: float, models: Path, tmp_path: Path) -> None:
    own = load_pair(str(models / "target"), str(models / "target"), torch.device("cpu"), "float32")
    run = read_run(measure(job(own, tmp_path / "r", prompts(8), spec=replace(AT, temperature=temperature)), silent))
    assert run.estimate(sampled_length).value == pytest.approx(AT.depth + 1, abs=1e-3)
    greedy = run.estimate(walk_acceptance_length).value
    assert greedy is not None and greedy < AT.depth + 1  # its first choice is not always the token drawn


def test_every_condition_that_writes_replies_draws_them_and_a_replay_keeps_those_of_the_baseline(run: Run) -> None:
    names = (BASELINE, "replayed", "anew", "hot")
    replies = {
        name: {(text["prompt"], text["turn"]): text["ids"][text["prompt_length"] :] for text in texts_of(run, name)} for name in names
    }
    assert replies["replayed"] == replies[BASELINE]
    assert replies["anew"] != replies[BASELINE]
    assert replies["hot"] != replies[BASELINE]
    assert [run.is_sampled(name) for name in names] == [True, False, True, True]


def texts_of(run: Run, condition: str) -> list[dict[str, Any]]:
    """The texts that a condition's own cells hold."""
    return read_table(run.path / "trajectories", ["prompt", "turn", "ids", "prompt_length"], condition).to_pylist()  # type: ignore[no-any-return]


def test_the_probabilities_of_a_run_are_those_of_its_temperature(run: Run, pair: Callable[[str], LoadedPair]) -> None:
    steps = table(run.path, "steps")
    own = steps[(steps["condition"] == BASELINE) & (steps["feed"] == "forced") & (steps["depth"] == 1)]
    target = pair("trained-pre").target
    for text in texts_of(run, BASELINE)[:3]:
        with torch.inference_mode():
            logits = target.model(torch.tensor([text["ids"]])).logits[0].float() / AT.temperature
        rows = own[(own["prompt"] == text["prompt"]) & (own["turn"] == text["turn"])]
        for _, row in rows.iterrows():
            at = int(row["anchor"])
            assert row["target_prob"] == pytest.approx(float(logits[at].softmax(-1)[int(row["wanted"])]), rel=1e-3, abs=1e-6)


def test_the_same_request_draws_the_same_replies_whatever_the_order_and_another_seed_others(
    run: Run, pair: Callable[[str], LoadedPair], tmp_path: Path
) -> None:
    asked = prompts(8, turns=2)[::-1]
    again = measure(job(pair("trained-pre"), tmp_path / "again", asked, battery=(Renderings(),), spec=AT), silent)
    assert_same_rows(run.path, again)
    other = measure(job(pair("trained-pre"), tmp_path / "other", prompts(8, turns=2), spec=replace(AT, seed=1)), silent)
    assert table(other, "trajectories")["ids"].map(tuple).tolist() != table(run.path, "trajectories")["ids"].map(tuple).tolist()


def test_the_temperature_is_of_the_request_and_an_older_run_without_one_was_greedy(
    pair: Callable[[str], LoadedPair], tmp_path: Path
) -> None:
    greedy = replace(AT, temperature=0.0)
    path = measure(job(pair("trained-pre"), tmp_path / "r", prompts(3), spec=greedy), silent)
    manifest = json.loads((path / "run.json").read_text())
    assert manifest["request"].pop("temperature") == 0
    (path / "run.json").write_text(json.dumps({**manifest, "complete": False}))
    stamps = {file: file.stat().st_ino for file in path.glob("*/*.parquet")}
    with pytest.raises(RunError, match=r"another request \(temperature was 0.0, now 0.8\)"):
        measure(job(pair("trained-pre"), path, prompts(3), spec=AT), silent)
    measure(job(pair("trained-pre"), path, prompts(3), spec=greedy), silent)
    assert {file: file.stat().st_ino for file in stamps} == stamps  # whole cells, which it goes on from
    assert read_run(path).spec.temperature == 0


def test_the_report_names_rule_and_temperature(run: Run) -> None:
    battery = (Renderings(),)
    verdict = judge(run, battery)
    assert verdict.headline.endswith(" (greedy draft tokens on replies drawn at temperature 0.8)")
    assert "temperature 0.8" in facts_line(run) and "greedy" not in facts_line(run)
    lines = length_lines(run)
    assert lines[0].startswith("acceptance length of greedy draft tokens at temperature 0.8, ")
    assert lines[1].startswith("acceptance length of sampled draft tokens, by rejection sampling at temperature 0.8, ")
    shown = report(run, verdict)
    assert shown["decoding"] == {"temperature": 0.8, "draft_tokens": "greedy"}
    assert shown["baseline"]["acceptance_length_sampled_drafts"]["value"] == run.estimate(sampled_length).value  # type: ignore[index,call-overload]
    names = [name for _, name, *_ in condition_rows(run)]
    assert names == [
        "replayed", "anew, greedy draft tokens", "anew, sampled draft tokens", "hot, greedy draft tokens", "hot, sampled draft tokens",
    ]  # fmt: skip
    by_name = {one["name"]: one for one in shown["conditions"]}  # type: ignore[union-attr,call-overload,index]
    assert by_name["replayed"]["acceptance_length_sampled_drafts"]["reason"] == (
        "it is exact on replies alone that the target drew behind these very prompts"
    )


def test_given_replies_are_not_claimed_to_be_drawn(pair: Callable[[str], LoadedPair], tmp_path: Path) -> None:
    given = [replace(prompt, response="an answer of some length") for prompt in prompts(8)]
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", given, spec=AT), silent))
    assert not run.is_sampled(BASELINE)
    assert length_lines(run)[1].endswith("unknown (it is exact on replies alone that the target drew behind these very prompts)")
    assert "given replies, temperature 0.8" in facts_line(run)


def test_what_a_temperature_leaves_nothing_to_ask_of_is_left_out_and_said(pair: Callable[[str], LoadedPair]) -> None:
    card = pair("trained-pre").card
    drawn, greedy = RunSpec(temperature=0.7), RunSpec()
    assert [one.name for one in Sampling().conditions(card, drawn)] == ["temperature-1"]
    assert Sampling().left_out(card, drawn) == ["sampling: temperature 0.7 left out: it is the run's own, see its baseline"]
    assert [one.name for one in Controls().conditions(card, drawn)] == ["shuffled-prompt"]
    assert "NONDETERMINISM is not measured" in Controls().left_out(card, drawn)[0]
    assert [
        *Sampling().left_out(card, greedy),
        *Controls().left_out(card, greedy),
        *Controls().left_out(card, replace(drawn, quick=True)),
    ] == []


def test_free_chains_of_a_language_model_have_probabilities_of_the_temperature(pair: Callable[[str], LoadedPair], tmp_path: Path) -> None:
    """Free and forced chains are one computation as long as every guess was right."""
    run = measure(job(pair("lm"), tmp_path / "r", prompts(6), spec=replace(AT, temperature=0.4)), silent)
    steps = table(run, "steps")
    keys = ["prompt", "turn", "anchor", "depth"]
    free = steps[(steps["feed"] == "free") & steps["wanted"].notna() & (steps["depth"] > 1)].set_index(keys)
    forced = steps[steps["feed"] == "forced"].set_index(keys).loc[free.index]
    assert len(free) > 10
    np.testing.assert_allclose(free["draft_prob"], forced["draft_prob"], rtol=1e-3)


# ---- against real rejection sampling


@dataclass
class Sampler:
    """Speculative decoding by rejection sampling, written naively: every round recomputes target and chain from scratch."""

    pair: LoadedPair
    head: Lone
    depth: int
    temperature: float
    random: torch.Generator

    def probs(self, ids: list[int]) -> Tensor:
        """The target's distributions behind each token, (token, vocabulary)."""
        with torch.inference_mode():
            return (self.pair.target.model(torch.tensor([ids])).logits[0].float() / self.temperature).softmax(-1)

    def draw(self, probs: Tensor) -> int:
        return int(torch.multinomial(probs, 1, generator=self.random))

    def chain(self, ids: list[int], anchor: int) -> tuple[list[int], list[Tensor]]:
        """Draft tokens from an anchor, each drawn from the head's distribution over the target's vocabulary, and those distributions."""
        streams = target_streams(self.pair.target.model, ids, self.pair.drafter.boundaries)  # type: ignore[arg-type,union-attr]
        head, drafted, drawn_from = self.head, list[int](), list[Tensor]()
        head.cache, head.trunk = [], anchor - 1
        states = [head.first_state([stream[row] for stream in streams]) for row in range(anchor)]
        for row in range(anchor - 1):
            head.remember(ids[row + 1], states[row], row)
        step: Step = head.step(ids[anchor], states[anchor - 1], anchor - 1)
        for number in range(self.depth):
            if number:
                step = head.step(drafted[-1], step.state, anchor + number - 1)
            probs = torch.zeros(self.pair.target.head.shape[0])
            places = [head.to_target(place) for place in range(len(step.logits))]
            probs[places] = (step.logits / self.temperature).softmax(-1)
            drafted.append(self.draw(probs))
            drawn_from.append(probs)
        return drafted, drawn_from

    def round(self, ids: list[int]) -> tuple[list[int], int]:
        """What one round adds behind the text, and how many draft tokens of it were kept (Leviathan et al. 2023, algorithm 1)."""
        anchor = len(ids) - 1
        drafted, drawn_from = self.chain(ids, anchor)
        wanted = self.probs(ids + drafted)[anchor:]
        for place, (token, draft_probs) in enumerate(zip(drafted, drawn_from, strict=True)):
            if float(torch.rand(1, generator=self.random)) >= float(wanted[place][token] / draft_probs[token]):
                left = (wanted[place] - draft_probs).clamp(min=0)
                return [*drafted[:place], self.draw(left / left.sum())], place
        return [*drafted, self.draw(wanted[self.depth])], self.depth

    def rounds(self, prompt: list[int], most: int, ends: set[int]) -> list[int]:
        """Draft tokens kept in each round whose chain lies inside the reply, which ends as the target ends it or behind `most` tokens."""
        ids, kept = [*prompt, self.draw(self.probs(prompt)[-1])], list[tuple[int, int]]()
        while len(ids) - len(prompt) < most and not ends & set(ids[len(prompt) :]):
            added, accepted = self.round(ids)
            kept.append((len(ids) - 1, accepted))
            ids += added
        reply = ids[len(prompt) :][:most]
        length = len(prompt) + next((place + 1 for place, token in enumerate(reply) if token in ends), len(reply))
        return [accepted for anchor, accepted in kept if anchor + self.depth < length]


def expected_and_drawn(pair: LoadedPair, head: Lone, prompt: Prompt, spec: RunSpec, out: Path, times: int) -> tuple[float, float, float]:
    """Acceptance length as a run computes it, as so many texts decoded for real have it, and the standard error of their difference."""
    copies = [replace(prompt, id=f"{prompt.id}-{number}") for number in range(2 * times)]
    run = read_run(measure(job(pair, out, copies, spec=spec), silent))
    expected = run.estimate(sampled_length).value  # copies count as one prompt, so it has no interval
    assert expected is not None
    sampler = Sampler(pair, head, spec.depth, spec.temperature, torch.Generator().manual_seed(1))
    ids = render(pair.target.tokenizer, prompt.id, prompt.turns[0], prompt.text).ids
    end = pair.target.model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    texts = [sampler.rounds(ids, spec.max_new_tokens, ends) for _ in range(times)]
    rounds, kept = np.array([len(text) for text in texts]), np.array([sum(text) for text in texts])
    drawn = kept.sum() / rounds.sum()
    error = np.std(kept - drawn * rounds) / np.mean(rounds) / np.sqrt(times)
    return expected, 1 + drawn, float(error * np.sqrt(1.5))  # the run's own texts, twice as many, err too


def test_the_expected_length_is_what_real_rejection_sampling_comes_to(
    pair: Callable[[str], LoadedPair], trained: Path, tmp_path: Path
) -> None:
    loaded, spec = pair("trained-pre"), replace(AT, max_new_tokens=12, temperature=0.6, batch_size=200)
    head = Lone.of(trained / "trained-pre", trained / "target")
    expected, drawn, error = expected_and_drawn(loaded, head, prompts(1)[0], spec, tmp_path / "r", 50)
    assert expected > 1.1
    assert error < 0.2
    assert abs(expected - drawn) < 4 * error


@pytest.mark.slow
def test_so_it_is_on_the_bundled_pair(tmp_path: Path) -> None:
    loaded = load_pair("bundled:target", "bundled:pre-norm", torch.device("cpu"), "float32")
    folder = ROOT / "driftcli" / "bundled"
    head = Lone.of(folder / "pre-norm", folder / "target")
    spec = RunSpec(depth=4, max_new_tokens=24, batch_size=200, temperature=1.0)
    shortest = min(bundled_prompts(), key=lambda prompt: sum(len(message.content) for message in prompt.messages))
    expected, drawn, error = expected_and_drawn(loaded, head, shortest, spec, tmp_path / "r", 70)
    assert error < 0.25
    assert abs(expected - drawn) < 4 * error
