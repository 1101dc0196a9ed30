"""The layouts of drafters that guess a block of tokens in one pass over mask tokens, told by their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from driftcli.families.layout import Format, Producer, Shapes, has
from driftcli.sources.files import Json

RENAMES = {r"^model\.": ""}


def _is_block(shapes: Shapes) -> bool:
    """Layers behind a fusion of streams whose norm stands beside them: an EAGLE head's stands in its first layer."""
    return all(has(shapes, rf"^(model\.)?{name}$") for name in (r"fc\.weight", r"hidden_norm\.weight", r"layers\.0\..+"))


def _of(producer: Producer) -> Callable[[Mapping[str, Json], Shapes], bool]:
    def matches(config: Mapping[str, Json], shapes: Shapes) -> bool:
        of_speculators = config.get("speculators_model_type") is not None
        return _is_block(shapes) and of_speculators is (producer == "speculators")

    return matches


BLOCK: tuple[Format, ...] = (
    Format("DFlash in z-lab layout", "block", "z-lab", _of("z-lab"), RENAMES),
    Format("DFlash in speculators layout", "block", "speculators", _of("speculators"), RENAMES),
)
