"""What only training can mend: the recipe, what it is called in each trainer, and what this pair's numbers say it could give at most.

A bound is no promise: it says what would be gained if the recipe took away the whole of its cause and nothing else changed; that of
self-feeding holds the first hand-off too, which no head is spared. Keys were read in SafeAILab/EAGLE at cb7e0841, SpecForge 0.2.0,
speculators 0.9.0 and NVIDIA/Model-Optimizer at a2fbac7b; paths below are inside those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from driftcli.domain import Absent, Estimate, Finding
from driftcli.probe import Trace, feeds_back_normed
from driftcli.statistics.curves import estimate_tax, misses_outside
from driftcli.statistics.walks import Floats, Sums, ratio

Producer = Literal["SafeAILab/EAGLE", "SpecForge", "speculators", "ModelOpt"]
PRODUCERS: dict[Producer, str] = {"SafeAILab/EAGLE": "cb7e0841", "SpecForge": "0.2.0", "speculators": "0.9.0", "ModelOpt": "a2fbac7b"}
NO_KEY = "no such key"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained so that a finding does not come back.

    what: in one sentence. keys: in each trainer, or `no such key` and why. most: what it could give at most, in `unit`, or why nothing
    says it; None for the loss that was found, of which no more than all can come back.
    """

    code: str
    what: str
    keys: Mapping[Producer, str]
    most: Callable[[Trace], Estimate | Absent] | Absent | None
    unit: str


@dataclass(frozen=True, slots=True)
class Advice:
    """A recipe for a finding of this pair, with what it could give at most here."""

    code: str
    what: str
    keys: Mapping[Producer, str]
    most: Estimate | Absent
    unit: str


def recipes(trace: Trace, findings: Sequence[Finding]) -> list[Advice]:
    """One advice for each code that has a recipe, in the order of the findings; of several findings of a code the worst is meant. None for
    a lookup, which learns nothing.
    """
    if trace.pair.copies:
        return []
    worst: dict[str, Finding] = {}
    for finding in findings:
        if finding.code not in worst or finding.estimate.value > worst[finding.code].estimate.value:
            worst[finding.code] = finding
    known = [(_suited(_BY_CODE[code], trace), finding) for code, finding in worst.items() if code in _BY_CODE]
    return [Advice(one.code, one.what, one.keys, _bound(one, trace, finding), one.unit) for one, finding in known]


def _suited(recipe: Recipe, trace: Trace) -> Recipe:
    """The recipe, a deeper unroll in place of a normed feedback where the head has that already."""
    return replace(recipe, what=DEEPER, keys=UNROLLED) if recipe.keys is NORMED and feeds_back_normed(trace) else recipe


def _bound(recipe: Recipe, trace: Trace, finding: Finding) -> Estimate | Absent:
    if recipe.most is None:
        return finding.estimate
    return recipe.most if isinstance(recipe.most, Absent) else recipe.most(trace)


def wrong_inside(sums: Sums) -> Floats:
    """Share of first guesses that are wrong although the draft vocabulary holds the wanted token; (draw,)."""
    return ratio(sums["forced_covered"][:, 0] - sums["forced_match"][:, 0], sums["anchors"])


def _wrong_inside(trace: Trace) -> Estimate | Absent:
    return trace.estimate(wrong_inside)


def _misses_outside(trace: Trace) -> Estimate | Absent:
    return trace.estimate(misses_outside)


# traineagle3/cnets.py and main.py; specforge/config/schema.py and modeling/draft/llama3_eagle.py; speculators/train/config/schema.py;
# modelopt/torch/speculative/config.py and plugins/hf_training_args.py
NORMED: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": f"{NO_KEY}: the state is fed back raw, and no norm stands before fc",
    "SpecForge": "fc_norm: true and norm_output: true in the draft model's config.json, with a version that has pull request 879: up to "
    "0.2.0 the raw state is fed back whatever norm_output says",
    "speculators": "--norm-output --fc-norm --no-norm-before-fc; unless told otherwise one norm over all streams stands there instead",
    "ModelOpt": f"{NO_KEY}: the state is fed back raw, and no norm stands before fc",
}
UNROLLED: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": f"{NO_KEY}: self.length = 7 in traineagle3/cnets.py",
    "SpecForge": "training.ttt_length, 7 unless set",
    "speculators": "--ttt-steps, 3 unless set",
    "ModelOpt": "eagle.eagle_ttt_steps, 3 unless set",
}
MIXED: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": f"{NO_KEY}: traineagle3/main.py renders every conversation by the tokenizer's own template",
    "SpecForge": "data.is_preformatted: true, with texts that are rendered by several templates beforehand; data.chat_template names one",
    "speculators": f"{NO_KEY}: every conversation is rendered by the target's own template",
    "ModelOpt": f"{NO_KEY}: data.chat_template names one template for all",
}
LONGER: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": f'{NO_KEY}: "max_len": 2048 in traineagle3/main.py, and longer conversations are left out',
    "SpecForge": "data.max_length, 2048 unless set",
    "speculators": "--total-seq-len, 8192 unless set, and --seq-length of prepare-data",
    "ModelOpt": "training.training_seq_len, 2048 unless set",
}
VOCABULARY: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": "draft_vocab_size in traineagle3/config.json, counted on what --trainpath holds",
    "SpecForge": "draft_vocab_size in the draft model's config.json, with the map of model.vocab_mapping_path",
    "speculators": "--draft-vocab-size, with the counts of --token-freq-path",
    "ModelOpt": "eagle.eagle_architecture_config.draft_vocab_size, with data.draft_vocab_cache from scripts/calibrate_draft_vocab.py",
}
REPLIES: Mapping[Producer, str] = {
    "SafeAILab/EAGLE": "--trainpath, a file of conversations that the target answered",
    "SpecForge": "data.train_data_path, from scripts/regenerate_train_data.py",
    "speculators": "--data-path, from regenerate-responses and prepare-data",
    "ModelOpt": "data.data_path, from scripts/server_generate.py",
}

CURE = "feed back the state behind the final norm and put one norm before fc on each captured stream (EAGLE 3.1)"
DEEPER = "unroll training at least as deep as chains are drafted, so that the head reads its own states as often as it will be made to"
FRESH = "share of the draft tokens that could be accepted"
RECIPES: tuple[Recipe, ...] = (
    Recipe("DRIFT-STATE", CURE, NORMED, estimate_tax, FRESH),
    Recipe("DRIFT-ATTENTION", CURE, NORMED, estimate_tax, FRESH),
    Recipe("DEPTH-COLLAPSE", DEEPER, UNROLLED, estimate_tax, FRESH),
    Recipe("EXPOSURE-GAP", DEEPER, UNROLLED, estimate_tax, FRESH),
    Recipe(
        "TEMPLATE-SENSITIVE",
        "train on conversations rendered by several templates, with BOS and without, and by none",
        MIXED,
        None,
        "share of the accepted draft tokens, under the change",
    ),
    Recipe(
        "DRIFT-LONGCTX",
        "train on conversations as long as those that are served",
        LONGER,
        None,
        "share of the accepted draft tokens at the shortest length",
    ),
    Recipe(
        "LENGTH-LOSS",
        "train on conversations as long as those that are served",
        LONGER,
        None,
        "share of the accepted draft tokens at the shortest length",
    ),
    Recipe(
        "VOCAB-COVERAGE",
        "enlarge the draft vocabulary, or count it anew on the target's replies to prompts like these",
        VOCABULARY,
        _misses_outside,
        "share of the wrong first draft tokens",
    ),
    Recipe(
        "LOW-CAPACITY",
        "train on more of the target's own replies",
        REPLIES,
        _wrong_inside,
        "share of the first draft tokens",
    ),
    Recipe(
        "DOMAIN-SHIFT",
        "train on more of the target's own replies to prompts of that category",
        REPLIES,
        None,
        "share of the expected first-token accuracy",
    ),
    Recipe(
        "MISCALIBRATED",
        DEEPER,
        UNROLLED,
        Absent("a truer probability changes when chains end, not which draft tokens are right"),
        "draft tokens",
    ),
)
_BY_CODE = {recipe.code: recipe for recipe in RECIPES}
