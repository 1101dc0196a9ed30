"""What a head of the EAGLE family is made of: its sizes, and the tensors that go with them by canonical name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from driftcli.families.layout import Family

Shape = tuple[int, ...]
SCALAR = "layers.0.layer_scalar"
MASK_STREAMS = "mask_hidden"
AROUND_MLP = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads of a layer: counts, the size of a query or key and how much of it RoPE turns, and the size of a value.

    kind: `grouped` keys and values (GQA), or `latent` ones (MLA). ranks: of the latent query (None without) and of the latent key.
    """

    kind: Literal["grouped", "latent"]
    count: int
    keys: int
    size: int
    rotated: int
    value: int
    ranks: tuple[int | None, int] = (None, 0)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Widths and counts of a head; streams is 1 without a fusion of several, layers counts decoder layers."""

    family: Family
    width: int
    target_width: int
    inner: int
    vocabulary: int
    draft_vocabulary: int
    streams: int
    layers: int
    heads: Heads
    names: frozenset[str]

    def has(self, pattern: str) -> bool:
        """Whether some tensor's canonical name matches."""
        return any(re.search(pattern, name) for name in self.names)

    @property
    def parallel(self) -> bool:
        """Whether all its rows go in one pass, those behind the first on a mask (P-EAGLE)."""
        return MASK_STREAMS in self.names

    @property
    def sandwiched(self) -> bool:
        """Whether its layers are Gemma 4's: norms on both sides of attention and MLP, and a scalar on what leaves."""
        return SCALAR in self.names


def required_names(family: Family, names: Collection[str], layers: int) -> set[str]:
    """Names without which a head with these tensors cannot run; those that depend on sizes are not among them."""
    own = {"norm.weight"} if family == "eagle3" else set()
    fusion = set() if family == "eagle3" and _reads_one_stream(names) else {"fc.weight"}
    return own | fusion.union(*(_required_in_layer(names, f"layers.{number}.", family, number) for number in range(max(1, layers))))


def _reads_one_stream(names: Collection[str]) -> bool:
    """A head on the target's last hidden state has neither a fusion nor a norm for it (ModelOpt without `use_aux_hidden_state`)."""
    return "fc.weight" not in names and "layers.0.hidden_norm.weight" not in names


def _required_in_layer(names: Collection[str], layer: str, family: Family, number: int) -> set[str]:
    attention = f"{layer}self_attn."
    if f"{attention}kv_a_proj_with_mqa.weight" in names:
        low_query = f"{attention}q_a_proj.weight" in names
        parts = [
            "kv_a_proj_with_mqa",
            "kv_a_layernorm",
            "kv_b_proj",
            "o_proj",
            *(("q_a_layernorm", "q_b_proj") if low_query else ("q_proj",)),
        ]
    else:
        parts = ["q_proj", "k_proj", "v_proj", "o_proj"]
    norms = ["post_attention_layernorm"]
    if f"{layer}layer_scalar" in names:
        norms += AROUND_MLP
        parts = [part for part in (*parts, "q_norm", "k_norm") if part != "v_proj"]  # keys may stand for values
    if number == 0 and family == "eagle3":
        norms += ["input_layernorm"] if _reads_one_stream(names) else ["input_layernorm", "hidden_norm"]
    elif number > 0 and not {f"{layer}input_layernorm.weight", f"{layer}hidden_norm.weight"} & set(names):
        norms += ["input_layernorm"]
    return {
        *(f"{attention}{part}.weight" for part in parts),
        *(f"{layer}mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
        *(f"{layer}{norm}.weight" for norm in norms),
    }


def expected_shapes(a: Anatomy) -> dict[str, Shape]:
    """Shape of every tensor that a head of these sizes may have."""
    expected: dict[str, Shape] = {"embed_tokens.weight": (a.vocabulary, a.width)}
    for number in range(a.layers):
        expected |= {f"layers.{number}.{name}": shape for name, shape in _layer_shapes(a, number).items()}
    if a.family == "eagle":
        return expected | {"fc.weight": (a.width, 2 * a.width), "fc.bias": (a.width,), "lm_head.weight": (a.vocabulary, a.width)}
    return expected | {
        "norm.weight": (a.width,),
        "fc.weight": (a.width, a.streams * a.target_width),
        "lm_head.weight": (a.draft_vocabulary, a.width),
        "input_norm.weight": (a.streams * a.target_width,),
        **{f"fc_norm.{number}.weight": (a.target_width,) for number in range(a.streams)},
        "d2t": (a.draft_vocabulary,),
        "t2d": (a.vocabulary,),
        "t2d_indices": (a.draft_vocabulary,),
        **({MASK_STREAMS: (1, 1, a.streams * a.target_width)} if a.parallel else {}),
    }


def _layer_shapes(a: Anatomy, number: int) -> dict[str, Shape]:
    entered = 2 * a.width if number == 0 and a.family == "eagle3" else a.width
    attention = _grouped_shapes(a, entered) if a.heads.kind == "grouped" else _latent_shapes(a, entered)
    norms = ["post_attention_layernorm", *(("hidden_norm",) if a.family == "eagle3" else ()), *(AROUND_MLP if a.sandwiched else ())]
    norms += ["input_layernorm"] if number or a.family == "eagle3" else []
    return {
        **{f"self_attn.{name}": shape for name, shape in attention.items()},
        "mlp.gate_proj.weight": (a.inner, a.width),
        "mlp.up_proj.weight": (a.inner, a.width),
        "mlp.down_proj.weight": (a.width, a.inner),
        **{f"{norm}.weight": (a.width,) for norm in norms},
        **({"layer_scalar": (1,)} if a.sandwiched else {}),
    }


def _grouped_shapes(a: Anatomy, entered: int) -> dict[str, Shape]:
    queries, keys = a.heads.count * a.heads.size, a.heads.keys * a.heads.size
    rows = {"q": queries, "k": keys, "v": keys, "o": a.width}
    return {
        **{f"{name}_proj.weight": (rows[name], queries if name == "o" else entered) for name in rows},
        **{f"{name}_proj.bias": (rows[name],) for name in rows},
        "q_norm.weight": (a.heads.size,),
        "k_norm.weight": (a.heads.size,),
    }


def _latent_shapes(a: Anatomy, entered: int) -> dict[str, Shape]:
    h = a.heads
    low_query, low_key = h.ranks
    queries = h.count * h.size
    query: dict[str, Shape] = {"q_proj.weight": (queries, entered)}
    if low_query is not None:
        query = {"q_a_proj.weight": (low_query, entered), "q_a_layernorm.weight": (low_query,), "q_b_proj.weight": (queries, low_query)}
    return {
        **query,
        "kv_a_proj_with_mqa.weight": (low_key + h.rotated, entered),
        "kv_a_layernorm.weight": (low_key,),
        "kv_b_proj.weight": (h.count * (h.size - h.rotated + h.value), low_key),
        "o_proj.weight": (a.width, h.count * h.value),
    }
