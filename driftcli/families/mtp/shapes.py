"""Whether the tensors of an MTP head are those of one, and the sizes that their shapes tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from driftcli.errors import FormatError
from driftcli.families.mtp.kinds import Kind
from driftcli.families.quantisation import FLOATS, SCALE
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Stored
from driftcli.sources.files import Json

SCALED = ("F8_E4M3", "F8_E5M2")  # 8-bit floats, of which a second tensor tells the scales
AROUND = ("embedding_norm.weight", "hidden_norm.weight", "fusion.weight")
FUSED = "self_attn.qkv_proj"  # of MiMo-V2: all three in one matrix
PARTS = tuple(f"self_attn.{name}_proj" for name in "qkv")
GROUPED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight")
LATENT = ("kv_a_proj_with_mqa.weight", "kv_a_layernorm.weight", "kv_b_proj.weight", "o_proj.weight")
DENSE = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
UNREAD = re.compile(r"^(embedding|head)\.weight$|^self_attn\.indexer\.|rotary_emb\.inv_freq$")  # of the target's own, or beyond what is run
PLACES = re.compile(
    r"^(input_layernorm|post_attention_layernorm|post_feedforward_layernorm)\.weight$"
    r"|^self_attn\.qkv_proj\.weight$"
    r"|^self_attn\.([qkvo]_proj\.(weight|bias)|[qk]_norm\.weight|g_proj\.weight|sinks)$"
    r"|^self_attn\.(q_a_proj|q_a_layernorm|q_b_proj|kv_a_proj_with_mqa|kv_a_layernorm|kv_b_proj)\.weight$"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a module's attention: heads, size of a query's head, how much of it can turn. latent: keys unfold from latents. sparse: it has
    experts.
    """

    heads: int
    size: int
    rotary: int
    latent: bool
    sparse: bool


def is_latent(parts: Mapping[str, str]) -> bool:
    """Whether keys and values unfold from latents."""
    return "self_attn.kv_a_proj_with_mqa.weight" in parts


def is_sparse(parts: Mapping[str, str]) -> bool:
    """Whether the layer has experts."""
    return any(part.startswith(("mlp.experts.", "moe.")) for part in parts)


def needed(parts: Mapping[str, str], *, normed: bool) -> tuple[str, ...]:
    """Parts without which there is no head of this kind."""
    latent = tuple(f"self_attn.{name}" for name in LATENT)
    query = "self_attn.q_b_proj.weight" if "self_attn.q_a_proj.weight" in parts else "self_attn.q_proj.weight"
    post_normed = "post_feedforward_layernorm.weight" in parts
    norms = ("post_attention_layernorm.weight", *(() if post_normed else ("input_layernorm.weight",)))
    grouped = (f"{FUSED}.weight", GROUPED[-1]) if f"{FUSED}.weight" in parts else GROUPED
    attention = (*latent, query) if is_latent(parts) else grouped
    return (*AROUND, *(("final_norm.weight",) if normed else ()), *norms, *attention, *(() if is_sparse(parts) else DENSE))


@dataclass(frozen=True, slots=True)
class Cut:
    """How a fused matrix is cut: into so many parts, each with so many rows of queries, keys and values, one kind below the other."""

    parts: int
    rows: tuple[int, int, int]


def cut_of(where: str, parts: Mapping[str, str], tensors: Mapping[str, Stored], config: Mapping[str, Json]) -> Cut | None:
    """How the fused matrix of a module is cut, None where it has none; raises FormatError for one that the config's sizes do not make."""
    stored = parts.get(f"{FUSED}.weight")
    if stored is None:
        return None
    said = {name: config.get(f"swa_{name}", config.get(name)) for name in ("num_attention_heads", "num_key_value_heads", "head_dim")}
    values = config.get("swa_v_head_dim", config.get("v_head_dim", said["head_dim"]))
    count = config.get("num_key_value_heads") if tensors[stored].dtype in SCALED else 1
    heads, keys, size = said.values()
    numbers = [number for number in (heads, keys, size, values, count) if isinstance(number, int) and number > 0]
    if len(numbers) < 5 or numbers[0] % numbers[4] or numbers[1] % numbers[4]:
        raise FormatError(f"{where}/config.json: {said}, values of {values}, {count} parts; expected what {stored} can be cut by")
    heads, keys, size, width, count = numbers
    rows = (heads // count * size, keys // count * size, keys // count * width)
    if tensors[stored].shape[0] != count * sum(rows):
        raise FormatError(
            f"{where}: {stored} has shape {tensors[stored].shape}, expected {count * sum(rows)} rows, {count} times {rows}; config or file "
            "is of another head"
        )
    return Cut(count, rows)


def require_whole(where: str, kind: Kind, modules: list[dict[str, str]], tensors: Mapping[str, Stored]) -> None:
    """Raise FormatError for parts that are missing, have no place, or are stored as no floats."""
    left = [stored for parts in modules for stored in _without_place(parts)]
    if left:
        raise FormatError(
            f"{where}: {counted_names(sorted(set(left)), 'has no place', 'have no place')} in an MTP head that is measured; it is not run"
        )
    found = {part: stored for parts in modules for part, stored in parts.items()}
    missing = [part for parts in modules for part in needed(parts, normed=kind.normed) if part not in parts]
    if missing:
        names = sorted(_as_stored(part, found) for part in missing)
        said = counted_names(names, "is missing", "are missing")
        raise FormatError(f"{where}: holds a {kind.name}, {said}, expected a whole one; export it again")
    for parts in modules:
        for part, stored in parts.items():
            if not _is_read(part) or (held := tensors[stored].dtype) in FLOATS:
                continue
            if not (held in SCALED and part + SCALE in parts):
                raise FormatError(
                    f"{where}: {stored} is stored as {held}, expected floats of 16, 32 or 64 bits, or of 8 with their scales; measure it "
                    "unquantised"
                )


def _is_read(part: str) -> bool:
    return not UNREAD.search(part) and not part.endswith(SCALE)


def _without_place(parts: Mapping[str, str]) -> Iterator[str]:
    """Stored names that are no part of a head; a module without an attention has none of a layer's."""
    whole = any("_proj.weight" in part and part.startswith("self_attn.") for part in parts)
    for part, stored in parts.items():
        bare = part.removesuffix(SCALE)
        of_mlp = part.startswith(("mlp.", "moe.", "share_expert.")) and (is_sparse(parts) or bare in DENSE)
        outside = UNREAD.search(part) or bare in (*AROUND, "final_norm.weight")
        if not outside and not (whole and (of_mlp or PLACES.search(bare))):
            yield stored


def _as_stored(part: str, found: Mapping[str, str]) -> str:
    """A missing part as its file would name it, by the names of its neighbours."""
    stem = part.rpartition(".")[0].rpartition(".")[0]
    for other, stored in found.items():
        if stem and other.startswith(f"{stem}.") and stored.endswith(other):
            return stored.removesuffix(other) + part
    return part


def sizes_of(
    where: str,
    parts: Mapping[str, str],
    tensors: Mapping[str, Stored],
    width: int,
    heads: int,
    size: int,
    *,
    gated: bool,
    cut: Cut | None = None,
) -> Sizes:
    """The sizes of a module, `heads` and `size` being what the config says; raises FormatError for shapes that do not fit together."""
    shapes = {part: tensors[stored].shape for part, stored in parts.items()}
    if cut:
        shapes, parts = _apart(shapes, parts, cut)

    def shape(part: str, *expected: int | None) -> tuple[int, ...]:
        found = shapes[f"{part}.weight"]
        if len(found) != len(expected) or any(want not in (None, got) for want, got in zip(expected, found, strict=True)):
            said = ", ".join("any" if want is None else str(want) for want in expected)
            comma = "," * (len(expected) == 1)
            raise FormatError(
                f"{where}: {parts[f'{part}.weight']} has shape {found}, expected ({said}{comma}); config or file is of another head"
            )
        return found

    shape("fusion", width, 2 * width)
    for part in ("embedding_norm", "hidden_norm", "final_norm", "input_layernorm", "post_attention_layernorm"):
        if f"{part}.weight" in shapes:
            shape(part, width)
    sparse = is_sparse(parts)
    if not sparse:
        inner, _ = shape("mlp.gate_proj", None, width)
        shape("mlp.up_proj", inner, width)
        shape("mlp.down_proj", width, inner)
    if is_latent(parts):
        (rank,) = shape("self_attn.kv_a_layernorm", None)
        rows, _ = shape("self_attn.kv_a_proj_with_mqa", None, width)
        query = "self_attn.q_b_proj" if "self_attn.q_b_proj.weight" in shapes else "self_attn.q_proj"
        queries, _ = shape(query, None, None)
        shape("self_attn.kv_b_proj", None, rank)
        return Sizes(heads, _parted(where, parts[f"{query}.weight"], queries, heads), rows - rank, True, sparse)
    if "self_attn.q_norm.weight" in shapes:
        (size,) = shape("self_attn.q_norm", None)
    queries, _ = shape("self_attn.q_proj", None, width)
    found = _parted(where, parts["self_attn.q_proj.weight"], queries, size * (2 if gated else 1))
    keys = _parted(where, parts["self_attn.k_proj.weight"], shape("self_attn.k_proj", None, width)[0], size)
    _parted(where, parts["self_attn.q_proj.weight"], found, keys)
    _parted(where, parts["self_attn.v_proj.weight"], shape("self_attn.v_proj", None, width)[0], keys)
    shape("self_attn.o_proj", width, None)
    return Sizes(found, size, size, False, sparse)


def _apart(shapes: Mapping[str, tuple[int, ...]], parts: Mapping[str, str], cut: Cut) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and stored names with those of queries, keys and values, as if the matrix that holds them were three."""
    name = f"{FUSED}.weight"
    own = {f"{part}.weight": (cut.parts * rows, *shapes[name][1:]) for part, rows in zip(PARTS, cut.rows, strict=True)}
    return {**shapes, **own}, {**parts, **dict.fromkeys(own, parts[name])}


def _parted(where: str, stored: str, rows: int, by: int) -> int:
    if not by or rows % by or not rows:
        raise FormatError(f"{where}: {stored} gives {rows} numbers, expected a multiple of {by}; config or file is of another head")
    return rows // by
