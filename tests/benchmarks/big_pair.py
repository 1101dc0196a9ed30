"""A random pair of a real size, and how fast its target writes: `python -m tests.benchmarks.big_pair FOLDER [--small] [--write]`

The target has the shape of Llama-3.1-8B (bfloat16), the EAGLE-3 head a draft vocabulary of 32,000; `--small` makes both tiny, to try the
script on a CPU. Neither says anything sensible: only time and memory are measured on it. `--write` writes 40 replies of 128 tokens and prints
milliseconds a step, the second time, when everything is warm.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from driftcli.sources.files import resolve
from driftcli.target.language_model import choose_device, load_language_model
from driftcli.target.target import Writing
from tests.tiny import SPECIALS, TEMPLATE

REPLIES, STEPS, GOAL = 40, 128, 25.0  # the goal: milliseconds a step on an H100


@dataclass(frozen=True)
class Shape:
    """Of a target, and of the head's draft vocabulary."""

    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    keys: int
    drafts: int


BIG, SMALL = Shape(128_256, 4096, 14_336, 32, 32, 8, 32_000), Shape(1024, 64, 128, 8, 4, 2, 256)


def words(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a byte, and names for all others."""
    names = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"w{number}" for number in range(vocabulary - len(names))]
    inner = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = [AddedToken(name, special=True) for name in SPECIALS[2:]]
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", additional_special_tokens=special
    )
    made.chat_template = TEMPLATE
    return made


def make(folder: Path, shape: Shape, device: torch.device) -> None:
    """Write both models, where they are not there yet."""
    if (folder / "head" / "config.json").exists():
        return
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.keys, max_position_embeddings=131_072, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "target", max_shard_size="4GB")
    words(shape.vocabulary).save_pretrained(folder / "target")
    (folder / "head").mkdir(parents=True, exist_ok=True)
    save_file(head(shape), folder / "head" / "model.safetensors")
    told = {
        "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": shape.width, "intermediate_size": shape.inner,
        "num_hidden_layers": 1, "num_attention_heads": shape.heads, "num_key_value_heads": shape.keys, "vocab_size": shape.vocabulary,
        "draft_vocab_size": shape.drafts, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
    }  # fmt: skip
    (folder / "head" / "config.json").write_text(json.dumps(told))


def head(shape: Shape) -> dict[str, Tensor]:
    """Tensors of an EAGLE-3 head in SafeAILab's layout."""
    random, width, inner, kv = torch.Generator().manual_seed(1), shape.width, shape.inner, shape.width // shape.heads * shape.keys
    shapes = {
        "fc": (width, 3 * width), "midlayer.self_attn.q_proj": (width, 2 * width), "midlayer.self_attn.k_proj": (kv, 2 * width),
        "midlayer.self_attn.v_proj": (kv, 2 * width), "midlayer.self_attn.o_proj": (width, width), "midlayer.mlp.gate_proj": (inner, width),
        "midlayer.mlp.up_proj": (inner, width), "midlayer.mlp.down_proj": (width, inner), "lm_head": (shape.drafts, width),
    }  # fmt: skip
    norms = ("midlayer.hidden_norm", "midlayer.input_layernorm", "midlayer.post_attention_layernorm", "norm")
    ids = torch.randperm(shape.vocabulary, generator=random)[: shape.drafts].sort().values
    return {
        **{f"{name}.weight": torch.randn(*size, generator=random).mul_(size[-1] ** -0.5).bfloat16() for name, size in shapes.items()},
        **{f"{name}.weight": torch.ones(width, dtype=torch.bfloat16) for name in norms},
        "d2t": ids - torch.arange(len(ids)),
        "t2d": torch.zeros(shape.vocabulary, dtype=torch.bool).index_fill(0, ids, True),
    }


def write_speed(folder: Path, device: torch.device) -> None:
    """Print how long a step of writing takes."""
    target = load_language_model(resolve(str(folder / "target")), device, "bfloat16")
    asked = [[2, *[40 + number % 200 for number in range(64 + place)], 3] for place in range(REPLIES)]
    for _ in range(2):
        began = perf_counter()
        replies = target.write(asked, Writing(STEPS))
        seconds = perf_counter() - began
    step = 1000 * seconds / max(map(len, replies))
    print(
        f"writing {REPLIES} replies of {max(map(len, replies))} tokens: {seconds:.2f} s, {step:.1f} ms a step (goal {GOAL:.0f} on an H100)"
    )


def main() -> None:
    """Make the pair; time its writing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked, device = parser.parse_args(), choose_device("auto")
    make(asked.folder, SMALL if asked.small else BIG, device)
    if asked.write:
        write_speed(asked.folder, device)


if __name__ == "__main__":
    main()
