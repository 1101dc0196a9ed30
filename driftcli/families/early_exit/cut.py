"""The target cut behind a layer, as a language model of its own that shares every weight with it."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TypeVar

from torch import nn

from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.target.language_model import LanguageModel

M = TypeVar("M", bound=nn.Module)


def cut(lm: LanguageModel, exit: EarlyExit) -> LanguageModel:
    """A language model of the first layers, whose final norm, output head and embedding are the whole one's; nothing is copied.

    Its config is the whole one's, too, which tells how layers are to compute; of the decoder it runs as many as its list holds.
    """
    layers = nn.ModuleList(list(lm.layers)[: exit.layers])
    inner = lm.decoder
    path = next(name for name, module in lm.model.named_modules() if module is inner)
    model = _apart(lm.model)
    parent: nn.Module = model
    for name in path.split("."):
        child = _apart(getattr(parent, name))
        setattr(parent, name, child)
        parent = child
    parent.layers = layers
    return replace(lm, model=model)


def _apart(module: M) -> M:
    """The same module with a list of its children of its own. What moves tensors between devices of a model that is spread over some is
    bound to the module itself and left out; its children do so too.
    """
    found = copy(module)
    found.__dict__["_modules"] = dict(module._modules)
    found.__dict__.pop("forward", None)
    return found
