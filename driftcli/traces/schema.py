"""Every column of the traces, once: its type, its unit, its meaning. Tables open in any Parquet reader without this tool.

A run holds one folder a table and one file a cell in it (a cell is one condition on one batch of prompts), and one file, `pieces`, that
says what each token id stands for. Null always means that the number does not exist there, never zero; the meaning says when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from driftcli.domain import SHARES

VERSION = 7  # of the columns; a reader refuses a newer one
TABLES = ("trajectories", "steps", "heads", "streams")  # of one file a cell
PIECES = "pieces"  # the table of one file a run


@dataclass(frozen=True, slots=True)
class Column:
    """One column: Arrow type, unit and meaning."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False


_NAME = pa.dictionary(pa.int16(), pa.string())
_PROMPT = (
    Column("prompt", _NAME, "id", "prompt id; intervals resample these"),
    Column("turn", pa.int8(), "0-based", "which answer of the target within the prompt"),
)
_CELL = (
    Column("probe", _NAME, "name", "probe that asked for the condition"),
    Column("condition", _NAME, "name", "condition; `baseline` is the declared reading"),
)
_FEED = Column(
    "feed",
    _NAME,
    "name",
    "where inputs come from: fresh (target's token and state), forced (target's token, own state), free (own token, own state)",
)
_DEPTH = Column("depth", pa.int8(), "1-based", "which proposal of the chain")


def _shares(what: str, *, optional: bool = False) -> tuple[Column, ...]:
    """optional: whether there are rows of a drafter without attention."""
    without = "; null without attention" if optional else ""
    meanings = {
        "sink": "on the sink row; null where the trajectory has no sink",
        "template": "on prompt tokens outside every message's content, the sink left out",
        "prompt": "on the content of the messages, the sink left out",
        "verified": "on verified reply tokens up to the anchor",
        "ahead": "on tokens beyond the anchor that the chain holds as drafted",
        "recent": "on the last 4 keys, own included, whatever their region; not one of the regions that sum to 1",
    }
    return tuple(
        Column(f"share_{name}", pa.float32(), "share", f"{what} {meanings[name]}{without}", nullable=optional or name == "sink")
        for name in SHARES
    )


COLUMNS: dict[str, tuple[Column, ...]] = {
    "trajectories": (
        *_PROMPT,
        Column("category", pa.string(), "name", "the prompt's category; null when none was given", nullable=True),
        Column("group", pa.string(), "name", "prompts of one group count as one; null when none was given", nullable=True),
        Column("prompt_length", pa.int32(), "tokens", "length of the rendered prompt; the first anchor"),
        Column("length", pa.int32(), "tokens", "length of prompt and reply together"),
        Column("ids", pa.list_(pa.int32()), "token ids", "rendered prompt and continuation"),
        Column("labels", pa.list_(pa.int8()), "0, 1, 2", "of each token: 0 template, 1 message content, 2 reply"),
        Column("anchors", pa.int32(), "count", "anchors whose guesses all lie inside; 0 means too short"),
        Column(
            "rounds_to_end",
            pa.list_(pa.int32()),
            "count",
            "rounds of decoding to the last token by draft length, 1 first; null but for the baseline and its like",
            nullable=True,
        ),
        Column("sink_row", pa.int32(), "row", "the sink; null when no row has enough attention, or there is no anchor", nullable=True),
        Column("target_prob", pa.list_(pa.float32()), "probability", "the target's, of each reply token"),
        Column(
            "target_entropy",
            pa.list_(pa.float32()),
            "nats",
            "of the target's distribution at each reply token; null where its engine does not tell it",
        ),
        Column(
            "choices",
            pa.list_(pa.int32()),
            "token ids",
            "the target's own argmax at each reply token when it reads the text in one pass; null in older runs",
            nullable=True,
        ),
        Column("argmax_share", pa.float32(), "share", "reply tokens that are the target's own argmax when it reads the text in one pass"),
        Column("generated", pa.bool_(), "", "the target wrote the reply (false: it was given)"),
        Column("unlocated", pa.int16(), "messages", "messages whose content the template rewrote; their tokens count as template"),
        Column("prefix_length", pa.int32(), "tokens", "before the first user's words: template, system message"),
        Column("rendered_sha256", pa.string(), "hex", "first 16 digits of the hash of the rendered prompt"),
    ),
    "steps": (
        *_CELL,
        *_PROMPT,
        Column(
            "anchor", pa.int32(), "position", "last verified token; a fresh row stands at the anchor of the chain query that it controls"
        ),
        _DEPTH,
        _FEED,
        Column("drafted", pa.int32(), "token id", "the drafter's first choice, as target id; null for no proposal", nullable=True),
        Column("wanted", pa.int32(), "token id", "the trajectory's token there; null in a free chain after its first miss", nullable=True),
        Column("match", pa.bool_(), "", "drafted is wanted, false where nothing was proposed; null where wanted is", nullable=True),
        Column("on_walk", pa.bool_(), "", "decoding at the full depth would draft from this anchor"),
        Column("target_prob", pa.float32(), "probability", "the target's, of the wanted token; null where wanted is", nullable=True),
        Column(
            "draft_prob",
            pa.float32(),
            "probability",
            "the drafter's, of its drafted token; null where it proposed nothing, and without a distribution",
            nullable=True,
        ),
        Column(
            "wanted_prob",
            pa.float32(),
            "probability",
            "the drafter's, of the wanted token, 0 where it proposed nothing, 1 or 0 without a distribution; null where wanted is, or "
            "outside the draft vocabulary",
            nullable=True,
        ),
        Column(
            "draft_entropy",
            pa.float32(),
            "nats",
            "of the drafter's distribution over its vocabulary; null where draft_prob is",
            nullable=True,
        ),
        Column(
            "confidence",
            pa.float32(),
            "probability",
            "the drafter's own, by a head trained for it, that its drafted token is accepted; null without such a head",
            nullable=True,
        ),
        Column("rms", pa.float32(), "RMS", "of the state handed on; null for a drafter without one", nullable=True),
        Column(
            "state_cosine",
            pa.float32(),
            "cosine",
            "of a forced state against its control; null for other feeds and without a state",
            nullable=True,
        ),
        *_shares("attention, mean over layers and heads,", optional=True),
        Column("entropy", pa.float32(), "nats", "of attention, mean over layers and heads; null without attention", nullable=True),
    ),
    "heads": (
        *_CELL,
        *_PROMPT,
        _FEED,
        _DEPTH,
        Column("layer", pa.int16(), "0-based", "layer of the drafter"),
        Column("head", pa.int16(), "0-based", "query head"),
        Column("anchors", pa.int32(), "count", "anchors averaged over"),
        *_shares("attention of the head, mean over anchors,"),
        Column("entropy", pa.float32(), "nats", "of the head's attention, mean over anchors"),
    ),
    "streams": (
        *_CELL,
        *_PROMPT,
        Column("stream", pa.string(), "name", "`boundary b` of the target, in capture order, or `fused`, the drafter's first state"),
        Column("place", pa.int8(), "0-based", "order among the streams; the fused input comes last"),
        Column("rows", pa.int32(), "count", "rows averaged over: all but the first, whose state is an outlier in many targets"),
        Column("rms", pa.float32(), "RMS", "mean over rows of the stream's RMS"),
        Column("first_row_rms", pa.float32(), "RMS", "of row 0 alone"),
        Column(
            "added_rms",
            pa.float32(),
            "RMS",
            "mean over rows, of what the stream adds to the fused input (of the fused input itself for `fused`)",
        ),
    ),
    PIECES: (
        Column("id", pa.int32(), "token id", "of the target's tokenizer; ids that it has no token for are left out"),
        Column(
            "bytes", pa.binary(), "bytes", "what the token adds amid a text, UTF-8 when joined; a character may be parted between tokens"
        ),
        Column("special", pa.bool_(), "", "one of the tokenizer's special tokens, which servers do not show"),
    ),
}


def arrow_schema(table: str, told: Mapping[str, str] | None = None) -> pa.Schema:
    """The Arrow schema of a table, its version and what else is told in the metadata, and unit and meaning on every column."""
    fields = [pa.field(c.name, c.type, c.nullable, metadata={"unit": c.unit, "meaning": c.meaning}) for c in COLUMNS[table]]
    return pa.schema(fields, metadata={"driftcli.table": table, "driftcli.schema": str(VERSION), **(told or {})})
