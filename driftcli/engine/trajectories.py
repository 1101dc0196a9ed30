"""Trajectories: a text read once by the target, or kept as it was written, with the streams that the drafter reads captured on the way.

What a drafter sees of a text is the same whoever wrote it and whatever is read beside it, to rounding. Captured streams cover positions
`0 .. N - 2`: the last token is never fed to the target, and no query needs its state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from driftcli.domain import Prompt
from driftcli.engine.texts import Text
from driftcli.target.target import Kept, Target


@dataclass(frozen=True)
class Trajectory:
    """A text with what was captured of the target.

    target_prob and target_entropy (reply token,), the latter in nats, None where the target's engine does not tell it; choices (reply
    token,): the target's own first choice, as token id; streams by boundary, (position - 1, width). temperature: of
    probabilities, the target's and those of whoever drafts on it.
    """

    text: Text
    target_prob: Tensor
    target_entropy: Tensor | None
    choices: Tensor
    streams: Mapping[int, Tensor]
    temperature: float = 1.0

    @property
    def prompt(self) -> Prompt:
        """The prompt of the text."""
        return self.text.prompt

    @property
    def turn(self) -> int:
        """Which answer of the target within the prompt, from 0."""
        return self.text.turn

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt; the first reply token is the first anchor."""
        return self.text.prompt_length

    @cached_property
    def ids(self) -> Tensor:
        """Token ids by position."""
        return torch.tensor(self.text.ids)

    @cached_property
    def labels(self) -> Tensor:
        """Label of each token, template, prompt or verified, by position."""
        return torch.tensor(self.text.labels)

    @property
    def agrees(self) -> Tensor:
        """Whether each reply token is the target's own first choice."""
        return self.choices == self.ids[self.prompt_length :]

    def n_anchors(self, horizon: int) -> int:
        """Anchors whose guesses up to `horizon` all lie inside."""
        return self.text.n_anchors(horizon)


def read_texts(
    target: Target,
    texts: Sequence[Text],
    boundaries: Sequence[int],
    temperature: float = 1.0,
    kept: Kept | None = None,
    most: int | None = None,
) -> Iterator[Trajectory]:
    """Of each text the target's streams at `boundaries`, and its probability and entropy at every reply token; read as they are taken, at
    most so many tokens side by side, but for those that are kept.
    """
    unread = [text for text in texts if kept is None or not kept.has(text, temperature)]
    reading = target.read_all(unread, boundaries, temperature, most) if unread else iter(())
    for text in texts:
        read = (None if kept is None else kept.reading(text, temperature)) or next(reading)
        yield Trajectory(text, read.probs, read.entropies, read.choices, read.streams, temperature)


def read_text(target: Target, text: Text, boundaries: Sequence[int], temperature: float = 1.0) -> Trajectory:
    """The same of one text."""
    (trajectory,) = read_texts(target, [text], boundaries, temperature)
    return trajectory


class Readings:
    """Texts as they were read, for whoever reads the very same again beside no others: not a digit differs. room: bytes of streams that may
    still be kept.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._known: dict[object, list[Trajectory]] = {}

    def read(
        self, target: Target, texts: Sequence[Text], asked: Sequence[int], kept: Sequence[int], temperature: float, most: int
    ) -> Iterator[Trajectory]:
        """As `read_texts`, with streams at the boundaries `asked`, of which those at `kept` are wanted again."""
        key = temperature, most, tuple((tuple(text.ids), text.prompt_length) for text in texts)
        known = self._known.get(key)
        if known is not None and set(asked) <= known[0].streams.keys():
            return (replace(one, text=text) for one, text in zip(known, texts, strict=True))
        read = read_texts(target, texts, asked, temperature, None, most)
        size = sum(len(text.ids) - 1 for text in texts) * len(kept) * target.config.hidden_size * target.head.dtype.itemsize
        if known is not None or size > self._room or not set(kept) <= set(asked):
            return read
        self._room -= size
        return self._noted(key, kept, len(texts), read)

    def _noted(self, key: object, kept: Sequence[int], count: int, read: Iterator[Trajectory]) -> Iterator[Trajectory]:
        made = list[Trajectory]()
        for one in read:
            made.append(replace(one, streams={boundary: one.streams[boundary] for boundary in kept}))
            if len(made) == count:
                self._known[key] = made
            yield one

    def let_go(self) -> bool:
        """Keep nothing, now and later; whether there was anything to let go of."""
        anything = bool(self._known)
        self._room = 0
        self._known.clear()
        return anything
