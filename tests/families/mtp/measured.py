"""A table of all families: `python -m tests.families.mtp.measured` prints what is detected, how far the engine is from the family's own layer
in every reading, and on what engines disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.domain import SYSTEM_NAMES, System
from driftcli.engine.cells import draft
from driftcli.families.mtp.declaration import MtpDeclaration, declare_mtp
from driftcli.families.mtp.head import MtpModules
from driftcli.families.mtp.kinds import Served
from driftcli.families.mtp.scan import disputed
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import resolve
from driftcli.target.facts import read_facts
from driftcli.target.language_model import quiet_transformers
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.witness import Reading, Streams, Witness
from tests.tiny import prompts, trajectories

CPU, DEPTH = torch.device("cpu"), 3


def declared(folder: Path) -> MtpDeclaration:
    """The head inside a written case."""
    source = resolve(str(folder))
    return declare_mtp(open_checkpoint(source), read_facts(source))


def as_witnessed(served: Served, case: Case, modules: int) -> Reading:
    """The witness's words for what a system does."""
    other = case.turned is not None and served.rotation is not None
    return Reading(
        feedback=served.feedback, hand_in="post" if served.handed == "normed" else "pre", zeroed=served.blanks_first, other_rope=other,
        per_depth=modules > 1,
    )  # fmt: skip


def readings(case: Case, folder: Path) -> Iterator[tuple[System, LoadedPair, Witness]]:
    """Every system's pair and its witness; without those whose windows are wider, which the witness cannot be told."""
    d, whole = declared(folder), Witness.of(case, folder)
    for system, served in d.kind.served.items():
        if not served.wider or d.modules[0].window is None:
            pair = load_pair(str(folder), "mtp", CPU, "float32", reading=system)
            yield system, pair, whole.read_as(as_witnessed(served, case, d.count(system)))


@torch.no_grad()
def both(pair: LoadedPair, witness: Witness) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
    """By chain query: the likeliest token's probability here and the witness's scores, the state here, where one is handed on, and the
    witness's.
    """
    layers = len(pair.target.layers)
    texts = [text for text in trajectories(pair.target, prompts(3), (layers, layers + 1), 10) if text.n_anchors(DEPTH)]
    assert texts
    for text in texts[:2]:
        streams, ids = Streams(text.streams[layers], text.streams[layers + 1]), text.ids
        settings = DraftSettings(depth=len(pair.drafter.modules) if isinstance(pair.drafter, MtpModules) else DEPTH)
        drafted = draft(pair, [text], settings, settings.depth, free=False)
        for place in (0, drafted.n_anchors - 1):
            chain = witness.chain(ids, streams, text.prompt_length + place, settings.depth)
            for depth, queries in enumerate(drafted.forced):
                scores = chain.logits[depth] / text.temperature
                assert int(queries.guesses.drafted[place]) == int(scores.argmax()), f"anchor {place}, depth {depth + 1}"
                state = None if queries.state is None else queries.state[place]
                yield queries.guesses.draft_prob[place], scores, state, chain.states[depth]


def main() -> None:
    """Print the table."""
    quiet_transformers()
    table = Table(
        "checkpoint", "detected", "tensors", "largest error: probability, state", "readings checked", "other engines", show_lines=True
    )
    with TemporaryDirectory() as root:
        for case in CASES:
            folder = write(case, Path(root) / case.name)
            d, systems, apart = declared(folder), list[str](), [0.0, 0.0]
            for system, pair, witness in readings(case, folder):
                systems.append(SYSTEM_NAMES[system])
                for prob, scores, state, own in both(pair, witness):
                    apart[0] = max(apart[0], float((prob - scores.softmax(-1).max()).abs()))
                    apart[1] = max(apart[1], 0.0 if state is None else float((state - own).abs().max()))
            said = "\n".join(disputed(d)) or "alike"
            table.add_row(
                case.name, d.kind.name, str(d.fields["tensors"].value), f"{apart[0]:.0e}, {apart[1]:.0e}", ", ".join(systems), said
            )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
