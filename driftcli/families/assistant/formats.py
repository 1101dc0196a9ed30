"""The layout of Gemma 4 assistants, told by their tensors: layers that have queries alone, between two projections."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.families.layout import Format, Shapes, has
from driftcli.sources.files import Json

RENAMES = {r"^(?:model\.)+": ""}


def is_assistant(names: Shapes) -> bool:
    """Whether layers read somebody else's keys: a projection in front, one behind, and none of keys."""
    around = all(has(names, rf"^(model\.)?{name}_projection\.weight$") for name in ("pre", "post"))
    return around and has(names, r"layers\.0\.self_attn\.q_proj\.weight$") and not has(names, r"\.self_attn\.k_proj\.weight$")


def _matches(_: Mapping[str, Json], shapes: Shapes) -> bool:
    return is_assistant(shapes)


ASSISTANT: tuple[Format, ...] = (Format("Gemma 4 assistant", "assistant", "transformers", _matches, RENAMES),)
