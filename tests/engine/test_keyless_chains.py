"""Chains of assistants equal what transformers' own class and candidate generator compute, and their attention is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma4AssistantForCausalLM, GenerationConfig
from transformers.generation.candidate_generator import SinglePositionMultiTokenCandidateGenerator

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import REGIONS, System
from driftcli.engine.drafted import Apart, Drafted
from driftcli.engine.keyless_chains import draft_keyless
from driftcli.engine.trajectories import Trajectory
from driftcli.families.assistant.declaration import AssistantDeclaration, declare_assistant
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.assistant.loading import read_assistant
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import load_language_model
from tests.engine.regions import shares_of
from tests.engine.rounds import drafted_by_generate
from tests.families.assistant.cases import CASES, WINDOW, write_pair
from tests.tiny import prompts, trajectories

DEPTH, MOST = 5, 24
VLLM: System = "as_served:vllm"
TRANSFORMERS: System = "as_served:transformers"
TOLERANCE = 1e-3  # of the RMS: rounding grows along a chain of random weights


class Pair:
    """A tiny pair, read here and by transformers."""

    def __init__(self, name: str, folder: Path) -> None:
        target, assistant = write_pair(name, folder)
        self.folder = assistant
        self.target = load_language_model(Source("target", target), torch.device("cpu"), "float32")
        checkpoint = open_checkpoint(Source("assistant", assistant))
        format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
        self.declaration: AssistantDeclaration = declare_assistant(checkpoint, format, self.target.facts)
        self.main = AutoModelForCausalLM.from_pretrained(target).eval()
        self.assistant = Gemma4AssistantForCausalLM.from_pretrained(assistant).eval()
        self.texts = trajectories(self.target, prompts(3), sorted(set(self.read(VLLM).read)), MOST)

    def read(self, system: System) -> Assistant:
        """The drafter in a system's reading."""
        return read_assistant(self.declaration, self.target, system)[0]

    def draft(self, system: System, texts: list[Trajectory], **asked: object) -> Drafted:
        return draft_keyless(self.read(system), texts, DraftSettings(DEPTH), DEPTH, **{"free": True, **asked})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("plain", tmp_path_factory.mktemp("plain"))


def off(found: Tensor, golden: Tensor) -> float:
    """The largest difference, relative to the RMS of each row."""
    return float(((found - golden).abs().amax(-1) / golden.square().mean(-1).sqrt()).max())


@torch.no_grad()
def drafted_by_transformers(pair: Pair, ids: list[int], anchor: int) -> tuple[list[int], Tensor]:
    """What its generator drafts behind one anchor, when nothing but the tokens before that has been read, and with which scores."""
    pair.assistant.generation_config.num_assistant_tokens = DEPTH
    generator = SinglePositionMultiTokenCandidateGenerator(
        pair.assistant, pair.main.get_input_embeddings(), GenerationConfig(max_length=1000)
    )
    out = pair.main(torch.tensor([ids[:anchor]]), output_hidden_states=True, return_shared_kv_states=True)
    tokens, scores = generator.get_candidates(torch.tensor([ids[: anchor + 1]]), {}, out, False, 0)
    return tokens[0, anchor + 1 :].tolist(), scores[0]


def test_every_free_chain_is_what_transformers_generator_drafts_there(pair: Pair) -> None:
    drafted = pair.draft(TRANSFORMERS, pair.texts)
    found = torch.stack([queries.guesses.drafted for queries in drafted.free], dim=1).tolist()
    at = 0
    for text, count in zip(pair.texts, drafted.anchors.counts, strict=True):
        for anchor in range(text.prompt_length, text.prompt_length + count):
            tokens, scores = drafted_by_transformers(pair, list(text.text.ids), anchor)
            assert found[at] == tokens
            if pair.declaration.chosen is None:  # ordered ones leave a little to tokens that they rule out
                probs = torch.stack([queries.guesses.draft_prob[at] for queries in drafted.free])
                torch.testing.assert_close(probs, scores.softmax(-1).amax(-1), rtol=1e-3, atol=1e-6)
            at += 1
    assert at == drafted.n_anchors > 20


@torch.no_grad()
def states_by_transformers(pair: Pair, ids: list[int], anchor: int, before: int) -> Tensor:
    """States (depth, width) that its class gives on the text's own tokens, its queries standing so many positions before the anchor."""
    out = pair.main(torch.tensor([ids[:anchor]]), output_hidden_states=True, return_shared_kv_states=True)
    keys = {
        kind: tuple(part[:, :, -(WINDOW + 1 - before) :] if kind.startswith("sliding") else part for part in both)
        for kind, both in out.shared_kv_states.items()
    }
    state, found = out.hidden_states[-1][:, -1:], []
    for depth in range(DEPTH):
        embedded = pair.main.get_input_embeddings()(torch.tensor([ids[anchor + depth : anchor + depth + 1]]))
        done = pair.assistant(
            inputs_embeds=torch.cat([embedded, state], dim=-1), position_ids=torch.tensor([[anchor - before]]), shared_kv_states=keys
        )
        state = done.last_hidden_state
        found.append(state[0, 0])
    return torch.stack(found)


@pytest.mark.parametrize(("system", "before"), [(TRANSFORMERS, 0), (VLLM, 1)])
def test_forced_states_of_every_anchor_are_the_class_s_own_on_the_text_s_tokens(pair: Pair, system: System, before: int) -> None:
    text = pair.texts[1]
    drafted = pair.draft(system, [text])
    for place in range(0, drafted.n_anchors, 3):
        golden = states_by_transformers(pair, list(text.text.ids), text.prompt_length + place, before)
        found = torch.stack([queries.state[place] for queries in drafted.forced if queries.state is not None])
        assert off(found, golden) < TOLERANCE


def test_engines_differ_in_what_they_compute(plain: Pair) -> None:
    ours, theirs = (plain.draft(system, [plain.texts[1]]).forced[2].state for system in (VLLM, TRANSFORMERS))
    assert ours is not None and theirs is not None
    assert off(ours, theirs) > 10 * TOLERANCE
    assert plain.declaration.differences()[TRANSFORMERS]["position"].value == "the anchor's"


WRONG = {
    "position": lambda one: one.wired(Wiring(position="the anchor's")),
    "capture": lambda one: replace(one, post=replace(one.post, weight=one.post.weight.roll(1, 0))),
    "scale": lambda one: replace(one, embedding_scale=1.0),
    "window": lambda one: replace(one, layers=tuple(replace(layer, window=layer.window and layer.window - 1) for layer in one.layers)),
    "keys": lambda one: replace(one, keys={kind: replace(keys, k_norm=torch.ones_like(keys.k_norm)) for kind, keys in one.keys.items()}),
    "scalar": lambda one: replace(one, layers=tuple(replace(layer, scalar=None) for layer in one.layers)),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_assistant_put_together_otherwise_is_told_from_it(plain: Pair, name: str) -> None:
    text, right = plain.texts[1], plain.read(VLLM)
    wrong = WRONG[name](right)  # type: ignore[no-untyped-call]
    found = draft_keyless(wrong, [text], DraftSettings(DEPTH), DEPTH, free=False).forced[1].state
    golden = draft_keyless(right, [text], DraftSettings(DEPTH), DEPTH, free=False).forced[1].state
    assert found is not None and golden is not None
    assert off(found, golden) > 10 * TOLERANCE


def test_texts_side_by_side_draft_as_each_alone(plain: Pair) -> None:
    together = plain.draft(VLLM, plain.texts, to_end=True)
    alone = [plain.draft(VLLM, [text], to_end=True) for text in plain.texts]
    for feed in ("forced", "free"):
        for depth in range(DEPTH):
            whole = getattr(together, feed)[depth]
            parts = [getattr(one, feed)[depth] for one in alone]
            torch.testing.assert_close(whole.state, torch.cat([part.state for part in parts]))
            torch.testing.assert_close(whole.masses.label, torch.cat([part.masses.label for part in parts], dim=2))
            assert whole.guesses.drafted.tolist() == [token for part in parts for token in part.guesses.drafted.tolist()]
    assert together.kept_behind is not None
    assert together.kept_behind.tolist() == [kept for one in alone if one.kept_behind is not None for kept in one.kept_behind.tolist()]


def test_regions_sum_to_one_and_only_controls_see_what_lies_beyond_the_anchor(plain: Pair) -> None:
    text = plain.texts[2]
    drafted = plain.draft(VLLM, [text])
    for depth in range(1, DEPTH + 1):
        for queries, fresh in ((drafted.forced[depth - 1], False), (drafted.control(depth), True)):
            shares = shares_of(queries.masses, None, text.labels, drafted.ahead(queries, depth, fresh=fresh))
            total = sum(shares[region] for region in REGIONS if region in shares)
            torch.testing.assert_close(total, torch.ones_like(total))  # type: ignore[arg-type]
            assert bool((shares["ahead"] > 0).all()) is (fresh and depth > 2)


@torch.no_grad()
def test_attention_of_one_query_is_what_the_class_itself_pays(plain: Pair) -> None:
    text, place = plain.texts[2], 6
    drafted, ids = plain.draft(TRANSFORMERS, [text]), list(text.text.ids)
    anchor = text.prompt_length + place
    plain.assistant.set_attn_implementation("eager")
    out = plain.main(torch.tensor([ids[:anchor]]), output_hidden_states=True, return_shared_kv_states=True)
    inputs = torch.cat([plain.main.get_input_embeddings()(torch.tensor([ids[anchor : anchor + 1]])), out.hidden_states[-1][:, -1:]], dim=-1)
    done = plain.assistant(
        inputs_embeds=inputs, position_ids=torch.tensor([[anchor]]), shared_kv_states=out.shared_kv_states, output_attentions=True
    )
    mine = drafted.fresh.masses.pick(torch.tensor([place]))
    for layer, paid in enumerate(done.attentions):
        row, labels = paid[0, :, 0], text.labels[:anchor]
        golden = torch.stack([row[:, labels == label].sum(-1) for label in range(3)], dim=-1)
        torch.testing.assert_close(mine.label[layer, :, 0, :3], golden, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.tail[layer, :, 0, :4], row[:, -4:].flip(-1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.entropy[layer, :, 0], torch.special.entr(row).sum(-1), rtol=1e-4, atol=1e-5)


def test_a_control_is_the_first_step_of_a_later_anchor(plain: Pair) -> None:
    drafted = plain.draft(VLLM, [plain.texts[0]])
    own = drafted.control(3).state
    assert own is not None and drafted.fresh.state is not None
    torch.testing.assert_close(own, drafted.fresh.state[2 : 2 + drafted.n_anchors])


def test_held_and_reanchored_states_are_the_target_s(plain: Pair) -> None:
    text, drafter = plain.texts[0], plain.read(VLLM)
    forced = {
        name: draft_keyless(drafter, [text], settings, DEPTH, free=False).forced
        for name, settings in (
            ("own", DraftSettings(DEPTH)),
            ("held", DraftSettings(DEPTH, held=True)),
            ("reanchored", DraftSettings(DEPTH, reanchored=2)),
            ("pinned", DraftSettings(DEPTH, pinned=True)),
        )
    }
    first = [found[0].state for found in forced.values()]
    assert all(torch.equal(state, first[0]) for state in first)  # type: ignore[arg-type]
    assert off(forced["held"][2].state, forced["own"][2].state) > 10 * TOLERANCE  # type: ignore[arg-type]
    torch.testing.assert_close(forced["reanchored"][1].state, forced["own"][1].state)
    assert off(forced["reanchored"][2].state, forced["own"][2].state) > 10 * TOLERANCE  # type: ignore[arg-type]
    rms = [state.square().mean(-1).sqrt() for queries in forced["pinned"] if (state := queries.state) is not None]
    torch.testing.assert_close(rms[-1], rms[0])


def test_a_window_hides_early_rows_but_those_kept(plain: Pair) -> None:
    text, drafter = plain.texts[2], plain.read(VLLM)
    for kept in ([], [0, 1]):
        drafted = draft_keyless(drafter, [text], DraftSettings(DEPTH, window=5), DEPTH, free=False, apart=[Apart(kept)])
        first = drafted.forced[2].masses.first
        assert float(first[..., 2:].max()) == 0 and (float(first[..., :2].min()) > 0) is bool(kept)


@torch.no_grad()
def test_generation_with_the_assistant_begins_with_the_tokens_drafted_here(plain: Pair) -> None:
    """The whole loop of transformers keeps the target's own words, and its first round drafts what is drafted here."""
    text = plain.texts[1]
    asked = torch.tensor([list(text.text.ids[: text.prompt_length])])
    plain.assistant.generation_config.num_assistant_tokens = DEPTH
    with pytest.MonkeyPatch.context() as patch:
        rounds = drafted_by_generate(SinglePositionMultiTokenCandidateGenerator, patch)
        out = plain.main.generate(asked, do_sample=False, max_new_tokens=12, assistant_model=plain.assistant, eos_token_id=None)
    assert out[0, : text.prompt_length + 12].tolist() == list(text.text.ids[: out.shape[1]])[: text.prompt_length + 12]
    drafted = plain.draft(TRANSFORMERS, [text])
    assert next(one for _, one in rounds if one) == [int(queries.guesses.drafted[0]) for queries in drafted.free]


@pytest.mark.parametrize("chunk", [512, 7])
@torch.no_grad()
def test_streams_of_a_target_whose_last_layers_share_keys_are_whole_in_every_chunk(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair("shared", tmp_path)
    monkeypatch.setattr("driftcli.target.in_process.CHUNK", chunk)
    text = pair.texts[1]
    (read,) = pair.target.read_all([text.text], [7, 3, 1])
    hidden = pair.main(text.ids[None, :-1], output_hidden_states=True).hidden_states
    for boundary, whole in ((7, hidden[6]), (3, hidden[3]), (1, hidden[1])):
        assert off(read.streams[boundary], whole[0]) < TOLERANCE
