"""Who wrote a head: proved by a mark that nobody else leaves, or a guess that says so; nothing reported as wrong rests on a guess."""

from __future__ import annotations

from driftcli.domain import Sourced
from driftcli.families.eagle.formats import MODELOPT_KEYS
from driftcli.families.eagle.readings import HEALED_BY, Head

DEEPSPEC_KEYS = ("ttt_length", "step_loss_decay")  # of training, which nobody else writes into a head's config
SIGNED = {HEALED_BY: "", "speculators_version": "speculators "}  # keys with whose version wrote a head, and what goes before it
ANGELSLIM = "Eagle3LlamaForCausalLM"


def producer(head: Head) -> Sourced:
    """The producer and the mark that proves it, or the likely one and why it is likely."""
    config, nested = head.record.config, head.record.within("eagle_config").config
    name = head.format.producer
    for mark, before in SIGNED.items():
        if isinstance(signed := config.get(mark), str):
            return Sourced(f"{before}{signed}", f"config:{mark}")
    if name == "ModelOpt":
        return Sourced(name, f"config:eagle_config.{next(key for key in sorted(MODELOPT_KEYS) if key in nested)}")
    if name == "DeepSpec" and (key := next((key for key in DEEPSPEC_KEYS if key in config), None)):
        return Sourced(name, f"config:{key}")
    if name == "SpecDrift" and "t2d_indices" in head.stored:
        return Sourced(name, "tensor")
    if name == "SpecForge":
        return _of_shared_layout(head)
    return Sourced(f"probably {name}", "assumed:the names of its tensors")


def _of_shared_layout(head: Head) -> Sourced:
    """Of the layout that SpecForge, SGLang's converters, TorchSpec, AngelSlim and newer ModelOpt exports write alike."""
    named = head.record.config.get("architectures")
    if isinstance(named, list) and ANGELSLIM in named:
        return Sourced("probably AngelSlim", "assumed:its class's name in architectures")
    if head.anatomy.heads.kind == "latent":
        return Sourced("probably TorchSpec", "assumed:latent attention in this layout")
    if not any(name.startswith("midlayer.") for name in head.stored):
        return Sourced("not told", "assumed:SGLang's converters, newer ModelOpt exports and others name tensors so")
    return Sourced("probably SpecForge", "assumed:midlayer in the names, and keys that SafeAILab's code does not write")
