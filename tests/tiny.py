"""Tiny seeded models with real tokenizers and templates, so that every test runs without a network and in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from driftcli.domain import Message, Prompt
from driftcli.engine.texts import Text, write_texts
from driftcli.engine.trajectories import Trajectory, read_text
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair
from driftcli.target.language_model import LanguageModel

WIDTH, LAYERS, SPECIALS = 48, 8, ["<s>", "</s>", "<|user|>", "<|bot|>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|user|>' if message['role'] == 'user' else '<|bot|>' }}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|bot|>' }}{% endif %}"
)


def tokenizer(*, template: bool = True, swapped: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, four special tokens; `swapped` exchanges two ids, as another tokenizer of the same size."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIALS, *alphabet]
    if swapped:
        names[10], names[11] = names[11], names[10]
    inner = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", additional_special_tokens=SPECIALS[2:]
    )
    made.chat_template = TEMPLATE if template else None
    return made


def write_target(
    folder: Path, *, seed: int = 0, layers: int = LAYERS, template: bool = True, swapped: bool = False, width: int = WIDTH
) -> Path:
    """A random Llama whose greedy text is neither noise nor one loop, so that a small head can learn part of it."""
    words = tokenizer(template=template, swapped=swapped)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, initializer_range=0.12, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class HeadSpec:
    """Which tiny EAGLE-3 head to write."""

    post_norm: bool = False
    seed: int = 1
    draft_vocabulary: int = 120
    own_embedding: bool = False
    own_head: bool = True
    pickle: bool = False


def head_tensors(spec: HeadSpec, vocabulary: int) -> dict[str, Tensor]:
    """Seeded tensors in SafeAILab layout, scaled so that every path moves the output."""
    random = torch.Generator().manual_seed(spec.seed)
    inner, kv = 96, WIDTH // 2

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random) * (1.5 * shape[-1] ** -0.5 if len(shape) > 1 else 0.3) + (0 if len(shape) > 1 else 1)

    shapes = {
        "fc.weight": (WIDTH, 3 * WIDTH),
        "midlayer.self_attn.q_proj.weight": (WIDTH, 2 * WIDTH),
        "midlayer.self_attn.k_proj.weight": (kv, 2 * WIDTH),
        "midlayer.self_attn.v_proj.weight": (kv, 2 * WIDTH),
        "midlayer.self_attn.o_proj.weight": (WIDTH, WIDTH),
        "midlayer.mlp.gate_proj.weight": (inner, WIDTH),
        "midlayer.mlp.up_proj.weight": (inner, WIDTH),
        "midlayer.mlp.down_proj.weight": (WIDTH, inner),
        "midlayer.hidden_norm.weight": (WIDTH,),
        "midlayer.input_layernorm.weight": (WIDTH,),
        "midlayer.post_attention_layernorm.weight": (WIDTH,),
        "norm.weight": (WIDTH,),
        **({"lm_head.weight": (spec.draft_vocabulary, WIDTH)} if spec.own_head else {}),
        **({"embed_tokens.weight": (vocabulary, WIDTH)} if spec.own_embedding else {}),
        **({f"fc_norm.{number}.weight": (WIDTH,) for number in range(3)} if spec.post_norm else {}),
    }
    tensors = {name: weight(*shape) for name, shape in shapes.items()}
    if spec.draft_vocabulary < vocabulary:
        ids = torch.randperm(vocabulary, generator=random)[: spec.draft_vocabulary].sort().values
        tensors["d2t"] = ids - torch.arange(len(ids))
        tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)
    return tensors


def head_config(spec: HeadSpec, vocabulary: int) -> dict[str, object]:
    """The config that goes with `head_tensors`."""
    flags = {"fc_norm": True, "norm_output": True} if spec.post_norm else {}
    return {
        "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary, "draft_vocab_size": spec.draft_vocabulary, "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0, "max_position_embeddings": 512, **flags,
    }  # fmt: skip


def write_head(folder: Path, spec: HeadSpec = HeadSpec()) -> Path:
    """A tiny EAGLE-3 head for `write_target`."""
    vocabulary = len(tokenizer())
    folder.mkdir(parents=True, exist_ok=True)
    tensors = head_tensors(spec, vocabulary)
    if spec.pickle:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(head_config(spec, vocabulary)))
    return folder


def write_noisy_copy(target: Path, folder: Path, noise: float = 0.02) -> Path:
    """A causal LM close to the target: the same model with a little noise on every matrix, so that it is often but not always right."""
    model = LlamaForCausalLM.from_pretrained(target)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise * (parameter.dim() > 1))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def prompts(count: int = 3, *, turns: int = 1) -> list[Prompt]:
    """Short prompts of different lengths."""
    asked = [f"question {number}: " + "abc de f! "[: number + 4] * (number % 3 + 1) for number in range(count)]
    return [
        Prompt(f"p{n}", tuple(Message("user", f"{text} turn {turn}") for turn in range(turns)), category=f"c{n % 2}")
        for n, text in enumerate(asked)
    ]


def boundaries(pair: LoadedPair) -> Sequence[int]:
    """Of the target's streams that the pair's drafter reads."""
    return () if isinstance(pair.drafter, CausalLm) else pair.drafter.boundaries


def trajectories(target: LanguageModel, asked: Sequence[Prompt], boundaries: Sequence[int], max_new_tokens: int) -> list[Trajectory]:
    """Every prompt continued by the target, and read again with the streams at `boundaries`."""
    return [read_text(target, text, boundaries) for text in write_texts(target, asked, max_new_tokens)]


def bare_trajectory(prompt: str, ids: Tensor, prompt_length: int, streams: dict[int, Tensor]) -> Trajectory:
    """A trajectory of any ids; its first token counts as template, and the target's numbers are zeros."""
    labels = [0, *[1] * (prompt_length - 1), *[2] * (len(ids) - prompt_length)]
    reply = torch.zeros(len(ids) - prompt_length)
    text = Text(Prompt(prompt), 0, tuple(ids.tolist()), tuple(labels), prompt_length, True, 0, "")
    return Trajectory(text, reply, reply, reply > 0, streams)
