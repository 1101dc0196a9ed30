"""The files of an EAGLE head with the wiring that its weights fit written into them, which takes no training.

Settings and tensors are those that `driftcli report` names for vLLM; keys that vLLM and SGLang read alike stand at the top level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.errors import RunError
from driftcli.families.eagle.capture_layers import KEY, NEST
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.places import HeadFiles
from driftcli.healing.stored import as_stored
from driftcli.healing.weights import weights
from driftcli.mitigations.healable import FLAGS, WRITTEN
from driftcli.mitigations.serving import block_order, sglang_layer_ids, vllm_layer_ids
from driftcli.sources.files import Json, read_config
from driftcli.target.target import Target

ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")


def mended(files: HeadFiles, drafter: Eagle3, wiring: Wiring, target: Target) -> HeadFiles:
    """The files of a drafter with every change of a wiring written into them; RunError for one that files cannot say."""
    changes = wiring.changes
    if odd := sorted(changes.keys() - WRITTEN):
        raise RunError(
            f"{files.source.name}: {odd[0]} {changes[odd[0]]} cannot be written into an EAGLE head's files; mend it where it is served"
        )
    wired = drafter.wired(wiring)
    flags: dict[str, Json] = {key: changes[name] == "normed" for name, key in FLAGS.items() if name in changes}
    made = _with(files, flags, _other_weights(files, drafter, wired))
    made = made if wiring.vocabulary is None else with_offsets(made, wired.vocabulary.to_target)
    made = made if wiring.rope is None else _with_rope(made, wiring.rope, target)
    made = made if wiring.capture is None else _with_capture(made, wiring.capture, target.config.model_type)
    return _without(made, "embed_tokens.weight") if wiring.embedding == "target's" else made


def with_offsets(files: HeadFiles, to_target: Tensor) -> HeadFiles:
    """The files with the map from draft ids to target ids, (draft id,), as servers read it: offsets that are added."""
    offsets = to_target.cpu() - torch.arange(len(to_target))
    return _with(files, {}, {"d2t": offsets.to(files.tensors["d2t"].dtype)})


def _with(files: HeadFiles, settings: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> HeadFiles:
    return replace(files, config={**files.config, **settings}, tensors={**files.tensors, **tensors})


def _without(files: HeadFiles, name: str) -> HeadFiles:
    return replace(files, tensors={stored: tensor for stored, tensor in files.tensors.items() if stored != f"{files.prefix}{name}"})


def _other_weights(files: HeadFiles, before: Eagle3, after: Eagle3) -> dict[str, Tensor]:
    """Tensors of weights that the wiring changes: gains of 1, an output head that is the target's."""
    old, new = weights(before), weights(after)
    return {raw: as_stored(new[place], files.tensors[raw]) for place, raw in files.names.items() if new[place] is not old[place]}


def _with_capture(files: HeadFiles, boundaries: Sequence[int], target_type: str) -> HeadFiles:
    """Layer ids for both servers, and the column blocks of fc, and its norms, in ascending order."""
    sglang, order = sglang_layer_ids(boundaries, target_type), block_order(boundaries)
    nested = files.config.get(NEST)
    inside: dict[str, Json] = {**(nested if isinstance(nested, dict) else {}), KEY: list(sglang or ())}
    fc = f"{files.prefix}fc.weight"
    blocks = files.tensors[fc].chunk(len(boundaries), dim=1)
    norms = [files.tensors.get(f"{files.prefix}fc_norm.{place}.weight") for place in order]
    moved = {f"{files.prefix}fc_norm.{number}.weight": norm for number, norm in enumerate(norms) if norm is not None}
    ids: dict[str, Json] = {KEY: list(vllm_layer_ids(boundaries)), **({NEST: inside} if sglang else {})}
    return _with(files, ids, {fc: torch.cat([blocks[place] for place in order], dim=1), **moved})


def _with_rope(files: HeadFiles, rotation: str, target: Target) -> HeadFiles:
    """The rotation of the target, or the default one."""
    theirs = read_config(target.source)
    kept = {key: entry for key, entry in files.config.items() if key not in ROPE_KEYS}
    taken = {key: theirs[key] for key in ROPE_KEYS if key in theirs} if rotation == "target's" else {"rope_theta": 10000.0}
    return replace(files, config={**kept, **taken})
