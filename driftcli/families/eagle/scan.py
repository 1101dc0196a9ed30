"""What can be said of a head of the EAGLE family without running it: headers, small integer tensors and the target's config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from driftcli.domain import Sourced
from driftcli.families.eagle.capture_layers import layer_ids, usual_for
from driftcli.families.eagle.declaration import Declaration, declare
from driftcli.families.eagle.pitfalls import pitfalls
from driftcli.families.eagle.producer import producer
from driftcli.families.eagle.readings import SERVERS, Reading
from driftcli.families.layout import Format
from driftcli.families.map_kinds import MARKED
from driftcli.families.quantisation import quantisation
from driftcli.families.rope import DEFAULT_THETA, Rope, number, rope_settings, shown
from driftcli.scanned import Check, Scan
from driftcli.sources.checkpoint import Checkpoint
from driftcli.sources.files import Json
from driftcli.sources.packed import described
from driftcli.target.facts import TargetFacts

RAISED_BY_VLLM = ("default", "linear", "llama3", "ntk", "proportional")  # RoPE types whose range vLLM 0.33 raises to its own max_model_len
OF_ONE_SIZE = 2  # layers by which published layer ids miss those of their own target at most; sizes of a family are further apart
KNOWN_LENGTH = 2048  # training lengths are in no config; beyond this a length is beyond what is known (design rule)


def scan_eagle(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> Scan:
    """The scan of a head; raises the same refusals as loading it, as far as config and headers tell."""
    declaration = declare(checkpoint, format, target)
    checks = tuple(check for make in CHECKS for check in make(declaration))
    names = checkpoint.source.name, target.named, format.name
    built = {system: declaration.head.built(server) for system, server in SERVERS.items()}
    classes: dict[str, str] = {system: name for system, name in built.items() if name is not None}
    return Scan(*names, _record(declaration), declaration.others(), checks, pitfalls(declaration), classes)


def _record(d: Declaration) -> dict[str, Sourced]:
    config = d.checkpoint.config
    dtypes = sorted({tensor.dtype for tensor in d.checkpoint.tensors.values()})
    written = config.get("torch_dtype", config.get("dtype"))
    return {
        "producer": producer(d.head),
        **d.record(),
        "tensors": Sourced(len(d.checkpoint.tensors), "tensor"),
        "stored_as": Sourced(", ".join(dtypes), "tensor"),
        "config_dtype": Sourced(written if isinstance(written, str) else None, "config:torch_dtype"),
    }


def _one_pass(d: Declaration) -> list[Check]:
    if d.mask is None:
        return []
    said = (
        f"rows behind the first read token {d.mask} and mask_hidden, all in one pass: nothing is fed back, so drift is not defined for it"
    )
    deep = (
        f"trained to guess up to {d.trained_depths} tokens" if d.trained_depths else "how many tokens it was trained to guess is not said"
    )
    return [Check("one pass", "note", said), Check("draft length", "note", f"{deep}; shorter drafts are the beginning of longer ones")]


def _norms(d: Declaration) -> list[Check]:
    reading, trained = d.reading(), d.readings["as_trained"]
    norms, feedback = reading.pre_fc_norm.value, reading.feedback.value
    if d.anatomy.family == "eagle":
        return [
            Check("norms", "ok", "EAGLE-1 family: no norm before the first attention, raw feedback, the target's head on the raw output")
        ]
    if isinstance(trained, Reading) and trained.feedback.value != feedback:
        text = f"{feedback} feedback as served, {trained.feedback.value} as trained if {trained.feedback.source.removeprefix('assumed:')}"
        proven = not trained.feedback.source.startswith("assumed")
        return [Check("norms", "warning" if proven else "note", text)]
    where = "no norm before fc" if norms == "none" else f"{norms} norm before fc"
    if d.anatomy.parallel:
        return [Check("norms", "ok", where)]
    if feedback == "raw":
        return [Check("norms", "note", f"raw feedback, {where}: the state can grow along a chain, which is what drift feeds on")]
    if norms == "per stream":
        return [Check("norms", "ok", "per-stream norms before fc and normed feedback: EAGLE 3.1")]
    return [Check("norms", "note", f"normed feedback, {where}; only norms per stream make the streams equally loud")]


def _unproven_feedback(d: Declaration) -> list[Check]:
    of_these = d.head.format.producer == "SafeAILab" and d.anatomy.family != "eagle" and not d.head.healed
    if not of_these or not d.head.record.is_on("norm_output"):
        return []
    text = "norm_output is true in a layout whose own code has no such flag: only the trainer knows whether feedback was normed in training"
    return [Check("norms", "note", text)]


def _vocabulary(d: Declaration) -> list[Check]:
    a, kind = d.anatomy, d.head.record.fields["vocab_map"].value
    if a.draft_vocabulary == a.vocabulary:
        return [Check("vocabulary", "ok", f"drafts from all {a.vocabulary} tokens")]
    if not (d.to_target - np.arange(len(d.to_target))).any():
        text = (
            f"d2t is all zeros, so the {a.draft_vocabulary} draft tokens would be the first ids of {a.vocabulary}; it was never filled in"
        )
        return [Check("vocabulary", "warning", text)]
    if kind == MARKED:
        text = f"d2t is all zeros, never filled in; t2d marks the {a.draft_vocabulary} draft tokens, from which it can be written anew"
        return [Check("vocabulary", "warning", text)]
    proof = "t2d" if "t2d" in a.names else "its range" if kind == "offset" else "ids that only grow"
    said = f"drafts from {a.draft_vocabulary} of {a.vocabulary} tokens; d2t holds {kind} ids, as {proof} shows"
    return [Check("vocabulary", "ok" if kind == "offset" else "warning", said)]


def _positions(d: Declaration) -> list[Check]:
    rope, target = d.reading().rope.value, d.head.target.positions
    kind, source = str(rope["rope_type"]), d.head.record.fields["max_position_embeddings"].source
    said = f"declares {d.positions} positions ({source})" + (f", the target {target}" if target else "")
    stretched = _stretched(rope)
    if stretched is not None:
        said += f"; its yarn reaches {stretched}"
    if target is None or d.positions >= target:
        copied = "; often copied from the target, so no sign of training at that length" if target == d.positions else ""
        beyond = f"; no config holds the training length, and beyond {KNOWN_LENGTH} it is not known" if d.positions > KNOWN_LENGTH else ""
        return [Check("positions", "ok", said + copied + beyond)]
    if stretched is not None and stretched >= target:
        return [
            Check("positions", "note", f"{said}, but vLLM 0.33 goes by what is declared and cuts the target's context to it; declare it")
        ]
    if kind in RAISED_BY_VLLM:
        return [Check("positions", "note", f"{said}; vLLM 0.33 raises it, older versions ran past its end (vllm#48894)")]
    return [Check("positions", "warning", f"{said}; RoPE type {kind} fixes the range, so longer texts are out of range")]


def _stretched(rope: Rope) -> int | None:
    """The range of a yarn type, its original one times its factor; None for other types and for numbers that are none."""
    original, factor = number(rope.get("original_max_position_embeddings")), number(rope.get("factor"))
    return int(original * factor) if rope["rope_type"] == "yarn" and original is not None and factor is not None else None


def _rope(d: Declaration) -> list[Check]:
    ours = rope_settings({key: d.head.layers.get(key) for key in ("rope_parameters", "rope_theta", "rope_scaling")}, d.head.record.where)
    if not d.head.target.config:
        return [Check("rope", "ok", shown(ours))]
    theirs = rope_settings(d.head.target.config, d.head.target.name)
    if {key: ours.get(key) for key in (*ours, *theirs)} == {key: theirs.get(key) for key in (*ours, *theirs)}:
        return [Check("rope", "ok", f"{shown(ours)}, as the target")]
    text = f"{shown(ours)}; the target has {shown(theirs)}. A drafter needs what it was trained with: copy the target's only if it was"
    return [Check("rope", "note", text)]


def _ignored_base(d: Declaration) -> list[Check]:
    rope, default = d.reading().rope.value, f"{DEFAULT_THETA:g}"
    theta = number(rope.get("rope_theta"))
    of_these = d.head.format.producer in ("SafeAILab", "SpecForge") and d.anatomy.family == "eagle3" and not d.head.healed
    if not of_these or rope["rope_type"] != "default" or theta in (None, DEFAULT_THETA):
        return []
    text = (
        f"trainers of this layout turned heads by {default} whatever rope_theta ({theta:g}) said: AngelSlim, SafeAILab's, SpecForge before "
        f"#270; such a head loses tokens as filed (2.50 fell to 2.39 in sfllm#32). `diagnose --probe wiring` tells; change nothing before"
    )
    return [Check("rope base", "note", text)]


def _outputs(d: Declaration) -> list[Check]:
    if d.anatomy.family == "eagle":
        return []
    head = "own" if "lm_head.weight" in d.anatomy.names else "own embedding's" if d.head.layers.is_on("tie_word_embeddings") else "target's"
    embedding = d.reading().embedding.value
    return [Check("embedding, head", "ok", f"embedding: {embedding}; output head: {head}")]


def _verifier(d: Declaration) -> list[Check]:
    """The target that a speculators config names, where this one is of another architecture or, by a hub's name, another."""
    nested = d.checkpoint.config.get("speculators_config")
    verifier = nested.get("verifier") if isinstance(nested, dict) else None
    if not isinstance(verifier, dict) or d.head.target.named is None:
        return []
    named, kinds, ours = verifier.get("name_or_path"), verifier.get("architectures"), d.head.target.config.get("architectures")
    if isinstance(kinds, list) and isinstance(ours, list) and kinds and ours and kinds[0] != ours[0]:
        return [Check("made for", "warning", f"{named}, a {kinds[0]}, says its config; the target here is a {ours[0]}")]
    hub = d.head.target.named.partition("@")[0]
    another = isinstance(named, str) and "/" in named and not Path(hub).exists() and hub.lower() != named.lower()
    return [Check("made for", "note", f"{named}, says its config; the target here is {hub}")] if another else []


def _other_size(d: Declaration) -> list[Check]:
    """Signs that a head was made for a target of another number of layers, which a family's sizes of one width share nothing else with."""
    layers, declared = d.head.target.layers, d.checkpoint.config.get("num_target_layers")
    if layers is None:
        return []
    for key, named in layer_ids(d.head.record).items():
        if (meant := usual_for(named.ids)) is not None and abs(meant - layers) > OF_ONE_SIZE:
            said = f"layer ids {list(named.ids)} under {key} are the usual ones for {meant} layers, the target here has {layers}"
            return [Check("made for", "warning", f"{said}: is it a head for another size of the family?")]
    if isinstance(declared, int) and declared != layers:
        return [Check("made for", "warning", f"a target of {declared} layers, says num_target_layers; the target here has {layers}")]
    return []


def _unroll(d: Declaration) -> list[Check]:
    nested = d.checkpoint.config.get("speculators_config")
    methods: Json = nested.get("proposal_methods") if isinstance(nested, dict) else None
    first = methods[0] if isinstance(methods, list) and methods else None
    steps = first.get("speculative_tokens") if isinstance(first, dict) else None
    if not isinstance(steps, int) or d.anatomy.parallel:
        return []
    return [
        Check("training", "note", f"speculative_tokens is {steps}: the unroll of training, or 3 whatever it was where a converter wrote it")
    ]


def _quantised(d: Declaration) -> list[Check]:
    scheme, how = quantisation(d.checkpoint.source, d.checkpoint.config), described(d.checkpoint)
    if how is not None:
        return [
            Check("precision", "note", f"quantised matrices ({how}), which are multiplied out to floats; servers may compute otherwise")
        ]
    text = "but the tensors are plain floats, which are read as they are"
    return [Check("precision", "note", f"the config names a quantisation ({scheme.value}), {text}")] if scheme else []


CHECKS: tuple[Callable[[Declaration], list[Check]], ...] = (
    _one_pass, _norms, _unproven_feedback, _vocabulary, _positions, _rope, _ignored_base, _outputs,
    _verifier, _other_size, _unroll, _quantised,
)  # fmt: skip
