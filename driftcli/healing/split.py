"""Which of a run's prompts a head is healed on, and which judge it; and the replies of the former."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from driftcli.domain import Prompt
from driftcli.errors import RunError
from driftcli.mitigations.healable import taught
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.traces.reader import Run
from driftcli.traces.sums import cells, read_table
from driftcli.training.conversations import Conversation

COLUMNS = ("prompt", "turn", "ids", "prompt_length", "generated")


@dataclass(frozen=True)
class Split:
    """Prompts by what they are for; those of one group are on one side."""

    taught: tuple[Prompt, ...]
    judging: tuple[Prompt, ...]


def split(prompts: Sequence[Prompt], seed: int) -> Split:
    """Halves of the prompts, drawn by the run's seed, so that all attempts from one run are judged alike; RunError where too few would be
    left to judge by.
    """
    units = sorted({_unit(prompt) for prompt in prompts})
    random.Random(seed).shuffle(units)
    learned = frozenset(units[: taught(len(units))])
    if len(units) - len(learned) < MINIMAL_PROMPTS:
        raise RunError(
            f"the run has {len(units)} prompts, of which half are kept from training to judge by: {len(units) - len(learned)}, expected at "
            f"least {MINIMAL_PROMPTS}; diagnose with more prompts first"
        )
    sides = [[one for one in prompts if (_unit(one) in learned) is side] for side in (True, False)]
    return Split(tuple(sides[0]), tuple(sides[1]))


def _unit(prompt: Prompt) -> str:
    said = [f"{message.role}\0{message.content}" for message in prompt.messages]
    return prompt.group or "\0".join([*said, prompt.text or ""])


def own_replies(run: Run, prompts: Sequence[Prompt], probes: Collection[str] = ()) -> list[Conversation]:
    """What the target wrote in a run behind some prompts, each text once; behind those that some probes changed too."""
    names = [run.reference, *(name for probe, name in run.conditions if probe in probes)]
    known, found = {prompt.id for prompt in prompts}, dict[tuple[int, ...], Conversation]()
    for name in dict.fromkeys(names):
        if not cells(run.path / "trajectories", name):
            continue
        for row in read_table(run.path / "trajectories", COLUMNS, name).to_pylist():
            if row["prompt"] in known and row["generated"] and row["prompt_length"] < len(row["ids"]):
                found.setdefault(tuple(row["ids"]), Conversation(list(row["ids"]), [(row["prompt_length"], len(row["ids"]))]))
    return list(found.values())
