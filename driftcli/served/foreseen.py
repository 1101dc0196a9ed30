"""What a run foresees of a server that computes what its files say: how many draft tokens each round keeps, text by text.

Decoding visits the anchors of the run, since the text is the same: behind a prompt and its first token the round at each anchor keeps as
many draft tokens as the run's chain there has right guesses in a row. So many tokens are asked for that every round begins at an anchor of
the run, and that the last one ends with the reply: then nothing depends on how a server counts what lies behind a reply's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from driftcli.conditions import BASELINE, DraftSettings, TextSettings, Wiring, worded
from driftcli.domain import PairCard
from driftcli.errors import RunError
from driftcli.served.server import Counts
from driftcli.traces.manifest import wiring_of
from driftcli.traces.reader import Run
from driftcli.traces.sums import grids, read_table
from probes.wiring import factor_of

COLUMNS = ["prompt", "turn", "prompt_length", "anchors", "ids", "generated", "rendered_sha256"]
SHALLOW = 2  # depth of the chains of other wirings, as the wiring probe measures them
OTHERWISE = ("wiring", "window", "kept", "held", "depth")  # settings that a server may compute otherwise than the files say
Key = tuple[str, int]  # prompt and turn


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and the run's own reply to it; kept: right guesses in a row at each anchor of the reply, (anchor,), the first behind the
    reply's first token. unit: prompts of one number count as one.
    """

    key: Key
    unit: int
    ids: tuple[int, ...]
    prompt_length: int
    kept: np.ndarray

    @property
    def prompt(self) -> tuple[int, ...]:
        """The token ids to be continued."""
        return self.ids[: self.prompt_length]

    @property
    def reply(self) -> tuple[int, ...]:
        """Those of the run's reply."""
        return self.ids[self.prompt_length :]

    def most(self, drafts: int, limit: int | None = None) -> int:
        """So many tokens of the reply that a round of `drafts` draft tokens each ends with the last, and begins at an anchor of the run;
        limit: no more than so many.
        """
        emitted, furthest = 1, len(self.kept) + 1 if limit is None else min(limit, len(self.kept) + 1)
        for kept in self._rounds(drafts):
            if emitted + kept + 1 > furthest:
                break
            emitted += kept + 1
        return emitted

    def counts(self, drafts: int, tokens: int) -> Counts:
        """Rounds of a reply of so many tokens, and those that keep at least 1, 2, ... draft tokens."""
        emitted, visited = 1, list[int]()
        for kept in self._rounds(drafts):
            if emitted >= tokens:
                break
            emitted += kept + 1
            visited.append(kept)
        return Counts(len(visited), tuple(sum(kept >= place for kept in visited) for place in range(1, drafts + 1)), drafts * len(visited))

    def _rounds(self, drafts: int) -> Iterable[int]:
        """Draft tokens that each round keeps, from the first anchor to the last."""
        here = 0
        while here < len(self.kept):
            kept = min(int(self.kept[here]), drafts)
            yield kept
            here += kept + 1


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A way to put the drafter together that the run measured besides the declared one; kept: right guesses in a row at each anchor of a
    text, at most `SHALLOW`. words: what a server then computes; code: the finding's that it would be.
    """

    name: str
    words: str
    code: str
    fix: str
    kept: Mapping[Key, np.ndarray]


def texts_of(run: Run, drafts: int) -> list[Text]:
    """The texts of a run that a server of so many draft tokens a round can be asked for, ordered by the hash of their prompts.

    Raises RunError where a server cannot be held against the run: replies that were given or drawn, or chains that are too short.
    """
    if run.spec.temperature:
        raise RunError(
            f"{run.path}: its replies were drawn at temperature {run.spec.temperature:g}, which no server repeats; measure it at 0"
        )
    if drafts > run.spec.depth:
        raise RunError(
            f"{run.path}: the server drafts {drafts} tokens a round and the run's chains have {run.spec.depth}; measure it with "
            f"--depth {drafts}"
        )
    rows = [row for row in read_table(run.path / "trajectories", COLUMNS, BASELINE).to_pylist() if row["generated"] and row["anchors"]]
    if not rows:
        raise RunError(f"{run.path}: holds no reply of the target's own that is long enough for a chain; measure it on other prompts")
    kept, units = _kept(run, BASELINE), dict(zip(run.units.prompts, run.units.unit.tolist(), strict=True))
    rows = sorted(rows, key=lambda row: (row["rendered_sha256"], row["prompt"], row["turn"]))
    return [
        Text((row["prompt"], row["turn"]), units[row["prompt"]], tuple(row["ids"]), row["prompt_length"], kept[row["prompt"], row["turn"]])
        for row in rows
        if (row["prompt"], row["turn"]) in kept
    ]


def others_of(run: Run) -> list[Otherwise]:
    """Every other way to put the drafter together that the run measured on its own texts, in the order of the run."""
    conditions: Any = run.manifest["conditions"]
    asked = [one for one in conditions if one["name"] != BASELINE and one["name"] not in run.failed and _is_another_reading(one)]
    return [Otherwise(one["name"], *_meant(one, run.pair), _kept(run, one["name"], SHALLOW)) for one in asked]


def _kept(run: Run, condition: str, most: int = 1 << 20) -> dict[Key, np.ndarray]:
    """Right guesses in a row at each anchor of every text of a condition."""
    forced = grids(run.path, condition, run.units)["forced"]
    if forced is None:
        return {}
    first = [span.start for span in forced.trajectories]
    keys = [(run.units.prompts[int(forced.prompt[place])], int(forced.turn[place])) for place in first]
    return {key: np.minimum(forced.accepted[span], most) for key, span in zip(keys, forced.trajectories, strict=True)}


def _is_another_reading(condition: Mapping[str, Any]) -> bool:
    """Whether a condition drafts on the run's own texts with nothing but what a server might compute otherwise."""
    settings, usual = condition.get("settings") or {}, asdict(DraftSettings())
    text, own = condition.get("text") or {}, asdict(TextSettings())
    changed = {name for name, value in settings.items() if value != usual.get(name)}
    return (
        "wiring" in settings
        and changed - {"depth"} != set()
        and changed <= set(OTHERWISE)
        and all(own[name] == text[name] for name in text)
    )


def _meant(condition: Mapping[str, Any], pair: PairCard) -> tuple[str, str, str]:
    """What a server computes that puts the drafter together so, the code of it, and what to look at."""
    settings = condition["settings"]
    wiring = wiring_of(settings["wiring"])
    if wiring != Wiring():
        factors = [(factor_of(field, pair.family), value) for field, value in wiring.changes.items()]
        words = [factor.what.format(_whose(field, value)) for (factor, value), field in zip(factors, wiring.changes, strict=True)]
        return " and ".join(words), factors[0][0].code, FIXES.get(next(iter(wiring.changes)), FIX)
    if settings.get("held"):
        return "the target's state of the anchor at every depth", "FEEDBACK-MODE", FIXES["feedback"]
    return f"a window of {settings.get('window')} on the drafter's attention", "DRIFT-LONGCTX", "look for a window among the server's flags"


FIX = "compare the config.json and the weights that the server loads with those that were measured"
FIXES = {
    "capture": "compare the layer ids in the config.json that the server loads (eagle_aux_hidden_state_layer_ids) and in its flags",
    "feedback": "compare norm_output in the config.json that the server loads, and whether its version reads that key",
    "residual": "compare norm_before_residual in the config.json that the server loads, and whether its version reads that key",
    "rope": "compare rope_theta and rope_scaling in the config.json that the server loads, and whether its version reads them",
    "embedding": "compare which embeddings the server takes, the head's or the target's",
    "head": "compare which output head the server takes, the head's or the target's",
}


def _whose(field: str, value: object) -> str:
    return (
        f"the {value}"
        if field in ("embedding", "head") and value != "own"
        else "its own"
        if field in ("embedding", "head")
        else worded(value)
    )


def first_of(texts: Sequence[Text], limit: int | None) -> list[Text]:
    """The texts of the first prompts, all for no limit; every turn of a prompt stays with it."""
    prompts = list(dict.fromkeys(text.key[0] for text in texts))[:limit]
    return [text for text in texts if text.key[0] in prompts]
