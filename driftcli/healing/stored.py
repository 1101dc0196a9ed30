"""Writing a head in its producer's layout, with other weights and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.readings import HEALED_BY
from driftcli.families.mtp.head import Mtp
from driftcli.healing.places import HeadFiles, is_gain
from driftcli.healing.weights import weights
from driftcli.sources.files import Json
from driftcli.sources.tensors import write_tensors


def with_weights_of(files: HeadFiles, drafter: Eagle3 | Mtp, settings: Mapping[str, Json]) -> HeadFiles:
    """The files with the weights of a drafter, in the dtype of the tensors that they take the place of, and keys of the config set besides.

    Weights that the file had no tensor for, such as an output head that was shared with the target until now, get one.
    """
    less = 1.0 if isinstance(drafter, Mtp) and drafter.one_plus else 0.0
    held, names = weights(drafter), {**files.names, **_added(files, drafter)}
    like = files.tensors[next(iter(files.names.values()))]
    made = {raw: as_stored(held[place] - less * is_gain(place), files.tensors.get(raw, like)) for place, raw in names.items()}
    return replace(files, config={**files.config, **settings}, tensors={**files.tensors, **made}, names=names)


def write_files(files: HeadFiles, out: Path) -> None:
    """`config.json`, which says who wrote it, and `model.safetensors`."""
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", files.tensors)
    config = {**files.config, HEALED_BY: f"driftcli {version('driftcli')}"}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _added(files: HeadFiles, drafter: Eagle3 | Mtp) -> dict[str, str]:
    """Stored names of weights that the drafter has come to own, by place."""
    if isinstance(drafter, Mtp):
        return {}
    own = {"head": "lm_head.weight"} if not drafter.shared_head else {}
    norms = {f"fusion.stream_norms.{number}": f"fc_norm.{number}.weight" for number in range(len(drafter.fusion.stream_norms))}
    return {place: f"{files.prefix}{name}" for place, name in {**own, **norms}.items() if place not in files.names}


def as_stored(weight: Tensor, like: Tensor) -> Tensor:
    """A weight in the dtype of a stored one."""
    return weight.detach().cpu().to(like.dtype).contiguous()
