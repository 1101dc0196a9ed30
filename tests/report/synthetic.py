"""Run folders written from seeded synthetic rows, through the tool's own writer: no engine, no model, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftcli.domain import ModelCard, PairCard, RunSpec, Sourced, System
from driftcli.statistics.costs import BatchCosts, Costs, TimedIn
from driftcli.statistics.costs_file import costs_json
from driftcli.statistics.walks import leading_matches, walk
from driftcli.traces.layout import COSTS_FILE
from driftcli.traces.writer import Columns, Plain, RunFolder, card_json, manifest_of, open_run, write_json

PROMPT_LENGTH, BATCH = 10, 6
RECORD = {
    "feedback": Sourced("raw", "default:vLLM"),
    "pre_fc_norm": Sourced("none", "tensor"),
    "capture": Sourced((2, 8, 13), "default:vLLM"),
}
NO_STATE = "a causal language model feeds no state to its next step, so on the target's tokens chain and control are one computation"
PIECES = {"id": [1, 5, 6], "bytes": [b"<user>", b" right", b" wrong"], "special": [True, False, False]}
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Life:
    """How a head fares: right guesses when fresh; by depth the share lost to self-feeding, growth of the state, what leaves the sink."""

    fresh: float = 0.7
    lost: Sequence[float] = (0, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08)
    growth: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1)
    moved: Sequence[float] = (0, 0, 0, 0, 0, 0, 0, 0)
    self_feeding: bool = True
    sink: bool = True

    @property
    def depth(self) -> int:
        return len(self.lost)


@dataclass(frozen=True)
class Recipe:
    """What is written: who the pair is, how its head fares, and on which prompts."""

    life: Life = Life()
    target: str = "Some-Target-8B"
    drafter: str = "some-eagle3-head"
    prompts: Sequence[str] = tuple(f"prompt-{number:02}" for number in range(16))
    short: Sequence[str] = ()
    anchors: int = 40
    notes: Sequence[str] = ()
    ignored: Sequence[str] = ()
    reading: System = "as_served:vllm"
    readings: Mapping[str, Mapping[str, Sourced]] = field(default_factory=dict)
    argmax_share: float = 1.0
    seed: int = 7
    extra: dict[str, tuple[str, Life]] = field(default_factory=dict)  # further conditions: name -> (probe, how the head fares)
    costs: Sequence[BatchCosts] = ()  # of a run that tried mitigations
    timed_in: TimedIn | None = None  # the engine of the costs
    groups: Mapping[str, str] = field(default_factory=dict)  # by prompt
    categories: Mapping[str, str] = field(default_factory=dict)  # by prompt
    lengths: Mapping[str, int] = field(default_factory=dict)  # of further conditions: tokens that prompts are filled up to
    token: int = 5  # of which replies are made
    rendered: str = "0"  # character that fills up the mark of every rendered prompt


DRIFTING = Life(
    lost=(0, 0.1, 0.22, 0.33, 0.42, 0.5, 0.56, 0.6),
    growth=(1, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3),
    moved=(0, 0.03, 0.08, 0.12, 0.16, 0.2, 0.23, 0.26),
)
WITHOUT_STATE = Life(lost=(0,) * 8, self_feeding=False)


def write_run(path: Path, recipe: Recipe = Recipe()) -> Path:
    """A complete run folder."""
    begun = manifest_of(_request(recipe), _card(recipe), _facts(recipe))
    folder = open_run(path, begun, sorted([*recipe.prompts, *recipe.short]), BATCH, force=False)
    folder.write_pieces(PIECES)
    for batch in folder.batches:
        _write_baseline(folder, recipe, batch)
        for name, (probe, other) in recipe.extra.items():
            parts = [part for prompt in batch if prompt in recipe.prompts for part in _chain(recipe, other, prompt, probe, name)]
            texts = {"trajectories": [_trajectory(recipe, prompt) for prompt in batch]} if name in recipe.lengths else {}
            folder.write_cell(name, batch, {"steps": parts, **texts})
    if recipe.costs:
        write_json(path / COSTS_FILE, costs_json(Costs("by hand", 100, tuple(recipe.costs), recipe.timed_in)))
    folder.write_manifest({**begun, "complete": True})
    return path


def _request(recipe: Recipe) -> dict[str, Plain]:
    further: list[dict[str, Plain]] = [
        {"name": name, "probe": probe, **({"text": {"length": recipe.lengths[name]}} if name in recipe.lengths else {})}
        for name, (probe, _) in recipe.extra.items()
    ]
    conditions: list[Plain] = [{"name": "baseline", "probe": "baseline"}, *further]
    return {
        "target": "0" * 16,
        "drafter": "1" * 16,
        **asdict(RunSpec(depth=recipe.life.depth, max_new_tokens=64, batch_size=BATCH)),
        "dtype": "bfloat16",
        "device": "cuda",
        "probes": ["chain-length", "streams", *(["mitigations"] if recipe.costs else [])],
        "conditions": conditions,
    }


def _card(recipe: Recipe) -> dict[str, Plain]:
    eagle = recipe.life.self_feeding
    card = PairCard(
        target=ModelCard(recipe.target, "abc123", "llama", "0" * 16),
        drafter=ModelCard(recipe.drafter, None, "llama", "1" * 16),
        family="eagle3" if eagle else "causal-lm",
        record={"reading": Sourced(recipe.reading, "default:vLLM"), **RECORD} if eagle else {},
        readings=recipe.readings,
        token_offset=int(eagle),
        no_recursion=None if eagle else NO_STATE,
        notes=tuple(recipe.notes),
    )
    return card_json(card)


def _facts(recipe: Recipe) -> dict[str, Plain]:
    return {
        "versions": {"driftcli": "0.1.0"},
        "device_name": "Some GPU",
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:06:15+00:00",
        "ignored_generation_settings": list(recipe.ignored),
        "notes": list(recipe.notes),
    }


def _write_baseline(folder: RunFolder, recipe: Recipe, batch: Sequence[str]) -> None:
    usable = [prompt for prompt in batch if prompt in recipe.prompts]
    steps = [part for prompt in usable for part in _chain(recipe, recipe.life, prompt, "baseline", "baseline", controls=True)]
    streams = [_streams(prompt) for prompt in batch] if recipe.life.self_feeding else []
    trajectories = [_trajectory(recipe, prompt) for prompt in batch]
    folder.write_cell("baseline", batch, {"steps": steps, "trajectories": trajectories, "streams": streams, "heads": []})


def _trajectory(recipe: Recipe, prompt: str) -> Columns:
    usable = prompt in recipe.prompts
    reply = recipe.anchors + recipe.life.depth if usable else 2
    return {
        "prompt": [prompt],
        "turn": [0],
        "category": [recipe.categories.get(prompt)],
        "group": [recipe.groups.get(prompt)],
        "prompt_length": [PROMPT_LENGTH],
        "length": [PROMPT_LENGTH + reply],
        "ids": [[5] * PROMPT_LENGTH + [recipe.token] * reply],
        "labels": [[1] * PROMPT_LENGTH + [2] * reply],
        "anchors": [recipe.anchors if usable else 0],
        "rounds_to_end": [[1 + (reply - 2) // 3] * recipe.life.depth],
        "sink_row": [0 if recipe.life.sink else None],
        "target_prob": [[0.9] * reply],
        "prefix_length": [1],
        "target_entropy": [[0.3] * reply],
        "choices": [None],
        "argmax_share": [recipe.argmax_share],
        "generated": [recipe.argmax_share == 1],
        "unlocated": [0],
        "rendered_sha256": [f"{prompt:{recipe.rendered}>16}"],
    }


def _streams(prompt: str) -> Columns:
    """Three streams of 0.4, 2 and 16 in the fused input: 40 times, which the streams probe notes."""
    added = [0.4, 2.0, 16.0, 17.0]
    return {
        **_names(prompt, "baseline", "baseline", 4),
        "stream": ["boundary 2", "boundary 8", "boundary 13", "fused"],
        "place": [0, 1, 2, 3],
        "rows": [PROMPT_LENGTH + 20] * 4,
        "rms": [1.0, 4.0, 30.0, 17.0],
        "first_row_rms": [50.0, 60.0, 70.0, 80.0],
        "added_rms": added,
    }


def _names(prompt: str, probe: str, condition: str, count: int) -> dict[str, Sequence[object]]:
    return {"probe": [probe] * count, "condition": [condition] * count, "prompt": [prompt] * count, "turn": [0] * count}


def _chain(recipe: Recipe, life: Life, prompt: str, probe: str, condition: str, *, controls: bool = False) -> list[Columns]:
    """Rows of every feed on one prompt: which guesses are right is drawn once and shared, so that a loss is the chain's alone."""
    random = np.random.default_rng([recipe.seed, recipe.prompts.index(prompt)])
    anchors, depth = recipe.anchors, life.depth
    of_token = random.random(anchors + depth - 1) < np.clip(life.fresh + random.normal(0, 0.05), 0, 1)
    fresh = np.stack([of_token[d : d + anchors] for d in range(depth)], axis=1)
    forced = fresh & (random.random((anchors, depth)) >= np.array(life.lost))
    level = 4 * np.exp(random.normal(0, 0.1, (anchors, depth)))
    on_walk = walk(leading_matches(forced))
    feeds = {"fresh": fresh, "forced": forced, "free": forced} if controls else {"forced": forced}
    return [
        {
            **_names(prompt, probe, condition, anchors),
            **_guesses(feed, match[:, d], leading_matches(match[:, :d]) == d),
            **_inner(life, feed, d, level[:, d]),
            "anchor": PROMPT_LENGTH + np.arange(anchors),
            "depth": [d + 1] * anchors,
            "on_walk": on_walk,
        }
        for feed, match in feeds.items()
        for d in range(depth)
    ]


def _guesses(feed: str, match: NDArray[np.bool_], so_far: NDArray[np.bool_]) -> Columns:
    hidden = ~so_far if feed == "free" else np.zeros(len(match), dtype=bool)
    return {
        "feed": [feed] * len(match),
        "drafted": np.where(match, 5, 6),
        "wanted": np.ma.array(np.full(len(match), 5), mask=hidden),
        "match": np.ma.array(match, mask=hidden),
        "target_prob": np.ma.array(np.full(len(match), 0.9), mask=hidden),
        "draft_prob": np.full(len(match), 0.6),
        "wanted_prob": np.ma.array(np.full(len(match), 0.5), mask=hidden),
        "draft_entropy": np.full(len(match), 1.0),
        "confidence": None,
    }


def _inner(life: Life, feed: str, d: int, level: Matrix) -> Columns:
    """State and attention of one feed at one depth: the chain's grows and moves, its control's only has more drafts to look at."""
    own = feed != "fresh" and life.self_feeding
    ahead, moved = 0.02 * d, life.moved[d] if own else 0.0
    shares = {
        "sink": 0.4 - moved,
        "template": 0.1,
        "prompt": 0.2,
        "verified": 0.3 - ahead,
        "ahead": ahead + moved,
        "recent": 0.25 + moved / 2,
    }
    if not life.sink:
        shares["prompt"] += shares["sink"]
    kept = {f"share_{name}": np.full(len(level), value) for name, value in shares.items() if name != "sink" or life.sink}
    return {
        "rms": level * (life.growth[d] if own else 1) if life.self_feeding else None,
        "state_cosine": np.full(len(level), 1 - 0.05 * d) if feed == "forced" and life.self_feeding else None,
        "share_sink": None,
        **kept,
        "entropy": 2 + 0.1 * d + 0.01 * level,
    }
