"""An MTP head's step a second time, by the one-layer base model of transformers that is the head's decoder layer.

Every pass is over whole rows without a cache: a chain of some depth is one causal pass over the trunk's rows and the chain's. Nothing here
comes from driftcli.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from tests.families.mtp import float8
from tests.families.mtp.cases import Case, apart, bare_model, read_config, renamed, whole_class

AROUND = ("norm.weight", "norm_f.weight", "embed_tokens.weight", "embeddings.weight")  # of the one-layer model, and not of the layer


@dataclass(frozen=True)
class Reading:
    """How a system wires the head.

    feedback: what is handed on, before or behind the final norm. hand_in: the target's last stream, before or behind its final norm.
    zeroed: whether the embedding of row 0 is zero. other_order, other_rope: whether halves and rotary pairs are not those of the family.
    per_depth: one module a depth, each over all rows of the one before and one token on, in the place of one whose rows the chain's follow;
    a head of fewer modules begins anew, as in a training unroll. first_position: of row 0.
    """

    feedback: Literal["raw", "normed"] = "normed"
    hand_in: Literal["pre", "post"] = "post"
    zeroed: bool = False
    other_order: bool = False
    other_rope: bool = False
    per_depth: bool = False
    first_position: int = 0


@dataclass(frozen=True)
class Rows:
    """What the head gives, (row, vocabulary) and (row, width)."""

    logits: Tensor
    states: Tensor


@dataclass(frozen=True)
class Streams:
    """The target's last stream of every token, before and behind its final norm; (token, width) each."""

    pre: Tensor
    post: Tensor


@dataclass(frozen=True)
class Witness:
    """The head of a written case."""

    case: Case
    config: PreTrainedConfig
    tensors: dict[str, Tensor]
    layers: dict[bool, list[PreTrainedModel]]  # by whether rotary pairs are of the other kind
    reading: Reading = Reading()

    @classmethod
    def of(cls, case: Case, folder: Path) -> Witness:
        """The head as the family reads it."""
        config = read_config(folder)
        bare = cls(case, config, float8.read_whole(apart(case, load_file(folder / "model.safetensors"), config)), {})
        kinds = (False, True) if case.turned else (False,)
        return replace(bare, layers={other: [bare._layer(module, other_rope=other) for module in range(case.modules)] for other in kinds})

    def read_as(self, reading: Reading) -> Witness:
        """The same head by another reading."""
        return replace(self, reading=reading)

    @torch.no_grad()
    def rows(self, module: int, tokens: Tensor, states: Tensor) -> Rows:
        """One pass of a module over all rows, each a token and the state before it."""
        embedded = self.embedding[tokens]
        if self.reading.zeroed:
            embedded = embedded.index_fill(0, torch.tensor([0]), 0.0)
        halves = [self._norm("embedding_norm", module, embedded), self._norm("hidden_norm", module, states)]
        if self.case.hidden_first is not self.reading.other_order:
            halves = halves[::-1]
        inputs = torch.cat(halves, -1) @ self._part("fusion", module).T
        shift = self.reading.first_position + (module if self.reading.per_depth else 0)
        raw = self._through(self.layers[self.reading.other_rope][module], inputs, torch.arange(len(tokens)) + shift)
        normed = self._norm("final_norm", module, raw) if "final_norm" in self.case.names else raw
        return Rows(F.linear(normed, self._head(module)), raw if self.reading.feedback == "raw" else normed)

    def fresh(self, ids: Tensor, streams: Streams) -> Rows:
        """Every row of a text, fed by the target."""
        return self.rows(0, ids[1:], self.hand_in(streams)[: len(ids) - 1])

    def chain(self, ids: Tensor, streams: Streams, anchor: int, depth: int) -> Rows:
        """A chain on the text's own tokens, by depth; its first step reads the token at `anchor` and the stream before it."""
        states, logits, handed = self.hand_in(streams)[:anchor], [], []
        for step in range(depth):
            if self.reading.per_depth:
                found = self.rows(step % self.case.modules, ids[1 + step : anchor + 1 + step], states)
                states = found.states
            else:
                found = self.rows(0, ids[1 : anchor + 1 + step], states)
                states = torch.cat([states, found.states[-1:]])
            logits, handed = [*logits, found.logits[-1]], [*handed, found.states[-1]]
        return Rows(torch.stack(logits), torch.stack(handed))

    def drafts(self, ids: Tensor, streams: Streams, depth: int) -> list[int]:
        """Tokens that a free chain from the last of `ids` drafts."""
        anchor = len(ids) - 1
        for step in range(depth):
            best = self.chain(ids, streams, anchor, step + 1).logits[-1].argmax()
            ids = torch.cat([ids, best[None]])
        return ids[anchor + 1 :].tolist()

    def hand_in(self, streams: Streams) -> Tensor:
        """The stream that this reading takes."""
        return streams.pre if self.reading.hand_in == "pre" else streams.post

    @property
    def embedding(self) -> Tensor:
        """The target's."""
        return next(
            tensor
            for name, tensor in self.tensors.items()
            if re.fullmatch(r"(model|backbone|model\.language_model)\.(embed_tokens|embeddings|word_embeddings)\.weight", name)
        )

    def _head(self, module: int) -> Tensor:
        own = self.case.own_head
        return self.tensors[self.case.place(own, self.config, module)] if own else self.tensors.get("lm_head.weight", self.embedding)

    def _part(self, part: str, module: int) -> Tensor:
        return self.tensors[self.case.place(self.case.names[part], self.config, module)]

    def _norm(self, part: str, module: int, x: Tensor) -> Tensor:
        eps = self.config.layer_norm_epsilon if self.config.model_type == "nemotron_h" else self.config.rms_norm_eps
        unit = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        return unit * (self._part(part, module) + self.case.one_plus)

    def _through(self, layer: PreTrainedModel, inputs: Tensor, positions: Tensor) -> Tensor:
        held: list[Tensor] = []
        hook = layer.layers[-1].register_forward_hook(lambda _, __, output: held.append(output[0] if isinstance(output, tuple) else output))
        layer(inputs_embeds=inputs[None], position_ids=positions[None], use_cache=False)
        hook.remove()
        return held[0].reshape(len(inputs), -1)

    def _layer(self, module: int, *, other_rope: bool) -> PreTrainedModel:
        config = self.case.layer(self.config)
        config.quantization_config = None  # the tensors are whole by now
        if other_rope and self.case.turned:
            config = self.case.turned(config)
        config._attn_implementation = "eager"
        with TemporaryDirectory() as folder:
            save_file(self._layer_tensors(module, config.num_hidden_layers), Path(folder) / "model.safetensors", metadata={"format": "pt"})
            config.save_pretrained(folder)
            model, info = type(bare_model(config)).from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
        assert not info["unexpected_keys"] and not info["mismatched_keys"], info
        assert set(info["missing_keys"]) <= set(AROUND), info
        return model.eval()

    def _layer_tensors(self, module: int, blocks: int) -> dict[str, Tensor]:
        """The module's layer as the first of a model; a head of several blocks is one of several layers."""
        around = {self.case.place(name, self.config, module + block) for block in range(blocks) for name in self._names()}
        back, scales, found = {theirs: ours for ours, theirs in self.case.renames.items()}, self.case.scales(self.config), {}
        for block in range(blocks):
            at = self.case.place(self.case.at, self.config, module + block)
            for name, tensor in self.tensors.items():
                if name.startswith(at) and name not in around:
                    ours = renamed(name.removeprefix(at), back)
                    found[f"layers.{block}.{ours}"] = tensor * scales.get(ours, 1.0)
        return found

    def _names(self) -> list[str]:
        return [*self.case.names.values(), *self.case.copies, *([self.case.own_head] if self.case.own_head else [])]


def read_target(folder: Path) -> PreTrainedModel:
    """The target, whole; raises AssertionError where a tensor of it is missing."""
    model, info = whole_class(AutoConfig.from_pretrained(folder)).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


@torch.no_grad()
def read_streams(model: PreTrainedModel, ids: Tensor) -> Streams:
    """The target's last stream on both sides of its final norm."""
    decoder, held = model.get_decoder(), []
    hook = decoder.layers[-1].register_forward_hook(lambda _, __, output: held.append(output[0] if isinstance(output, tuple) else output))
    post = decoder(input_ids=ids[None], use_cache=False).last_hidden_state
    hook.remove()
    return Streams(held[0].reshape(len(ids), -1), post[0])
