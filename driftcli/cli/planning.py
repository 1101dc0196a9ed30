"""From a parsed command line to a plan: what a diagnosis would take on this machine; imports torch and loads no weight."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from driftcli.cli.battery import load_battery
from driftcli.cli.diagnosis import QUICK_PROMPTS, asked_prompts, check_room, names_asked, with_twin
from driftcli.cli.folder import RUNS
from driftcli.cli.request import Request
from driftcli.cli.threads import allowed_threads, threads
from driftcli.conditions import Condition, DraftSettings, Wiring
from driftcli.domain import REWIRED, Prompt
from driftcli.engine.agenda import Agenda
from driftcli.engine.amounts import Amounts, Speed, Texts, amounts
from driftcli.engine.budget import Budgeted, fit, left_out
from driftcli.engine.calibration import calibrated, checking
from driftcli.engine.footprint import disk, held_rows, memory, program_size, side_by_side
from driftcli.engine.forecast import ending, looking_ahead, takes, texts_ahead, with_reading
from driftcli.engine.left_out import on_some
from driftcli.engine.load import core_share, since_start
from driftcli.engine.timing import free_memory
from driftcli.loading.depths import require_depth
from driftcli.loading.outline import Outline, outline_pair
from driftcli.probe import Cutting
from driftcli.report.plan import Machine, Plan, Range
from driftcli.target.language_model import choose_device, choose_dtype, quiet_transformers
from driftcli.texts.prompts import limited

SERVED = "time and memory are those of transformers; vLLM takes less time, and the memory that it is given"
READ = 1e9  # bytes of weights a second that a disk gives, rough (chosen by us)


@dataclass(frozen=True)
class _Ahead:
    """All that a plan is made of."""

    outline: Outline
    agenda: Agenda
    prompts: Sequence[Prompt]
    texts: Texts
    speed: Speed
    share: float
    device: torch.device
    dtype: torch.dtype

    def within(self, seconds: int) -> _Ahead:
        """The same cut to a time."""
        budget = fit(seconds, self.agenda, self.texts.prompts, takes(self.texts, self.speed))
        agenda, prompts = replace(self.agenda, dropped=budget.dropped), limited(self.prompts, budget.prompts)
        return replace(self, agenda=agenda, texts=self.texts.some(budget.prompts), prompts=prompts)

    def counted(self, reply: int, more: Sequence[Condition] = ()) -> Amounts:
        """What is known, and more, where replies are so long."""
        return amounts(self.agenda, [*self.agenda.conditions(), *more], self.texts, reply)

    def later(self) -> list[Condition]:
        """One later round of every probe that has some: the search again, the pair as it then is, and what helps together."""
        full, depth = DraftSettings(self.agenda.spec.depth), min(2, self.agenda.spec.depth)
        searched = self.agenda.opening()[1:]
        again = [Condition(f"again-{place}", DraftSettings(depth), one.probe) for place, one in enumerate(searched)]
        rewired = [Condition(REWIRED, replace(full, wiring=Wiring()), controls=True, full=True)] if searched else []
        return [*again, *rewired, *(Condition(f"together-{probe.name}", full, probe.name, free=True) for probe in self.agenda.later_rounds)]


def plan_of(request: Request) -> Plan:
    """What `diagnose` would take, on this machine. Raises the same refusals, as far as configs and headers tell."""
    quiet_transformers()
    request = with_twin(request)
    with threads(request.threads or allowed_threads()):
        offered = asked_prompts(request)
        ahead = _ahead(request, limited(offered, request.limit or (QUICK_PROMPTS if request.spec.quick else None)))
        cut = ahead if request.budget is None else ahead.within(request.budget)
        return _plan(request, cut, len(offered), _notes(request, cut, len(ahead.prompts)))


def _ahead(request: Request, prompts: Sequence[Prompt]) -> _Ahead:
    check_room(prompts, request.spec)
    battery, device = load_battery(names_asked(request)), choose_device(request.device)
    reading = None if request.reading == "declared" else request.reading
    outline = outline_pair(request.target, request.drafter, remote_code=request.remote_code, reading=reading)
    require_depth(outline.card, request.spec.depth, outline.modules)
    dtype, share = _dtype(request, device, outline), core_share() if device.type == "cpu" else 1.0
    speed = calibrated(outline, device, dtype, min(request.spec.batch_size, len(prompts))).slowed(share)
    at_once = side_by_side(outline, request.spec.depth, device)
    texts = texts_ahead(outline.model.tokenizer, prompts, request.target, request.spec, at_once)
    if request.engine == "transformers":
        texts = with_reading(texts, outline.model, device, dtype, outline.streams)
    return _Ahead(outline, Agenda(outline.card, request.spec, battery), prompts, texts, speed, share, device, dtype)


def _dtype(request: Request, device: torch.device, outline: Outline) -> torch.dtype:
    chosen, own = choose_dtype(request.dtype, device), getattr(outline.model.config, "dtype", None)
    return chosen if isinstance(chosen, torch.dtype) else own if isinstance(own, torch.dtype) else torch.float32


def _notes(request: Request, ahead: _Ahead, before: int) -> list[str]:
    """What is left out, or not run on all prompts, and why; and what is taken for granted."""
    agenda, battery = ahead.agenda, ahead.agenda.battery
    said = [line for probe in battery if isinstance(probe, Cutting) for line in probe.left_out(agenda.card, agenda.spec)]
    if request.budget is not None:
        budget = Budgeted(request.budget, tuple(agenda.dropped), len(ahead.prompts), before)
        said += left_out(budget, agenda.asked())
    usual, most = ahead.texts.usual, ahead.texts.most
    length = f"replies are taken to be {usual} tokens long{'' if usual == most else f', of up to {most}'}; shorter ones take less"
    served = [SERVED] if request.engine == "vllm" else []
    return [*said, *on_some(agenda.conditions(), len(ahead.prompts)), length, *served]


def _plan(request: Request, ahead: _Ahead, offered: int, notes: Sequence[str]) -> Plan:
    outline, texts, later = ahead.outline, ahead.texts, ahead.later()
    usual, most = ahead.counted(texts.usual), ahead.counted(texts.most, later)
    conditions = ahead.agenda.conditions()
    itemsize = ahead.dtype.itemsize
    weights = sum(outline.target.stored.values()) + sum(outline.drafter.stored.values())
    begin = since_start() + weights / READ + checking(weights) / ahead.share
    begin += looking_ahead(ahead.speed, min(request.spec.batch_size, len(ahead.prompts)))
    end = ending(ahead.agenda, ahead.speed, usual.rows)
    parts = {"beginning": begin, **ahead.speed.parts(usual), "timing and judging": end}
    held = memory(outline, texts, conditions, request.spec, itemsize, ahead.device)
    host = program_size() if ahead.device.type == "cpu" else 0
    by_part = held.by_part(host, held_rows(ahead.agenda, conditions, texts))
    where = request.out or RUNS
    return Plan(
        target=outline.card.target.name,
        drafter=outline.card.drafter.name,
        dtype=str(ahead.dtype).removeprefix("torch."),
        offered=offered,
        used=len(ahead.prompts),
        categories=dict(Counter(prompt.category or "none" for prompt in ahead.prompts)),
        conditions=dict(Counter(one.probe for one in conditions)),
        later=len(later),
        replies=_range("texts", usual, most),
        written=_range("written", usual, most),
        read=_range("read", usual, most),
        drafted=_range("drafted", usual, most),
        chained=_range("chained", usual, most),
        weights={"target": outline.target.stored, "drafter": outline.drafter.stored},
        memory=by_part,
        disk=Range(disk(outline, usual), disk(outline, most)),
        seconds=Range(sum(parts.values()), begin + ahead.speed.seconds(most) + ending(ahead.agenda, ahead.speed, most.rows)),
        parts=parts,
        machine=Machine(str(ahead.device), torch.get_num_threads(), ahead.share, free_memory(ahead.device), _free_disk(where)),
        notes=notes,
    )


def _range(name: str, usual: Amounts, most: Amounts) -> Range:
    return Range(getattr(usual, name), getattr(most, name))


def _free_disk(folder: Path) -> int | None:
    """Bytes that are free where a folder is, or will be made."""
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), None)
    return None if there is None else shutil.disk_usage(there).free
