"""Quantised matrices of a checkpoint, each seen as the one matrix that it stands for: told by the types and names of what lies together.

A config's quantization_config says little: files in which some matrices are quantised and others are not are the rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from driftcli.errors import FormatError
from driftcli.sources.checkpoint import WHOLE_NUMBERS, Checkpoint, Packed, Stored

FLOATS8, BYTES = ("F8_E4M3", "F8_E5M2"), ("I8", "U8")
FLOATS = ("F16", "BF16", "F32")  # as scales are, but for those that are powers of two
EXPONENTS = ("U8", "F8_E8M0")  # of two, as the scales of MXFP4 are
MXFP4_GROUP = 32
SCALES = (  # of DeepSeek-V3, of compressed-tensors and ModelOpt, of DeepSeek-V4, of Mistral
    "weight_scale_inv",
    "weight_scale",
    "scale",
    "qscale_weight",
)
UNUSED = ("input_scale", "output_scale", "input_zero_point", "k_scale", "v_scale")  # of activations and caches


def unpacked(checkpoint: Checkpoint, *, blocks: bool = True) -> Checkpoint:
    """The checkpoint with one matrix of floats in the place of each quantised one; raises FormatError for parts that do not fit together.

    blocks: whether 8-bit floats with a scale are among these, or left with their scales.
    """
    found = {f"{one.stem}.weight": one.packed for one in _found(checkpoint) if blocks or one.packed.scheme != "float8"}
    gone = {stored for packed in found.values() for stored in packed.parts.values()}
    stems = {name.removesuffix(".weight") for name in found}
    gone |= {f"{stem}.{end}" for stem in stems for end in UNUSED if f"{stem}.{end}" in checkpoint.tensors}
    rest = {name: stored for name, stored in checkpoint.tensors.items() if name not in gone}
    whole = {name: Stored(packed.shape, "F32") for name, packed in found.items()}
    return replace(checkpoint, tensors={**rest, **whole}, packed={**checkpoint.packed, **found}) if found else checkpoint


@dataclass(frozen=True, slots=True)
class _Matrix:
    stem: str
    packed: Packed


def _found(checkpoint: Checkpoint) -> Iterator[_Matrix]:
    tensors = checkpoint.tensors
    shapes = checkpoint.several([name for name, one in tensors.items() if name.endswith(".weight_shape") and one.dtype in WHOLE_NUMBERS])
    for name, stored in tensors.items():
        stem, _, end = name.rpartition(".")
        if end == "weight" and stored.dtype in (*FLOATS8, *BYTES) and len(stored.shape) == 2:
            scale = next((f"{stem}.{one}" for one in SCALES if f"{stem}.{one}" in tensors), None)
            packed = None if scale is None else _eight_bits(name, scale, tensors)
            if packed is not None:
                yield _Matrix(stem, packed)
        elif end == "weight_packed" and stored.dtype == "I32":
            yield _Matrix(stem, _words_along_rows(checkpoint, stem, shapes))
        elif end == "qweight" and stored.dtype == "I32":
            yield _Matrix(stem, _words(checkpoint, stem))


def _eight_bits(name: str, scale: str, tensors: Mapping[str, Stored]) -> Packed | None:
    """A matrix of 8-bit numbers, or of 4-bit floats two to a byte, with its scales; None for bytes that hold something else."""
    (rows, columns), kind, of_scale = tensors[name].shape, tensors[name].dtype, tensors[scale]
    parts = {"weight": name, "scale": scale}
    if kind in FLOATS8:
        return Packed("float8", parts, (rows, columns), 8)
    if of_scale.dtype in EXPONENTS and of_scale.shape == (rows, 2 * columns // MXFP4_GROUP):
        return Packed("mxfp4", parts, (rows, 2 * columns), 4)
    if kind == "I8" and of_scale.dtype in FLOATS:
        zero = f"{name}_zero_point"
        return Packed("int8", parts | ({"zero": zero} if zero in tensors else {}), (rows, columns), 8)
    return None


def _words_along_rows(checkpoint: Checkpoint, stem: str, shapes: Mapping[str, np.ndarray]) -> Packed:
    """A matrix of compressed-tensors: numbers packed along a row into words of 32 bits."""
    parts = _parts(checkpoint, stem, weight="weight_packed", scale="weight_scale", shape="weight_shape")
    parts |= _present(checkpoint, stem, zero="weight_zero_point", groups="weight_g_idx")
    rows, columns = (int(number) for number in shapes[parts["shape"]])
    words = checkpoint.tensors[parts["weight"]].shape
    bits = next((bits for bits in (2, 4, 8) if words == (rows, -(-columns * bits // 32))), None)
    return Packed("pack-quantized", parts, (rows, columns), _sure(checkpoint, stem, bits))


def _words(checkpoint: Checkpoint, stem: str) -> Packed:
    """A matrix of AWQ, whose words lie along its outputs, or of GPTQ, whose words lie along its inputs: the scales tell which."""
    parts = _parts(checkpoint, stem, weight="qweight", scale="scales", zero="qzeros")
    words, scales, zeros = (checkpoint.tensors[parts[role]].shape for role in ("weight", "scale", "zero"))
    if len(words) == len(scales) == len(zeros) == 2 and words[1] * 8 == scales[1] == zeros[1] * 8:
        return Packed("awq", parts, (scales[1], words[0]), 4)
    bits = next((bits for bits in (2, 4, 8) if words[1:] == scales[1:] and zeros[1:] and zeros[1] * 32 == bits * scales[1]), None)
    sure, said = _sure(checkpoint, stem, bits), checkpoint.config.get("quantization_config")
    second = isinstance(said, dict) and said.get("checkpoint_format") == "gptq_v2"
    parts |= _present(checkpoint, stem, groups="g_idx")
    return Packed("gptq", parts, (words[1], words[0] * 32 // sure), sure, less=0 if second else 1)


def _parts(checkpoint: Checkpoint, stem: str, **names: str) -> dict[str, str]:
    missing = [f"{stem}.{name}" for name in names.values() if f"{stem}.{name}" not in checkpoint.tensors]
    if missing:
        raise FormatError(f"{checkpoint.source.name}: {stem} is quantised, but {missing[0]} is missing; export it again")
    return {role: f"{stem}.{name}" for role, name in names.items()}


def _present(checkpoint: Checkpoint, stem: str, **names: str) -> dict[str, str]:
    return {role: f"{stem}.{name}" for role, name in names.items() if f"{stem}.{name}" in checkpoint.tensors}


def _sure(checkpoint: Checkpoint, stem: str, bits: int | None) -> int:
    if bits is None:
        raise FormatError(
            f"{checkpoint.source.name}: the parts of {stem} have shapes of no 2, 4 or 8-bit packing that is known here, expected "
            "compressed-tensors, AWQ or GPTQ; measure the head that it was quantised from"
        )
    return bits


def described(checkpoint: Checkpoint) -> str | None:
    """How many matrices are quantised, and how; None where none are."""
    counts = Counter(one.scheme for one in checkpoint.packed.values())
    return ", ".join(f"{count} as {scheme}" for scheme, count in counts.most_common()) or None


def multiplied_out(drafter: Checkpoint) -> tuple[str, ...]:
    """What is said of a drafter whose matrices are quantised, nothing of another."""
    how, count = described(drafter), len(drafter.packed)
    if how is None:
        return ()
    matrices, they = ("1 matrix of the drafter is", "it is") if count == 1 else (f"{count} matrices of the drafter are", "they are")
    return (f"{drafter.source.name}: {matrices} quantised ({how}); {they} multiplied out to floats here",)
