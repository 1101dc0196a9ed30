"""Chains of heads without attention equal the published formulas, written here anew and one chain at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from driftcli.conditions import DraftSettings, Noise, Wiring
from driftcli.engine.drafted import Drafted
from driftcli.engine.stage_chains import _Stages, draft_stages
from driftcli.engine.trajectories import Trajectory
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration, declare_feed_forward
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.feed_forward.loading import read_feed_forward
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.engine import golden
from tests.families.feed_forward.cases import CASES, HEADS, INNER, write
from tests.tiny import LAYERS, prompts, trajectories

LAST = LAYERS + 1  # boundary behind the final norm
STEPS = golden.GOLDEN / "feed-forward"
GOLDEN = [name for name in CASES if (STEPS / f"{name}.safetensors").is_file()]


@pytest.fixture(scope="module")
def target(models: Path) -> LanguageModel:
    return load_language_model(Source("target", models / "target"), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def texts(target: LanguageModel) -> list[Trajectory]:
    return trajectories(target, prompts(3), [LAST, LAYERS], 20)


def declared(name: str, target: LanguageModel, folder: Path) -> FeedForwardDeclaration:
    checkpoint = open_checkpoint(Source(name, write(CASES[name], folder / name)))
    return declare_feed_forward(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)


def read(name: str, target: LanguageModel, folder: Path) -> FeedForward:
    return read_feed_forward(declared(name, target, folder), target)[0]


def draft(drafter: FeedForward, texts: list[Trajectory], settings: DraftSettings | None = None, **asked: bool) -> Drafted:
    return draft_stages(drafter, texts, settings or DraftSettings(HEADS), HEADS, **{"free": True, **asked})  # type: ignore[arg-type]


def layer(tensors: Mapping[str, Tensor], at: str, x: Tensor) -> Tensor:
    y = tensors[f"{at}.weight"] @ x
    return y + tensors[f"{at}.bias"] if f"{at}.bias" in tensors else y


def medusa(t: Mapping[str, Tensor], _: LanguageModel, h: Tensor, __: list[int]) -> list[Tensor]:
    """Zero or more residual blocks, then a head, of each depth, on the same state (arXiv:2401.10774, section 3.1)."""
    old, found = {name.removeprefix("medusa_head."): tensor for name, tensor in t.items()}, []
    for depth in range(HEADS):
        x, inner = h, "blocks.{}.layers.{}" if "lm_heads.0.weight" in t else "{}.{}.linear"
        place = 0
        while f"{inner.format(depth, place)}.weight" in old:
            x = x + F.silu(layer(old, inner.format(depth, place), x))
            place += 1
        found.append(layer(old, f"lm_heads.{depth}" if "lm_heads.0.weight" in t else f"{depth}.{place}", x))
    return found


def hydra(t: Mapping[str, Tensor], target: LanguageModel, h: Tensor, tokens: list[int]) -> list[Tensor]:
    """Of each depth a head on the state and all tokens behind it (arXiv:2402.05109, section 3)."""
    found = []
    for depth in range(HEADS):
        grounded = f"hydra_mlp.{depth}.0.res_connection.weight" in t
        x = torch.cat([h, *(target.embedding[token] for token in tokens[: depth + 1])]) if grounded else h
        around = layer(t, f"hydra_mlp.{depth}.0.res_connection", x) if grounded else x
        x = around + F.silu(layer(t, f"hydra_mlp.{depth}.0.linear", x))
        x = x + F.silu(layer(t, f"hydra_mlp.{depth}.1.linear", x))
        found.append(layer(t, f"hydra_lm_head.{depth}", x))
    return found


def speculator(t: Mapping[str, Tensor], _: LanguageModel, h: Tensor, tokens: list[int]) -> list[Tensor]:
    """A state from token to token, each time projected, added to an embedding, normed and activated (arXiv:2404.19124, section 4)."""
    tied = "speculator.emb.1.weight" not in t
    found, state = [], h / h.square().mean().add(1e-6).sqrt() / math.sqrt(2) if tied else h
    of_state = 0.5 ** (0.5 / HEADS)
    of_token = math.sqrt(1 - of_state**2) * math.sqrt(INNER / 2)
    for depth in range(HEADS):
        at = 0 if tied else depth
        state = t[f"speculator.proj.{min(depth, 1) if tied else depth}.weight"] @ state * of_state
        state = state + t[f"speculator.emb.{at}.weight"][tokens[depth]] * of_token
        state = state / (state.square().mean() + 1e-6).sqrt()
        state = F.gelu(state * t[f"speculator.ln.{at}.weight"] + t[f"speculator.ln.{at}.bias"])
        found.append(t[f"speculator.head.{at}.weight"] @ state)
    return found


FORMULAS = {"medusa": medusa, "hydra": hydra, "speculator": speculator}


@pytest.mark.parametrize("name", CASES)
def test_every_chain_is_what_the_formula_gives_on_the_text_and_on_its_own_guesses(
    name: str, target: LanguageModel, texts: list[Trajectory], tmp_path: Path
) -> None:
    drafted, formula = draft(read(name, target, tmp_path), texts), FORMULAS[name.partition("-")[0]]
    at = 0
    for text, count in zip(texts, drafted.anchors.counts, strict=True):
        for anchor in range(text.prompt_length, text.prompt_length + count):
            ids, state = list(text.text.ids), text.streams[LAST][anchor - 1]
            forced = formula(CASES[name].tensors, target, state, ids[anchor : anchor + HEADS])
            for depth, (queries, scores) in enumerate(zip(drafted.forced, forced, strict=True), 1):
                probs = scores.softmax(-1)
                assert int(queries.guesses.drafted[at]) == int(scores.argmax())
                assert float(queries.guesses.wanted_prob[at]) == pytest.approx(float(probs[ids[anchor + depth]]), rel=1e-3, abs=1e-7)
            own = [ids[anchor]]
            for queries in drafted.free:
                own.append(int(formula(CASES[name].tensors, target, state, [*own, *[0] * HEADS])[len(own) - 1].argmax()))
                assert int(queries.guesses.drafted[at]) == own[-1]
            at += 1
    assert at == drafted.n_anchors > 20


def wanted_of_golden(drafter: FeedForward, logits: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Of every anchor and depth of the golden text: the wanted token's probability here, the producer's scores, and the token."""
    made = golden.text((LAST,))
    drafted, ids = draft(drafter, [made], free=False), made.ids.tolist()
    for place in range(drafted.n_anchors):
        anchor = made.prompt_length + place
        for depth, queries in enumerate(drafted.forced, 1):
            yield queries.guesses.wanted_prob[place], logits[depth - 1, anchor - 1], ids[anchor + depth]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_chain_equals_the_producers_own_class(name: str, tmp_path: Path) -> None:
    drafter = read(name, golden.golden_target(tmp_path / "target"), tmp_path)
    logits = load_file(STEPS / f"{name}.safetensors")["logits"]
    found = list(wanted_of_golden(drafter, logits))
    assert len(found) == 6 * HEADS
    for prob, scores, token in found:
        assert float(prob) == pytest.approx(float(scores.softmax(-1)[token]), rel=1e-4, abs=1e-9)
    late = [
        float(prob) == pytest.approx(float(scores.softmax(-1)[token]), rel=0.01)
        for prob, scores, token in wanted_of_golden(drafter, logits.roll(1, 1))
    ]
    assert not all(late)


@pytest.mark.parametrize("name", CASES)
def test_a_control_is_the_first_head_s_guess_from_a_later_anchor(
    name: str, target: LanguageModel, texts: list[Trajectory], tmp_path: Path
) -> None:
    drafted = draft(read(name, target, tmp_path), texts[:1])
    for depth in range(1, HEADS + 1):
        later = drafted.fresh.guesses.drafted[depth - 1 : depth - 1 + drafted.n_anchors]
        assert drafted.control(depth).guesses.drafted.tolist() == later.tolist()
        assert drafted.control(depth).masses is None


@pytest.mark.parametrize("name", CASES)
def test_only_a_head_that_is_run_again_on_its_own_state_has_one(
    name: str, target: LanguageModel, texts: list[Trajectory], tmp_path: Path
) -> None:
    drafter = read(name, target, tmp_path)
    drafted = draft(drafter, texts)
    assert drafter.recurrent is (name == "speculator-tied")
    assert all((queries.state is not None) is drafter.recurrent for queries in (*drafted.forced, *drafted.free, drafted.fresh))
    same = all(torch.equal(a.guesses.drafted, b.guesses.drafted) for a, b in zip(drafted.forced, drafted.free, strict=True))
    assert same is drafter.blind


@pytest.mark.parametrize("name", CASES)
def test_texts_side_by_side_draft_as_each_alone(name: str, target: LanguageModel, texts: list[Trajectory], tmp_path: Path) -> None:
    drafter = read(name, target, tmp_path)
    together, alone = draft(drafter, texts, to_end=True), [draft(drafter, [text], to_end=True) for text in texts]
    for depth in range(HEADS):
        assert together.forced[depth].guesses.drafted.tolist() == [
            token for one in alone for token in one.forced[depth].guesses.drafted.tolist()
        ]
    assert together.kept_behind is not None
    assert together.kept_behind.tolist() == [kept for one in alone if one.kept_behind is not None for kept in one.kept_behind.tolist()]


def test_the_state_of_tied_weights_can_be_held_pinned_and_made_noisy(
    target: LanguageModel, texts: list[Trajectory], tmp_path: Path
) -> None:
    drafter = read("speculator-tied", target, tmp_path)
    plain = draft(drafter, texts[:1]).forced

    def states(settings: DraftSettings) -> list[Tensor]:
        return [queries.state for queries in draft(drafter, texts[:1], settings).forced if queries.state is not None]

    held = states(DraftSettings(HEADS, held=True))
    torch.testing.assert_close(held[0], plain[0].state)
    first = drafter.stages[0]
    text, count = texts[0], len(held[0])
    rows = torch.arange(text.prompt_length - 1, text.prompt_length - 1 + count)
    again = first(drafter.begin(text.streams[LAST][rows]), first.embed(text.ids[rows + 3])).memory
    torch.testing.assert_close(held[2], again)  # on the state of its anchor, and the text's token
    levels = [state.square().mean(-1) for state in states(DraftSettings(HEADS, pinned=True))]
    torch.testing.assert_close(levels[3], levels[0])
    for path in ("state", "embedding"):
        noisy = states(DraftSettings(HEADS, noise=Noise(path, 0.5, 1)))  # type: ignore[arg-type]
        assert all(not torch.allclose(one, queries.state) for one, queries in zip(noisy, plain, strict=True))  # type: ignore[arg-type]
    reanchored = states(DraftSettings(HEADS, reanchored=2))
    torch.testing.assert_close(reanchored[1], plain[1].state)
    assert not torch.allclose(reanchored[2], plain[2].state)  # type: ignore[arg-type]


def test_heads_on_the_other_side_of_the_final_norm_guess_otherwise(target: LanguageModel, texts: list[Trajectory], tmp_path: Path) -> None:
    declaration = declared("medusa", target, tmp_path)
    (other,) = declaration.alternatives()
    assert other == Wiring(capture=(LAYERS,))
    drafter = read_feed_forward(declaration, target)[0]
    ours, theirs = (draft(one, texts[:1]).forced[0].guesses.draft_prob for one in (drafter, drafter.wired(other)))
    assert ours is not None and theirs is not None and not torch.allclose(ours, theirs)


@pytest.mark.parametrize("name", ["medusa", "hydra", "speculator", "speculator-tied"])
def test_a_head_left_out_or_a_weight_forgotten_is_told(name: str, target: LanguageModel, texts: list[Trajectory], tmp_path: Path) -> None:
    drafter = read(name, target, tmp_path)
    wrong = replace(drafter, stages=(*drafter.stages[1:], drafter.stages[-1]), halved=not drafter.halved)
    if name == "speculator-tied":
        wrong = replace(drafter, halved=False)
    if name in ("hydra", "speculator"):
        wrong = replace(
            drafter, stages=tuple(replace(one, head=replace(one.head, weight=one.head.weight.roll(1, 0))) for one in drafter.stages)
        )  # type: ignore[type-var]
    ours, theirs = (draft(one, texts[:1]).forced[0].guesses.draft_prob for one in (drafter, wrong))
    if name in ("hydra", "speculator"):
        ours, theirs = (draft(one, texts[:1]).forced[0].guesses.wanted_prob for one in (drafter, wrong))
    assert not torch.allclose(ours, theirs, rtol=1e-2)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "feeds"), [("medusa", [False]), ("hydra-ungrounded", [False]), ("hydra", [False, True])])
def test_heads_that_read_no_token_are_run_once_for_both_feeds(
    name: str, feeds: list[bool], target: LanguageModel, texts: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, chain = list[bool](), _Stages.chain
    monkeypatch.setattr(_Stages, "chain", lambda self, free: run.append(free) or chain(self, free))  # type: ignore[func-returns-value]
    drafted = draft(read(name, target, tmp_path), texts)
    assert run == feeds and len(drafted.free) == HEADS
