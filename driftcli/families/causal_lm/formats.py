"""A plain causal language model, told by an embedding, numbered layers and a model type that transformers builds."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.families.layout import Format, Shapes, has
from driftcli.sources.files import Json


def _is_causal_lm(config: Mapping[str, Json], shapes: Shapes) -> bool:
    whole = has(shapes, r"(^|\.)(layers|h|blocks|block)\.0\.") and has(
        shapes, r"(embed_tokens|embed_in|wte|word_embeddings|embeddings?)\.weight$"
    )
    if not whole or has(shapes, r"(^|^model\.)fc\.weight$|(^|\.)(hidden_norm|eh_proj|enorm)\.weight$|(^|\.)d2t$"):
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return str(config.get("model_type")) in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


CAUSAL_LM: tuple[Format, ...] = (Format("causal language model", "causal-lm", "transformers", _is_causal_lm),)
