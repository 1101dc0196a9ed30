from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, MistralConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

from driftcli.errors import FormatError, RunError, UsageError
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from driftcli.training import learning
from driftcli.training.learning import Plan
from driftcli.training.losses import TargetHead
from driftcli.training.sampling import TAIL, Among, Drawn
from examples import train_eagle3, train_mtp
from tests.examples.stopping import FEW, stopped_once_saved
from tests.examples.test_other_targets import SIZES, write_target
from training.layer import Norm
from training.mtp import MtpHead, export

CPU = torch.device("cpu")
DEPTH = 3


def train(models: Path, out: Path, **changes: object) -> None:
    settings = {
        "target": str(models / "target"), "out": out, "cache": models / "streams", "replies": models / "replies.jsonl", "steps": 200, "tokens": 512,
        "device": "cpu", "dtype": "float32", "unroll": 2, "rows": 40,
    }  # fmt: skip
    train_mtp.main(**{**settings, **changes})  # type: ignore[arg-type]


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(resolve(str(folder)), CPU, "float32")


def shaken(target: LanguageModel) -> MtpHead:
    """A head none of whose norms and projections leaves anything as it is."""
    torch.manual_seed(0)
    head = MtpHead.of(target, "last")
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if "norm" in name else 0.1))
    return head


def chain(folder: Path, target: LanguageModel, ids: Tensor, anchor: int) -> list[tuple[Tensor, Tensor]]:
    """Normed state and logits of each step of one chain, by transformers' own layer on all rows, from the exported files alone."""
    config = LlamaConfig.from_pretrained(folder, attn_implementation="eager")
    stored = load_file(folder / "model.safetensors")
    at = f"model.layers.{config.num_hidden_layers}."
    held = {name.removeprefix(at): tensor.float() for name, tensor in stored.items()}
    outer = {name: held.pop(f"{name}.weight") for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm")}
    layer, turn = LlamaDecoderLayer(config, layer_idx=0).eval(), LlamaRotaryEmbedding(config)
    layer.load_state_dict(held)

    def normed(x: Tensor, name: str) -> Tensor:
        norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        norm.weight.data = outer[name]
        return norm(x)

    def entered(token: Tensor, state: Tensor) -> Tensor:
        return torch.cat([normed(F.embedding(token, target.embedding), "enorm"), normed(state, "hnorm")], -1) @ outer["eh_proj"].T

    top = target.decoder(ids[None]).last_hidden_state[0]
    x, found = entered(ids[1 : anchor + 2], top[: anchor + 1])[None], []
    for token in ids[anchor + 2 : anchor + 2 + DEPTH]:
        places = torch.arange(x.shape[1])
        mask = torch.full((1, 1, len(places), len(places)), -torch.inf).triu(1)
        z = layer(x, attention_mask=mask, position_embeddings=turn(x, places[None]), position_ids=places[None])
        state = normed((z[0] if isinstance(z, tuple) else z)[0, -1], "shared_head.norm")
        found.append((state, target.model.get_output_embeddings()(state)))
        x = torch.cat([x, entered(token, state)[None, None]], dim=1)
    return found


@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_every_step_of_every_chain_is_that_of_transformers_own_layer_alone(bias: bool, tmp_path: Path) -> None:
    write_target(tmp_path / "target", LlamaConfig(**SIZES, attention_bias=bias, mlp_bias=bias, initializer_range=0.1))
    target = loaded(tmp_path / "target")
    head = shaken(target)
    (tmp_path / "head").mkdir()
    export(head, target, tmp_path / "head")
    head.load_state_dict({name: value.bfloat16().float() for name, value in head.state_dict().items()})
    ids = torch.randint(4, len(target.tokenizer), (13,))
    keys: list[Tensor] = []
    values: list[Tensor] = []
    rows = len(ids) - 1 - DEPTH
    state, outs = target.decoder(ids[None]).last_hidden_state[:, :rows], []
    for step in range(DEPTH):
        out, state = head.step(F.embedding(ids[None, 1 + step : 1 + step + rows], target.embedding), state, step, keys, values)
        outs.append((out[0], head.logits(out)[0]))
    for anchor in range(rows):
        for (out, logits), (alone, scores) in zip(outs, chain(tmp_path / "head", target, ids, anchor), strict=True):
            torch.testing.assert_close(out[anchor], alone, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(logits[anchor], scores, atol=2e-5, rtol=1e-4)


def test_a_head_of_the_bundled_target_is_trained_from_its_own_answers(tmp_path: Path) -> None:
    settings = {"cache": tmp_path / "cache", "replies": tmp_path / "own.jsonl", "device": "cpu", "dtype": "float32"}
    asked = {"write": 48, "wave": 24, "user_tokens": 12, "reply_tokens": 24, "steps": 100, "tokens": 1024, "rows": 64}
    train_mtp.main(target="bundled:target", out=tmp_path / "head", **settings, **asked)  # type: ignore[arg-type]
    stored, target = load_file(tmp_path / "head" / "model.safetensors"), resolve("bundled:target")
    own = load_file(target.folder / "model.safetensors")
    last, at = "model.layers.7.", "model.layers.8."
    inside = {name.replace(last, at): tensor.shape for name, tensor in own.items() if name.startswith(last)}
    outer = {"enorm": (128,), "hnorm": (128,), "eh_proj": (128, 256), "shared_head.norm": (128,)}
    expected = {**inside, **{f"{at}{name}.weight": torch.Size(shape) for name, shape in outer.items()}}
    assert {name: tensor.shape for name, tensor in stored.items()} == expected
    assert all(tensor.dtype == torch.bfloat16 for tensor in stored.values())
    config, targets = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "head", target.folder))
    assert config == {**targets, "architectures": ["DeepSeekMTPModel"], "num_nextn_predict_layers": 1}
    assert "--unroll 1 --start last --steps 100" in (tmp_path / "head" / "README.md").read_text()


def test_training_lowers_the_held_out_loss_at_every_unrolled_step(trained: Path, tmp_path: Path) -> None:
    train(trained, tmp_path / "head", unroll=3, rate=3e-3)
    with (tmp_path / "head" / "loss.csv").open() as lines:
        first, last = csv.DictReader(lines)
    assert all(float(last[f"held_out_loss_{step}"]) < float(first[f"held_out_loss_{step}"]) for step in (1, 2, 3))
    assert float(last["held_out_agreement_1"]) > 0.1


def test_a_training_run_that_was_stopped_ends_in_the_same_head(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(trained, tmp_path / "whole", **FEW)
    with stopped_once_saved(monkeypatch):
        train(trained, tmp_path / "stopped", **FEW)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    train(trained, tmp_path / "stopped", **FEW)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (tmp_path / "stopped" / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match=r"holds a run with .*; name another --out"):
        train(trained, tmp_path / "stopped", **FEW, start="random")


def test_a_layer_begins_as_the_targets_last_one_or_from_nothing(trained: Path) -> None:
    target = loaded(trained / "target")
    last, other = (MtpHead.of(target, start) for start in ("last", "random"))  # type: ignore[arg-type]
    own = target.layers[-1].self_attn.v_proj.weight
    assert last.v_proj.weight.equal(own) and last.norm.weight.equal(target.decoder.norm.weight)
    torch.testing.assert_close(last.o_proj.weight * 16, target.layers[-1].self_attn.o_proj.weight.detach())
    assert not other.v_proj.weight.equal(own)
    assert all(module.weight.eq(1).all() for module in other.modules() if isinstance(module, Norm))


def test_a_target_of_another_family_is_refused(tmp_path: Path) -> None:
    write_target(tmp_path, MistralConfig(**SIZES))
    with pytest.raises(FormatError, match="model_type mistral, rope_type default; expected a llama"):
        MtpHead.of(loaded(tmp_path), "last")


def test_drawn_rows_are_reply_tokens_that_every_unrolled_step_counts() -> None:
    wanted = torch.zeros(3, 20, dtype=torch.bool)
    wanted[:, 1:19] = True
    drawn = Drawn(10, 4).of(wanted, unroll=3)
    assert drawn.sum() == 10 and (drawn & ~wanted).sum() == 0
    assert not drawn[:, :3].any() and not drawn[:, 17:].any()
    assert drawn.equal(Drawn(10, 4).of(wanted, unroll=3)) and not drawn.equal(Drawn(10, 5).of(wanted, unroll=3))
    assert Drawn(0, 4).of(wanted, unroll=3).equal(wanted) and Drawn(99, 4).of(wanted, unroll=3).equal(wanted)


def test_a_loss_over_drawn_tokens_estimates_that_over_all(trained: Path) -> None:
    scores = torch.randn(40, 3000, generator=torch.Generator().manual_seed(1))
    frequent = torch.arange(0, 3000, 30)
    whole = scores.logsumexp(-1)
    drawn = [Among.drawn(frequent, 3000, seed) for seed in range(200)]
    estimates = torch.stack([among.weighed(scores[:, among.ids]).exp().sum(-1) for among in drawn])
    torch.testing.assert_close(estimates.mean(0).log(), whole, atol=0.01, rtol=0.0)  # the sum that softmax divides by, unbiased
    assert all(among.ids.unique().numel() == 100 + TAIL for among in drawn) and not drawn[0].ids.equal(drawn[1].ids)
    target = loaded(trained / "target")
    vocabulary = len(target.head)
    everything = Among.drawn(torch.arange(0, vocabulary, 2), vocabulary, 0)  # the tail holds all others
    read, tops = TargetHead.of(target, None, "float32"), torch.randn(5, target.config.hidden_size)
    torch.testing.assert_close(read.probabilities(tops, everything), read.probabilities(tops)[:, everything.ids])


def test_a_head_is_trained_on_few_tokens_and_checked_on_all(trained: Path, tmp_path: Path) -> None:
    train(trained, tmp_path / "head", vocabulary=40, unroll=3, plain_steps=50, rate=3e-3)
    with (tmp_path / "head" / "loss.csv").open() as lines:
        first, last = csv.DictReader(lines)
    assert float(last["held_out_loss_3"]) < float(first["held_out_loss_3"])
    assert "the 40 most frequent tokens and 1,024 drawn of the others" in (tmp_path / "head" / "README.md").read_text()


def test_steps_fill_the_minutes_that_are_left() -> None:
    plan = Plan("mtp", 1, 0, 1000, 512, 1e-3, 0, 300, "float32", {}, minutes=2.0)
    assert plan.filling(step=0.5, check=10.0, spent=20.0).steps == 20 + 133  # 80 s left behind two more checks, at 0.5 + 0.1 s a step
    assert plan.filling(step=60.0, check=10.0, spent=1200.0).steps == 21


def test_a_run_of_so_many_minutes_keeps_its_steps_when_it_is_resumed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "filling", lambda plan, *_: learning.replace(plan, steps=140))
    train(trained, tmp_path / "head", tokens=FEW["tokens"], minutes=1.0)
    monkeypatch.undo()
    train(trained, tmp_path / "head", tokens=FEW["tokens"], minutes=1.0)
    rows = (tmp_path / "head" / "loss.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "100", "140"]


def test_plain_steps_do_not_tell_how_long_the_others_take(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--plain-steps and --minutes"):
        train_eagle3.main(
            target=str(trained / "target"), norm="pre", out=tmp_path, cache=tmp_path, replies=tmp_path, plain_steps=5, minutes=1.0
        )
