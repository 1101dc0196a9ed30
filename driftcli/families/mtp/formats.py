"""The layouts of MTP heads in folders of their own: a decoder layer with a projection of embedding and state, and no model around it."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.families.causal_lm.formats import is_whole
from driftcli.families.layout import Format, Shapes
from driftcli.families.mtp.names import modules_of
from driftcli.sources.files import Json


def _alone(shapes: Shapes) -> bool:
    modules = modules_of(shapes)
    return bool(modules) and {"embedding_norm.weight", "fusion.weight"} <= modules[0].keys() and not is_whole(shapes)


def _is_speculators(config: Mapping[str, Json], shapes: Shapes) -> bool:
    return config.get("speculators_model_type") == "mtp" and _alone(shapes)


def _is_extracted(config: Mapping[str, Json], shapes: Shapes) -> bool:
    return config.get("speculators_model_type") is None and _alone(shapes)


MTP: tuple[Format, ...] = (
    Format("MTP head in speculators layout", "mtp", "speculators", _is_speculators),
    Format("MTP head in a folder of its own", "mtp", "transformers", _is_extracted),
)
