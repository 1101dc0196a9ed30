"""Conversations that a target in this process writes side by side, each turn going on from one growing cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from driftcli.families.causal_lm.loading import sliding_window
from driftcli.target.in_process import choosing, plain_decoding
from driftcli.target.language_model import LanguageModel
from driftcli.training.conversations import Conversation, Turn

UNFINISHED = 0.15  # user turns end once no more than this share of them is still being written: waiting for the last costs most of a wave


class Sheet:
    """Conversations as rows of one matrix, to be cut at `length` tokens; what a row did not write while another still did is a hole,
    which nothing attends to.

    ids, kept (written, no hole), replied (part of a reply): (row, column) each. Layers that count columns or remember what they have seen
    would not pass over holes: for such a target the rows are closed up and read anew before each turn.
    """

    def __init__(self, target: LanguageModel, rows: int, ends: Sequence[int], length: int) -> None:
        kinds = set(getattr(target.config, "layer_types", None) or ["full_attention"])
        self._target, self._passes_over = target, kinds == {"full_attention"} and sliding_window(target) is None
        self._length = length
        self._cache = DynamicCache(config=target.config)
        self._ends = torch.tensor(ends, device=target.device)
        self.ids = torch.zeros(rows, 0, dtype=torch.long, device=target.device)
        self.kept, self.replied = self.ids.bool(), self.ids.bool()
        self._ended = torch.zeros(rows, dtype=torch.bool, device=target.device)

    def add(self, ids: Sequence[int]) -> None:
        """Put the template's tokens behind every row; an end token that a reply has already written is not repeated."""
        piece = torch.tensor(ids, device=self.ids.device).expand(len(self.ids), -1)
        kept = torch.ones_like(piece, dtype=torch.bool)
        kept[:, 0] = ~(self._ended & torch.isin(piece[:, 0], self._ends))
        self._grow(piece, kept, torch.zeros_like(kept))

    def give(self, turns: Sequence[Sequence[int]]) -> None:
        """Put a user turn of its own behind each row."""
        rows = [torch.tensor(ids, dtype=torch.long, device=self.ids.device) for ids in turns]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=int(self._ends[0]))
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        kept = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        self._ended = torch.zeros_like(self._ended)
        self._grow(ids, kept, torch.zeros_like(kept))

    @torch.inference_mode()
    def write(self, what: Turn, limit: int, temperature: float, also_ends: Sequence[int] = ()) -> None:
        """Let the target write a turn in every row, at most `limit` tokens; a user turn loses its end token, which the template brings."""
        if not self._passes_over:
            self._close_up()
        ends = torch.cat([self._ends, self._ends.new_tensor(also_ends)])
        stop = StoppingCriteriaList([MostlyEnded(self.ids.shape[1], ends)] if what == "user" else [])
        with plain_decoding(self._target):
            ids = self._target.model.generate(  # type: ignore[operator]
                self.ids, attention_mask=self.kept.long(), max_new_tokens=limit, stopping_criteria=stop, eos_token_id=ends.tolist(),
                pad_token_id=int(ends[0]), **choosing(temperature), **self._target.continuing(self._cache),
            )[:, self.ids.shape[1] :]  # fmt: skip
        ended = torch.isin(ids, ends)
        past = ended.cumsum(-1) - ended.long() > 0
        kept = ~past if what == "reply" else ~past & ~ended
        self._ended = ended.any(-1) if what == "reply" else torch.zeros_like(self._ended)
        self._grow(ids, kept, kept if what == "reply" else torch.zeros_like(kept))

    def _grow(self, ids: Tensor, kept: Tensor, replied: Tensor) -> None:
        self.ids, self.kept = torch.cat([self.ids, ids], dim=1), torch.cat([self.kept, kept], dim=1)
        self.replied = torch.cat([self.replied, replied], dim=1)

    def _close_up(self) -> None:
        """Move every hole to the left of its row, and forget what was read."""
        order = self.kept.to(torch.uint8).argsort(dim=1, stable=True)[:, int((~self.kept).sum(1).min()) :]
        self.ids, self.kept, self.replied = (part.gather(1, order) for part in (self.ids, self.kept, self.replied))
        self._cache = DynamicCache(config=self._target.config)

    def conversations(self) -> list[Conversation]:
        """The rows without their holes, none longer than they may get."""
        found, length = [], self._length
        for ids, kept, replied in zip(self.ids, self.kept, self.replied, strict=True):
            said = torch.nn.functional.pad(replied[kept][:length].int(), (1, 1)).diff()
            spans = zip((said == 1).nonzero()[:, 0].tolist(), (said == -1).nonzero()[:, 0].tolist(), strict=True)
            found.append(Conversation(ids[kept][:length].tolist(), list(spans)))
        return found


class MostlyEnded(StoppingCriteria):
    """Stops every row once no more than `UNFINISHED` of them have written no end token behind column `start`."""

    def __init__(self, start: int, ends: Tensor) -> None:
        self._start, self._ends = start, ends

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        """True for all rows or for none."""
        unfinished = ~torch.isin(input_ids[:, self._start :], self._ends).any(-1)
        return torch.full_like(unfinished, bool(unfinished.float().mean() <= UNFINISHED))
