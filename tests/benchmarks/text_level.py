"""What transformers accepts of a language model with another tokenizer, beside vLLM's rule, by which it is measured here:
`python -m tests.benchmarks.text_level --drafter D [--target T --prompts N --depth K --max-new-tokens M]`.

Text level (transformers' universal assisted decoding, greedy): a round decodes the target's tokens into text without special tokens, cuts
that as the drafter does, lets the drafter write K tokens of its own, decodes these and cuts them as the target does; kept are the leading
target tokens that are the target's own choice. Where the new tokens begin is found by aligning the last ten tokens of either side, and
what the drafter has read before is mended and not read anew, so a round depends on those before it. No rule for a single anchor gives that
number: it is counted in transformers' own loop, round by round, over the replies that the target writes alone.

One to one (vLLM's `use_heterogeneous_vocab`): the drafter reads the target's own cut of the text, and proposes tokens that both have.

Both are 1 + kept tokens over rounds, of the rounds whose K tokens lie inside the reply; intervals are over prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.candidate_generator import AssistedCandidateGeneratorDifferentTokenizers as ByText

from driftcli.conditions import DraftSettings
from driftcli.domain import Absent, Estimate, Prompt
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.texts import write_texts
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import resolve
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import Floats, Sums, leading_matches
from driftcli.target.language_model import quiet_transformers
from driftcli.texts.prompts import builtin_prompts, bundled_prompts, limited


@dataclass(frozen=True)
class Round:
    """A round of decoding: how many tokens are known, what is proposed behind them in the target's tokens, how many of it are kept."""

    known: int
    proposed: tuple[int, ...]
    kept: int


@dataclass(frozen=True)
class Assisted:
    """A target and a drafter with another tokenizer as transformers loads them."""

    target: PreTrainedModel
    drafter: PreTrainedModel
    words: PreTrainedTokenizerBase
    others: PreTrainedTokenizerBase

    @classmethod
    def of(cls, target: str, drafter: str, depth: int) -> Assisted:
        """By folder; the drafter writes so many tokens a round, whatever it thinks of them."""
        model = AutoModelForCausalLM.from_pretrained(drafter, dtype=torch.float32).eval()
        model.generation_config.num_assistant_tokens, model.generation_config.num_assistant_tokens_schedule = depth, "constant"
        model.generation_config.assistant_confidence_threshold = 0
        main = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
        return cls(main, model, AutoTokenizer.from_pretrained(target), AutoTokenizer.from_pretrained(drafter))

    def decode(self, prompt: Tensor, tokens: int) -> tuple[list[int], list[Round]]:
        """The text (prompt,) with so many tokens behind it, and the rounds that it took."""
        both = {"tokenizer": self.words, "assistant_tokenizer": self.others, "assistant_model": self.drafter}
        with heard() as rounds:
            out = self.target.generate(prompt[None], max_new_tokens=tokens, do_sample=False, **both)  # type: ignore[operator]
        return out[0].tolist(), rounds


@contextmanager
def heard() -> Iterator[list[Round]]:
    """The rounds of universal assisted decoding that end while this lasts."""
    propose, update = ByText.get_candidates, ByText.update_candidate_strategy
    rounds, pending = list[Round](), list[tuple[int, tuple[int, ...]]]()

    def proposed(self: ByText, input_ids: Tensor, **more: object) -> tuple[Tensor, Tensor | None]:
        found: tuple[Tensor, Tensor | None] = propose(self, input_ids, **more)
        pending.append((input_ids.shape[1], tuple(found[0][0, input_ids.shape[1] :].tolist())))
        return found

    def told(self: ByText, input_ids: Tensor, scores: Tensor, num_matches: int) -> None:
        rounds.append(Round(*pending[-1], int(num_matches)))
        update(self, input_ids, scores, num_matches)

    ByText.get_candidates, ByText.update_candidate_strategy = proposed, told
    try:
        yield rounds
    finally:
        ByText.get_candidates = propose
        del ByText.update_candidate_strategy  # which it inherits


def one_to_one(drafter: CausalLm, text: Trajectory, depth: int) -> list[Round]:
    """The rounds of a text by vLLM's rule."""
    found = draft_lm_chains(drafter, [text], DraftSettings(depth), depth, free=False)
    guesses = np.stack([queries.guesses.drafted.numpy() for queries in found.forced], axis=1)
    start, place, rounds = text.prompt_length, 0, list[Round]()
    wanted = np.stack([text.ids[start + step : start + step + found.n_anchors].numpy() for step in range(1, depth + 1)], axis=1)
    kept = leading_matches(guesses == wanted)
    while place < found.n_anchors:
        rounds.append(Round(start + place + 1, tuple(guesses[place].tolist()), int(kept[place])))
        place += rounds[-1].kept + 1
    return rounds


@dataclass(frozen=True)
class Counted:
    """Rounds of every text by both rules, and how many texts transformers decoded otherwise than the target alone."""

    by_text: Sequence[Sequence[Round]]
    by_token: Sequence[Sequence[Round]]
    otherwise: int = 0

    @property
    def sums(self) -> Sums:
        """Kept tokens and rounds by rule, (text,) each."""
        rules = {"text": self.by_text, "token": self.by_token}
        kept = {f"{rule}_kept": np.array([sum(one.kept for one in rounds) for rounds in every], float) for rule, every in rules.items()}
        return {**kept, **{f"{rule}_rounds": np.array([len(rounds) for rounds in every], float) for rule, every in rules.items()}}

    def length(self, rule: str) -> Estimate | Absent:
        """Acceptance length by a rule, in tokens a round."""
        return self._estimate(lambda sums: acceptance_length(sums, rule))

    def difference(self) -> Estimate | Absent:
        """The acceptance length at text level less that one to one, on the same texts."""
        return self._estimate(lambda sums: acceptance_length(sums, "text") - acceptance_length(sums, "token"))

    def _estimate(self, statistic: object) -> Estimate | Absent:
        return Bootstrap.of(len(self.by_text), 0).estimate(self.sums, statistic)  # type: ignore[arg-type]


def acceptance_length(sums: Sums, rule: str) -> Floats:
    """1 + kept over rounds; (draw,)."""
    return 1 + sums[f"{rule}_kept"] / sums[f"{rule}_rounds"]


def counted(pair: LoadedPair, assisted: Assisted, prompts: Sequence[Prompt], depth: int, tokens: int) -> Counted:
    """Both rules on what the target writes behind prompts, of texts long enough for a round."""
    assert isinstance(pair.drafter, CausalLm)
    by_text, by_token, otherwise = list[list[Round]](), list[list[Round]](), 0
    for written in write_texts(pair.target, prompts, tokens):  # type: ignore[arg-type]
        text = read_text(pair.target, written, [])  # type: ignore[arg-type]
        ids, start = text.ids.tolist(), text.prompt_length
        if not text.n_anchors(depth):
            continue
        out, rounds = assisted.decode(text.ids[:start], len(ids) - start)
        otherwise += out != ids
        by_text.append([one for one in rounds if one.known + depth <= len(ids)])
        by_token.append(one_to_one(pair.drafter, text, depth))
    return Counted(by_text, by_token, otherwise)


def told(number: Estimate | Absent) -> str:
    """With its interval."""
    return f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]" if isinstance(number, Estimate) else str(number.reason)


def lines(found: Counted) -> Iterator[str]:
    """What is printed."""
    for rule, name, every in (
        ("text", f"text level, transformers {transformers.__version__}", found.by_text),
        ("token", "one to one, as vLLM", found.by_token),
    ):
        rounds = [one for some in every for one in some]
        proposed = sum(len(one.proposed) for one in rounds) / len(rounds)
        nothing = sum(not one.proposed for one in rounds) / len(rounds)
        yield f"| {name} | {told(found.length(rule))} | {proposed:.2f} | {nothing:.0%} | {len(rounds)} |"
    yield f"text level less one to one: {told(found.difference())} tokens a round, {len(found.by_text)} texts, {found.otherwise} written otherwise"


def main() -> None:
    """Print both rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="bundled:target")
    parser.add_argument("--drafter", required=True)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    asked = parser.parse_args()
    quiet_transformers()
    pair = load_pair(asked.target, asked.drafter, torch.device("cpu"), "float32")
    assisted = Assisted.of(str(resolve(asked.target).folder), str(resolve(asked.drafter).folder), asked.depth)
    known = bundled_prompts() if asked.target.startswith("bundled:") else builtin_prompts()
    print("| rule | acceptance length | target tokens proposed a round | rounds without any | rounds |\n|---|---|--:|--:|--:|")
    for line in lines(counted(pair, assisted, limited(known, asked.prompts), asked.depth, asked.max_new_tokens)):
        print(line)


if __name__ == "__main__":
    main()
