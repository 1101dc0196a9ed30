"""An EAGLE-3 head as a plain module, written from the papers (arXiv:2503.01840, arXiv:2605.09992)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from driftcli.errors import FormatError
from driftcli.sources.files import Source, read_config, weight_files
from driftcli.training.streams import Batch
from training.layer import HeadShape, Layer, stored_name


class Head(Layer):
    """EAGLE-3: streams -> fc -> one decoder layer over (embedding, state); post-norm: a norm per stream, normed state fed back."""

    def __init__(self, shape: HeadShape, *, post_norm: bool) -> None:
        super().__init__(shape)
        width, self.post_norm = shape.hidden_size, post_norm
        self.fc_norm = nn.ModuleList([self.norm_of_width() for _ in range(3)]) if post_norm else None
        self.fc = nn.Linear(3 * width, width, bias=False)
        self.hidden_norm, self.input_layernorm, self.post_attention_layernorm, self.norm = (self.norm_of_width() for _ in range(4))
        self.add_projections(2 * width)
        self.lm_head = nn.Linear(width, shape.draft_vocab_size, bias=False)

    def fuse(self, streams: Tensor) -> Tensor:
        """Streams (batch, row, 3 * width) -> the first state (batch, row, width)."""
        if self.fc_norm is not None:
            streams = torch.cat([norm(part) for norm, part in zip(self.fc_norm, streams.chunk(3, dim=-1), strict=True)], dim=-1)
        return self.fc(streams)

    def first(self, batch: Batch, rows: int) -> Tensor:
        """The fused streams of the first `rows` positions, (batch, row, width)."""
        return self.fuse(batch.streams[:, :rows].to(self.fc.weight.dtype))

    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `lm_head` reads and the next state, raw or normed."""
        x = torch.cat([self.input_layernorm(embeddings), self.hidden_norm(state)], dim=-1)
        state = state + self.attended(x, step, keys, values)
        state = state + self.inner(self.post_attention_layernorm(state))
        out = self.norm(state)
        return out, out if self.post_norm else state

    @property
    def scoring(self) -> Tensor:
        """Of the draft vocabulary."""
        return self.lm_head.weight


def drafted_by(begun: Source) -> Tensor:
    """The ids that a head in a folder can propose, ascending; raises FormatError for one that `export` did not write."""
    (file,) = weight_files(begun)
    stored = load_file(file)
    if "d2t" not in stored:
        raise FormatError(f"{begun.name}: has no d2t, expected an EAGLE-3 head that train_eagle3.py wrote")
    return stored["d2t"] + torch.arange(len(stored["d2t"]))


def begin_as(head: Head, begun: Source) -> None:
    """Give a head the weights of one that `export` wrote; raises FormatError where the two differ in norm or sizes."""
    (file,) = weight_files(begun)
    stored, names = load_file(file), {_stored(name): name for name in head.state_dict()}
    theirs = {name: tuple(tensor.shape) for name, tensor in stored.items() if name not in ("d2t", "t2d")}
    ours = {_stored(name): tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    fed = bool(read_config(begun).get("norm_output"))
    if theirs != ours or fed != head.post_norm:
        apart = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise FormatError(
            f"{begun.name}: norm_output is {fed} and tensors of other names or sizes are {', '.join(apart[:3]) or 'none'}; expected "
            f"{head.post_norm} and none, a head that train_eagle3.py wrote for this target and --norm"
        )
    head.load_state_dict({names[name]: stored[name].to(head.fc.weight.dtype) for name in theirs})


def _stored(name: str) -> str:
    """A tensor of the head as SafeAILab's layout names it."""
    return name if name.startswith(("fc", "norm", "lm_head")) else f"midlayer.{stored_name(name)}"


def export(head: Head, ids: Tensor, out: Path) -> None:
    """`config.json` and `model.safetensors` in SafeAILab's layout with the EAGLE 3.1 fields, weights in bfloat16."""
    vocabulary = head.shape.vocab_size
    tensors = {_stored(name): value.detach().bfloat16().cpu().contiguous() for name, value in head.state_dict().items()}
    tensors["d2t"] = ids - torch.arange(len(ids))
    tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    flags = {"fc_norm": True, "norm_output": True} if head.post_norm else {}
    named = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", **asdict(head.shape), **flags}
    (out / "config.json").write_text(json.dumps({**named, "hidden_act": "silu", "torch_dtype": "bfloat16"}, indent=2) + "\n")
