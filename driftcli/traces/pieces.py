"""What the tokens of a run stand for, read from its table of pieces: texts from token ids, without a tokenizer."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from driftcli.errors import RunError
from driftcli.traces.layout import PIECES_FILE
from driftcli.traces.parquet import read_columns
from driftcli.traces.schema import PIECES, arrow_schema


@dataclass(frozen=True, slots=True)
class Piece:
    """A token and its text as it stands where it is shown: of several tokens whose bytes make one character the last one carries it."""

    id: int
    text: str


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of tokens by id, of those that the run's tokenizer has; without any in a run that was written before they were kept."""

    known: dict[int, bytes] = field(default_factory=dict)
    special: frozenset[int] = frozenset()

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text, `#<id>` where that is not known."""
        return self.known.get(token, f"#{token}".encode())

    def reader(self) -> Reader:
        """A reader at the beginning of a text."""
        return Reader(self)


@dataclass(frozen=True)
class Reader:
    """A text read token by token; `unfinished` holds the bytes of a character that its last tokens have only begun."""

    vocabulary: Vocabulary
    unfinished: bytes = b""

    def read(self, ids: Iterable[int], *, whole: bool = False) -> tuple[tuple[Piece, ...], Reader]:
        """The next tokens as pieces, and the reader behind them; whole: nothing follows, so what is unfinished stands as U+FFFD."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate((self.unfinished, 0))
        pieces = [Piece(token, decoder.decode(self.vocabulary.bytes_of(token))) for token in ids]
        if whole and pieces:
            pieces[-1] = Piece(pieces[-1].id, pieces[-1].text + decoder.decode(b"", final=True))
        return tuple(pieces), Reader(self.vocabulary, decoder.getstate()[0])

    def piece(self, token: int) -> Piece:
        """One token behind what was read, as if nothing followed."""
        return self.read([token], whole=True)[0][0]


def read_vocabulary(folder: Path) -> Vocabulary:
    """The pieces of a run, none where it was written before they were kept; raises RunError where their file cannot be read."""
    path = folder / PIECES_FILE
    if not path.exists():
        return Vocabulary()
    try:
        with path.open("rb") as file:
            table = read_columns(pq.ParquetFile(file), arrow_schema(PIECES).names, arrow_schema(PIECES))
    except (OSError, ValueError, pa.ArrowException) as error:
        said = "; ".join(str(error).splitlines())
        raise RunError(f"{path}: cannot be read ({said}); remove it and repeat the diagnosis, which writes it again") from error
    ids, pieces = table["id"].to_pylist(), table["bytes"].to_pylist()
    special = [token for token, marked in zip(ids, table["special"].to_pylist(), strict=True) if marked]
    return Vocabulary(dict(zip(ids, pieces, strict=True)), frozenset(special))
