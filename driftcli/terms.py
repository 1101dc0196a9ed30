"""The terms of the report, once: what each means, in the words of people who serve models, and by what other names it goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """A term, its meaning, and other words that stand for it."""

    name: str
    meaning: str
    also: tuple[str, ...] = ()


TERMS: tuple[Term, ...] = (
    Term(
        "acceptance length",
        "Tokens that a verification commits, the bonus token included, over the rounds that decoding takes. Only rounds whose "
        "draft tokens all lie inside the reply count.",
        ("mean acceptance length", "text match length"),
    ),
    Term(
        "acceptance length over whole replies",
        "Reply tokens behind the first over rounds, the last rounds included, whose draft tokens reach past the reply's end. It "
        "is what a server's generated tokens less one a request, over its drafts, come to.",
        ("over whole replies", "tokens a round to the end of each reply", "emitted per round", "tokens a round"),
    ),
    Term(
        "sampled draft tokens",
        "Draft tokens drawn from the drafter's distribution and accepted with probability min(1, target / drafter), which leaves the "
        "target's own distribution as it is. Greedy draft tokens are the drafter's first choices, accepted where they are the token "
        "that the target draws. At a temperature both are reported, by name.",
        ("greedy draft tokens", "rejection sampling", "temperature"),
    ),
    Term(
        "anchor",
        "The position of the last verified token, from which a chain of draft tokens begins.",
    ),
    Term(
        "depth",
        "Which draft token of a chain, from 1. Depth 1 is guessed from the target's own hidden state.",
        ("draft position",),
    ),
    Term(
        "position in the reply",
        "How many reply tokens stand before the last verified one. Numbers by it are told in parts that double, 0-63, 64-127, 128-255 and "
        "so on, and a later part is held against the first one of the same replies.",
        ("reply position", "position within the reply", "by position"),
    ),
    Term(
        "chain",
        "The draft tokens that are proposed from one anchor, each from the one before.",
    ),
    Term(
        "survival",
        "Whether all draft tokens of a chain up to a depth are accepted. A drafter forecasts it by the product of what it says of each of "
        "them: the probability of the token, or what a confidence head says. The product is of the deployed chain, at all anchors. Its "
        "calibration error says how far what it promises is off, the Brier score also how well it is told which chains survive (less is "
        "better), AUROC that alone: how often, of a chain that survives and one that does not, the first has the higher product. In the "
        "JSON report under `survival`; `survival.export` holds what to take along: temperatures a depth, thresholds, and what engines call "
        "them (`driftcli report RUN --format json | jq .survival.export > confidence.json`).",
        ("survive", "prefix survival", "promised", "calibration error", "Brier score", "AUROC", "confidence.json", "stopping by it"),
    ),
    Term(
        "temperature by depth",
        "A number that divides the logit of what a drafter says of a draft token, so that products over a chain are right on average: "
        "above 1 where what it says is too far from a half, below 1 where it is too near. Probability p becomes "
        "p^(1/t) / (p^(1/t) + (1-p)^(1/t)); the draft tokens stay as they are. Depths are fitted one after the other by the least Brier "
        "score, much as DSpark's sequential temperature scaling does, and judged on prompts that they were not fitted on. Rules that stop "
        "a chain at a fixed product need it; no engine takes temperatures so far.",
        ("temperatures", "calibration", "calibrated", "temperature a depth", "sequential temperature scaling", "Platt scaling"),
    ),
    Term(
        "confidence head",
        "A small layer of a drafter that was trained to say how likely each of its draft tokens is accepted, given that those before it "
        "are (DSpark). vLLM sizes what it verifies by it with enable_adaptive_verification.",
        ("confidence", "adaptive verification"),
    ),
    Term(
        "block independence",
        "Share of the right guesses that a block drafter loses because it guesses its tokens side by side: by depth, what the block's "
        "guess loses against the first guess of a block that begins right before the same token. Of Medusa heads, one a depth, it "
        "holds what the later heads are weaker by as well.",
        ("lost side by side", "first of a block", "in its block", "block"),
    ),
    Term(
        "slot",
        "The place of a guess in a block, counted from the anchor: the guess of slot 3 is the third draft token. In DFlash's blocks a row "
        "guesses the token of its own place, so the anchor's row guesses nothing; in DSpark's it guesses the token behind its place "
        "(sample_from_anchor). Read the other way round every guess is off by one token (BLOCK-SLOTS).",
        ("slots", "block slot", "sample_from_anchor"),
    ),
    Term(
        "heads without attention",
        "Medusa, Hydra and MLPSpeculator guess by feed-forward layers from the target's last hidden state. Medusa's heads read nothing "
        "else, so they guess side by side; Hydra's read the tokens before, too. Only an MLPSpeculator of tied weights feeds its own state "
        "to the same weights again, so that drift is defined for it, and that state is normed at every step.",
        ("Medusa", "Hydra", "MLPSpeculator"),
    ),
    Term(
        "assistant",
        "A Gemma 4 assistant's queries read the keys that the target keeps, all of a chain's at one position, and it feeds its own state "
        "back. It adds no keys, so attention to its own draft tokens is not defined: drift can show in its state alone.",
        ("Gemma 4 assistant", "no keys of its own"),
    ),
    Term(
        "walk",
        "The anchors that real decoding visits: each round goes on behind what the one before kept. Numbers over the walk are "
        "what a server counts; numbers over all anchors have more data and no bias towards easy stretches.",
        ("over the walk", "kept", "accepted to this depth", "verify rounds"),
    ),
    Term(
        "fresh",
        "A guess made with the target's token and the target's hidden state: what the head can do at its best.",
        ("target-fed", "target state", "accuracy, target state", "right when fresh"),
    ),
    Term(
        "forced",
        "A guess made with the target's token and the drafter's own hidden state: what feeding on itself costs, whatever came before.",
        ("own state", "accuracy, own state", "right on own state"),
    ),
    Term(
        "held",
        "A guess made with the target's hidden state of the chain's beginning, at every depth, and the drafter's own tokens: what a "
        "head gets without feeding its hidden state back, and so the floor that any repair of that state must beat.",
        ("held state", "anchor's state"),
    ),
    Term(
        "free",
        "A guess made with the drafter's own token and its own hidden state, as a server drafts.",
    ),
    Term(
        "control",
        "The fresh guess that a guess deeper in a chain is held against: same tokens, same positions, same token to predict; only "
        "the hidden states differ.",
    ),
    Term(
        "hand-off",
        "Share of the accuracy lost at depth 2, where the target's hidden state is first replaced by the drafter's own. Every head "
        "that feeds on itself pays it, a sound one too.",
        ("handing off", "the hand-off"),
    ),
    Term(
        "compounding",
        "Share of the accuracy lost beyond the hand-off, because the head feeds on its own hidden state again and again: the damage "
        "of drift.",
        ("lost by compounding", "lost beyond the hand-off"),
    ),
    Term(
        "self-feeding tax",
        "Upper bound on what any cure of self-feeding could give here: the share of the draft tokens that could be accepted, if every "
        "one were guessed on the target's hidden state, which is not.",
        ("self-feeding", "tax"),
    ),
    Term(
        "drift",
        "Damage (compounding) together with a mechanism: the state grows along the chain, or attention leaves the prompt.",
        ("attention drift",),
    ),
    Term(
        "hidden state RMS",
        "Size of the hidden state that the head hands on, over that of the target-fed state of the same tokens.",
        ("rms", "rms ratio", "state RMS"),
    ),
    Term(
        "hidden state cosine",
        "Cosine between the hidden state that the head hands on and the target-fed state of the same tokens.",
        ("cosine", "state cosine"),
    ),
    Term(
        "regions",
        "Where a guess's attention goes: the sink (a first row that draws much of it), chat template, prompt content, verified "
        "reply, and ahead: the drafter's own draft tokens. They sum to 1; recent is the last four keys, whatever their "
        "region.",
        ("sink", "ahead", "verified", "recent", "template region"),
    ),
    Term(
        "wiring",
        "How the head's weights are put together with the target: captured layers and their order, norms, what is fed back, "
        "rotation (RoPE), vocabulary map, embedding and head. A wrong one mimics drift, so other wirings are tried first.",
        ("rewired", "wired"),
    ),
    Term(
        "reading",
        "How one system (vLLM, SGLang, the trainer) computes the head's step from the same files.",
        ("as served", "as trained"),
    ),
    Term(
        "boundary",
        "A stream of the target: boundary b is the residual stream after b decoder layers, L + 1 the one behind the final norm.",
        ("boundaries", "stream", "captured boundaries"),
    ),
    Term(
        "nats a token",
        "Mean gain in the log-probability of the right token: 0.1 nats make it 1.1 times as likely.",
        ("nats", "nat"),
    ),
    Term(
        "open",
        "Nothing was found, and a loss is not excluded: the report says up to what, and about how many more prompts would tell. "
        "It neither raises the verdict nor blocks it, unless --strict.",
        ("not settled", "bound"),
    ),
    Term(
        "inconclusive",
        "An effect is shown and its size straddles a threshold, or there is too little to judge what decides the verdict.",
    ),
    Term(
        "most likely",
        "The grade of the number itself, where the interval reaches into a lower one. --fail-on goes by what the whole interval supports.",
        ("at least", "grade"),
    ),
    Term(
        "break-even acceptance length",
        "The acceptance length from which a draft length is faster than plain decoding, by the times of the steps.",
        ("break-even", "pays from"),
    ),
    Term(
        "improved, regressed, equal, no difference seen, cannot tell",
        "What compare says of a change, by its 95% interval. Equal: all of it lies inside the band, 2% unless set otherwise. Improved or "
        "regressed: it excludes 0 and reaches out of the band. No difference seen: it holds 0 and reaches out of the band, though a change "
        "of two and a half bands (5%) is excluded. Cannot tell: it reaches further, or there are under 8 prompts. "
        "Where no prompt differs, the interval is what so many prompts cannot exclude on others.",
        ("improved", "regressed", "equal", "no difference seen", "cannot tell", "equivalence band", "band", "no prompt differs"),
    ),
    Term(
        "twin",
        "The target of another run of the same prompts that this one is held against (--against-target), mostly the float model of which "
        "this target is a quantised copy.",
        ("twin-replies", "twin target"),
    ),
    Term(
        "replayed",
        "The run's own reply put behind a changed prompt, so that the text to predict stays the same.",
        ("same replies",),
    ),
    Term(
        "engine",
        "What runs the target. By default transformers in this process; by --engine vllm it is vLLM (driftcli[vllm]), which measures the "
        "target as served, with that engine's kernels, precision and quantisation. --engine-args holds the arguments of vLLM's engine as "
        'JSON. All GPUs of a machine: \'{"tensor_parallel_size": 8}\', with "enable_expert_parallel": true where the target has experts. '
        "Two machines of 8 GPUs: begin a Ray cluster (`ray start --head` on one, `ray start --address HOST:6379` on the other), then on "
        'the first \'{"tensor_parallel_size": 16, "distributed_executor_backend": "ray"}\'; driftcli is installed on both, in the '
        "same place, and --out lies on a disk that both see. pipeline_parallel_size is refused for drafters that read the target's "
        "hidden states, which vLLM does not hand out of stages; data_parallel_size is refused, since it takes a process a replica.",
        ("engines", "vllm", "engine-args", "tensor parallel", "several GPUs", "several machines", "ray"),
    ),
    Term(
        "lookup",
        "`--drafter lookup` proposes what followed the last tokens of the text where they stood in it before, the longest run of 3 to 1 "
        "of them (`lookup:1,3`): prompt lookup, vLLM's ngram. It runs no model, so it is the line above which a drafter must come. It has "
        "no probabilities, no attention and no hidden state: nothing of these is told of it, and there is nothing that could drift. Where "
        "it finds nothing it proposes nothing, and a round costs what it sent.",
        ("prompt lookup", "ngram", "n-gram"),
    ),
    Term(
        "early exit",
        "`--drafter early-exit:4` drafts with the target's own first 4 layers, its final norm and its output head, which share every "
        "weight with it (transformers' assistant_early_exit). It reads tokens and is measured as a causal language model is; only a "
        "target that was trained for it drafts well so.",
        ("early-exit", "self-speculation", "layer skip"),
    ),
    Term(
        "heal",
        "`driftcli heal --run RUN --out HEALED` mends what training of the head alone can mend. Where the weights fit another wiring than "
        "the files declare, the files are mended and nothing is trained. Else the head is trained on the target's own replies, half of the "
        "run's prompts among them, on chains as deep as those served; treatments follow the findings. norm-output: an EAGLE-3 head that "
        "feeds its raw state back gets the normed one (EAGLE 3.1); the final norm's gains move into the output head, so the first guess "
        "stays what it was. fc-norm: a norm for each of the target's streams. unroll: deep chains alone. window: a sliding window on the "
        "head's attention. templates: replies behind changed templates too. With --engine vllm, vLLM writes what is learned from. Then "
        "original and healed head are held against one another on the other half of the prompts: healed is what has a longer acceptance "
        "length and no worse first guess there, beyond chance; anything else ends with exit code 4 and leaves the original in place.",
        ("healing", "treatment", "norm-output", "fc-norm", "retrofit"),
    ),
    Term(
        "95% interval",
        "Prompts are drawn again and again from those of the run; the number lies inside for 95 of 100 such runs on other prompts "
        "like these.",
        ("interval", "confidence interval"),
    ),
)


def plain(words: str) -> str:
    """Words as they are compared: small letters and digits alone."""
    return "".join(char for char in words.lower() if char.isalnum())


BY_WORDS = {plain(word): term for term in TERMS for word in (*term.also, term.name)}
