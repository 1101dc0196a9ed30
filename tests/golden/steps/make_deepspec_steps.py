"""Writes the golden steps of DeepSpec's layouts: what its own two EAGLE-3 classes compute for the tiny checkpoints of `tests.layouts`.

Run once, from the repository root, with a checkout of deepseek-ai/DeepSpec (afdfa7c9) and transformers 5.24:

    PYTHONPATH=.:../DeepSpec python -m tests.golden.steps.make_deepspec_steps

A chain is drafted as its evaluation drafts: all rows at once with a causal mask, then one state and token at a time on the same cache.
"""

from __future__ import annotations

import torch
from deepspec.modeling.eagle3.gemma4 import modeling as gemma4_modeling
from deepspec.modeling.eagle3.qwen3.modeling import Qwen3Eagle3Model
from torch import Tensor, nn
from transformers import DynamicCache, Gemma4TextConfig, Qwen3Config
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextRotaryEmbedding

from tests.golden.steps.seeds import DEPTH, ROWS, Steps, write_steps
from tests.layouts import FIVE, Layout


class OfOneType(Gemma4TextRotaryEmbedding):
    """Its class was written for transformers 5.10, whose rotary embedding is told its type of layer when it is made too."""

    def __init__(self, config: Gemma4TextConfig, layer_type: str) -> None:
        super().__init__(config)


def qwen3(made: Layout) -> nn.Module:
    """Its Qwen3 class."""
    return Qwen3Eagle3Model(Qwen3Config(**made.config, attn_implementation="sdpa"))


def gemma4(made: Layout) -> nn.Module:
    """Its Gemma 4 class."""
    extra = {"enable_moe_block": False, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "use_double_wide_mlp": False}
    config = Gemma4TextConfig(**{**made.config, **extra}, attn_implementation="sdpa")
    for key in ("target_layer_ids", "ttt_length", "step_loss_decay", "num_global_key_value_heads", "global_head_dim"):
        setattr(config, key, made.config[key])
    gemma4_modeling.Gemma4TextRotaryEmbedding = OfOneType
    return gemma4_modeling.Gemma4Eagle3Model(config)


@torch.no_grad()
def steps(made: Layout, ids: Tensor, streams: Tensor) -> Steps:
    """States fed on and logits, of the rows and of the chain."""
    model = (qwen3 if made.name == "deepspec-qwen3" else gemma4)(made).float().eval()
    missing, unexpected = model.load_state_dict({name: tensor.float() for name, tensor in made.tensors.items()}, strict=False)
    assert not unexpected and not [name for name in missing if "inv_freq" not in name and "embed_scale" not in name], (missing, unexpected)
    cache, state = DynamicCache(), model.project_hidden_states(streams[None])
    mask = torch.full((ROWS, ROWS), float("-inf")).triu(1)[None, None]
    state = model(state, ids[None, 1 : ROWS + 1], torch.arange(ROWS)[None], cache, use_cache=True, attention_mask=mask)
    states, logits = [state[0]], [model.compute_logits(state)[0]]
    for depth in range(1, DEPTH):
        row = ROWS + depth - 1
        state = model(state[:, -1:], ids[None, row + 1 : row + 2], torch.tensor([[row]]), cache, use_cache=True)
        states, logits = [*states, state[0]], [*logits, model.compute_logits(state)[0]]
    return states, logits


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("deepspec-qwen3", "deepspec-gemma4"):
        write_steps(name, "as_trained", FIVE, steps)
