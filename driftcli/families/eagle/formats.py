"""The layouts of EAGLE-1, EAGLE-2, HASS, EAGLE-3 and P-EAGLE, told by tensors; config keys only break ties between producers."""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.families.layout import Format, Shapes, has
from driftcli.sources.files import Json

MODELOPT_KEYS = {
    "use_input_layernorm_in_first_layer",
    "use_last_layernorm",
    "use_mtp_layernorm",
    "next_layer_regular",
    "parallel_draft_step",
}
SPECFORGE_KEYS = {"eagle_config", "use_aux_norm", "head_dim"}
DEEPSPEC_KEYS = ("target_layer_ids", "ttt_length")
MIDLAYER, NEMO_PREFIX = {r"^midlayer\.": "layers.0."}, {r"^model\.": ""}
LEGACY_NORMS = {rf"^aux_norm_{place}\.": f"fc_norm.{number}." for number, place in enumerate(("low", "mid", "high"))}
WRAPPED = "model.model."
MASK = "mask_hidden"  # of P-EAGLE: what takes the place of the streams
CONVERTED = {r"^model\.model\.": "", r"^model\.lm_head\.": "lm_head."}
OLDER_NAMES = {**MIDLAYER, **LEGACY_NORMS}


def _is_eagle3(shapes: Shapes, layer: str) -> bool:
    """Whether `layer` holds an EAGLE-3 step in a file of a drafter of chains."""
    return MASK not in shapes and _is_step(shapes, layer)


def _is_peagle(config: Mapping[str, Json], shapes: Shapes, *, speculators: bool) -> bool:
    """Whether an EAGLE-3 step stands beside what its rows read where there are no streams yet, so that all rows go in one pass."""
    stands = any(_is_step(shapes, layer) for layer in ("layers.0.", "midlayer."))
    return MASK in shapes and stands and _is_speculators(config) is speculators


def _is_step(shapes: Shapes, layer: str) -> bool:
    """Whether `layer` holds an EAGLE-3 step: a norm on the hidden stream, or queries that read twice the width that comes out."""
    attention = f"{layer}self_attn."
    query, out = (shapes.get(f"{attention}{name}.weight", ()) for name in ("q_proj", "o_proj"))
    return f"{layer}hidden_norm.weight" in shapes or (len(query) == len(out) == 2 and query[1] == 2 * out[0] > 0)


def _is_speculators(config: Mapping[str, Json]) -> bool:
    return "speculators_model_type" in config or "transformer_layer_config" in config


def _nested_keys(config: Mapping[str, Json]) -> set[str]:
    nested = config.get("eagle_config")
    return set(nested) if isinstance(nested, dict) else set()


def _is_fork(shapes: Shapes) -> bool:
    """The fork marks its map, or gives layers past the first the norm of the first beside their own."""
    return "t2d_indices" in shapes or all(has(shapes, rf"^layers\.[1-9]\d*\.{norm}\.") for norm in ("hidden_norm", "input_layernorm"))


def _is_modelopt(config: Mapping[str, Json], shapes: Shapes) -> bool:
    return bool(_nested_keys(config) & MODELOPT_KEYS) and not shapes.keys() & {"embed_tokens.weight", "t2d"}


def _is_deepspec(config: Mapping[str, Json]) -> bool:
    return all(key in config for key in DEEPSPEC_KEYS)


def _is_specforge(config: Mapping[str, Json], shapes: Shapes) -> bool:
    """A head that no other layout claims: `layers.N` as SGLang also takes it, or `midlayer` with what SafeAILab's code never writes."""
    if _is_eagle3(shapes, "midlayer."):
        return bool(SPECFORGE_KEYS & config.keys()) or has(shapes, r"^aux_norm_|_a_proj|\.bias$")
    others = _is_speculators(config) or _is_deepspec(config) or _is_modelopt(config, shapes) or _is_fork(shapes)
    return _is_eagle3(shapes, "layers.0.") and not others


def _is_safeailab(config: Mapping[str, Json], shapes: Shapes) -> bool:
    return _is_eagle3(shapes, "midlayer.") and not _is_specforge(config, shapes)


def _inner(shapes: Shapes) -> Shapes:
    """What vLLM's converter wrapped into a model of a model, without the copy of the target's head."""
    return {name.removeprefix(WRAPPED): shape for name, shape in shapes.items() if name.startswith((WRAPPED, "fc."))}


def _is_eagle1(shapes: Shapes) -> bool:
    fusion, query = shapes.get("fc.weight", ()), shapes.get("layers.0.self_attn.q_proj.weight", ())
    one_stream = len(fusion) == len(query) == 2 and fusion[1] == 2 * fusion[0] and query[1] == fusion[0]
    return one_stream and not has(shapes, r"(^|\.)hidden_norm\.|^lm_head\.|(^|\.)[dt]2[dt]$|^mask_hidden$")


EAGLE: tuple[Format, ...] = (
    Format("EAGLE-3, SafeAILab layout", "eagle3", "SafeAILab", _is_safeailab, OLDER_NAMES),
    Format("EAGLE-3, SpecForge or SGLang layout", "eagle3", "SpecForge", _is_specforge, OLDER_NAMES),
    Format(
        "EAGLE-3, speculators layout",
        "eagle3",
        "speculators",
        lambda config, shapes: _is_eagle3(shapes, "layers.0.") and _is_speculators(config) and not _is_fork(shapes),
    ),
    Format(
        "EAGLE-3, ModelOpt layout",
        "eagle3",
        "ModelOpt",
        lambda config, shapes: _is_eagle3(shapes, "layers.0.") and _is_modelopt(config, shapes) and not _is_speculators(config),
    ),
    Format("EAGLE-3, NeMo layout", "eagle3", "NeMo", lambda _, shapes: _is_eagle3(shapes, "model.layers.0."), NEMO_PREFIX),
    Format("EAGLE-3, SpecDrift fork layout", "eagle3", "SpecDrift", lambda _, shapes: _is_eagle3(shapes, "layers.0.") and _is_fork(shapes)),
    Format(
        "EAGLE-3, DeepSpec layout",
        "eagle3",
        "DeepSpec",
        lambda config, shapes: _is_eagle3(shapes, "layers.0.") and _is_deepspec(config) and not _is_speculators(config),
    ),
    Format("P-EAGLE, speculators layout", "peagle", "speculators", lambda config, shapes: _is_peagle(config, shapes, speculators=True)),
    Format("P-EAGLE, vLLM's layout", "peagle", "AWS", lambda config, shapes: _is_peagle(config, shapes, speculators=False), MIDLAYER),
    Format("EAGLE-1, EAGLE-2 or HASS layout", "eagle", "SafeAILab", lambda _, shapes: _is_eagle1(shapes)),
    Format("EAGLE-1, converted for vLLM", "eagle", "SafeAILab", lambda _, shapes: _is_eagle1(_inner(shapes)), CONVERTED),
)
