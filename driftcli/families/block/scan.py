"""What can be said of a block drafter without running it."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.domain import Sourced
from driftcli.families.block.anatomy import FIRST_VALUE
from driftcli.families.block.declaration import BlockDeclaration
from driftcli.families.block.readings import SLIDING, TRAINED, VLLM, Reading
from driftcli.families.rope import rope_settings, shown
from driftcli.scanned import Check, Scan

GEMMA_4 = "Gemma 4's"


def scan_block(d: BlockDeclaration) -> Scan:
    """The scan of a drafter; the refusals stand behind its declaration."""
    dtypes = sorted({stored.dtype for stored in d.checkpoint.tensors.values()})
    record = {**d.record(), "stored_as": Sourced(", ".join(dtypes), "tensor")}
    target = d.head.target.named
    return Scan(d.checkpoint.source.name, target, d.head.format.name, record, d.others(), tuple(_checks(d)), pitfalls(d))


def _checks(d: BlockDeclaration) -> Iterator[Check]:
    a = d.anatomy
    block = f"{d.block_size} rows guess {d.guesses()} tokens at once: nothing is fed back, so drift is not defined for it"
    yield Check("block", "note", block)
    if a.sandwiched:
        shared = "" if FIRST_VALUE in a.names else ", and keys for values"
        yield Check("layers", "note", f"{GEMMA_4}, with norms on both sides of attention and MLP{shared}")
    if d.lengths_apart():
        yield Check(
            "draft length", "note", "rows of a block see one another, so each draft length gives other guesses; none is cut from another"
        )
    if d.candidates:
        said = f"the token before chooses among {d.candidates} candidates of each row, by rank {a.rank}; no other token can be drafted"
        yield Check("selector", "note", said)
        yield Check("convolutions", "note", f"{a.taps} taps around attention and MLP mix each row with those before it in the block")
    elif a.correction != "none":
        yield Check("correction", "note", f"{a.correction}, of rank {a.rank}: each token's scores are biased by the one before")
    if d.has_confidence:
        how = d.head.record.fields["confidence"].value
        yield Check("confidence head", "ok", f"says {how} how likely each token is accepted; vLLM verifies less by it if told")
    elif a.confidence:
        yield Check("confidence head", "note", "is there, and enable_confidence_head is false: nobody asks it")
    own = [name for name in ("embed_tokens", "lm_head") if f"{name}.weight" in a.names]
    yield Check("embedding, head", "ok", f"{' and '.join(own)} its own, the rest the target's" if own else "the target's")
    if a.draft_vocabulary != a.vocabulary:
        yield Check("vocabulary", "ok", f"drafts from {a.draft_vocabulary} of {a.vocabulary} tokens")
    yield from _rope(d)
    yield from _positions(d)


def _rope(d: BlockDeclaration) -> Iterator[Check]:
    ours, target = d.reading().rope.value, d.head.target
    if target.config and (theirs := rope_settings(target.config, target.name)) != ours:
        bases = tuple(f"by {one.get('rope_theta')}" for one in (ours, theirs))
        own, its = bases if bases[0] != bases[1] else (f"by {shown(ours)}", f"by {shown(theirs)}")
        said = f"turns {own}, the target {its}; it needs what it was trained with"
        yield Check("rope", "note" if ours.get("rope_type") == theirs.get("rope_type") else "warning", said)


def _positions(d: BlockDeclaration) -> Iterator[Check]:
    target = d.head.target.positions
    if target is not None and d.positions < target:
        yield Check(
            "positions", "note", f"declares {d.positions} positions, the target {target}: longer texts are beyond its table in vLLM"
        )


def pitfalls(d: BlockDeclaration) -> tuple[str, ...]:
    """The known traps that a file walks into."""
    return tuple(_traps(d))


def _traps(d: BlockDeclaration) -> Iterator[str]:
    served, trained = d.readings[VLLM], d.readings[TRAINED]
    if isinstance(served, Reading) and isinstance(trained, Reading):
        if served.causal.value != trained.causal.value:
            yield (
                "vLLM runs layers causally that were trained to see the whole block, or the other way round (vllm#56692): acceptance falls "
                "in vLLM alone; set sliding_window_non_causal or dflash_config.causal as in training"
            )
        if served.slots.value != trained.slots.value:
            yield (
                "vLLM takes sample_from_anchor for false where it is not said, and the class that trained it for true (vllm#56792): its "
                "rows guess another place, and hardly a token is right; say it in the config"
            )
        if served.scales.value != trained.scales.value:
            read = "reads {} inside dflash_config alone" if d.candidates else "reads no {}"
            scales = "input_embedding_scale, output_multiplier or final_logit_softcapping"
            yield f"vLLM's class {read.format(scales)}, which training used"
        if served.window_from.value != trained.window_from.value and any(served.windows.value):
            yield "trained with a window counted from the anchor, served with one counted from each row: the last rows see less of the text"
        if sorted(served.capture.value) != list(trained.capture.value):
            yield "trained on streams in another order, or on another side of the final norm, than servers hand out"
    if isinstance(trained, Reading) and SLIDING in str(d.head.layers.get("layer_types")) and not any(trained.windows.value):
        yield "layers slide by layer_types, but without use_sliding_window no window is left: trained without one, refused by vLLM"


def selected(d: BlockDeclaration) -> tuple[str, ...]:
    """Over what a selector's probabilities are."""
    said = f"draft probabilities are its selector's, over the {d.candidates} candidates of a row; any other token has none"
    return (said,) if d.candidates else ()
