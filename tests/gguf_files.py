"""A tiny Qwen2 with a byte-level BPE as llama.cpp's GGUF, its matrices in Q8_0, and the same model in transformers' layout."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.families.causal_lm.tokenizers import TEMPLATE, bytewise

WIDTH, INNER, LAYERS, HEADS, KEYS = 64, 96, 2, 4, 2
BLOCK = 32  # numbers that share a scale in Q8_0
INSIDE = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def rounded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of a matrix in Q8_0, (row, byte), and the numbers that these stand for, block by block."""
    stored, whole = [], np.zeros_like(matrix)
    for number, row in enumerate(matrix):
        line = b""
        for start in range(0, len(row), BLOCK):
            block = row[start : start + BLOCK]
            scale = np.float16(max(np.abs(block).max(), 1e-3) / 127)
            numbers = np.round(block / np.float32(scale)).astype(np.int8)
            line += scale.tobytes() + numbers.tobytes()
            whole[number, start : start + BLOCK] = numbers.astype(np.float32) * np.float32(scale)
        stored.append(np.frombuffer(line, dtype=np.uint8))
    return np.stack(stored), whole


def write_gguf(folder: Path, name: str = "tiny.Q8_0.gguf", architecture: str = "qwen2") -> tuple[Path, Path]:
    """The GGUF file, and a folder with the numbers that it stands for."""
    words = bytewise(300, "<eos>", "<|user|>", "<|bot|>")
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.15, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / name, architecture)
    _describe(writer, words)
    for key, tensor in model.state_dict().items():
        numbers, kept = tensor.numpy(), _named(key)
        if numbers.ndim == 2:
            stored, whole = rounded(numbers)
            writer.add_tensor(kept, stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            tensor.copy_(torch.from_numpy(whole))
        else:
            writer.add_tensor(kept, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.save_pretrained(folder / "whole")
    words.save_pretrained(folder / "whole")
    return folder / name, folder / "whole"


def _describe(writer: gguf.GGUFWriter, words: object) -> None:
    inner = json.loads(words.backend_tokenizer.to_str())["model"]  # type: ignore[attr-defined]
    tokens = sorted(inner["vocab"], key=inner["vocab"].__getitem__)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if place < 3 else 1 for place in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    writer.add_eos_token_id(0)
    writer.add_chat_template(TEMPLATE)


def _named(key: str) -> str:
    if key.startswith("model.layers."):
        _, _, number, *inside, end = key.split(".")
        return f"blk.{number}.{INSIDE['.'.join(inside)]}.{end}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}[
        key
    ]
