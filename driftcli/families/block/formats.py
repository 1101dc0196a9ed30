"""The layouts of drafters that guess a block of tokens in one pass over mask tokens, told by their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from driftcli.families.layout import Format, Producer, Shapes, has
from driftcli.sources.files import Json

RENAMES = {r"^model\.": ""}
RENAMES_2 = {**RENAMES, r"^(candidate_selector\.\w+_codebook)\.weight$": r"\1"}  # as z-lab's class holds them, though not as it saves them
Kind = Literal["DFlash", "DFlash2", "DSpark"]


def _is_block(shapes: Shapes) -> bool:
    """Layers behind a fusion of streams whose norm stands beside them: an EAGLE head's stands in its first layer."""
    return all(has(shapes, rf"^(model\.)?{name}$") for name in (r"fc\.weight", r"hidden_norm\.weight", r"layers\.0\..+"))


def is_dspark(config: Mapping[str, Json], shapes: Shapes) -> bool:
    """Whether a block is DSpark's: biased by the token before, or laid out as DeepSpec does, with rows of its own and no `dflash_config`,
    whatever it calls itself.
    """
    own = all(has(shapes, rf"^(model\.)?{name}\.weight$") for name in ("embed_tokens", "lm_head"))
    return has(shapes, r"(^|\.)markov_head\.") or (own and config.get("target_layer_ids") is not None and not config.get("dflash_config"))


def kind_of(config: Mapping[str, Json], shapes: Shapes) -> Kind:
    """Which of the drafters with this trunk it is."""
    if has(shapes, r"(^|\.)candidate_selector\."):
        return "DFlash2"
    return "DSpark" if is_dspark(config, shapes) else "DFlash"


def _of(producer: Producer, kind: Kind) -> Callable[[Mapping[str, Json], Shapes], bool]:
    def matches(config: Mapping[str, Json], shapes: Shapes) -> bool:
        of_speculators = config.get("speculators_model_type") is not None
        return _is_block(shapes) and of_speculators is (producer == "speculators") and kind_of(config, shapes) == kind

    return matches


BLOCK: tuple[Format, ...] = (
    Format("DFlash in z-lab layout", "block", "z-lab", _of("z-lab", "DFlash"), RENAMES),
    Format("DFlash in speculators layout", "block", "speculators", _of("speculators", "DFlash"), RENAMES),
    Format("DFlash2 in z-lab layout", "block", "z-lab", _of("z-lab", "DFlash2"), RENAMES_2),
    Format("DFlash2 in speculators layout", "block", "speculators", _of("speculators", "DFlash2"), RENAMES_2),
    Format("DSpark in DeepSpec layout", "block", "DeepSpec", _of("DeepSpec", "DSpark"), RENAMES),
    Format("DSpark in speculators layout", "block", "speculators", _of("speculators", "DSpark"), RENAMES),
)
