from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import PretrainedConfig

from driftcli.errors import FormatError, PromptError, RunError, SourceError, UsageError
from driftcli.sources.files import resolve
from driftcli.target.language_model import load_language_model
from driftcli.training import learning, replies, streams
from driftcli.training.conversations import Conversation, read_conversations
from driftcli.training.losses import TargetHead
from driftcli.training.replies import Pieces, Request, Wave, user_turns, write_replies, write_wave
from examples import train_eagle3
from tests.examples.stopping import FEW, stopped_once_saved
from tests.reference import said_alone
from tests.tiny import write_target
from training.eagle3 import Head
from training.layer import HeadShape
from training.unrolled import unrolled_losses


def train(models: Path, out: Path, **changes: object) -> None:
    settings = {
        "target": str(models / "target"), "norm": "post", "out": out, "cache": models / "streams", "replies": models / "replies.jsonl", "steps": 200,
        "tokens": 512, "draft_vocabulary_size": 50, "device": "cpu", "dtype": "float32", "unroll": 2,
    }  # fmt: skip
    train_eagle3.main(**{**settings, **changes})  # type: ignore[arg-type]


def test_a_training_run_that_was_stopped_ends_in_the_same_head(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(trained, tmp_path / "whole", **FEW)
    with stopped_once_saved(monkeypatch):
        train(trained, tmp_path / "stopped", **FEW)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    train(trained, tmp_path / "stopped", **FEW)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_training_lowers_the_held_out_loss(trained: Path) -> None:
    for norm in ("pre", "post"):
        with (trained / f"trained-{norm}" / "loss.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        assert [row["step"] for row in rows] == ["100", "150"]
        assert all(float(rows[-1][f"held_out_loss_{step}"]) < float(rows[0][f"held_out_loss_{step}"]) for step in (1, 2, 3))
        assert float(rows[-1]["held_out_agreement_1"]) > 0.1


def test_plain_steps_come_first_and_are_those_of_a_head_that_never_unrolls(trained: Path, tmp_path: Path) -> None:
    train(trained, tmp_path / "plain", unroll=1, steps=100)
    train(trained, tmp_path / "both", unroll=2, plain_steps=100, steps=200)
    (alone,), both = (list(csv.DictReader((tmp_path / name / "loss.csv").open())) for name in ("plain", "both"))
    assert both[0]["loss_1"] != "" and both[0]["loss_2"] == ""
    assert both[0]["held_out_loss_1"] != "" and both[0]["held_out_loss_2"] != ""
    assert both[1]["loss_2"] != ""
    assert float(both[0]["loss_1"]) == pytest.approx(float(alone["loss_1"]), abs=0.1)  # the rate falls over all steps, so not to the digit


def test_training_goes_on_from_an_older_head_of_the_same_norm(trained: Path, tmp_path: Path) -> None:
    old = trained / "trained-pre"
    train(trained, tmp_path / "same", norm="pre", begin=str(old), steps=1, rate=0.0)
    whole, same = (load_file(folder / "model.safetensors") for folder in (old, tmp_path / "same"))
    assert whole.keys() == same.keys() and all(whole[name].equal(same[name]) for name in whole)  # its 200 draft tokens, not the 50 asked
    assert "It went\n  on from trained-pre (`--from`)." in (tmp_path / "same" / "README.md").read_text()
    train(trained, tmp_path / "more", norm="pre", begin=str(old), steps=100, rate=1e-3, unroll=3)
    before, after = (
        float(list(csv.DictReader((folder / "loss.csv").open()))[-1]["held_out_loss_1"]) for folder in (old, tmp_path / "more")
    )
    assert after < before
    with pytest.raises(FormatError, match=r"trained-pre: norm_output is False and tensors .* are fc_norm.0.weight, .*; expected True"):
        train(trained, tmp_path / "other", begin=str(old))
    with pytest.raises(FormatError, match="has no d2t, expected an EAGLE-3 head that train_eagle3"):
        train(trained, tmp_path / "other", begin=str(trained / "target"))


def test_the_target_writes_its_own_replies_inside_its_template(models: Path, tmp_path: Path) -> None:
    train(
        models,
        tmp_path / "head",
        cache=tmp_path / "cache",
        replies=tmp_path / "own.jsonl",
        write=48,
        wave=16,
        user_tokens=8,
        reply_tokens=12,
        steps=1,
    )
    talks = read_conversations(tmp_path / "own.jsonl", 300)
    assert [len(talk.spans) for talk in talks] == [*[1] * 32, *[3] * 5]  # two waves of one turn, one of three
    for talk in talks:
        assert talk.ids[:2] == [0, 2]  # <s> and the user's role
        assert all(talk.ids[start - 1] == 3 for start, _ in talk.spans)  # the target's role comes before what it says
        assert all(1 <= end - start <= 12 for start, end in talk.spans)
        assert talk.spans[-1][1] == len(talk.ids)


def test_a_turn_written_beside_longer_ones_is_what_the_target_says_alone(models: Path) -> None:
    target = load_language_model(resolve(str(models / "target")), torch.device("cpu"), "float32")
    target.model.generation_config.eos_token_id = [1, *range(4, 24)]  # of random weights, that turns end at all
    torch.manual_seed(3)
    talks = write_wave(target, Pieces.of(target), Request(0, 0, 9, 10, 512, 0), Wave(6, 4), greedy=True)
    assert len({len(talk.ids) for talk in talks}) > 1  # some rows ended earlier than others, which leaves holes
    for talk in talks:
        assert [talk.ids[start:end] for start, end in talk.spans] == said_alone(target.model, talk.ids, talk.spans)


def test_given_user_turns_are_answered_as_driftcli_would_render_them(models: Path, tmp_path: Path) -> None:
    target = load_language_model(resolve(str(models / "target")), torch.device("cpu"), "float32")
    rows = [["ab"], ["cdefg"], ["h", "ij"], ["klm", "n"], ["o"]]
    messages = [[{"role": "user", "content": text} for text in row] for row in rows]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"id": str(n), "messages": said}) + "\n" for n, said in enumerate(messages)))
    write_replies(target, Request(0, 4, 1, 6, 512, 0), tmp_path / "out.jsonl", user_turns(tmp_path / "p.jsonl"))
    talks = read_conversations(tmp_path / "out.jsonl", 300)
    assert sorted(len(talk.spans) for talk in talks) == [1, 1, 1, 2, 2]
    for talk in talks:
        said = next(row for row in rows if talk.ids[2 : 2 + len(row[0])] == target.tokenizer(row[0]).input_ids[-len(row[0]) :])
        replies = [target.tokenizer.decode(talk.ids[start:end]).removesuffix("</s>") for start, end in talk.spans]
        turns = [part for user, reply in zip(said, replies, strict=True) for part in (("user", user), ("assistant", reply))]
        whole = target.tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in turns], tokenize=False)
        assert target.tokenizer.decode(talk.ids).replace("</s>", "") == whole


def test_replies_that_are_all_drawn_differ_from_seed_to_seed(models: Path, tmp_path: Path) -> None:
    given = [["ab"], ["cdefg"]]
    target = load_language_model(resolve(str(models / "target")), torch.device("cpu"), "float32")
    for seed in (1, 2):
        write_replies(target, Request(0, 4, 1, 12, 512, seed, drawn=True), tmp_path / f"{seed}.jsonl", given)
    write_replies(target, Request(0, 4, 1, 12, 512, 1), tmp_path / "greedy.jsonl", given)
    one, two, greedy = (read_conversations(tmp_path / f"{name}.jsonl", 10**6) for name in ("1", "2", "greedy"))
    assert [talk.ids[: talk.spans[0][0]] for talk in one] == [talk.ids[: talk.spans[0][0]] for talk in two]
    assert one != two
    assert one != greedy


def test_a_prompt_in_which_another_speaks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "text": "hello"}\n')
    with pytest.raises(PromptError, match="prompt a holds something else than user messages"):
        user_turns(tmp_path / "p.jsonl")


def test_a_target_without_a_template_is_told_to_bring_replies(tmp_path: Path) -> None:
    target = load_language_model(resolve(str(write_target(tmp_path, template=False))), torch.device("cpu"), "float32")
    with pytest.raises(SourceError, match="has no chat template to write in, expected one; bring --replies of your own"):
        Pieces.of(target)


def test_a_killed_writer_goes_on_with_the_next_wave(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_language_model(resolve(str(models / "target")), torch.device("cpu"), "float32")
    asked, made = Request(12, 4, 4, 5, 512, 0), []

    def write_and_stop(*args: object, **settings: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args)
        return write_wave(*args, **settings)  # type: ignore[arg-type]

    write_replies(target, asked, tmp_path / "whole.jsonl")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(replies, "write_wave", write_and_stop)
        write_replies(target, asked, tmp_path / "stopped.jsonl")
    write_replies(target, asked, tmp_path / "stopped.jsonl")
    assert (tmp_path / "stopped.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    with pytest.raises(RunError, match=r"holds waves of .* name other --replies"):
        write_replies(target, replace(asked, user=5), tmp_path / "stopped.jsonl")


def test_a_killed_capture_goes_on_and_takes_the_same_streams(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_language_model(resolve(str(trained / "target")), torch.device("cpu"), "float32")
    talks = read_conversations(trained / "replies.jsonl", 300)[:9]
    whole = streams.capture(target, talks, tmp_path / "whole", streams.usual_boundaries(target), 200)
    taken, take = [], streams._capture

    def take_and_stop(*args: object) -> None:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(take(*args))  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(streams, "_capture", take_and_stop)
        patch.setattr(streams, "BETWEEN_NOTES", 0)
        streams.capture(target, talks, tmp_path / "stopped", streams.usual_boundaries(target), 200)
    resumed = streams.capture(target, talks, tmp_path / "stopped", streams.usual_boundaries(target), 200)
    assert (whole.streams == resumed.streams).all() and (whole.tops == resumed.tops).all()
    hidden = target.model(torch.tensor([talks[4].ids]), output_hidden_states=True).hidden_states
    kept = whole.batch([4], torch.device("cpu"))
    torch.testing.assert_close(kept.streams[0].float(), torch.cat([hidden[b][0] for b in (2, 4, 5)], -1), atol=0.05, rtol=0.01)
    torch.testing.assert_close(kept.tops[0].float(), hidden[-1][0], atol=0.05, rtol=0.01)


def test_the_loss_is_the_cross_entropy_against_the_targets_distribution(trained: Path) -> None:
    """One conversation at a time and one row at a time, from the definition; bends of the target's logits included."""
    target = load_language_model(resolve(str(trained / "target")), torch.device("cpu"), "float32")
    data = streams.capture(
        target, read_conversations(trained / "replies.jsonl", 300), trained / "streams", streams.usual_boundaries(target)
    )
    ids = data.frequent(60, len(target.tokenizer))
    config = PretrainedConfig(final_logit_softcapping=3.0, logit_scale=2.0, logits_scaling=4.0)
    torch.manual_seed(0)
    head = Head(HeadShape.of(target, 60), post_norm=True)
    batch = data.batch([0, 5], torch.device("cpu"))
    for step, loss in enumerate(unrolled_losses(head, target.embedding, TargetHead(target.head[ids], config), batch, unroll=2)):
        nats = []
        for row in (0, 5):
            talk, alone = data.conversations[row], data.batch([row], torch.device("cpu"))
            n, keys, values = len(talk.ids) - 1, [], []
            state, padded = head.fuse(alone.streams[:, :n].float()), torch.tensor([[*talk.ids, 0, 0]])
            for s in range(step + 1):
                out, state = head.step(F.embedding(padded[:, 1 + s : 1 + s + n], target.embedding), state, s, keys, values)
            for i in range(batch.ids.shape[1] - 3):
                if any(start <= i + 2 + step < end for start, end in talk.spans):
                    truth = target.head[ids] @ alone.tops[0, i + 1 + step].float() * 2.0 / 4.0
                    nats.append(-((3.0 * (truth / 3.0).tanh()).softmax(-1) * head.lm_head(out[0, i]).log_softmax(-1)).sum())
        assert loss.rows == len(nats)
        torch.testing.assert_close(loss.nats, torch.stack(nats).mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "cannot be read as JSON Lines"),
        ('{"spans": [[0, 1]]}', "line 2: expected an object with ids and spans"),
        ('{"ids": [1, 2]}', "line 2: expected an object with ids and spans"),
        ('{"ids": [1, 999], "prompt_length": 1}', "line 2: its ids are not tokens of a vocabulary of 300"),
        ('{"ids": [1, 2], "spans": [[1, 3]]}', "line 2: spans .* do not lie inside 2 tokens"),
    ],
)
def test_a_bad_line_of_conversations_is_refused_by_its_number(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"ids": [1, 2, 3], "prompt_length": 1}\n' + line + "\n")
    with pytest.raises((FormatError, SourceError), match=says):
        read_conversations(path, 300)


def test_a_cut_gzip_of_conversations_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"ids": [1, 2, 3], "prompt_length": 1}\n' * 50)
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="cannot be read as JSON Lines"):
        read_conversations(tmp_path / "c.jsonl.gz", 300)


def test_a_cache_or_a_run_of_something_else_is_refused_and_left_as_it_is(trained: Path, tmp_path: Path) -> None:
    target = load_language_model(resolve(str(trained / "target")), torch.device("cpu"), "float32")
    talks = read_conversations(trained / "replies.jsonl", 300)
    whole = streams.capture(target, talks[:40], tmp_path / "cache", streams.usual_boundaries(target))
    with pytest.raises(RunError, match=r"holds streams of .*; name another --cache, or remove it"):
        streams.capture(target, talks[:41], tmp_path / "cache", streams.usual_boundaries(target))
    assert (streams.capture(target, talks[:40], tmp_path / "cache", streams.usual_boundaries(target)).streams == whole.streams).all()
    train(trained, tmp_path / "head", steps=1)
    with pytest.raises(RunError, match=r"holds a run with .*; name another --out"):
        train(trained, tmp_path / "head", steps=1, draft_vocabulary_size=51)


def test_replies_are_asked_for_in_one_way_alone(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--write-replies and --prompts"):
        train(models, tmp_path / "head", write=3, prompts=tmp_path / "p.jsonl")


def test_every_conversation_that_is_trained_on_has_a_guess_at_each_unrolled_step() -> None:
    long, late, short = Conversation([5] * 40, [(3, 40)]), Conversation([5] * 40, [(39, 40)]), Conversation([5] * 9, [(1, 9)])
    training, kept = learning.split([long, late, short, *[long] * 61], unroll=3)
    assert {1, 2}.isdisjoint({*training, *kept})
    assert kept == [0, 32]
    with pytest.raises(FormatError, match="the replies leave 0 conversations to train on and 0 to hold out"):
        learning.split([late, short], unroll=3)
