"""A tiny target of Qwen3.5's kind with its MTP head, in the exact layout: everything seeded, and every path moving the output."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from tests.tiny import tokenizer

WIDTH, HEADS, KEYS, SIZE, INNER, LAYERS = 48, 4, 2, 16, 96, 4


def config() -> Qwen3_5TextConfig:
    """Three layers of linear attention and one of full attention, as each four of the published ones."""
    return Qwen3_5TextConfig(
        vocab_size=len(tokenizer()), hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, head_dim=SIZE, rms_norm_eps=1e-6, full_attention_interval=4, linear_conv_kernel_dim=4,
        linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, max_position_embeddings=512,
        mtp_num_hidden_layers=1, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip


def mtp_tensors(seed: int = 3) -> dict[str, Tensor]:
    """The head's tensors; gains are stored less one."""
    random = torch.Generator().manual_seed(seed)
    at = "mtp.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        "mtp.fc.weight": (WIDTH, 2 * WIDTH), "mtp.pre_fc_norm_embedding.weight": (WIDTH,), "mtp.pre_fc_norm_hidden.weight": (WIDTH,),
        "mtp.norm.weight": (WIDTH,), f"{at}input_layernorm.weight": (WIDTH,), f"{at}post_attention_layernorm.weight": (WIDTH,),
        f"{at}self_attn.q_proj.weight": (2 * HEADS * SIZE, WIDTH), f"{at}self_attn.k_proj.weight": (KEYS * SIZE, WIDTH),
        f"{at}self_attn.v_proj.weight": (KEYS * SIZE, WIDTH), f"{at}self_attn.o_proj.weight": (WIDTH, HEADS * SIZE),
        f"{at}self_attn.q_norm.weight": (SIZE,), f"{at}self_attn.k_norm.weight": (SIZE,), f"{at}mlp.gate_proj.weight": (INNER, WIDTH),
        f"{at}mlp.up_proj.weight": (INNER, WIDTH), f"{at}mlp.down_proj.weight": (WIDTH, INNER),
    }  # fmt: skip

    def drawn(shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(*shape, generator=random)
        return noise * 1.5 * shape[-1] ** -0.5 if len(shape) > 1 else noise * 0.3

    return {name: drawn(shape) for name, shape in shapes.items()}


def write_qwen(folder: Path) -> Path:
    """The target with its head."""
    torch.manual_seed(0)
    model = Qwen3_5ForCausalLM(config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * 1.2 * parameter.shape[-1] ** -0.5)
        model.model.norm.weight.copy_(
            torch.randn(WIDTH) * 0.3
        )  # so that the stream behind it is another than before, whatever norms it next
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    weights = folder / "model.safetensors"
    save_file({**load_file(weights), **mtp_tensors()}, weights, metadata={"format": "pt"})
    return folder
