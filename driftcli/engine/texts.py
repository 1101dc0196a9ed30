"""Texts: each prompt with the reply to it, written by the target once, or given.

The continuation is plain greedy decoding, or plain sampling at a temperature, to the target's own end tokens; penalties and sampling
settings of its generation config are set aside and named.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import PreTrainedTokenizerBase

from driftcli.conditions import TextSettings
from driftcli.domain import Message, Prompt
from driftcli.errors import PromptError
from driftcli.target.target import Kept, Target, Writing
from driftcli.texts.prompts import content_hash
from driftcli.texts.rendering import OWN, REPLY, Rendered, render

UNWRITTEN = "..."  # of a reply, so that a template that wants roles to alternate sees them do so
OTHER_SETTINGS = {"eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_from_model_config", "use_cache"}


@dataclass(frozen=True)
class Text:
    """Token ids of a rendered prompt and of the reply to it, and a label (template, content or reply) a token.

    prompt_length: tokens of the prompt; the first reply token is the first anchor. generated: the target wrote the reply. unlocated:
    messages whose content the template rewrote. prefix_length: tokens before the first user's words.
    """

    prompt: Prompt
    turn: int
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_length: int
    generated: bool
    unlocated: int
    rendered_sha256: str
    prefix_length: int = 0

    @classmethod
    def of(cls, prompt: Prompt, turn: int, rendered: Rendered, reply: Sequence[int], *, generated: bool) -> Text:
        """A rendered prompt and the tokens of its reply."""
        ids, labels = (*rendered.ids, *reply), (*rendered.labels, *[REPLY] * len(reply))
        digest = hashlib.sha256(rendered.text.encode()).hexdigest()[:16]
        return cls(prompt, turn, ids, labels, len(rendered.ids), generated, rendered.unlocated, digest, rendered.prefix)

    def n_anchors(self, horizon: int) -> int:
        """Anchors whose guesses up to `horizon` all lie inside."""
        return max(0, len(self.ids) - horizon - self.prompt_length)


@dataclass(frozen=True)
class Continued:
    """A prompt that the target continues, rendered as settings want it. beside: texts that begin so, and are read meanwhile."""

    prompt: Prompt
    settings: TextSettings
    beside: Sequence[Text] = ()


def ignored_settings(target: Target) -> tuple[str, ...]:
    """What the target's generation config asks for and plain greedy decoding sets aside, as `name=value`."""
    own = target.generation_config.to_diff_dict()
    return tuple(f"{key}={value}" for key, value in sorted(own.items()) if key not in OTHER_SETTINGS and value not in (None, False))


def write_texts(
    target: Target,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    settings: TextSettings = OWN,
    seed: int = 0,
    say: Callable[[int, int], None] | None = None,
    kept: Kept | None = None,
) -> list[Text]:
    """Every turn of every prompt, continued turn by turn in one batch; earlier replies become the conversation of later turns.

    seed: of replies at a temperature, which besides depend on the prompts of the batch; the caller's random state is left as it was. say:
    told which turn is written, from 0, and how many tokens of its replies there are. kept: takes what the target computes meanwhile.
    """
    if settings.alone and len(prompts) > 1:
        return [text for prompt in prompts for text in write_texts(target, [prompt], max_new_tokens, settings, seed, say, kept)]
    writing = Writing(max_new_tokens, settings.temperature, kept=kept)
    return by_turn(write_together(target, [Continued(prompt, settings) for prompt in prompts], writing, seed, say))


def write_together(
    target: Target,
    asked: Sequence[Continued],
    writing: Writing,
    seed: int = 0,
    say: Callable[[int, int], None] | None = None,
) -> list[list[Text]]:
    """The turns of each prompt as its settings want it rendered, continued as above, all at the temperature of `writing`."""
    found: list[list[Text]] = [[] for _ in asked]
    replies: list[list[str]] = [[] for _ in asked]
    for turn in range(max(len(one.prompt.turns) for one in asked)):
        open_ones = [place for place, one in enumerate(asked) if turn < len(one.prompt.turns)]
        prompts = [asked[place].prompt for place in open_ones]
        rendered = [_rendered(target.tokenizer, asked[place].prompt, turn, replies[place], asked[place].settings) for place in open_ones]
        beside = [text for place in open_ones for text in asked[place].beside if text.turn == turn]
        with seeded(target, f"{seed} {turn} {' '.join(map(content_hash, prompts))}"):
            made = _replies(target, prompts, rendered, replace(writing, say=None if say is None else partial(say, turn), beside=beside))
        for place, prompt, text, reply in zip(open_ones, prompts, rendered, made, strict=True):
            found[place].append(Text.of(prompt, turn, text, reply, generated=prompt.response is None))
            if turn + 1 < len(prompt.turns):
                replies[place].append(_said(target, reply))
    return found


def by_turn(found: Iterable[Sequence[Text]]) -> list[Text]:
    """The texts of several prompts, first turns first."""
    return sorted(itertools.chain.from_iterable(found), key=lambda text: text.turn)


def is_kept(settings: TextSettings) -> bool:
    """Whether what the target computes while it writes such texts is kept for those who draft on them, so that none is read again.

    Not of the run's own: on these conditions are measured in several rounds, by several processes and by a run that is resumed, and differ
    by no digit of the target's. Of those that it does not write only such are kept as are read beside others.
    """
    return settings != TextSettings() and not settings.replayed and settings.twin == "nothing"


def lengthened(target: Target, prompts: Sequence[Prompt], said: Sequence[Text], length: int) -> list[Prompt]:
    """The prompts as the last turn of long conversations: others stand before them, each user's first words and the reply to them, as many
    as `length` tokens of rendered prompt admit, some again where there are too few. A prompt that is too long by itself stays alone.

    said: texts of which those of first turns are used, in an order that begins elsewhere for every prompt.
    """
    firsts = [(text.prompt.id, _exchange(target, text)) for text in said if text.turn == 0 and text.prompt.messages]
    found = []
    for prompt in prompts:
        own = next((place for place, (name, _) in enumerate(firsts) if name == prompt.id), 0)
        others = [*firsts[own + 1 :], *firsts[:own]] or firsts
        found.append(_behind(target.tokenizer, prompt, [exchange for _, exchange in others], length))
    return found


def _exchange(target: Target, text: Text) -> list[Message]:
    """A user's words and the reply to them."""
    reply = Message("assistant", _said(target, text.ids[text.prompt_length :]))
    return [*(message for message in text.prompt.turns[text.turn] if message.role != "system"), reply]


def _behind(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, exchanges: Sequence[Sequence[Message]], length: int) -> Prompt:
    """A prompt behind as many of these, over and over, as `length` tokens admit. How many is halved out, not counted out: a conversation is
    rendered whole, so that to add one exchange after the other would take time by the square of its length.
    """
    last = prompt.turns[0] if prompt.messages else (Message("user", prompt.text or ""),)
    rules, asked = [one for one in last if one.role == "system"], [one for one in last if one.role != "system"]

    def conversation(count: int) -> list[Message]:
        before = itertools.islice(itertools.cycle(exchanges), count)
        return [*rules, *itertools.chain.from_iterable(before), *asked]

    def fits(count: int) -> bool:
        return len(render(tokenizer, prompt.id, conversation(count), None).ids) <= length

    count = _most(fits) if exchanges else 0
    return replace(prompt, messages=tuple(conversation(count)), text=None, response=None)


def _most(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, where all below it do, and 0 does anyway."""
    least, beyond = 0, 1
    while fits(beyond):
        least, beyond = beyond, 2 * beyond
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if fits(middle) else (least, middle)
    return least


def replay_texts(target: Target, texts: Sequence[Text], settings: TextSettings) -> list[Text]:
    """The same replies behind the same prompts rendered as `settings` want them; no reply counts as written by the target there."""
    replies = {(text.prompt.id, text.turn): text.ids[text.prompt_length :] for text in texts}
    found = []
    for text in texts:
        before = tuple(_said(target, replies[text.prompt.id, turn]) for turn in range(text.turn))
        rendered = _rendered(target.tokenizer, text.prompt, text.turn, before, settings)
        found.append(Text.of(text.prompt, text.turn, rendered, replies[text.prompt.id, text.turn], generated=False))
    return found


def foreseen(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, turn: int = -1, settings: TextSettings = OWN) -> Rendered:
    """A turn of a prompt, its last one unless said, as it will be rendered: a few characters stand for each reply not written yet."""
    turn = turn % len(prompt.turns)
    return _rendered(tokenizer, prompt, turn, (UNWRITTEN,) * turn, settings)


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, turn: int, replies: Sequence[str], settings: TextSettings) -> Rendered:
    return render(tokenizer, prompt.id, _conversation(prompt, turn, replies), prompt.text, settings)


def _said(target: Target, reply: Sequence[int]) -> str:
    """A reply as the conversation of a later turn holds it."""
    return str(target.tokenizer.decode(list(reply), skip_special_tokens=True))


def _conversation(prompt: Prompt, turn: int, replies: Sequence[str]) -> list[Message]:
    """The messages before the target's answer of `turn`, the gaps filled by its earlier replies."""
    given = prompt.turns[turn]
    ends = {len(earlier) - 1: reply for earlier, reply in zip(prompt.turns, replies, strict=False)}
    filled: list[Message] = []
    for index, message in enumerate(given):
        filled.append(message)
        if index in ends:
            filled.append(Message("assistant", ends[index]))
    return filled


@contextmanager
def seeded(target: Target, drawn_for: str) -> Iterator[None]:
    """What is drawn inside depends on `drawn_for` alone; the random state is put back after it."""
    devices = [target.device] if target.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed_for(drawn_for))
        yield


def seed_for(drawn_for: str) -> int:
    """A seed that is told by what is drawn and for what alone, 63 bits of its hash."""
    return int.from_bytes(hashlib.sha256(drawn_for.encode()).digest()[:8]) >> 1


def _replies(target: Target, prompts: list[Prompt], rendered: list[Rendered], writing: Writing) -> list[list[int]]:
    """The reply to each rendered prompt: its given response, or what the target writes, all in one batch."""
    given = [None if prompt.response is None else _given(target, prompt) for prompt in prompts]
    asked = [text for text, response in zip(rendered, given, strict=True) if response is None]
    written = iter(target.write([text.ids for text in asked], writing) if asked else ())
    return [next(written) if response is None else response for response in given]


def _given(target: Target, prompt: Prompt) -> list[int]:
    reply = list(target.tokenizer(prompt.response, add_special_tokens=False).input_ids)
    if not reply:
        raise PromptError(
            f"prompt {prompt.id}: its response has no tokens, expected some text; leave `response` out to let the target answer"
        )
    return reply
