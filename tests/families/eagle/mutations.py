"""Checkpoints of every layout with something broken in them: config, tensors, maps, the bytes of a safetensors file, or a pickle."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from tests.edits import CONFIG, WEIGHTS
from tests.layouts import LAYOUTS, Layout

HUGE = 2**40
DROPPED = "dropped"
PICKLE = "pytorch_model.bin"


@dataclass(frozen=True)
class Mutant:
    """A checkpoint on its way to the disk and, as `edits`, what was done to it; weights are the content of the file `name`."""

    layout: str
    edits: tuple[Any, ...]
    config: Mapping[str, object] = field(repr=False)
    weights: bytes = field(repr=False)
    name: str = WEIGHTS

    def write(self, folder: Path) -> Path:
        """The files in an empty folder."""
        folder.mkdir()
        (folder / CONFIG).write_text(json.dumps(self.config))
        (folder / self.name).write_bytes(self.weights)
        return folder


def pickled(content: object, *, legacy: bool = False) -> bytes:
    held = io.BytesIO()
    torch.save(content, held, _use_new_zipfile_serialization=not legacy)
    return held.getvalue()


def packed(tensors: Mapping[str, Tensor], layout: Layout) -> tuple[bytes, str]:
    """The weights in the layout's kind of file, and its name."""
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    return (pickled(whole), PICKLE) if layout.pickle else (save(whole), WEIGHTS)


# --- config

TEXTS = ["", "4", "silu", "x\ny\x1b[31m\u202e", "\ud800", "x" * 5000]
NUMBERS = [0, 1, -1, 2, 3, 6, 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400, 0.5, 1e-320, 1e30, 1e300, float("nan"), float("inf")]
SIZES = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 48, 64, 96, 120, 144, 260, 512])
SCALARS = st.sampled_from([None, True, False, *NUMBERS, *TEXTS])
BOOLEANS = st.booleans()
ROPES = st.fixed_dictionaries(
    {},
    optional={
        "rope_type": st.sampled_from(["default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional", "ntk", "no\n", 3, []]),
        "type": st.sampled_from(["default", "linear", "dynamic", "yarn", "llama3", "su", None, {}]),
        **{
            key: st.one_of(st.sampled_from([1.0, 2.0, 4, 8.0, 32]), SCALARS)
            for key in ("factor", "rope_theta", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "beta_fast",
                        "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "partial_rotary_factor", "truncate")
        },
        **{key: st.sampled_from([[1.0] * 6, [1.0], [], [1e300] * 6, 3, None, "x", [None] * 6]) for key in ("short_factor", "long_factor")},
    },
)  # fmt: skip
HOSTILE = st.one_of(
    SCALARS,
    st.lists(st.one_of(SCALARS, st.integers(-1, 9)), max_size=4),
    st.dictionaries(st.sampled_from(["type", "factor", "model_type", "a\nb"]), SCALARS, max_size=2),
    st.sampled_from([[[]] * 2, {"a": {"b": [1]}}, list(range(3000)), [{}] * 3]),
    ROPES,
)
FITTING: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("norm_output", "norm_before_residual", "fc_norm", "norm_before_fc", "use_aux_norm", "use_aux_hidden_state", "tie_word_embeddings",
         "attention_bias", "bias", "qkv_bias", "use_sliding_window", "use_input_layernorm_in_first_layer"), BOOLEANS),
    **dict.fromkeys(
        ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "draft_vocab_size",
         "target_hidden_size", "qk_rope_head_dim", "num_hidden_layers", "max_position_embeddings"), SIZES),
    "eagle_aux_hidden_state_layer_ids": st.lists(st.integers(0, 9), min_size=1, max_size=4),
    "layer_types": st.lists(st.sampled_from(["sliding_attention", "full_attention", "x", None, []]), max_size=4),
    "sliding_window": st.sampled_from([1, 2, 6, 10**6, 2**31, 2**63, 10**30]),
    "rms_norm_eps": st.sampled_from([1e-6, 1e-5, 1, 1e30, 1e-320, 1e300]),
    "rope_theta": st.sampled_from([1.0, 0.5, 5000, 1e12, 1e-300]),
    "rope_scaling": ROPES,
    "rope_parameters": ROPES,
    "partial_rotary_factor": st.sampled_from([1, 1.0, 0.5, None]),
    "hidden_act": st.sampled_from(["silu", "gelu", "SiLU"]),
    "model_type": st.sampled_from(["llama", "qwen3", "deepseek_v3", "gpt2", "eagle3"]),
    "speculators_model_type": st.sampled_from(["eagle3", "eagle"]),
    "speculators_version": st.sampled_from(["0.9.0", "9"]),
    "speculators_config": st.sampled_from([{}, {"proposal_methods": [{"speculative_tokens": 3}]}, {"proposal_methods": [3]}]),
    "torch_dtype": st.sampled_from(["float16", "x"]),
    "quantization_config": st.sampled_from([{}, None]),
}  # fmt: skip
NESTS = ("eagle_config", "transformer_layer_config")
KEYS = sorted({*FITTING, *NESTS})


def paths(config: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every key of a config, those inside objects after their object's."""
    found: list[tuple[str, ...]] = []
    for key, value in config.items():
        inner = paths(value) if isinstance(value, dict) else []
        found += [(key,), *((key, *rest) for rest in inner)]
    return found


def put(config: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set or drop a key, making the objects on the way."""
    *outer, last = path
    for key in outer:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    if value is DROPPED:
        config.pop(last, None)
    else:
        config[last] = value


@st.composite
def config_mutants(draw: st.DrawFn) -> Mutant:
    layout = draw(st.sampled_from(LAYOUTS))
    known, edits = paths(layout.config), []
    added = [(key,) for key in KEYS] + [(nest, key) for nest in NESTS for key in KEYS]
    config = deepcopy(dict(layout.config))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.one_of(st.sampled_from(known), st.sampled_from(added)))
        fitting = FITTING.get(path[-1], SCALARS)
        value = draw(st.one_of(st.just(DROPPED), fitting, fitting, HOSTILE))
        put(config, path, value)
        edits.append((path, value))
    return Mutant(layout.name, tuple(edits), config, *packed(layout.tensors, layout))


# --- tensors

DTYPES = st.sampled_from([
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool,
    torch.float8_e5m2, torch.float8_e4m3fn, torch.uint16, torch.uint32, torch.uint64, torch.complex64,
])  # fmt: skip
NAMES = sorted({name for layout in LAYOUTS for name in layout.tensors})
ELSEWHERE = {name: tensor for layout in LAYOUTS for name, tensor in layout.tensors.items()}
STRANGE = [
    "", "midlayer.", "layers.0.norm.weight", "layers.9999.hidden_norm.weight", "layers.-1.mlp.up_proj.weight", "fc_norm.x.weight",
    "fc_norm.7.weight", "mask_hidden", "a\nb\x1b[2J", "x" * 3000, "model.layers.0.hidden_norm.weight", "fc.weight_scale", "t2d.x", "\u202e",
]  # fmt: skip
SPELLINGS = [("midlayer.", "layers.0."), ("layers.0.", "midlayer."), ("", "model."), ("model.", ""), ("aux_norm_low.", "fc_norm.0."),
             ("hidden_norm", "input_layernorm"), ("layers.1.", "layers.2.")]  # fmt: skip
FLOATS = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])
DIMENSIONS = st.lists(st.sampled_from([0, 1, 2, 3, 24, 48, 96, 120, 144, 260]), max_size=2)
OPERATIONS: dict[str, Callable[[st.DrawFn, Tensor], Tensor]] = {
    "reshape": lambda draw, t: draw(
        st.sampled_from([t.flatten(), t[None], t[..., None], t.T if t.dim() == 2 else t, t.reshape(-1, 2) if t.numel() % 2 == 0 else t])
    ),
    "cast": lambda draw, t: t.to(draw(DTYPES)),
    "other float": lambda draw, t: t.to(draw(FLOATS)) if t.is_floating_point() else t,
    "turned": lambda _, t: t.roll(1, 0) if t.is_floating_point() and t.dim() else t,
    "fill": lambda draw, t: torch.full(
        t.shape, draw(st.sampled_from([float("nan"), float("inf"), 0.0, 1.0, -300.0, 60000.0, 1e30, 3e38])), dtype=torch.float32
    ).to(t.dtype),
    "one number": lambda draw, t: torch.where(
        torch.arange(t.numel()).view(t.shape) == draw(st.integers(0, max(0, t.numel() - 1))),
        torch.tensor(draw(st.sampled_from([float("nan"), -float("inf"), 1e30, -60000.0, 1.0]))).to(t.dtype), t
    ),
    "cut": lambda draw, t: t.narrow(axis := draw(st.integers(0, t.dim() - 1)), 0, draw(st.integers(0, t.shape[axis]))) if t.dim() else t,
    "grow": lambda draw, t: torch.cat([t, t[: draw(st.integers(1, 3))]]) if t.dim() else t,
    "scalar": lambda _, t: t.flatten()[0] if t.numel() else t,
    "empty": lambda _, t: t[:0] if t.dim() else t,
}  # fmt: skip


@st.composite
def tensor_mutants(draw: st.DrawFn) -> Mutant:
    layout = draw(st.sampled_from(LAYOUTS))
    tensors, edits = dict(layout.tensors), []
    for _ in range(draw(st.integers(1, 2))):
        what = draw(st.sampled_from(["drop", "rename", "respell", "borrow", "add", *OPERATIONS]))
        name = draw(st.sampled_from(sorted(tensors)))
        other = draw(st.one_of(st.sampled_from(NAMES), st.sampled_from(STRANGE)))
        if what in ("drop", "rename"):
            kept = tensors.pop(name)
            tensors |= {other: kept} if what == "rename" else {}
        elif what == "respell":
            old, new = draw(st.sampled_from(SPELLINGS))
            tensors = {re.sub(f"^{re.escape(old)}" if old != "hidden_norm" else old, new, each): tensor for each, tensor in tensors.items()}
            other = f"{old} -> {new}"
        elif what == "borrow":
            tensors[other] = ELSEWHERE.get(other, torch.ones(48))
        elif what == "add":
            tensors[other] = torch.ones(draw(DIMENSIONS)).to(draw(DTYPES))
        else:
            tensors[name] = OPERATIONS[what](draw, tensors[name])
        edits.append((what, name, other))
        if not tensors:
            break
    return Mutant(layout.name, tuple(edits), layout.config, *packed(tensors, layout))


# --- d2t and t2d

MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": lambda d2t: d2t + torch.arange(len(d2t)),
    "reversed": lambda d2t: (d2t + torch.arange(len(d2t))).flip(0),
    "shuffled offsets": lambda d2t: (d2t + torch.arange(len(d2t)))[torch.randperm(len(d2t))] - torch.arange(len(d2t)),
    "zeros": torch.zeros_like,
    "one token": lambda d2t: 5 - torch.arange(len(d2t)),
    "negative": lambda d2t: d2t - 100,
    "outside": lambda d2t: d2t + 200,
    "last outside": lambda d2t: torch.cat([d2t[:-1], d2t[-1:] + 200]),
    "huge": lambda d2t: torch.full_like(d2t, 2**63 - 1),
    "lowest": lambda d2t: torch.full_like(d2t, -(2**63)),
    "wrapping": lambda d2t: d2t + 2**62 + 2**62 - 1,
    "empty": lambda d2t: d2t[:0],
    "as unsigned": lambda d2t: d2t.to(torch.uint64),
    "as bytes": lambda d2t: d2t.to(torch.uint8),
    "as small": lambda d2t: d2t.to(torch.int8),
    "as floats": lambda d2t: d2t.to(torch.float32),
    "as marks": lambda d2t: d2t.bool(),
    "square": lambda d2t: d2t[:, None].expand(-1, 2).contiguous(),
    "kept": lambda d2t: d2t,
}
MARKS: dict[str, Callable[[Tensor], Tensor]] = {
    "inverted": torch.logical_not,
    "none": torch.zeros_like,
    "all": torch.ones_like,
    "one less": lambda t2d: t2d[:-1],
    "as numbers": lambda t2d: t2d.to(torch.int64) * 7 - 3,
    "as floats": lambda t2d: t2d.to(torch.float16),
    "kept": lambda t2d: t2d,
}


@st.composite
def map_mutants(draw: st.DrawFn) -> Mutant:
    layout = draw(st.sampled_from(LAYOUTS))
    rows = next((t.shape[0] for name, t in layout.tensors.items() if name.endswith("lm_head.weight")), 260)
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    d2t = layout.tensors.get("d2t", torch.randperm(260, generator=random)[:rows].sort().values - torch.arange(rows))
    marks = torch.zeros(260, dtype=torch.bool).index_fill(0, d2t + torch.arange(len(d2t)), True)
    how, marked = draw(st.sampled_from(sorted(MAPS))), draw(st.sampled_from([None, *sorted(MARKS)]))
    tensors = {**layout.tensors, "d2t": MAPS[how](d2t), **({"t2d": MARKS[marked](marks)} if marked else {})}
    kept = {name: tensor for name, tensor in tensors.items() if marked or name != "t2d"}
    return Mutant(layout.name, (how, marked), layout.config, *packed(kept, layout))


# --- the bytes of a safetensors file

Header = dict[str, Any]
ENDS = st.sampled_from([-1, 0, 1, 8, 100, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 1.5, None, "0"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 48, HUGE, 2**63, 2**64 - 1, -1, 1.5, "4", None]), max_size=4)
ENTRIES = st.one_of(
    st.fixed_dictionaries({"data_offsets": st.lists(ENDS, max_size=3)}),
    st.fixed_dictionaries({"shape": SHAPES}),
    st.fixed_dictionaries({"shape": SHAPES, "data_offsets": st.just([0, 0])}),
    st.fixed_dictionaries(
        {"dtype": st.sampled_from(["F64", "F16", "BF16", "I64", "F8_E4M3", "F4", "C64", "BOOL", "F7", "", None, 3, ["F32"]])}
    ),
)
LENGTHS = [0, 1, 2**31, 10**8 + 1, 2**63 - 1, 2**63, 2**64 - 1]
HEADERS = [b"", b"{}", b"[]", b"null", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b'{"__metadata__":{"format":3}}']


def split(content: bytes) -> tuple[Header, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def assembled(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def damaged(draw: st.DrawFn, content: bytes) -> tuple[tuple[Any, ...], bytes]:
    """Bytes changed, cut off or put on."""
    places = draw(
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=draw(st.sampled_from([1, 2, 8])))
    )
    start = draw(st.sampled_from([1.0, 0.05, 0.002]))  # of the file, where headers are
    broken = bytearray(content)
    for share, byte in places:
        broken[int(share * start * len(content))] = byte
    cut = draw(st.sampled_from([None, None, 0, 7, 9, len(content) // 2, len(content) - 1, "longer"]))
    return (places, start, cut), bytes(broken) + b"more" if cut == "longer" else bytes(broken)[:cut]


@st.composite
def header_mutants(draw: st.DrawFn) -> Mutant:
    layout = draw(st.sampled_from([each for each in LAYOUTS if not each.pickle]))
    content = save({name: tensor.contiguous() for name, tensor in layout.tensors.items()})
    header, data = split(content)
    what = draw(st.sampled_from(["entry", "entry", "swap", "drop", "add", "twice", "length", "header", "bytes", "bytes"]))
    one, two = draw(st.sampled_from(sorted(header))), draw(st.sampled_from(sorted(header)))
    edits: tuple[Any, ...] = (what, one, two)
    if what == "entry":
        edit = draw(ENTRIES)
        header[one] = {**header[one], **edit}
        edits += (edit,)
    elif what == "swap":
        key = draw(st.sampled_from(["data_offsets", "shape", "dtype"]))
        header[one][key], header[two][key] = header[two][key], header[one][key]
    elif what == "drop":
        del header[one]
    elif what == "add":
        other = draw(st.one_of(st.sampled_from(NAMES), st.sampled_from(STRANGE), st.just("__metadata__")))
        header[other] = draw(
            st.one_of(st.just(header[one]), ENTRIES, st.just({"dtype": "F32", "shape": [HUGE, 0], "data_offsets": [0, 0]}))
        )
        edits += (other, header[other])
    raw = json.dumps(header).encode()
    if what == "twice":
        raw = raw[:-1] + b", " + json.dumps({one: header[two]}).encode()[1:]
    elif what == "header":
        raw = draw(st.sampled_from(HEADERS))
    length = draw(st.sampled_from([*LENGTHS, len(raw) - 1, len(raw) + 1])) if what == "length" else None
    whole = assembled(raw, data, length)
    if what == "bytes":
        how, whole = damaged(draw, content)
        edits += how
    return Mutant(layout.name, edits, layout.config, whole)


# --- pickles


class Called:
    """A value that unpickles to what a function returns."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._how = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._how


HOSTILE_VALUES: dict[str, Callable[[Tensor], object]] = {
    "stride 0": lambda t: torch.zeros(1, dtype=t.dtype).expand(HUGE, 4),
    "stride 0 in its shape": lambda t: torch.ones(1, dtype=t.dtype).expand(t.shape),
    "empty of huge": lambda _: torch.zeros(HUGE, 0),
    "meta": lambda t: torch.empty(t.shape, device="meta"),
    "meta of huge": lambda _: torch.empty(HUGE, 48, device="meta"),
    "sparse": lambda _: torch.eye(4).to_sparse(),
    "sparse of huge": lambda _: torch.sparse_coo_tensor([[0], [0]], [1.0], (HUGE, 48)),
    "quantised": lambda t: torch.quantize_per_tensor(torch.ones(t.shape), 0.1, 0, torch.qint8),
    "parameter": lambda t: torch.nn.Parameter(t.clone()) if t.is_floating_point() else t,
    "conjugate": lambda t: torch.ones(t.shape, dtype=torch.complex64).conj(),
    "kept": lambda t: t,
    "doubles": lambda t: t.double() if t.is_floating_point() else t,
    "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    "transposed": lambda t: t.T.contiguous().T if t.dim() == 2 else t,
    "never filled": lambda t: Called(torch.FloatTensor, *t.shape),
    "never filled, huge": lambda _: Called(torch.FloatTensor, 2**33),
    "bytes": lambda _: Called(bytearray, 2**31),
    "bytes of huge": lambda _: Called(bytearray, HUGE),
    "code": lambda _: Called(eval, "1 + 1"),
    "module": lambda _: torch.nn.ReLU(),
    "number": lambda _: 3,
    "text": lambda _: "x" * 100,
    "none": lambda _: None,
    "list": lambda t: [t],
    "mapping": lambda t: {"a": t},
    "size": lambda _: torch.Size([1]),
    "dtype": lambda _: torch.float32,
}
ONE_STORAGE = torch.linspace(-1, 1, 40_000)
CONTENTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "list": lambda held: list(held.values()),
    "nested": lambda held: {"state_dict": held},
    "numbered": lambda held: dict(enumerate(held.values())),
    "empty": lambda _: {},
    "text": lambda _: "x",
    "a tensor": lambda held: next(iter(held.values())),
    "surrogate name": lambda held: {**held, "\ud800": torch.ones(2)},
    "strange name": lambda held: {**held, "a\nb\x1b[2J": torch.ones(2)},
    "shared storage": lambda held: {
        name: ONE_STORAGE.as_strided(t.shape, t.stride()) if t.is_floating_point() else t for name, t in held.items()
    },
    "tied": lambda held: {**held, "lm_head.weight": held.get("embed_tokens.weight", held["fc.weight"])} if "fc.weight" in held else held,
}


@cache
def bomb() -> bytes:
    """256 MB of instructions that come to nothing, in a file of 250 KB; made chunk by chunk, so that only reading it can take memory."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as new:
        with new.open("archive/data.pkl", "w") as out:
            out.write(b"\x80\x02}")
            for _ in range(256):
                out.write(b"N0" * 2**19)
            out.write(b".")
        new.writestr("archive/version", "3\n")
    return held.getvalue()


def wider(pickled_: bytes) -> bytes:
    """Storages that say they hold 2 ** 30 numbers: the count follows the memo of the place, `cpu`."""
    return re.sub(rb"(cpuq.|h\x06)(K.|M..|J....)", lambda m: m[1] + b"J" + (2**30).to_bytes(4, "little"), pickled_, flags=re.DOTALL)


LEGACY: dict[str, Callable[[bytes], bytes]] = {
    "storages of huge": wider,
    "unfilled": lambda content: content[: content.rindex(b"\x80\x02]q\x00(")] + pickle.dumps([], protocol=2),
    "unnumbered": lambda content: re.sub(rb"(\x80\x02\]q\x00\().*?(e\.)", rb"\1\2", content, flags=re.DOTALL),
    "no tensors": lambda content: content[: content.index(b"}q")] + b"}.",
}


def rewritten(content: bytes, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The zip with another `data.pkl`."""
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(held, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith("data.pkl") else old.read(name))
    return held.getvalue()


ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "deflated": lambda content: rewritten(content, lambda held: held, zipfile.ZIP_DEFLATED),
    "bomb": lambda _: bomb(),
    "storages of huge": lambda content: rewritten(content, wider),
    "no pickle": lambda content: rewritten(content, lambda _: b""),
    "no numbers": lambda content: content[: content.index(b"data/0") - 30],
    "another pickle": lambda content: rewritten(content, lambda _: pickle.dumps({"a": 1}, protocol=2)),
    "later protocol": lambda content: rewritten(content, lambda _: pickle.dumps({"a": 1}, protocol=5)),
    "deep": lambda content: rewritten(content, lambda _: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
}  # fmt: skip


@st.composite
def pickle_mutants(draw: st.DrawFn) -> Mutant:
    layout, legacy = draw(st.sampled_from(LAYOUTS)), draw(st.booleans())
    tensors = {name: tensor.clone() for name, tensor in layout.tensors.items()}
    what = draw(st.sampled_from(["bytes", "bytes", "value", "value", "content", "zip"]))
    name = draw(st.sampled_from(sorted(tensors)))
    edits: tuple[Any, ...] = (what, name, legacy)
    if what == "value":
        how = draw(st.sampled_from(sorted(HOSTILE_VALUES)))
        content = pickled({**tensors, name: HOSTILE_VALUES[how](tensors[name])}, legacy=legacy)
        edits += (how,)
    elif what == "content":
        how = draw(st.sampled_from(sorted(CONTENTS)))
        content = pickled(CONTENTS[how](tensors), legacy=legacy)
        edits += (how,)
    elif what == "zip":
        changes = LEGACY if legacy else ZIPS
        how = draw(st.sampled_from(sorted(changes)))
        content = changes[how](pickled(tensors, legacy=legacy))
        edits += (how,)
    else:
        more, content = damaged(draw, pickled(tensors, legacy=legacy))
        edits += more
    return Mutant(layout.name, edits, layout.config, content, PICKLE)


KINDS: dict[str, st.SearchStrategy[Mutant]] = {
    "config": config_mutants(),
    "tensors": tensor_mutants(),
    "maps": map_mutants(),
    "header": header_mutants(),
    "pickle": pickle_mutants(),
}
