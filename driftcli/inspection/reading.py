"""A reply and a chain as text on a terminal: what was accepted, what missed, and the control beside the chain.

Marks are those of wdiff, so that nothing hangs on colour: `{+accepted draft tokens+}`, `[-the first draft token that missed-]`, and plain
what the target wrote itself. Line breaks of a text are kept; all else that could drive a terminal is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from driftcli.domain import SHARES
from driftcli.inspection.grid import Grid
from driftcli.printable import printable
from driftcli.traces.pieces import Piece
from driftcli.traces.samples import Chain, ChainStep, Query, Reply, ReplyHead, Round

ACCEPTED, MISSED, TEMPLATE = "green", "red", "dim"
LEGEND = "{+accepted draft tokens+}  [-the first draft token that missed-]  plain: written by the target"
BEFORE = 80  # characters of the text before an anchor that are shown (chosen by us)
LABEL_OF_TEMPLATE = 0
NOTHING = "(no proposal)"
ON_STATES = "chain: on its own state; control: on the target's, same tokens"
FRESH = "chain: from this anchor; control: from the anchor right before the token"  # of drafters without a state


@dataclass(frozen=True)
class ShownReply:
    """A reply with its prompt before it and its rounds below, laid out for the width that there is."""

    reply: Reply

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(head_line(self.reply.head), style="bold", overflow="fold")
        yield from (Text(), Text("PROMPT", style="bold"), _prompt(self.reply))
        yield from (Text(), Text("REPLY", style="bold"), Text(LEGEND, style="dim"), _marked(self.reply))
        if self.reply.rounds:
            yield from (Text(), Text("ROUNDS", style="bold"))
            rows = [(one.anchor, f"{one.accepted} of {len(one.drafted)}", _drafted(one)) for one in self.reply.rounds]
            yield from Grid(("anchor", "accepted", "drafted"), rows).lines(options.max_width)
            yield Text("one round, depth by depth: --anchor with one of these", style="dim")


@dataclass(frozen=True)
class ShownChain:
    """A chain depth by depth, its control beside it, and the attention of both by region."""

    reply: Reply
    chain: Chain

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        own, width = self.chain, options.max_width
        yield Text(f"{head_line(self.reply.head)}; chain from anchor {own.anchor}", style="bold", overflow="fold")
        yield Text.assemble(("before it: ", "dim"), _before(self.reply, own.anchor), overflow="fold")
        own_state = any(step.chain.rms is not None for step in own.steps)
        yield from (Text(), Text(f"GUESSES  {ON_STATES if own_state else FRESH}", style="bold"))
        heads = ("depth", "wanted", "chain", "control", "prob", "prob control", "target prob", "RMS", "RMS control", "cosine")
        yield from Grid(heads, [_guess(step) for step in own.steps], [_styles(step, len(heads)) for step in own.steps]).lines(width)
        if all(step.chain.entropy is None for step in own.steps):
            return
        yield from (Text(), Text("ATTENTION  chain / control", style="bold"))
        yield from Grid(("depth", *SHARES, "entropy"), [_attention(step) for step in own.steps]).lines(width)


def head_line(head: ReplyHead) -> str:
    """A reply in a line: whose it is, how long, and what decoding came to."""
    category = f"{head.category}, " if head.category else ""
    length = f"prompt {head.prompt_length} tokens, reply {head.length - head.prompt_length}"
    if not head.rounds:
        return printable(f"{head.prompt}, turn {head.turn}: {category}{length}; too short for a chain")
    a_round = f"{1 + head.accepted / head.rounds:.2f} tokens a round"
    return printable(
        f"{head.prompt}, turn {head.turn}: {category}{length}; {head.rounds} rounds, {head.accepted} draft tokens accepted, {a_round}"
    )


def _prompt(reply: Reply) -> Text:
    """The prompt, what the template wrote dimmed."""
    text = Text(overflow="fold")
    for piece, label in zip(reply.prompt_pieces, reply.labels, strict=False):
        text.append(_lines(piece.text), style=TEMPLATE if label == LABEL_OF_TEMPLATE else "")
    return text


def _marked(reply: Reply) -> Text:
    """The reply with what was accepted and what missed marked, as far as rounds go, and the rest plain."""
    text, first, at = Text(overflow="fold"), reply.head.prompt_length, reply.head.prompt_length

    def written(start: int, stop: int) -> str:
        return "".join(_lines(piece.text) for piece in reply.pieces[start - first : stop - first])

    for one in reply.rounds:
        text.append(written(at, one.anchor + 1))
        at = one.anchor + 1 + one.accepted
        if one.accepted:
            text.append(f"{{+{written(one.anchor + 1, at)}+}}", style=ACCEPTED)
        if one.accepted < len(one.drafted):
            text.append(f"[-{_lines(one.drafted[one.accepted].text)}-]", style=MISSED)
    text.append(written(at, first + len(reply.pieces)))
    return text


def _drafted(one: Round) -> str:
    """What a round drafted, on one line, with the same marks."""
    texts = [piece.text for piece in one.drafted]
    kept, missed, rest = "".join(texts[: one.accepted]), "".join(texts[one.accepted : one.accepted + 1]), "".join(texts[one.accepted + 1 :])
    return f"{f'{{+{kept}+}}' * bool(kept)}{f'[-{missed}-]' * (one.accepted < len(texts))}{rest}"


def _before(reply: Reply, anchor: int) -> str:
    """The end of the text up to an anchor, on one line."""
    pieces: Sequence[Piece] = [*reply.prompt_pieces, *reply.pieces][: anchor + 1]
    text = printable("".join(piece.text for piece in pieces[-BEFORE:]))
    return text if len(text) <= BEFORE else f"...{text[-BEFORE:]}"


def _guess(step: ChainStep) -> tuple[object, ...]:
    control, wanted = step.control, None if step.wanted is None else _quoted(step.wanted)
    beside = (None, None, None) if control is None else (_mark(control), control.draft_prob, control.rms)
    own = step.chain
    return step.depth, wanted, _mark(own), beside[0], own.draft_prob, beside[1], own.target_prob, own.rms, beside[2], own.state_cosine


def _mark(query: Query) -> str:
    """A guess as text, marked where it missed."""
    if query.drafted is None:
        return NOTHING
    return f"{_quoted(query.drafted)}{' (missed)' if query.right is False else ''}"


def _styles(step: ChainStep, count: int) -> list[str]:
    of = [ACCEPTED if query and query.right else MISSED if query and query.right is False else "" for query in (step.chain, step.control)]
    return ["", "", *of, *[""] * (count - 4)]


def _attention(step: ChainStep) -> tuple[object, ...]:
    queries = [step.chain, step.control]
    shares = [_pair([None if one is None else one.shares[name] for one in queries], "{:.0%}") for name in SHARES]
    return (step.depth, *shares, _pair([None if one is None else one.entropy for one in queries], "{:.2f}"))


def _pair(values: Sequence[float | None], form: str) -> str:
    """Chain and control side by side, `-` for what there is not."""
    return " / ".join("-" if value is None else form.format(value) for value in values)


def _quoted(piece: Piece) -> str:
    """A token in quotes, so that its blanks are seen."""
    return f'"{piece.text}"'


def _lines(text: str) -> str:
    """A text with its line breaks and nothing else that drives a terminal."""
    return "\n".join(map(printable, text.split("\n")))
