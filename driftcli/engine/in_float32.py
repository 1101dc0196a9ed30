"""Some texts of a run measured again in float32, which tells what its own dtype does to draft tokens.

Target and drafter are loaded once more, so this is done only where there is room for them: else it is said that it was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import torch
from torch import Tensor

from driftcli.conditions import BASELINE, DraftSettings
from driftcli.domain import Prompt, RunSpec
from driftcli.engine.cells import draft
from driftcli.engine.room import out_of_memory
from driftcli.engine.texts import Text
from driftcli.engine.timing import free_memory
from driftcli.engine.trajectories import read_texts
from driftcli.engine.twin import texts_of
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair, streams_of
from driftcli.statistics.rounding import Apart, Rounding
from driftcli.target.language_model import LanguageModel
from driftcli.traces.writer import RunFolder

PROMPTS = 16  # that are measured again at most (chosen by us: twice those that an interval needs)
TOKENS = 1 << 13  # of their texts, but for one prompt (chosen by us: some seconds for a target of 8B)
ROOM = 1.25  # times the weights in float32 that must be free, for what is computed on the way (chosen by us)


def rounding(
    pair: LoadedPair, load: Callable[[], LoadedPair] | None, folder: RunFolder, asked: Sequence[Prompt], spec: RunSpec
) -> Rounding | None:
    """How many draft tokens are others in float32; None for a run in float32. load: loads the pair in it."""
    if pair.target.head.dtype == torch.float32:
        return None
    if why := _too_dear(pair, load):
        return Rounding(reason=why)
    assert load is not None
    texts = some_texts(folder, asked, spec.depth)
    if not texts:
        return Rounding(reason="no text has an anchor")
    try:
        whole = load()
        with closing(whole.target):
            other = drafted(whole, texts, spec)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return Rounding(reason="memory did not suffice for the pair in float32 beside it")
    return counted(texts, drafted(pair, texts, spec), other)


def _too_dear(pair: LoadedPair, load: Callable[[], LoadedPair] | None) -> str:
    """Why the pair cannot be measured in float32 too, empty where it can."""
    target = pair.target
    if not isinstance(target, LanguageModel):
        return "an engine serves the target"
    if load is None:
        return "nobody asked for it"
    if getattr(target.config, "quantization_config", None) is not None:
        return "the target's weights are quantised, so they have no float32 form"
    models = [target.model, *([pair.drafter.lm.model] if isinstance(pair.drafter, CausalLm) else [])]
    wanted = ROOM * 4 * sum(one.numel() for model in models for one in model.parameters())
    free = free_memory(target.device)
    if free is not None and wanted > free:
        return f"the pair in float32 would take {wanted / 2**30:,.1f} GiB more, {free / 2**30:,.1f} GiB are free"
    return ""


def some_texts(folder: RunFolder, asked: Sequence[Prompt], depth: int) -> list[Text]:
    """The baseline's texts that have an anchor, of the first prompts in the order of their hashes."""
    found = list[Text]()
    for names in folder.batches:
        texts = [text for text in texts_of(folder.written_texts(BASELINE, names), asked) if text.n_anchors(depth)]
        for prompt in dict.fromkeys(text.prompt.id for text in texts):
            more = [text for text in texts if text.prompt.id == prompt]
            ids = {text.prompt.id for text in found}
            if found and (len(ids) == PROMPTS or sum(len(text.ids) for text in [*found, *more]) > TOKENS):
                return found
            found += more
    return found


@torch.inference_mode()
def drafted(pair: LoadedPair, texts: Sequence[Text], spec: RunSpec) -> list[Tensor]:
    """Of each text the draft tokens of the forced chains of all anchors, (depth, anchor), on the host; one text at a time."""
    found = []
    for text in read_texts(pair.target, texts, streams_of(pair.drafter)):
        chains = draft(pair, [text], DraftSettings(spec.depth), spec.depth, free=False)
        found.append(torch.stack([queries.guesses.drafted for queries in chains.forced]).cpu())
    return found


def counted(texts: Sequence[Text], here: Sequence[Tensor], there: Sequence[Tensor]) -> Rounding:
    """Draft tokens of the same chains, (depth, anchor) a text, held against one another, prompt by prompt."""
    prompts = {text.prompt.id: Apart(0, 0, 0, 0) for text in texts}
    for text, one, two in zip(texts, here, there, strict=True):
        other, so_far = one != two, prompts[text.prompt.id]
        prompts[text.prompt.id] = Apart(
            so_far.anchors + other.shape[1],
            so_far.other_anchors + int(other.any(0).sum()),
            so_far.drafted + other.numel(),
            so_far.other_drafted + int(other.sum()),
        )
    return Rounding(len(texts), sum(len(text.ids) for text in texts), tuple(prompts.values()))
