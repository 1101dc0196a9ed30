"""What a run will take, before it starts: counted where it can be, timed on a few tokens of the pair itself where it cannot."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from driftcli.conditions import BASELINE, Condition, DraftSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.agenda import Agenda
from driftcli.engine.amounts import Line, Speed, Texts, Turn, amounts, usual_reply
from driftcli.engine.budget import Budgeted, fit
from driftcli.engine.calibration import attended_pair
from driftcli.engine.cells import draft, side_by_side
from driftcli.engine.drafted import Drafted
from driftcli.engine.load import core_share, own_seconds
from driftcli.engine.rows import CellRows, cell_rows
from driftcli.engine.run import Job
from driftcli.engine.serving import ServedTarget, uncut_layers
from driftcli.engine.texts import Text, foreseen
from driftcli.engine.timing import SECONDS, TURNS, step_lengths
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.loading.pair import LoadedPair, streams_of
from driftcli.target.beginnings import common
from driftcli.target.decoding import a_step, decodable, kept_tokens, reads_once
from driftcli.target.heads import heads_of
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Target, Writing
from driftcli.texts.rendering import REPLY
from driftcli.traces.writer import write_parquet

CPU = torch.device("cpu")
SHORT, LONG, PROMPT = 48, 128, 32  # tokens of the two texts that are timed, and of their prompts (chosen by us)
JUDGING = 6e-6  # seconds a row of `steps`, of all numbers and intervals (measured on the pairs that ship)
TIMED, MORE = 2, 16  # draft tokens a chain of theirs


@dataclass(frozen=True)
class Forecast:
    """Texts that the target writes and tokens that the drafter proposes in forced chains, each at most, and seconds, roughly."""

    texts: int
    drafter_tokens: int
    seconds: float


def forecast(job: Job) -> Forecast:
    """What `job` will take if all that is known before it starts is measured anew."""
    texts, conditions = _texts(job), job.conditions()
    most, usual = (amounts(job.agenda, conditions, texts, reply) for reply in (texts.most, texts.usual))
    speed = timed_speed(job.pair, job.prompts, job.spec.batch_size)
    return Forecast(round(most.texts), round(most.drafted), speed.seconds(usual) + ending(job.agenda, speed, usual.rows))


def fitted(job: Job, seconds: int) -> Budgeted:
    """What of `job` must go for it to keep to a time; UsageError where not even the least fits."""
    speed = timed_speed(job.pair, job.prompts, job.spec.batch_size)
    return fit(seconds, job.agenda, len(job.prompts), takes(_texts(job), speed))


def takes(texts: Texts, speed: Speed) -> Callable[[Agenda, int], float]:
    """The seconds of an agenda on so many of a run's prompts, all else being equal."""

    def of(agenda: Agenda, prompts: int) -> float:
        some = texts.some(prompts)
        found = amounts(agenda, agenda.conditions(), some, some.usual)
        return speed.seconds(found) + ending(agenda, speed, found.rows)

    return of


def ending(agenda: Agenda, speed: Speed, rows: float) -> float:
    """Seconds of what follows the measuring: steps are timed where mitigations are tried, and all rows are judged."""
    steps = len(step_lengths(agenda.spec.depth)) + 2
    turn = steps * (speed.step.call + speed.step.each) + 2 * agenda.spec.depth * (speed.link.call + speed.link.each)
    timing = min(SECONDS, TURNS * turn) if any(probe.name == "mitigations" for probe in agenda.battery) else 0.0
    return timing + JUDGING * rows


def _texts(job: Job) -> Texts:
    target, count = job.pair.target, len(streams_of(job.pair.drafter))
    texts = texts_ahead(target.tokenizer, job.prompts, target.source.name, job.spec, side_by_side(job.pair, job.spec.depth))
    return with_reading(texts, target, target.device, target.head.dtype, count) if isinstance(target, LanguageModel) else texts


def texts_ahead(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], target: str, spec: RunSpec, at_once: int) -> Texts:
    """The texts of a run to come, by what the tokenizer makes of its prompts; raises PromptError where the template refuses one. at_once:
    tokens of them that are drafted on side by side.
    """
    found, rendered = [], []
    for prompt in prompts:
        given = None if prompt.response is None else len(tokenizer(prompt.response, add_special_tokens=False).input_ids)
        turns = [foreseen(tokenizer, prompt, turn).ids for turn in range(len(prompt.turns))]
        found += [Turn(len(ids), turn, given) for turn, ids in enumerate(turns)]
        rendered += turns
    usual = usual_reply(target, spec.max_new_tokens)
    return Texts(found, len(prompts), usual, spec.max_new_tokens, spec.batch_size, alike=common(rendered), at_once=at_once)


def with_reading(texts: Texts, target: LanguageModel, device: torch.device, dtype: torch.dtype, boundaries: int) -> Texts:
    """The same, with what need not be read of them by a model in this process, from which so many streams are taken."""
    model = target.model
    return replace(texts, kept=kept_tokens(model, device, dtype, boundaries), alike=texts.alike if reads_once(model) else None)


def looking_ahead(speed: Speed, batch: int) -> float:
    """Seconds that `timed_speed` itself takes of a pair of some speed, each thing twice or more as `_Timed` has it."""
    each, read, drafted, kept = 0.0, 3, 5, 3
    for length in (SHORT, LONG):
        anchors = length - PROMPT - TIMED
        each += speed.read.of(read, read * length) + speed.fresh.of(drafted, drafted * length) + speed.link.of(3, 3 * anchors)
        each += speed.rows.of(kept * TIMED, (kept + 2 * (MORE + 1)) * TIMED * anchors) + 8 * speed.file
    return each + speed.read.of(2, 2 * LONG) + speed.step.of(4, 2 * (1 + batch))


def timed_speed(pair: LoadedPair, prompts: Sequence[Prompt], batch_size: int) -> Speed:
    """The speed of a loaded pair on two texts of random tokens, and of writing what is measured of them."""
    target, size = pair.target, min(batch_size, len(prompts))
    short, long = (_Timed(pair, _text(target, prompts[0], length)) for length in (SHORT, LONG))
    one, many = (own_seconds(_decoding(target, size), target.device) for size in (1, size))
    made = Line.through((TIMED, short.n_rows, short.made), (TIMED, long.n_rows, long.made))
    speed = Speed(
        read=Line.through((1, SHORT, short.read), (1, LONG, long.read)),
        step=Line.through((1, 1, one), (1, size, many)) if size > 1 else Line(one, 0.0),
        fresh=Line.through((1, SHORT, short.first), (1, LONG, long.first)),
        link=Line.through((1, short.anchors, short.second), (1, long.anchors, long.second)),
        rows=Line(made.call, made.each + long.kept),
        file=long.file,
        pair=_pair(target),
    )
    return speed.slowed(core_share()) if target.device.type == "cpu" else speed


def _pair(target: Target) -> float:
    """Seconds in which a target attends from one token to one before it, by its config."""
    kinds = Counter(heads_of(target.config))  # timed once each, since layers differ in nothing but these sizes, if at all
    return sum(count * attended_pair(one.queries, one.keys, one.size, target.device, target.head.dtype) for one, count in kinds.items())


class _Timed:
    """Seconds of what is done on one text: read by the target, by the drafter, drafted on once, made into columns, kept."""

    def __init__(self, pair: LoadedPair, text: Text) -> None:
        drafter = pair.drafter
        trajectory = read_text(pair.target, text, streams_of(drafter))
        self.anchors, self.n_rows = trajectory.n_anchors(TIMED), TIMED * trajectory.n_anchors(TIMED)
        device = pair.target.device
        self.read = own_seconds(lambda: read_text(pair.target, text, []), device)
        self.first = own_seconds(lambda: _drafted(pair, trajectory, 1), device)
        self.second = max(0.0, own_seconds(lambda: _drafted(pair, trajectory, TIMED), device) - self.first)
        drafted, condition = _drafted(pair, trajectory, TIMED), Condition(BASELINE, DraftSettings(TIMED))
        (rows,) = cell_rows(condition, [trajectory], drafted, [None], pair.card.token_offset)
        self.made = own_seconds(lambda: cell_rows(condition, [trajectory], drafted, [None], pair.card.token_offset), device)
        more = CellRows(rows.steps * MORE, rows.heads * MORE)
        few, many = own_seconds(lambda: _keep(rows), CPU), own_seconds(lambda: _keep(more), CPU)
        self.kept = max(0.0, many - few) / ((MORE - 1) * self.n_rows)
        self.file = max(0.0, few - self.kept * self.n_rows) / 2


def _text(target: Target, prompt: Prompt, length: int) -> Text:
    ids = torch.randint(0, target.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    labels = [1] * PROMPT + [REPLY] * (length - PROMPT)
    return Text(prompt, 0, tuple(ids.tolist()), tuple(labels), PROMPT, True, 0, "")


def _drafted(pair: LoadedPair, trajectory: Trajectory, depth: int) -> Drafted:
    return draft(pair, [trajectory], DraftSettings(depth), TIMED, free=False)


def _decoding(target: Target, size: int) -> Callable[[], object]:
    """A step of so many sequences, behind a text where it is driftcli's own or the target's cache can be cut back to it."""
    if not isinstance(target, LanguageModel):
        return lambda: target.write([[0]] * size, Writing(most=1))
    if decodable(target.model):
        return a_step(target, size, LONG)
    one = torch.zeros(size, 1, dtype=torch.long, device=target.device)
    if uncut_layers(target):
        return lambda: _alone(target, one)
    served = ServedTarget(target)
    served.read(torch.zeros(1, LONG, dtype=torch.long, device=target.device), 1)
    served.repeat(size)

    def step() -> None:
        served.read(one, 1)
        served.crop(LONG)

    return step


@torch.inference_mode()
def _alone(target: LanguageModel, tokens: Tensor) -> None:
    target.model(tokens, use_cache=False)


def _keep(rows: CellRows) -> None:
    """Write rows where nobody looks for them."""
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "steps.parquet", "steps", rows.steps, "")
        write_parquet(Path(folder) / "heads.parquet", "heads", rows.heads, "")
