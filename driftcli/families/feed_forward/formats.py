"""The layouts of heads without attention, told by their tensors: Medusa, Hydra, and IBM's MLPSpeculator."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from driftcli.families.layout import Format, Shapes, has
from driftcli.sources.files import Json

MEDUSA, HYDRA, SPECULATOR = "Medusa heads", "Hydra heads", "MLPSpeculator"
RENAMES = {
    MEDUSA: {
        r"^medusa_heads?\.": "",
        r"^(\d+)\.(\d+)\.linear\.": r"\1.blocks.\2.",
        r"^(\d+)\.\d+\.(weight|bias)$": r"\1.head.\2",
        r"^blocks\.(\d+)\.layers\.": r"\1.blocks.",
        r"^lm_heads\.(\d+)\.": r"\1.head.",
    },
    HYDRA: {
        r"^hydra_head\.": "",
        r"^hydra_mlp\.(\d+)\.(\d+)\.linear\.": r"\1.blocks.\2.",
        r"^hydra_mlp\.(\d+)\.(\d+)\.res_connection\.": r"\1.around.\2.",
        r"^hydra_lm_head\.(\d+)\.(?:1\.)?(weight|bias)$": r"\1.head.\2",
    },
    SPECULATOR: {r"^(?:speculator\.)?(emb|proj|head|ln)\.(\d+)\.": r"\2.\1."},
}
BESIDE = re.compile(r"^(lm_head\.weight|medusa_heads?\.|\d+\.|blocks\.|lm_heads\.)")  # all that may lie in a file of Medusa heads


def _is_medusa(names: Collection[str]) -> bool:
    own = {re.sub(r"^medusa_heads?\.", "", name) for name in names}
    older, newer = r"^\d+\.\d+\.linear\.weight$", r"^blocks\.\d+\.layers\.\d+\.weight$"
    return any(re.search(pattern, name) for pattern in (older, newer) for name in own) and all(map(BESIDE.search, names))


TESTS: Mapping[str, Callable[[Shapes], bool]] = {
    MEDUSA: _is_medusa,
    HYDRA: lambda shapes: has(shapes, r"^(hydra_head\.)?hydra_mlp\.\d+\.") and has(shapes, r"^(hydra_head\.)?hydra_lm_head\.\d+\."),
    SPECULATOR: lambda shapes: all(has(shapes, rf"^(speculator\.)?{part}\.0\.weight$") for part in ("emb", "proj", "head", "ln")),
}


def _of(name: str) -> Callable[[Mapping[str, Json], Shapes], bool]:
    def matches(_: Mapping[str, Json], shapes: Shapes) -> bool:
        return TESTS[name](shapes)

    return matches


FEED_FORWARD: tuple[Format, ...] = (
    Format(MEDUSA, "feed-forward", "FasterDecoding", _of(MEDUSA), RENAMES[MEDUSA]),
    Format(HYDRA, "feed-forward", "Hydra", _of(HYDRA), RENAMES[HYDRA]),
    Format(SPECULATOR, "feed-forward", "IBM", _of(SPECULATOR), RENAMES[SPECULATOR]),
)
