"""What a run will take, before it starts: counted where it can be, timed on a few tokens of the pair itself where it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from driftcli.conditions import BASELINE, Condition, DraftSettings
from driftcli.domain import Prompt
from driftcli.engine.agenda import Agenda
from driftcli.engine.amounts import Line, Speed, Texts, Turn, amounts, usual_reply
from driftcli.engine.cells import draft
from driftcli.engine.chains import Drafted
from driftcli.engine.rows import CellRows, cell_rows
from driftcli.engine.run import Job
from driftcli.engine.texts import Text, foreseen
from driftcli.engine.timing import seconds
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair
from driftcli.target.language_model import LanguageModel
from driftcli.texts.rendering import REPLY
from driftcli.traces.writer import write_parquet

SHORT, LONG, PROMPT = 48, 128, 32  # tokens of the two texts that are timed, and of their prompts (chosen by us)
TIMED = 2  # draft tokens a chain of theirs


@dataclass(frozen=True)
class Forecast:
    """Texts that the target writes and tokens that the drafter proposes in forced chains, each at most, and seconds, roughly."""

    texts: int
    drafter_tokens: int
    seconds: float


def forecast(job: Job) -> Forecast:
    """What `job` will take if all that is known before it starts is measured anew."""
    texts = texts_ahead(job.pair.target.tokenizer, job.prompts, job.pair.target.source.name, job.spec.max_new_tokens)
    return _forecast(job.agenda, texts, timed_speed(job.pair, job.prompts, job.spec.batch_size))


def _forecast(agenda: Agenda, texts: Texts, speed: Speed) -> Forecast:
    conditions = agenda.conditions()
    most, usual = (amounts(agenda, conditions, texts, reply) for reply in (texts.most, texts.usual))
    return Forecast(round(most.texts), round(most.drafted), speed.seconds(usual))


def texts_ahead(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], target: str, most: int) -> Texts:
    """The texts of a run to come, by what the tokenizer makes of its prompts; raises PromptError where the template refuses one."""
    found = []
    for prompt in prompts:
        given = None if prompt.response is None else len(tokenizer(prompt.response, add_special_tokens=False).input_ids)
        found += [Turn(len(foreseen(tokenizer, prompt, turn).ids), turn, given) for turn in range(len(prompt.turns))]
    return Texts(found, len(prompts), usual_reply(target, most), most)


def timed_speed(pair: LoadedPair, prompts: Sequence[Prompt], batch_size: int) -> Speed:
    """The speed of a loaded pair on two texts of random tokens, and of writing what is measured of them."""
    target, size = pair.target, min(batch_size, len(prompts))
    short, long = (_Timed(pair, _text(target, prompts[0], length)) for length in (SHORT, LONG))
    one, many = (_seconds(lambda size=size: _step(target, size)) for size in (1, size))  # type: ignore[misc]
    made = Line.through((TIMED, short.n_rows, short.made), (TIMED, long.n_rows, long.made))
    return Speed(
        read=Line.through((1, SHORT, short.read), (1, LONG, long.read)),
        step=Line.through((1, 1, one), (1, size, many)) if size > 1 else Line(one, 0.0),
        fresh=Line.through((1, SHORT, short.first), (1, LONG, long.first)),
        link=Line.through((1, short.anchors, short.second), (1, long.anchors, long.second)),
        rows=Line(made.call, made.each + long.kept / long.n_rows),
        file=_seconds(lambda: _keep(CellRows([], []))) / 2,
    )


class _Timed:
    """Seconds of what is done on one text: read by the target, by the drafter, drafted on once, made into columns, kept."""

    def __init__(self, pair: LoadedPair, text: Text) -> None:
        drafter = pair.drafter
        trajectory = read_text(pair.target, text, [] if isinstance(drafter, CausalLm) else drafter.boundaries)
        self.anchors, self.n_rows = trajectory.n_anchors(TIMED), TIMED * trajectory.n_anchors(TIMED)
        self.read = _seconds(lambda: read_text(pair.target, text, []))
        self.first = _seconds(lambda: _drafted(pair, trajectory, 1))
        self.second = max(0.0, _seconds(lambda: _drafted(pair, trajectory, TIMED)) - self.first)
        drafted, condition = _drafted(pair, trajectory, TIMED), Condition(BASELINE, DraftSettings(TIMED))
        rows = cell_rows(condition, trajectory, drafted, None, pair.card.token_offset)
        self.made = _seconds(lambda: cell_rows(condition, trajectory, drafted, None, pair.card.token_offset))
        self.kept = max(0.0, _seconds(lambda: _keep(rows)) - _seconds(lambda: _keep(CellRows([], []))))


def _text(target: LanguageModel, prompt: Prompt, length: int) -> Text:
    ids = torch.randint(0, target.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    labels = [1] * PROMPT + [REPLY] * (length - PROMPT)
    return Text(prompt, 0, tuple(ids.tolist()), tuple(labels), PROMPT, True, 0, "")


def _drafted(pair: LoadedPair, trajectory: Trajectory, depth: int) -> Drafted:
    return draft(pair, trajectory, DraftSettings(depth), TIMED, free=False)


@torch.inference_mode()
def _step(target: LanguageModel, size: int) -> None:
    target.model(torch.zeros(size, 1, dtype=torch.long, device=target.device), use_cache=False)


def _keep(rows: CellRows) -> None:
    """Write rows where nobody looks for them."""
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "steps.parquet", "steps", rows.steps, "")
        write_parquet(Path(folder) / "heads.parquet", "heads", rows.heads, "")


def _seconds(call: Callable[[], object]) -> float:
    """The faster of two calls, since the first one warms up."""
    return min(seconds(call) for _ in range(2))
