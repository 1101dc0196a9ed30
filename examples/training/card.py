"""The card beside a trained head: what it is for, what it saw, how it was trained, and what was held out."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from driftcli.training.learning import Plan, split
from driftcli.training.sampling import TAIL
from driftcli.training.streams import Streams

EAGLE3 = """# {title}-norm EAGLE-3 head for {target}

One decoder layer, draft vocabulary of {vocabulary:,} tokens, bfloat16, SafeAILab layout. It feeds back its {feedback}.

{data}
- **Training**: `examples/train_eagle3.py --norm {norm} --unroll {unroll} --plain-steps {plain} --steps {steps} --tokens {batch}
  --rate {rate:g} --seed {seed} --draft-vocabulary-size {vocabulary}`, about {passes:.1f} passes; cross-entropy against the target's
  distribution over the draft vocabulary, weighted by 0.8 an unrolled step. Embeddings are the target's. {began}
- **Held-out loss** at unrolled steps 1 to {unroll}: {nats} nats; agreement with the target's choice within the draft vocabulary:
  {agreement} (`loss.csv` has the curve).
"""
MTP = """# MTP head for {target}

One decoder layer of the target's own sizes in DeepSeek-V3's layout, an extracted head (NextN), bfloat16. It reads the target's hidden state
behind the final norm, feeds back its own behind `shared_head.norm`, and shares the target's embedding and output head.

{data}
- **Training**: `examples/train_mtp.py --unroll {unroll} --start {start} --steps {steps} --tokens {batch} --rows {rows} --rate {rate:g}
  --plain-steps {plain} --vocabulary {vocabulary} --seed {seed}`, about {passes:.1f} passes; cross-entropy against the target's distribution
  over {over}, weighted by 0.8 an unrolled step{drawn}. {began}
- **Held-out loss** at unrolled steps 1 to {unroll}: {nats} nats; agreement with the target's choice:
  {agreement} (`loss.csv` has the curve).
"""
BLOCK = """# {kind} drafter for {target}

{shape}.
In {layout} layout, bfloat16. {what}
Each row reads the target's streams of all before the anchor and the whole block. Embedding and output head are the target's.

{data}
- **Training**: `examples/train_dflash.py --guesses {unroll} --steps {steps} --tokens {batch} --rows {rows} --rate {rate:g}
  --seed {seed}{copying} {options}`, about {passes:.1f} passes; cross-entropy against the
  target's distribution over its whole vocabulary, weighted by 0.8 a guess, on blocks behind {rows} reply tokens drawn from each
  batch, held-out ones too. {first}
- **Held-out loss** of guesses 1 to {unroll}: {nats} nats; agreement with the target's choice:
  {agreement} (`loss.csv` has the curve).
"""
LAYOUTS = {"dflash": "z-lab's", "dspark": "speculators'"}
WHAT = {
    "dflash": "A block is the anchor's token and mask tokens, {unroll} of them, which it guesses in one pass.",
    "dspark": "A block is the anchor's token and mask tokens; its {unroll} rows guess the next token each in one\n"
    "pass, and a bias by the token before corrects them one by one. A confidence head says how sure each is.",
}
FIRST = {
    "random": "The layers began from nothing.",
    "copying": "It began with a circuit that looks up what stood behind a token before (`training/copying.py`).",
}
DATA = """- **Target**: {target}.
- **Data**: {count:,} conversations: {tokens:,} tokens, {said:,} of them replies. Half have more than {median}
  tokens, the longest has {longest:,}; {held_out} conversations are held out."""
BEGAN = {
    "last": "The layer and its final norm began as\n  the target's last ones, adding a sixteenth of what those add, "
    "the projection as the sum of its two normed inputs.",
    "random": "The layer\n  began from nothing.",
}
FEEDBACK = {
    "pre": "raw state and has no norm in front of `fc`, as EAGLE-3 does",
    "post": "normed state and norms each stream, as EAGLE 3.1 does",
}


def write_card(out: Path, target: str, data: Streams, plan: Plan, shape: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write `README.md` beside a head, unless it has one: what was measured on it is for whoever measures it to add.

    shape: of a block drafter, in words (`shape`) and as options (`options`).
    """
    if (out / "README.md").exists():
        return
    with (out / "loss.csv").open(encoding="utf-8") as lines:
        last = list(csv.DictReader(lines))[-1]
    lengths = sorted(len(talk.ids) for talk in data.conversations)
    trained, kept = split(data.conversations, plan.unroll)
    said = {
        **vars(plan),
        "norm": plan.head,
        "title": plan.head.capitalize(),
        "target": Path(target).name,
        "feedback": FEEDBACK.get(plan.head),
        "began": BEGAN.get(plan.start, f"It went\n  on from {plan.start.rpartition(' ')[0]} (`--from`)."),
        "over": _scored(plan.vocabulary),
        "drawn": f", on {plan.rows} reply tokens\n  drawn from each batch, held-out ones too" if plan.rows else "",
        "count": len(lengths),
        "tokens": sum(lengths),
        "said": sum(end - start for talk in data.conversations for start, end in talk.spans),
        "median": lengths[len(lengths) // 2],
        "longest": lengths[-1],
        "held_out": len(kept),
        "kind": {"dflash": "DFlash", "dspark": "DSpark"}.get(plan.head),
        "layout": LAYOUTS.get(plan.head),
        "what": WHAT.get(plan.head, "").format(unroll=plan.unroll),
        "first": FIRST.get(plan.start),
        "copying": " --copying" if plan.start == "copying" else "",
        **shape,
        "batch": plan.tokens,
        "passes": plan.steps * plan.tokens / (sum(lengths) * len(trained) / len(lengths)),
        "nats": _shown(last, "held_out_loss"),
        "agreement": _shown(last, "held_out_agreement"),
    }
    card = {"mtp": MTP, "dflash": BLOCK, "dspark": BLOCK}.get(plan.head, EAGLE3)
    (out / "README.md").write_text(card.format(**said, data=DATA.format(**said)), encoding="utf-8")


def _scored(vocabulary: int) -> str:
    """Which tokens the loss of an MTP head was over."""
    return f"the {vocabulary:,} most frequent tokens and {TAIL:,} drawn of the others" if vocabulary else "its whole vocabulary"


def _shown(row: dict[str, str], name: str) -> str:
    return ", ".join(f"{float(value):.3f}" for key, value in row.items() if key.rpartition("_")[0] == name)
