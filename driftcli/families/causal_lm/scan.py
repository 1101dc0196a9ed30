"""What can be said of a causal language model as drafter without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from driftcli.domain import Sourced
from driftcli.families.carried import Carried, carried, promised
from driftcli.families.layout import Format
from driftcli.families.mask_token import mask_token
from driftcli.families.quantisation import quantisation
from driftcli.families.record import Record
from driftcli.scanned import Check, Scan
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts, read_facts


def scan_causal_lm(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> Scan:
    """The scan of a language model."""
    heads = carried(checkpoint.tensors, read_facts(checkpoint.source).model_type)
    named = " that carries ".join((format.name, " and ".join(head.name for head in heads))) if heads else format.name
    return Scan(
        checkpoint.source.name,
        target.named,
        named,
        _record(checkpoint, format, named, heads),
        {},
        tuple(_checks(checkpoint, format, heads, target)),
        (),
    )


def _record(checkpoint: Checkpoint, format: Format, named: str, heads: Sequence[Carried]) -> dict[str, Sourced]:
    facts = read_facts(checkpoint.source)
    sizes = {"width": facts.width, "layers": facts.layers, "vocabulary": facts.vocabulary, "max_position_embeddings": facts.positions}
    scheme = quantisation(checkpoint.source, checkpoint.config)
    masks = Record(checkpoint.source.name, checkpoint.config)
    if format.family == "pard":
        mask_token((masks,), facts.vocabulary or 0)
    return {
        "format": Sourced(named, "tensor"),
        **{name: Sourced(size, f"config:{name}") for name, size in sizes.items()},
        **masks.fields,
        **({"quantisation": scheme} if scheme else {}),
        "tensors": Sourced(len(checkpoint.tensors), "tensor"),
        **({"tensors_of_heads": Sourced(sum(len(head.tensors) for head in heads), "tensor")} if heads else {}),
    }


def _checks(checkpoint: Checkpoint, format: Format, heads: Sequence[Carried], target: TargetFacts) -> Iterator[Check]:
    own = read_facts(checkpoint.source)
    if format.family == "pard":
        yield Check("one pass", "note", "rows behind the last token read a mask, all in one pass: drift is not defined for it")
        yield Check("serving", "note", "vLLM's draft_model runs it so with parallel_drafting alone; token by token it is another drafter")
    else:
        yield Check("recursion", "note", "a causal language model feeds no state to its next step: drift is not defined for it")
    for head in heads:
        yield Check("heads", "note", f"carries {head}; a run drafts with the whole model")
    if not heads and (key := promised(checkpoint.config)):
        yield Check("heads", "note", f"config.json declares an MTP head ({key}), but the files hold none of its tensors")
    if scheme := quantisation(checkpoint.source, checkpoint.config):
        yield Check("precision", "note", f"quantised ({scheme.value}): loaded as transformers loads it, where its packages are installed")
    if target.vocabulary is not None and own.vocabulary is not None:
        yield _vocabulary(own.vocabulary, target.vocabulary)
    if target.positions is not None and own.positions is not None and own.positions < target.positions:
        yield Check("positions", "note", f"declares {own.positions} positions, the target {target.positions}")


def _vocabulary(own: int, target: int) -> Check:
    compared = "the tokenizers are compared when a run loads them"
    if own == target:
        return Check("vocabulary", "ok", f"{own} rows, as the target; {compared}")
    said = (
        f"{own} rows here, {target} in the target: vLLM 0.33 refuses such a pair as draft_model (ValueError, vllm#7252) unless "
        "use_heterogeneous_vocab maps the tokens that both have one by one"
    )
    padding = "; where the tokenizers are the same, rows past their tokens are padding, and the shorter embedding and head can be padded"
    return Check("vocabulary", "warning", f"{said}{padding}; {compared}")
