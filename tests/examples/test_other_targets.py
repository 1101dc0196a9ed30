"""The training script on targets of other families: what it wrote loads with its target, and the engine drafts what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CohereConfig, Gemma3TextConfig, GPTNeoXConfig, GraniteConfig, PretrainedConfig, Qwen3Config

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_chains
from driftcli.loading.pair import load_pair
from driftcli.sources.files import resolve
from driftcli.target.language_model import load_language_model
from driftcli.training.losses import TargetHead
from driftcli.training.replies import Pieces, Request, Wave, write_wave
from examples import train_eagle3
from tests.reference import said_alone
from tests.tiny import prompts, tokenizer, trajectories
from training.eagle3 import Head
from training.layer import HeadShape

CPU, DEPTH = torch.device("cpu"), 3
SIZES = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
TARGETS = {
    "gemma3: softcapped logits, RoPE by layer type": Gemma3TextConfig(
        **SIZES, head_dim=16, final_logit_softcapping=5.0, query_pre_attn_scalar=16
    ),
    "qwen3: heads wider than their share": Qwen3Config(**SIZES, head_dim=20),
    "granite: divided logits": GraniteConfig(**SIZES, logits_scaling=4.0),
    "cohere: multiplied logits, no RMSNorm": CohereConfig(**SIZES, logit_scale=0.5),
    "gpt_neox: no grouped keys, LayerNorm": GPTNeoXConfig(**{name: size for name, size in SIZES.items() if name != "num_key_value_heads"}),
}


def write_target(folder: Path, config: PretrainedConfig) -> None:
    words = tokenizer()
    config.update({"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_position_embeddings": 512})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)


def test_turns_written_beside_longer_ones_are_what_a_target_with_sliding_windows_says_alone(tmp_path: Path) -> None:
    write_target(tmp_path, Gemma3TextConfig(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, initializer_range=0.3))
    target = load_language_model(resolve(str(tmp_path)), CPU, "float32")
    target.model.generation_config.eos_token_id = [1, *range(4, 40)]  # of random weights, that turns end at all
    torch.manual_seed(0)
    talks = write_wave(target, Pieces.of(target), Request(0, 0, 9, 10, 512, 0), Wave(6, 3), greedy=True)
    assert len({len(talk.ids) for talk in talks}) > 1
    for talk in talks:
        assert [talk.ids[start:end] for start, end in talk.spans] == said_alone(target.model, talk.ids, talk.spans)


@pytest.mark.parametrize("name", TARGETS)
def test_a_head_for_a_target_of_another_family_loads_and_drafts_as_it_was_trained(name: str, tmp_path: Path) -> None:
    write_target(tmp_path / "target", TARGETS[name])
    train_eagle3.main(
        target=str(tmp_path / "target"), norm="post", out=tmp_path / "head", cache=tmp_path / "cache", replies=tmp_path / "own.jsonl", write=40,
        wave=40, user_tokens=6, reply_tokens=8, steps=20, tokens=512, draft_vocabulary_size=60, device="cpu", dtype="float32", unroll=2,
    )  # fmt: skip
    pair = load_pair(str(tmp_path / "target"), str(tmp_path / "head"), CPU, "float32")
    settings = DraftSettings(depth=DEPTH)
    (trajectory,) = trajectories(pair.target, prompts(1), pair.drafter.boundaries, 14)  # type: ignore[union-attr]
    drafted = draft_chains(pair.drafter, trajectory, settings, DEPTH, free=False)  # type: ignore[arg-type]

    hidden = pair.target.model(trajectory.ids[None], output_hidden_states=True)
    known = TargetHead(pair.target.head, pair.target.config).probabilities(hidden.hidden_states[-1])
    torch.testing.assert_close(known, hidden.logits.softmax(-1))

    stored = load_file(tmp_path / "head" / "model.safetensors")
    ids = stored.pop("d2t") + torch.arange(60)
    head = Head(HeadShape.of(pair.target, 60), post_norm=True)
    outer = ("midlayer.", "self_attn.", "mlp.")
    del stored["t2d"]
    for part in outer:
        stored = {key.removeprefix(part): value for key, value in stored.items()}
    head.load_state_dict(stored)
    n, start = len(trajectory.ids), trajectory.prompt_length
    state, keys, values = head.fuse(torch.cat([hidden.hidden_states[boundary] for boundary in (2, 4, 5)], dim=-1)[:, : n - 1]), [], []
    padded = F.pad(trajectory.ids[None], (0, DEPTH))
    for depth, forced in enumerate(drafted.forced):
        out, state = head.step(F.embedding(padded[:, 1 + depth : n + depth], pair.target.embedding), state, depth, keys, values)
        guesses = ids[head.lm_head(out).argmax(-1)[0]]
        found = forced.guesses.drafted
        assert found.tolist() == guesses[start - 1 : start - 1 + len(found)].tolist()
