"""Which of the target's residual streams a head reads, as boundaries: boundary `b` is the stream after `b` decoder layers.

The key at the top level holds boundaries. The nested one holds whatever its writer meant: exactly the ids `1, L // 2 - 1, L - 4` are layer
outputs (SpecForge and ModelOpt write them so), all else is read as boundaries, sorted and without repeats, as vLLM does.
"""

from __future__ import annotations

from driftcli.errors import FormatError, PairError
from driftcli.loading.files import Json
from driftcli.loading.record import Record

KEY, NEST = "eagle_aux_hidden_state_layer_ids", "eagle_config"
MINIMAL_LAYERS = 7  # below this many target layers the default ids 2, L // 2, L - 3 are no longer three distinct ascending boundaries


def nested_config(record: Record) -> dict[str, Json]:
    """The `eagle_config` object, empty where there is none; raises FormatError when it is something else."""
    nested = record.config.get(NEST)
    if nested is not None and not isinstance(nested, dict):
        raise FormatError(f"{record.where}/config.json: {NEST} is {nested!r}, expected an object")
    return nested or {}


def capture_layers(record: Record, layers: int, streams: int, target: str) -> tuple[int, ...]:
    """Boundaries that the head reads; layers: of the target, which is named `target` in errors.

    Raises FormatError where ids and streams disagree and PairError for a target that is not deep enough.
    """
    top, inner = record.config.get(KEY), nested_config(record).get(KEY)
    if top is None and inner is None:
        return _defaults(record, layers, streams, target)
    ids = _layer_ids(top if top is not None else inner, record)
    as_outputs = top is None and ids == (1, layers // 2 - 1, layers - 4)
    boundaries = tuple(sorted({number + 1 if as_outputs else number for number in ids}))
    if boundaries[-1] > layers:
        raise PairError(
            f"{record.where}: reads the stream after layer {boundaries[-1]}, but {target} has {layers} layers; "
            "name the target it was trained for"
        )
    source = f"config:{KEY if top is not None else f'{NEST}.{KEY}'} read as {'layer outputs' if as_outputs else 'boundaries'}"
    return _noted(record, boundaries, streams, source)


def _defaults(record: Record, layers: int, streams: int, target: str) -> tuple[int, ...]:
    if layers < MINIMAL_LAYERS:
        raise PairError(
            f"{target}: {layers} layers, but the default capture layers 2, L/2, L-3 need at least {MINIMAL_LAYERS}; "
            f"use a deeper target or a head that names its layers in {KEY}"
        )
    return _noted(record, (2, layers // 2, layers - 3), streams, "default:vLLM, SGLang and SafeAILab")


def _noted(record: Record, boundaries: tuple[int, ...], streams: int, source: str) -> tuple[int, ...]:
    if len(boundaries) != streams:
        raise FormatError(
            f"{record.where}: fc.weight reads {streams} streams of the target, but the capture layers are {list(boundaries)}; correct {KEY}"
        )
    record.note("capture", boundaries, source)
    return boundaries


def _layer_ids(value: Json, record: Record) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else []
    found = tuple(number for number in ids if isinstance(number, int) and not isinstance(number, bool) and number >= 0)
    if not found or len(found) != len(ids):
        raise FormatError(f"{record.where}/config.json: {KEY} is {value!r}, expected a list of layer numbers")
    return found
