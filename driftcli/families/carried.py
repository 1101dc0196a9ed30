"""Drafters that ship inside a language model, told by tensors that are none of its own: a config may promise what is not there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from driftcli.families.mtp.kinds import kind_of
from driftcli.families.mtp.names import modules_of, mtp_tensors
from driftcli.sources.files import Json

MTP_HEAD = "an MTP head"
MEDUSA = re.compile(r"^medusa_heads?\.")
DECLARED = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules", "n_mtp_layers")


@dataclass(frozen=True, slots=True)
class Carried:
    """A drafter inside a model: what it is, its tensors, by what servers draft with it, and whether it is measured here."""

    name: str
    tensors: tuple[str, ...]
    served: str
    measured: bool = False

    @property
    def is_mtp(self) -> bool:
        """Whether it is what `--drafter mtp` means."""
        return self.name == MTP_HEAD

    def __str__(self) -> str:
        count = len(self.tensors)
        how = "`--drafter mtp` measures it" if self.measured else "not measured here yet"
        return f"{self.name} ({count} tensor{'s' * (count != 1)}, such as {self.tensors[0]}), with which {self.served} can draft; {how}"


def carried(names: Collection[str], model_type: str = "") -> tuple[Carried, ...]:
    """The drafters among a checkpoint's tensors; model_type: of its text config."""
    of_mtp = mtp_tensors(names)
    modules = modules_of(of_mtp)
    measured = bool(modules) and kind_of(model_type, modules[0]) is not None
    found = (
        Carried(MTP_HEAD, of_mtp, "vLLM (method mtp) and SGLang (NEXTN)", measured),
        Carried("Medusa heads", tuple(name for name in names if MEDUSA.search(name)), "TensorRT-LLM"),
    )
    return tuple(one for one in found if one.tensors)


def own_tensors(names: Collection[str]) -> set[str]:
    """Tensors of the model itself."""
    return set(names) - {name for one in carried(names) for name in one.tensors}


def promised(config: Mapping[str, Json]) -> str:
    """The key by which a config declares an MTP head, empty where none does."""
    text = config.get("text_config")
    places = [config, *([text] if isinstance(text, dict) else [])]
    return next((f"{key} is {place[key]}" for place in places for key in DECLARED if isinstance(place.get(key), int) and place[key]), "")
