"""A causal language model, told by an embedding, numbered layers and a model type that transformers builds; PARD by its config besides."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from driftcli.families.carried import own_tensors
from driftcli.families.layout import Format, Shapes, has
from driftcli.sources.files import Json


def is_whole(names: Shapes) -> bool:
    """Whether a whole language model is among these tensors, whatever drafter it carries besides."""
    own = {name: names[name] for name in own_tensors(names)}
    return has(own, r"(^|\.)(layers|h|blocks|block)\.\d+\.") and has(
        own, r"(embed_tokens|embed_in|wte|word_embeddings|embeddings?)\.weight$"
    )


def _is_causal_lm(config: Mapping[str, Json], shapes: Shapes) -> bool:
    if not is_whole(shapes) or has(shapes, r"(^|^model\.)fc\.weight$|(^|\.)hidden_norm\.weight$|(^|\.)d2t$|(^|\.)pre_projection\.weight$"):
        return False
    return str(config.get("model_type")) in known_types()


@cache
def known_types() -> frozenset[str]:
    """Model types that the installed transformers has a causal class for, read from its source: to import it takes seconds."""
    package = find_spec("transformers")
    assert package is not None and package.submodule_search_locations
    source = Path(package.submodule_search_locations[0]) / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES":
            return frozenset(dict(ast.literal_eval(node.value.args[0])) if isinstance(node.value, ast.Call) else ())
    raise AssertionError(f"{source} names no causal language models")


def is_parallel(config: Mapping[str, Json]) -> bool:
    """Whether a language model was trained to draft all tokens in one pass over mask tokens (PARD)."""
    return any(config.get(key) is not None for key in ("pard_token", "ptd_token_id")) or str(config.get("spd_type")).lower() == "pard"


CAUSAL_LM: tuple[Format, ...] = (
    Format(
        "causal language model",
        "causal-lm",
        "transformers",
        lambda config, shapes: _is_causal_lm(config, shapes) and not is_parallel(config),
    ),
    Format(
        "PARD, a causal language model that drafts in parallel",
        "pard",
        "transformers",
        lambda config, shapes: _is_causal_lm(config, shapes) and is_parallel(config),
    ),
)
