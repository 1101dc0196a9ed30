"""Replies of a batch, token by token: what prompts begin with alike is read once, the rest by its length, and a reply that ended leaves.

`generate` of transformers pads every prompt to the longest, copies its cache at every step, and decodes ended replies on to the last one's
end; the tokens are the same. Models that need more at a step than tokens, positions and keys are left to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from driftcli.target.beginnings import Taken, beginnings, waves
from driftcli.target.beside import Where, read_beside
from driftcli.target.growing import ELSEWHERE, WORTH_RECORDING, GrowingBatch, KeptBatch, Rows, sees_all
from driftcli.target.heads import heads_of
from driftcli.target.recorded import Steppable
from driftcli.target.roomy_cache import RoomyCache
from driftcli.target.target import Kept, Writing, kept_bytes

A_PASS = {"cpu": 32}  # tokens of prompts that are read in the time of a further pass (chosen by us)
A_STEP = 1 << 22  # bytes that a step on a CPU might read while it does all else, whatever its rows (chosen by us)
KEPT = 1 << 30  # bytes of streams that are kept of texts while they are written, at most (chosen by us)
STEADY_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}  # frequencies that no text's length changes
OWN_STEP = ("prepare_inputs_for_generation", "_update_model_kwargs_for_generation", "_prepare_position_ids_for_generation", "generate")


def decodable(model: PreTrainedModel) -> bool:
    """Whether tokens, positions and keys are all that a step of the model needs, and whether they mean the same in any company."""
    kind, config = type(model), model.config
    if not kind.__module__.startswith("transformers.") or config is not config.get_text_config() or getattr(kind, "_is_stateful", False):
        return False
    if any(getattr(kind, name, None) is not getattr(GenerationMixin, name, None) for name in OWN_STEP):
        return False
    known = {"position_ids", "attention_mask", "logits_to_keep"} <= signature(kind.forward).parameters.keys()
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)
    return known and plain and "chunked_attention" not in (getattr(config, "layer_types", None) or ()) and _steady(config)


def _steady(config: PretrainedConfig) -> bool:
    """Whether no rotation of positions follows from the longest text of a batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    each = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    return {one.get("rope_type", "default") for one in each} <= STEADY_ROPE


def roomy_cache(model: PreTrainedModel, rows: int, columns: int) -> RoomyCache | None:
    """Room for all keys and values of so many texts, so that none is ever copied; None for a model that does not take it."""
    return RoomyCache(model.config, rows, columns) if reads_once(model) else None


def reads_once(model: PreTrainedModel) -> bool:
    """Whether what several texts begin with can be read once for all of them."""
    return decodable(model) and sees_all(model.config)


@dataclass(frozen=True)
class Choice:
    """How a token is chosen of logits. temperature: greedily at 0; rows: of the batch as it began, each of which draws at every step, so
    that what one draws depends on no reply's end.
    """

    temperature: float
    rows: int

    def of(self, logits: Tensor, slots: Sequence[int]) -> Tensor:
        """Tokens (row,) of logits (row, vocabulary), of the replies that began in `slots`."""
        if not self.temperature:
            return logits.argmax(-1)
        whole = torch.ones(self.rows, logits.shape[-1], device=logits.device)
        whole[list(slots)] = (logits.float() / self.temperature).softmax(-1)
        return torch.multinomial(whole, num_samples=1)[list(slots), 0]


@torch.inference_mode()
def decoded(
    target: Steppable, prompts: Sequence[Sequence[int]], writing: Writing, ends: Sequence[int | None], chunk: int
) -> list[list[int]]:
    """The reply to each prompt, up to its first end token, that included. chunk: tokens of one prompt that are read at once, at most."""
    order = sorted(range(len(prompts)), key=lambda number: (len(prompts[number]), number))
    found = [list[int]() for _ in prompts]
    whole = writing.temperature or target.device.type != "cpu"  # what is drawn is drawn in one batch
    parts = [slice(None)] if whole else list(neighbours([len(prompts[number]) for number in order], writing.most, *_bytes(target.model)))
    ordered = [prompts[number] for number in order]
    made = _read(target, ordered, parts, partial(_batch, target, writing, chunk), _beside(target, ordered, writing, chunk))
    for part, (batch, logits) in enumerate(made):
        say = None if writing.say is None else partial(_said, writing.say, part * writing.most, len(parts))
        slots = [order[place] for place in batch.places]
        replies = [found[slot] for slot in slots]
        _decode(batch, logits, replies, slots, replace(writing, say=say), ends)
        batch.hand_out(replies)
    return found


def _read(
    target: Steppable,
    prompts: Sequence[Sequence[int]],
    parts: Sequence[slice],
    make: Callable[[Rows], GrowingBatch],
    beside: Callable[[Where], None] | None = None,
) -> Iterator[tuple[GrowingBatch, Tensor]]:
    """A batch of each part, and logits (row, vocabulary) behind its prompts. Where a prompt begins as another does, which may be of an
    earlier part, all are read before any goes on. beside: reads what else begins so, told where the prompts are.
    """
    where: dict[int, tuple[GrowingBatch, int]] = {}
    sharing = sees_all(target.model.config)
    taken = beginnings(prompts, A_PASS.get(target.device.type, ELSEWHERE)) if sharing else [Taken()] * len(prompts)
    shared = beside is not None or any(one.length for one in taken)

    def read(part: slice) -> tuple[GrowingBatch, Tensor]:
        batch = make(Rows(waves(prompts, taken, range(*part.indices(len(prompts)))), prompts, taken, where))
        if shared:
            where.update({place: (batch, row) for row, place in enumerate(batch.places)})
        return batch, batch.read()

    if not shared:
        yield from map(read, parts)
        return
    ready = deque(map(read, parts))
    if beside is not None:
        beside(where)
    where.clear()  # so that a part's room is given back once it is written
    while ready:
        yield ready.popleft()


def _batch(target: Steppable, writing: Writing, chunk: int, laid: Rows) -> GrowingBatch:
    """A batch of prompts, whose streams are kept if they are asked for and there is room for them."""
    if writing.kept is not None and _keeps(target, [laid.prompts[place] for place in laid.places], writing.most, writing.kept):
        return KeptBatch(target, writing, chunk, writing.kept, laid)
    return GrowingBatch(target, writing.most, chunk, laid)


def _beside(target: Steppable, prompts: Sequence[Sequence[int]], writing: Writing, chunk: int) -> Callable[[Where], None] | None:
    """Reads what is to be read beside prompts, where it can be behind what they begin with; None where there is nothing."""
    kept = writing.kept
    able = not writing.temperature and sees_all(target.model.config) and keepable(target.model, target.device, target.model.dtype)
    if kept is None or not kept.room or not writing.beside or not able:
        return None
    return lambda where: read_beside(target, writing.beside, prompts, where, kept, chunk)


def keepable(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether what a model computes as it writes is what one pass over the text gives, to the rounding of sums in another order, and kept.

    In half precision rounding is coarser, and a run that is resumed, which reads what the first one wrote, would not give its rows. On a
    GPU reading takes little beside writing, whose recorded steps call no hook. A model whose layers share keys leaves rows out of them
    whose logits nobody asked for (Gemma 4).
    """
    return device.type == "cpu" and dtype == torch.float32 and decodable(model) and not getattr(model.config, "num_kv_shared_layers", None)


def kept_tokens(model: PreTrainedModel, device: torch.device, dtype: torch.dtype, boundaries: int) -> int:
    """How many tokens of texts that are written together are kept, their replies as long as they may be; the shortest prompts go first."""
    return KEPT // kept_bytes(1, max(1, boundaries), int(model.config.hidden_size)) if keepable(model, device, dtype) else 0


def _keeps(target: Steppable, prompts: Sequence[Sequence[int]], most: int, kept: Kept) -> bool:
    """Whether what these texts' passes compute is kept."""
    tokens = sum(map(len, prompts)) + len(prompts) * most
    size = kept.size(tokens, int(target.model.config.hidden_size))
    return keepable(target.model, target.device, target.model.dtype) and kept.admits(size)


def a_step(target: Steppable, size: int, length: int, times: int = 8) -> Callable[[], object]:
    """A decoding step of so many replies behind texts of so many tokens, to be taken a few times, as most steps of a long reply are."""
    tokens = torch.zeros(size, dtype=torch.long, device=target.device)
    with torch.inference_mode():
        ((batch, _),) = _read(target, [[0] * length] * size, [slice(None)], partial(GrowingBatch, target, times + 1, length))
    return torch.inference_mode()(lambda: batch.step(tokens, WORTH_RECORDING))


def _said(say: Callable[[int], None], before: int, parts: int, number: int) -> None:
    """Tell how many tokens each reply has, as if those of all parts grew together."""
    say((before + number) // parts)


def _decode(
    batch: GrowingBatch, logits: Tensor, replies: Sequence[list[int]], order: Sequence[int], writing: Writing, ends: Sequence[int | None]
) -> None:
    """Add tokens to the replies of a batch until all have ended. logits: behind its prompts; order: the slots that draw for them."""
    choice = Choice(writing.temperature, len(order))
    with getattr(batch.model, "_optimize_model_for_decode", nullcontext)():  # of mixtures of experts, as `generate` does it
        for number in range(1, writing.most + 1):
            tokens = choice.of(logits, [order[row] for row in batch.rows])
            batch.chosen(number, logits, tokens)
            going = _noted(tokens.tolist(), [replies[row] for row in batch.rows], ends)
            if writing.say is not None:
                writing.say(number)
            if number == writing.most or not going:
                return
            logits = batch.step(batch.without_ended(tokens, going), writing.most - number)


def _bytes(model: PreTrainedModel) -> tuple[int, int]:
    """What a step of a model reads of its weights, roughly, and of a text's token in its cache."""
    size = model.dtype.itemsize
    return sum(one.numel() for one in model.parameters()) * size, 2 * size * sum(one.keys * one.size for one in heads_of(model.config))


def neighbours(lengths: Sequence[int], most: int, weights: int, token: int) -> list[slice]:
    """Prompts, by ascending length, parted so that the least is read in a step of all: weights once a part, and a part's keys as if each of
    its texts were its longest.

    most: tokens of a reply; weights: bytes; token: bytes of a text's token.
    """
    best, begins = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        each = [best[begin] + weights + A_STEP + (end - begin) * (lengths[end - 1] + most / 2) * token for begin in range(end)]
        begins.append(min(range(end), key=each.__getitem__))
        best.append(each[begins[-1]])
    found, end = [], len(lengths)
    while end:
        found.append(slice(begins[end], end))
        end = begins[end]
    return found[::-1]


def _noted(tokens: Sequence[int], replies: Sequence[list[int]], ends: Sequence[int | None]) -> list[int]:
    """Places of the replies that go on behind these tokens, which are added to them; one that ended before takes no more."""
    open_ones = [place for place, reply in enumerate(replies) if not reply or reply[-1] not in ends]
    for place in open_ones:
        replies[place].append(tokens[place])
    return [place for place in open_ones if tokens[place] not in ends]
