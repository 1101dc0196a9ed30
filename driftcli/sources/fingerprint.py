"""What a model's files hold, as a hash: the same files give the same one wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from driftcli.sources.files import SMALL_FILES, Source, weight_files

WHOLE_HASH = 1 << 30  # files up to 1 GiB are hashed whole; of larger ones 64 evenly spaced MiB (chosen by us)


def fingerprint(source: Source) -> str:
    """SHA-256 over config, tokenizer, chat template and weight files, as 16 hex digits; files over 1 GiB by their size and 64 blocks."""
    return hashes(source)[0]


def hashes(source: Source) -> tuple[str, dict[str, str]]:
    """The fingerprint, and that of each file by its name."""
    digest, each = hashlib.sha256(), dict[str, str]()
    found = {path for pattern in SMALL_FILES for path in source.folder.glob(pattern) if path.is_file()}
    small = [] if source.gguf is not None else sorted(found)
    for path in [*(path for path in small if not path.name.endswith(".index.json")), *weight_files(source)]:
        own, named = hashlib.sha256(), f"{path.name} {path.stat().st_size}\n".encode()
        for one in (digest, own):
            one.update(named)
        _hash_file((digest, own), path)
        each[path.name] = own.hexdigest()[:16]
    return digest.hexdigest()[:16], each


def _hash_file(digests: Sequence[hashlib._Hash], path: Path) -> None:
    size, block = path.stat().st_size, 1 << 20
    starts = range(0, size, block) if size <= WHOLE_HASH else range(0, size, max(block, size // 64))
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            read = file.read(block)
            for digest in digests:
                digest.update(read)
