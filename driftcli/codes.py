"""Every finding code, once: the axis it belongs to, what it means, what looks the same and is not, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from driftcli.domain import Axis

CodeAxis: TypeAlias = "Axis | Literal['served']"  # of a running server nothing is judged but by `driftcli server`


@dataclass(frozen=True, slots=True)
class Code:
    """What a finding code stands for."""

    name: str
    axis: CodeAxis
    meaning: str
    looks_like: str
    remedies: tuple[str, ...]
    timed: bool = False  # it rests on the times of steps, which another look at the same traces may change


TRAINED_AGAIN = (
    "heal an EAGLE-3 or MTP head (driftcli heal), or retrain it with post-norm feedback (EAGLE 3.1)",
    "train with a deeper unroll",
)
CODES: tuple[Code, ...] = (
    Code(
        "AUX-LAYERS",
        "wiring",
        "The head's weights fit other streams of the target, or another order of them, than the ones that are captured for it.",
        "Drift from depth 1 on: with wrong streams already the first draft token is poor.",
        (
            "name the layers in eagle_aux_hidden_state_layer_ids, in the convention of the server",
            "check the server's version for the key it reads",
        ),
    ),
    Code(
        "FEEDBACK-MODE",
        "wiring",
        "The head's weights fit a normed state fed back where a raw one is declared, or the other way round.",
        "Drift: the first draft token is as good as ever, and every later one suffers.",
        ("set norm_output to what the head was trained with", "retrain with a trainer whose flag means what the server's means"),
    ),
    Code(
        "NORM-MISMATCH",
        "wiring",
        "The head's weights fit another norm than is declared: a residual taken before or behind it, gains of 1, or another number beside "
        "the mean square.",
        "A head that is merely poor: there no other reading of its norms does better.",
        ("set norm_before_residual to what the head was trained with", "export the norms as they were trained"),
    ),
    Code(
        "ROPE-MISMATCH",
        "wiring",
        "The head's weights fit another rotation than its config declares.",
        "A loss that grows with length: a wrong base turns far keys most, as a position beyond the range does.",
        (
            "correct rope_theta and rope_scaling in the drafter's config",
            "keep what the head was trained with, also where it is not the target's",
        ),
    ),
    Code(
        "POS-RANGE",
        "wiring",
        "Texts run past the positions that the drafter's config declares: servers size the rotary table by it, and older ones refuse "
        "what is longer or read beyond the table without a word.",
        "Drift with length: here the loss sets in at the declared position and nowhere else.",
        ("raise max_position_embeddings if the head was trained so far", "serve shorter texts", "retrain on longer ones"),
    ),
    Code(
        "MASK-TOKEN",
        "wiring",
        "The weights of a block drafter fit another token in the rows that guess than the one that its config names, whose embedding they "
        "would then not know.",
        "A weak drafter: there no other token does better in their place.",
        (
            "set mask_token_id to the token of training",
            "ask who trained it which row of the target's table its mask has",
        ),
    ),
    Code(
        "BLOCK-ATTENTION",
        "wiring",
        "The weights of a block drafter fit rows that see one another otherwise than they are run: each the ones before it, or all.",
        "What guessing side by side costs: there the first guess of a block is as good as it gets.",
        (
            "set dflash_config.causal, or is_causal, to what training had",
            "look at sliding_window_non_causal, which vLLM takes for every layer",
        ),
    ),
    Code(
        "WINDOW-MISMATCH",
        "wiring",
        "The weights of a block drafter fit a sliding window that is not served, or none where one is.",
        "A loss with the length of the text: a window that is not served shows on texts longer than it.",
        ("make layer_types, sliding_window and use_sliding_window say what training had", "check that the server reads the window"),
    ),
    Code(
        "BLOCK-SLOTS",
        "wiring",
        "The rows of a block guess another place than they are taken for: their own, or the one behind, so that every draft token is "
        "late or early by one.",
        "A lost head or embedding: there too hardly a token is right.",
        (
            "set sample_from_anchor to what training had",
            "serve it with the method of its family: dflash fills in, dspark begins at the anchor",
        ),
    ),
    Code(
        "VOCAB-MAP",
        "wiring",
        "d2t is not what servers take it for: they add its entries to the draft ids, and these are the target ids themselves, or zeros "
        "alone, so that the map is lost.",
        "A small draft vocabulary: there the tokens that it holds are guessed right.",
        ("write d2t as offsets: target id minus draft id", "where it is lost write it anew from t2d, or from the map of training"),
    ),
    Code(
        "FUSION-ORDER",
        "wiring",
        "The head's weights fit the embedding and the state in the other order in front of its projection.",
        "A head that knows nothing: with exchanged halves hardly a guess is right, at any depth.",
        ("exchange the column blocks of the projection in the file", "check which half the server's class puts first"),
    ),
    Code(
        "LOAD-BROKEN",
        "wiring",
        "The head's embeddings or its output rows do not belong to the rest of it: the target's fit its weights better, as does no "
        "bias by the token before. Or its first draft token is no better than the most frequent token: nothing of what it learned is at "
        "work.",
        "Wrong capture layers, which also spoil the first draft token. A head that was trained for another target.",
        ("export the checkpoint again", "leave embeddings and head out so that the target's are shared"),
    ),
    Code(
        "DRIFT-STATE",
        "drift",
        "Feeding on its own hidden state costs accuracy beyond the hand-off, and the state grows along the chain against the state that "
        "the same tokens have when the target feeds it.",
        "A checkpoint whose feedback is served normed but was trained raw, or the other way round.",
        ("draft fewer tokens", *TRAINED_AGAIN),
    ),
    Code(
        "DRIFT-ATTENTION",
        "drift",
        "Feeding on its own hidden state costs accuracy beyond the hand-off, and attention moves from the prompt onto the tokens just "
        "drafted.",
        "A healthy head also looks at its own draft tokens more as there are more of them: only the change against the same query on the "
        "target's hidden state counts.",
        ("draft fewer tokens", *TRAINED_AGAIN),
    ),
    Code(
        "DEPTH-COLLAPSE",
        "drift",
        "From some depth on more than half of the accuracy is lost to self-feeding.",
        "A head trained with a short unroll collapses just past it, whatever its norms.",
        ("draft no more tokens than the depth named, or as the step times say", "train with a deeper unroll"),
    ),
    Code(
        "STREAM-IMBALANCE",
        "drift",
        "One captured stream supplies nearly all of the fused input, and no norm stands between the streams and fc.",
        "Wrong capture layers: a stream far from the one trained on can dwarf the others.",
        ("retrain with one norm per stream before fc (EAGLE 3.1 fc_norm)",),
    ),
    Code(
        "STATE-FRAGILE",
        "drift",
        "Noise of half the RMS on the state the head reads takes most of the accepted draft tokens, while the same noise on the embedding"
        " leaves most: along a chain every state is a little off, and this head cannot bear it.",
        "A head that leans on its state because it is a good one: with normed feedback it bears the noise all the same.",
        TRAINED_AGAIN,
    ),
    Code(
        "MAGNITUDE-CODED",
        "drift",
        "Holding the RMS of the state along a chain costs accepted draft tokens: the head reads how large its state is, not just its "
        "direction.",
        "Growth that carries nothing: holding it would cost nothing.",
        ("retrain with normed feedback (EAGLE 3.1)", "do not rescale the state when serving"),
    ),
    Code(
        "GROWTH-COSTS",
        "drift",
        "Holding the RMS of the state along a chain gives accepted draft tokens back: the growth itself is what the head cannot read.",
        "A gain within the noise of few prompts: the interval must lie beyond what counts.",
        (
            "driftcli heal --treatment norm-output --rate 0: its final norm holds the RMS, untrained (EAGLE-3 heads of raw feedback)",
            "retrain with normed feedback (EAGLE 3.1)",
            "draft fewer tokens",
        ),
    ),
    Code(
        "HELD-BEATS-OWN",
        "drift",
        "With the target's state held from where each chain begins, and only the draft tokens moving on, more of them are accepted than "
        "on the state that the head feeds back: feeding it back is worse than not having it.",
        "A head trained to read the same state at every step: such a one is built so, and no state of its own is fed back.",
        ("let the server hand the anchor's state on at every step, if it can", "train with more unrolled steps"),
    ),
    Code(
        "SWITCH-WORTH",
        "wiring",
        "Put together as another engine does it, the same head has more draft tokens accepted, or fewer: engines differ on a switch that "
        "no file settles.",
        "A head that was trained otherwise than it is declared: which way its weights fit is asked by the wiring probe.",
        ("serve it with the engine, or the patch, that keeps more", "compare engines on acceptance only with this in mind"),
    ),
    Code(
        "TEMPLATE-SENSITIVE",
        "template",
        "Under a change of the chat template fewer draft tokens are accepted: the head leans on the markup, or on the first token, that "
        "it was trained behind.",
        "A target that is itself less sure under the change: its entropy stands beside. Another template than the head was trained with.",
        (
            "serve the template that the head was trained with",
            "retrain with mixed templates",
            "post-norm feedback and per-stream norms (EAGLE 3.1)",
        ),
    ),
    Code(
        "DRIFT-LONGCTX",
        "context",
        "Acceptance falls as the context grows, and a window on the drafter gives part of it back on the same texts: its attention is lost "
        "in the length.",
        "A range of positions that ends: there the fall sets in at the declared position, and a window does not help.",
        ("serve the drafter with the window named", "train on longer conversations"),
    ),
    Code(
        "LENGTH-LOSS",
        "context",
        "Acceptance falls as the context grows, and no window on the drafter gives it back.",
        "Texts that are harder at the end of a long conversation for any drafter.",
        ("train on longer conversations", "turn speculation off beyond the length named"),
    ),
    Code(
        "WINDOW-HELPS",
        "context",
        "With a window more draft tokens are accepted than with full attention, at the length named.",
        "A gain within the noise of few prompts: the window is chosen on half of them and judged on the other.",
        ("serve the drafter with the window named",),
    ),
    Code(
        "LENGTH-OUT",
        "context",
        "Late in a reply fewer draft tokens are accepted a round than in the first tokens of the very same replies.",
        "Prompts that are harder and get longer replies: no reply is held against another here. A long prompt, which costs at every place "
        "of the reply alike. Text that is harder later on for any drafter.",
        ("train on longer replies of the target", "turn speculation off behind the reply tokens named, if it no longer pays there"),
    ),
    Code(
        "DOMAIN-SHIFT",
        "domain",
        "In one category of prompts the drafter guesses worse than elsewhere on tokens that the target is as sure of.",
        "A category whose texts are harder for any drafter: there the target is less sure, which is taken out here.",
        ("train on more of the target's own replies to such prompts", "count the draft vocabulary anew with them"),
    ),
    Code(
        "TARGET-SHIFT",
        "domain",
        "Fewer draft tokens are accepted than with the twin that the target is held against, mostly the float model of which it is a "
        "quantised copy: the hidden states that the drafter reads are others, or the tokens that it must guess.",
        "A twin that was measured on other prompts, or with longer replies: such runs are refused. Rounding on one machine against "
        "another: hold the twin against itself there, and see how much of its acceptance moves.",
        (
            "train the drafter on this target's own replies and hidden states",
            "keep the layers up to the last one that the drafter reads in higher precision",
            "serve the twin, or a milder quantisation of it",
        ),
    ),
    Code(
        "VOCAB-COVERAGE",
        "capacity",
        "The draft vocabulary lacks tokens that the target often chooses: each of them ends a chain, however good the head is.",
        "A broken map: there even frequent tokens are missed.",
        ("count the draft vocabulary anew on replies to prompts like these", "enlarge the draft vocabulary"),
    ),
    Code(
        "MISCALIBRATED",
        "capacity",
        "The probability that the drafter gives its guesses is not the share of them that is right.",
        "A target that is itself unsure: the drafter's probability is held against its hits on the target's own choices.",
        ("correct the probability by depth before chains are stopped or trees grown by it", "train with a deeper unroll"),
    ),
    Code(
        "EXPOSURE-GAP",
        "capacity",
        "Feeding on its own hidden state costs accuracy beyond the hand-off, yet neither the RMS of the state nor the attention "
        "drifts: the head reads its own states less well than the target's, because it saw few of them in training.",
        "Drift: there the state grows or attention leaves the prompt against the control. A feedback served otherwise than trained.",
        ("train with a deeper unroll", "train on more of the target's own replies", "draft fewer tokens"),
    ),
    Code(
        "BLOCK-GAP",
        "capacity",
        "A block drafter guesses its tokens side by side, none knowing the others, and that costs right guesses: once the tokens before "
        "are verified, the first guess of a new block gets the same token right more often.",
        "A weak drafter: there the first guess of every block is poor too. Rows of another number than in training, or a wrong mask token, "
        "attention or window: `wiring` looks for those first.",
        (
            "draft fewer tokens: the run tells each draft length of blocks apart",
            "take a drafter that corrects its block token by token (DSpark, DFlash2), or heads that read the tokens before (Hydra)",
            "train with more weight on the later tokens of a block",
        ),
    ),
    Code(
        "LOW-CAPACITY",
        "capacity",
        "Already the first draft token, guessed on the target's hidden state, is often wrong: there is little that any cure of drift could "
        "restore.",
        "Wrong capture layers, a shifted token or a lost embedding also spoil the first draft token.",
        ("train on more of the target's own replies", "draft fewer tokens"),
    ),
    Code(
        "PROMPT-UNUSED",
        "capacity",
        "With the words of the prompt in another order and the same reply behind them as many draft tokens are accepted: the drafter "
        "guesses from the reply alone.",
        "A prompt that matters little to its reply, such as a general question.",
        ("train on more of the target's own replies", "measure on prompts whose replies need them"),
    ),
    Code(
        "LOOKUP-ENOUGH",
        "payoff",
        "Proposing what followed the last tokens where they stood before in the same text gets as many draft tokens accepted as the "
        "drafter does, and needs no model.",
        "A weak drafter: it may be a good one, on texts that copy from their prompts.",
        ("draft by n-gram lookup of one to three tokens on such texts", "measure on texts like those that are served"),
    ),
    Code(
        "NO-PAYOFF",
        "payoff",
        "At its best draft length speculation is slower here than plain decoding, by the measured or given seconds of every step.",
        "A machine unlike the one that serves: there a step over several tokens may cost as much as one over a single token.",
        (
            "turn speculation off, at this batch size at least",
            "give the step times of the machine that serves (--costs FILE, from a run there)",
            "train the head further, up to the break-even acceptance length",
        ),
        timed=True,
    ),
    Code(
        "REPETITION-INFLATED",
        "payoff",
        "Part of the acceptance comes from replies that go round in circles, which any drafter guesses; served texts would give less.",
        "A good drafter: elsewhere in the same replies it gets fewer draft tokens accepted.",
        ("measure on prompts that the target answers without looping", "generate shorter replies (--max-new-tokens)"),
    ),
    Code(
        "NONDETERMINISM",
        "payoff",
        "The target does not choose its own greedy tokens again when it reads them in one pass, or writes other replies alone than in a "
        "batch: rounding decides near ties, and acceptance moves from run to run by as much.",
        "A change of the drafter or of its settings: differences below the size that is reported here say nothing.",
        ("run in float32", "serve with batch-invariant kernels", "compare runs of the same batch size only"),
    ),
    Code(
        "SERVED-AS-FILED",
        "served",
        "A running server keeps as many draft tokens as the run foresees of the files on the same tokens: no difference that counts is "
        "shown, and a moderate one is excluded.",
        "A server that was asked too little: there a moderate difference is not excluded, and nothing is decided.",
        ("nothing is to be mended; where acceptance is too low all the same, the pair itself is to blame, and its run says why",),
    ),
    Code(
        "SERVED-OTHERWISE",
        "served",
        "A running server keeps fewer draft tokens, or more, than the run foresees of the files on the same tokens: it computes the "
        "drafter's step in another way.",
        "Another target, or another precision of it, whose replies part from the run's: there only what lies before counts. Acceptance "
        "that was compared on other prompts, at a temperature, or with the last rounds counted otherwise.",
        (
            "compare the config.json that the server loads, its flags and its version with what was measured",
            "look at the wiring that the single rounds fit, and at the first position that differs",
            "if another engine's reading is meant, measure the run with that --reading",
        ),
    ),
    Code(
        "SERVED-DECAYS",
        "served",
        "In the second half of the requests a running server keeps fewer of the draft tokens that the run foresees than in the first.",
        "Harder prompts in the second half: each reply is held against what the run foresees of its own tokens.",
        (
            "restart the server and ask again, with more prompts",
            "turn its prefix cache off, and look at what the drafter's cache keeps between requests",
        ),
    ),
)

BY_NAME = {code.name: code for code in CODES}
