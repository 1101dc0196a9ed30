"""What can be said of a causal language model as drafter without running it."""

from __future__ import annotations

from driftcli.domain import Sourced
from driftcli.families.layout import Format
from driftcli.scanned import Check, Scan
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts, read_facts


def scan_causal_lm(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> Scan:
    """The scan of a language model."""
    names = checkpoint.source.name, target.named, format.name
    return Scan(*names, _record(checkpoint, format), {}, _checks(checkpoint, target), ())


def _record(checkpoint: Checkpoint, format: Format) -> dict[str, Sourced]:
    facts = read_facts(checkpoint.source)
    sizes = {"width": facts.width, "layers": facts.layers, "vocabulary": facts.vocabulary, "max_position_embeddings": facts.positions}
    return {
        "format": Sourced(format.name, "tensor"),
        **{name: Sourced(size, f"config:{name}") for name, size in sizes.items()},
        "tensors": Sourced(len(checkpoint.tensors), "tensor"),
    }


def _checks(checkpoint: Checkpoint, target: TargetFacts) -> tuple[Check, ...]:
    own = read_facts(checkpoint.source)
    checks = [Check("recursion", "note", "a causal language model feeds no state to its next step: drift is not defined for it")]
    if target.vocabulary is not None and own.vocabulary is not None:
        same = "the same" if own.vocabulary == target.vocabulary else "not the same"
        said = f"{own.vocabulary} rows here, {target.vocabulary} in the target, {same}; the tokenizers are compared when a run loads them"
        checks.append(Check("vocabulary", "ok" if own.vocabulary == target.vocabulary else "note", said))
    if target.positions is not None and own.positions is not None and own.positions < target.positions:
        checks.append(Check("positions", "note", f"declares {own.positions} positions, the target {target.positions}"))
    return tuple(checks)
