"""Trajectories: a text read once by the target, with the streams that the drafter reads captured on the way.

Every text is read alone, in chunks, whoever wrote it: so what a drafter sees of it is the same whenever it is drafted on, in whatever
company. Captured streams cover positions `0 .. N - 2`: the last token is never fed to the target, and no query needs its state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from driftcli.domain import Prompt
from driftcli.engine.attention import MASKED
from driftcli.engine.capture import StreamCapture
from driftcli.engine.texts import CHUNK, Text
from driftcli.target.language_model import LanguageModel


@dataclass(frozen=True)
class Trajectory:
    """A text with what was captured of the target.

    target_prob and target_entropy (reply token,), the latter in nats; agrees (reply token,): it is the target's own first choice; streams
    by boundary, (position - 1, width). temperature: of probabilities, the target's and those of whoever drafts on it.
    """

    text: Text
    target_prob: Tensor
    target_entropy: Tensor
    agrees: Tensor
    streams: dict[int, Tensor]
    temperature: float = 1.0

    @property
    def prompt(self) -> Prompt:
        """The prompt of the text."""
        return self.text.prompt

    @property
    def turn(self) -> int:
        """Which answer of the target within the prompt, from 0."""
        return self.text.turn

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt; the first reply token is the first anchor."""
        return self.text.prompt_length

    @cached_property
    def ids(self) -> Tensor:
        """Token ids by position."""
        return torch.tensor(self.text.ids)

    @cached_property
    def labels(self) -> Tensor:
        """Label of each token, template, prompt or verified, by position."""
        return torch.tensor(self.text.labels)

    def n_anchors(self, horizon: int) -> int:
        """Anchors whose guesses up to `horizon` all lie inside."""
        return self.text.n_anchors(horizon)


@torch.inference_mode()
def read_text(target: LanguageModel, text: Text, boundaries: Sequence[int], temperature: float = 1.0) -> Trajectory:
    """The target's streams at `boundaries` on a text, and its probability and entropy at every reply token: one teacher-forced pass."""
    whole, start = torch.tensor(text.ids), text.prompt_length
    probs, entropies, agrees, cache = [], [], [], None
    with StreamCapture(target.decoder, target.layers, boundaries, len(whole)) as capture:
        for at in range(0, len(whole) - 1, CHUNK):
            chunk = whole[at : min(at + CHUNK, len(whole) - 1)]
            out = target.model(
                chunk[None].to(target.device),
                use_cache=len(whole) - 1 > CHUNK,
                logits_to_keep=max(1, min(len(chunk), at + len(chunk) - start + 1)),
                **target.continuing(cache),
            )
            cache = out.past_key_values
            wanted = whole[at + 1 : at + 1 + len(chunk)][-out.logits.shape[1] :].to(out.logits.device)
            if at + len(chunk) < start:
                continue
            prob, entropy = _prob_and_entropy(out.logits[0] / temperature, wanted)
            probs.append(prob.cpu())
            entropies.append(entropy.cpu())
            agrees.append((out.logits[0].argmax(-1) == wanted).cpu())
        streams = {boundary: stream[0] for boundary, stream in capture.take().items()}
    return Trajectory(text, torch.cat(probs), torch.cat(entropies), torch.cat(agrees), streams, temperature)


def _prob_and_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the wanted tokens and entropy in nats; (query, vocabulary) -> (query,) each."""
    gaps = (logits.float() - logits.amax(-1, keepdim=True)).clamp_(min=MASKED)  # finite also for a token that is ruled out
    weights = gaps.exp()
    total = weights.sum(-1)
    return weights.gather(-1, wanted[:, None])[:, 0] / total, total.log() - weights.mul_(gaps).sum(-1) / total
