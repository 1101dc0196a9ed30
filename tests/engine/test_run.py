from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from driftcli.conditions import BASELINE, Condition, DraftSettings, Noise, TextSettings, Wiring
from driftcli.domain import REWIRED, Absent, Axis, Estimate, Message, PairCard, Prompt, RunSpec, Said
from driftcli.engine.run import Job, measure
from driftcli.errors import ProbeError, PromptError, RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.probe import Trace
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.statistics.curves import (
    accepted_drafts,
    compounding,
    favourite_accuracy,
    forced_accuracy,
    fresh_accuracy,
    joint_walk,
    lookup_accuracy,
    lookup_drafts,
    own_choices,
    rms,
    target_entropy,
    walk_acceptance_length,
)
from driftcli.statistics.intervals import unseen_share
from driftcli.statistics.walks import Floats, Sums, walk
from driftcli.target.language_model import LanguageModel
from driftcli.traces.floors import lookup_accepted
from driftcli.traces.reader import Run, read_run
from driftcli.traces.samples import reply
from driftcli.traces.schema import COLUMNS, TABLES, VERSION, arrow_schema
from driftcli.traces.sums import read_table
from probes import BATTERY
from probes.chain_length import ChainLength
from probes.controls import Controls
from tests.edits import edit_config
from tests.tiny import prompts

SPEC = RunSpec(depth=4, max_new_tokens=16, batch_size=3)


@dataclass(frozen=True)
class Windows:
    """A probe of somebody else: two windows, one with controls."""

    name: str = "windows"
    axes: tuple[Axis, ...] = ()
    prefix: str = "window-"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        return (
            Condition(f"{self.prefix}4", DraftSettings(depth=spec.depth, window=4), self.name),
            Condition(f"{self.prefix}6", DraftSettings(depth=2, window=6), self.name, controls=True),
            Condition(f"{self.prefix}1000", DraftSettings(depth=spec.depth, window=1000), self.name),
        )

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


@dataclass(frozen=True)
class TwoRounds:
    """A search of somebody else: it asks for one condition, then for another, and settles on `ends`."""

    ends: Wiring
    name: str = "two-rounds"
    axes: tuple[Axis, ...] = ("wiring",)

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        return (Condition("round-1", DraftSettings(2, wiring=Wiring(feedback="normed")), self.name),)

    def further(self, trace: Trace) -> Sequence[Condition]:
        assert trace.gain(forced_hits, "round-1", "baseline", "selecting").value is not None
        more = Condition("round-2", DraftSettings(2, wiring=Wiring(residual="normed")), self.name)
        return () if more.name in trace.measured else (more,)

    def wiring(self, trace: Trace) -> Wiring:
        assert trace.gain(forced_hits, "round-2", "round-1", "judging").value is not None
        return self.ends

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


@dataclass(frozen=True)
class Again:
    """A probe of somebody else that asks once more when it has seen everything."""

    name: str = "again"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        return (Condition("first-question", DraftSettings(spec.depth, window=5), self.name),)

    def further(self, trace: Trace) -> Sequence[Condition]:
        assert {"first-question", "window-1000"} <= trace.measured
        asked = Condition("asked-again", DraftSettings(trace.spec.depth, window=999), self.name)
        return () if asked.name in trace.measured else (asked,)

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


def forced_hits(sums: Sums) -> Floats:
    return forced_accuracy(sums)[:, 0]


def job(pair: LoadedPair, out: Path, asked: Sequence[Prompt] | None = None, **changes: object) -> Job:
    made = Job(pair, asked or prompts(7, turns=2), (), SPEC, out, [])
    return replace(made, **changes)  # type: ignore[arg-type]


def silent(done: float, total: int, now: str) -> None:
    assert done <= total, now


def table(path: Path, name: str) -> pd.DataFrame:
    frame = ds.dataset(sorted((path / name).glob("*.parquet"))).to_table().to_pandas()
    keys = [key for key in ("condition", "prompt", "turn", "feed", "anchor", "depth", "layer", "head", "place") if key in frame]
    return frame.astype({key: str for key in ("condition", "prompt", "feed") if key in frame}).sort_values(keys).reset_index(drop=True)


def assert_same_rows(one: Path, other: Path) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(table(one, name), table(other, name), check_exact=True)


@pytest.fixture(scope="module")
def run(pair: Callable[[str], LoadedPair], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(measure(job(pair("trained-pre"), tmp_path_factory.mktemp("run") / "r", battery=(Windows(),)), silent))


def test_the_same_prompts_in_another_order_give_identical_rows(pair: Callable, tmp_path: Path) -> None:
    asked = prompts(7, turns=2)
    one = measure(job(pair("trained-pre"), tmp_path / "one", asked), silent)
    random.Random(0).shuffle(asked)
    other = measure(job(pair("trained-pre"), tmp_path / "other", asked), silent)
    assert_same_rows(one, other)


def test_whoever_waits_is_told_which_replies_are_written_and_how_far_they_are(pair: Callable, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []

    def listen(done: float, total: int, now: str) -> None:
        assert 0 <= done <= total == 7 * len(asked.conditions())
        told.append((done, now))

    asked = job(pair("trained-pre"), tmp_path / "r", prompts(7), battery=(Windows(),))
    measure(asked, listen)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    words = [now for _, now in told]
    for batch in ("replies 1-3 of 7", "replies 4-6 of 7", "reply 7 of 7"):
        tokens = [now.removeprefix(f"writing {batch}, ") for now in words if now.startswith(f"writing {batch}, ")]
        assert tokens == [f"{number} of up to 16 tokens" for number in range(1, len(tokens) + 1)] and tokens
    assert words.count("drafting on texts 1-3 of 3") == 2 and words.count("") == 3


def _measure_in_child(models: str, out: str) -> None:
    torch.set_num_threads(1)
    loaded = load_pair(f"{models}/target", f"{models}/trained-pre", torch.device("cpu"), "float32")
    measure(job(loaded, Path(out), prompts(16), battery=(Windows(),), spec=replace(SPEC, batch_size=1)), silent)


def test_a_run_killed_at_ten_random_points_resumes_to_the_same_rows(trained: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["driftcli.engine.run", "tests.engine.test_run"])

    def child(out: Path) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_measure_in_child, args=(str(trained), str(out)))
        process.start()
        return process

    whole, killed, points = tmp_path / "whole", tmp_path / "killed", random.Random(1)
    child(whole).join()

    def written() -> int:
        return len(list(killed.glob("steps/*.parquet")))

    for _ in range(10):
        process, wanted = child(killed), written() + points.randrange(4)
        while written() < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(points.uniform(0, 0.05))
        assert process.is_alive(), "the run has 64 cells: it cannot be over yet"
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        if (killed / "run.json").exists():
            with pytest.raises(RunError, match="not finished"):
                read_run(killed)
    assert 5 < written() < 64
    child(killed).join()
    assert_same_rows(whole, killed)
    assert read_run(killed).n_prompts == 16


def test_more_prompts_grow_a_run_beside_what_is_there(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r", prompts(4)), silent)
    before = {file: file.stat().st_mtime_ns for file in path.glob("*/*.parquet")}
    first = table(path, "steps")
    measure(job(pair("trained-pre"), path, prompts(9)), silent)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    grown = table(path, "steps")
    pd.testing.assert_frame_equal(grown[grown["prompt"].isin(first["prompt"])].reset_index(drop=True), first)
    assert read_run(path).n_prompts == 9


def test_a_run_from_before_a_setting_came_keeps_its_cells(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r", prompts(4), battery=(Windows(),)), silent)
    before = {file: file.stat().st_mtime_ns for file in path.glob("*/*.parquet")}
    manifest = json.loads((path / "run.json").read_text())
    for condition in manifest["conditions"]:
        assert condition["settings"].pop("held") is False
    (path / "run.json").write_text(json.dumps(manifest))
    assert read_run(path).n_prompts == 4
    measure(job(pair("trained-pre"), path, prompts(9), battery=(Windows(),)), silent)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_another_request_in_the_folder_is_refused_and_forced(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r", prompts(2)), silent)
    with pytest.raises(RunError, match=r"another request \(max_new_tokens was 16, now 12\)"):
        measure(job(pair("trained-pre"), path, prompts(2), spec=replace(SPEC, max_new_tokens=12)), silent)
    with pytest.raises(RunError, match="1 prompts that are not asked for now"):
        measure(job(pair("trained-pre"), path, prompts(1)), silent)
    with pytest.raises(RunError, match="the drafter's files changed: "):
        measure(job(pair("trained-post"), path, prompts(2)), silent)
    measure(job(pair("trained-post"), path, prompts(2), force=True), silent)
    assert read_run(path).pair.drafter.name.endswith("trained-post")


def test_a_run_of_an_older_schema_is_read_with_nulls_and_never_resumed(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r"), silent)
    before = read_run(path).estimate(walk_acceptance_length)
    for file in (path / "steps").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["draft_entropy"]), file)
    manifest = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**manifest, "schema": VERSION - 1}))
    assert read_run(path).estimate(walk_acceptance_length) == before
    assert read_table(path / "steps", ["draft_entropy"], BASELINE)["draft_entropy"].null_count > 0
    with pytest.raises(RunError, match=f"written with trace schema {VERSION - 1}, this driftcli writes {VERSION}; name another folder"):
        measure(job(pair("trained-pre"), path), silent)


def test_a_folder_with_other_files_is_never_written_to(pair: Callable, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(RunError, match="no driftcli run"):
            measure(job(pair("pre"), tmp_path, prompts(1), force=force), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_acceptance_length_is_one_plus_the_sum_of_joint_walk(run: Run) -> None:
    length, joint = run.estimate(walk_acceptance_length), run.by_depth(joint_walk)
    assert length.value is not None
    assert 1 < length.value == pytest.approx(1 + sum(j.value for j in joint if j.value is not None))


def test_forced_depth_one_is_the_control_and_compounding_starts_at_zero(run: Run) -> None:
    curve = run.by_depth(compounding)
    assert curve[1].value is not None
    assert curve[1].value == pytest.approx(0, abs=1e-12)
    assert all(value.value is not None for value in run.by_depth(fresh_accuracy))
    steps = table(run.path, "steps").query("condition == 'baseline' and depth == 1")
    fresh, forced = (
        steps[steps["feed"] == feed].drop(columns=["feed", "state_cosine"]).reset_index(drop=True) for feed in ("fresh", "forced")
    )
    pd.testing.assert_frame_equal(fresh, forced)


def test_a_window_longer_than_the_text_is_the_baseline_exactly(run: Run) -> None:
    steps = table(run.path, "steps").query("feed == 'forced'").drop(columns=["probe"])
    wide, plain = (
        steps[steps["condition"] == name].drop(columns="condition").reset_index(drop=True) for name in ("window-1000", "baseline")
    )
    pd.testing.assert_frame_equal(wide, plain)
    narrow = steps[steps["condition"] == "window-4"].reset_index(drop=True)
    assert (narrow["share_recent"] > 0.99999).all()
    assert not narrow["rms"].equals(plain["rms"])


def test_conditions_write_forced_rows_and_controls_when_asked(run: Run) -> None:
    feeds = table(run.path, "steps").groupby("condition")["feed"].unique().map(set).to_dict()
    assert feeds == {
        "baseline": {"fresh", "forced", "free"}, "window-4": {"forced"}, "window-1000": {"forced"}, "window-6": {"forced", "fresh"},
    }  # fmt: skip
    assert run.estimate(walk_acceptance_length, "window-6").value is not None


def test_shares_sum_to_one_in_every_row_of_steps_and_heads(run: Run) -> None:
    for name in ("steps", "heads"):
        rows = table(run.path, name)
        total = rows[[f"share_{region}" for region in ("template", "prompt", "verified", "ahead")]].sum(axis=1) + rows["share_sink"].fillna(
            0
        )
        assert (total - 1).abs().max() < 1e-5


def test_free_rows_lose_their_wanted_token_after_the_first_miss(run: Run) -> None:
    free = table(run.path, "steps").query("condition == 'baseline' and feed == 'free'")
    for _, chain in free.groupby(["prompt", "turn", "anchor"]):
        match = chain.sort_values("depth")["match"].tolist()
        misses = [i for i, hit in enumerate(match) if hit is False or hit == 0]
        first = misses[0] if misses else len(match) - 1
        assert all(pd.isna(hit) == (i > first) for i, hit in enumerate(match))
        assert (chain["wanted"].isna() == chain["match"].isna()).all()
        assert (chain["target_prob"].isna() == chain["match"].isna()).all()


def test_wanted_prob_is_null_exactly_outside_the_draft_vocabulary(pair: Callable, run: Run) -> None:
    known = set(pair("trained-pre").drafter.vocabulary.to_target.tolist())
    steps = table(run.path, "steps").query("feed == 'forced'")
    assert (steps["wanted_prob"].isna() == ~steps["wanted"].isin(known)).all()
    assert (steps.loc[steps["match"].astype(bool), "draft_prob"] == steps.loc[steps["match"].astype(bool), "wanted_prob"]).all()


def test_replies_and_prompts_read_from_a_run_are_what_the_tokenizer_decodes(pair: Callable, run: Run) -> None:
    decode = pair("trained-pre").target.tokenizer.backend_tokenizer.decode
    for row in table(run.path, "trajectories").query("prompt != ''").to_dict("records"):
        found = reply(run, row["prompt"], row["turn"])
        assert [piece.id for piece in (*found.prompt_pieces, *found.pieces)] == list(row["ids"])
        shown = "".join(piece.text for piece in (*found.prompt_pieces, *found.pieces))
        assert shown == decode(list(row["ids"]), skip_special_tokens=False)


def test_pieces_are_written_once_more_when_a_run_goes_on_and_are_the_same(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("pre"), tmp_path / "r", prompts(2)), silent)
    before = (path / "pieces.parquet").read_bytes()
    (path / "pieces.parquet").write_bytes(b"half")
    measure(job(pair("pre"), tmp_path / "r", prompts(2)), silent)
    assert (path / "pieces.parquet").read_bytes() == before
    assert pq.read_schema(path / "pieces.parquet").metadata[b"driftcli.schema"] == str(VERSION).encode()


def test_every_table_has_the_columns_of_the_schema_in_every_reader(run: Run) -> None:
    for name in TABLES:
        pattern = f"{run.path}/{name}/*.parquet"
        names = [column.name for column in COLUMNS[name]]
        by_arrow = ds.dataset(sorted((run.path / name).glob("*.parquet"))).to_table()
        by_pandas = pd.concat(pd.read_parquet(file) for file in sorted((run.path / name).glob("*.parquet")))
        counted = duckdb.sql(f"select count(*) as n from read_parquet('{pattern}')").fetchall()
        assert by_arrow.schema.names == list(by_pandas.columns) == duckdb.sql(f"select * from read_parquet('{pattern}')").columns == names
        assert counted == [(by_arrow.num_rows,)] == [(len(by_pandas),)]
        for field, wanted in zip(by_arrow.schema, arrow_schema(name), strict=True):
            assert pa.types.is_dictionary(wanted.type) or field.type == wanted.type
            assert field.metadata[b"meaning"]


def test_prompts_too_short_for_a_chain_are_counted_and_named(pair: Callable, tmp_path: Path) -> None:
    asked = [*prompts(2), Prompt("tiny", prompts(1)[0].messages, response="ab")]
    run = read_run(measure(job(pair("pre"), tmp_path / "r", asked), silent))
    assert run.too_short == ("tiny",)
    assert run.prompts == ("p0", "p1")


@pytest.mark.parametrize("depth", [4, 16])  # 16: every reply is too short for a chain
def test_tokens_a_round_are_counted_over_whole_replies(depth: int, pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", prompts(8, turns=2), spec=replace(SPEC, depth=depth)), silent))
    texts = table(run.path, "trajectories")
    emitted, rounds = (texts["length"] - texts["prompt_length"] - 1).sum(), sum(counted[-1] for counted in texts["rounds_to_end"])
    found = run.emitted_per_round
    assert isinstance(found, Estimate) and found.value == pytest.approx(emitted / rounds) and found.low < found.value < found.high
    assert bool(run.n_prompts) == (depth == 4)
    assert all(list(counted) == sorted(counted, reverse=True) for counted in texts["rounds_to_end"])


def test_a_run_without_a_single_chain_is_inconclusive(pair: Callable, tmp_path: Path) -> None:
    run = read_run(
        measure(job(pair("pre"), tmp_path / "r", [Prompt("tiny", prompts(1)[0].messages, response="ab")], battery=BATTERY), silent)
    )
    assert judge(run, BATTERY).severity == "inconclusive"


def test_given_replies_claim_no_acceptance(pair: Callable, tmp_path: Path) -> None:
    run = read_run(
        measure(job(pair("pre"), tmp_path / "r", [replace(prompts(1)[0], response="some text of ours, not the target's")]), silent)
    )
    assert run.argmax_share < 0.99


def test_a_causal_lm_has_no_states_and_is_not_judged_for_drift(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("lm"), tmp_path / "r", prompts(9), battery=BATTERY), silent))
    steps = table(run.path, "steps")
    assert steps["rms"].isna().all()
    assert steps["state_cosine"].isna().all()
    steps = steps[steps["condition"] == "baseline"]
    fresh, forced = (steps[steps["feed"] == feed].drop(columns="feed").reset_index(drop=True) for feed in ("fresh", "forced"))
    pd.testing.assert_frame_equal(fresh, forced)
    assert judge(run, BATTERY).axes["drift"].state == "not applicable"
    others = [probe for probe in BATTERY if probe.name != "system-prompt"]  # whose rules, even short ones, cost a random model its drafts
    assert judge(run, others).severity == "inconclusive"


def test_conditions_must_have_names_of_their_own_and_fit_the_horizon(pair: Callable, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="'window-4' is asked for twice"):
        measure(job(pair("pre"), tmp_path / "r", battery=(Windows(), Windows())), silent)
    odd = replace(Windows(), prefix="window/")
    with pytest.raises(ProbeError, match="'window/4': expected a name of letters, digits"):
        measure(job(pair("pre"), tmp_path / "r", battery=(odd,)), silent)
    with pytest.raises(ProbeError, match="'window-6' drafts 2 deep"):
        measure(job(pair("pre"), tmp_path / "r", battery=(Windows(),), spec=replace(SPEC, depth=1)), silent)


def test_a_condition_for_self_feeding_drafters_is_refused_on_a_causal_lm(pair: Callable, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="'window-4' changes how a self-feeding drafter drafts"):
        measure(job(pair("lm"), tmp_path / "r", battery=(Windows(),)), silent)


def test_a_resumed_run_drafts_on_the_texts_that_it_holds(pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = measure(job(pair("pre"), tmp_path / "r", prompts(3), battery=(Windows(),)), silent)
    before = table(path, "steps")
    (missing,) = path.glob("steps/window-6-*.parquet")
    missing.unlink()
    template = pair("pre").target.tokenizer.chat_template
    monkeypatch.setattr(pair("pre").target.tokenizer, "chat_template", template.replace("{{ bos_token }}", "{{ bos_token }}Tuesday "))
    measure(job(pair("pre"), path, prompts(3), battery=(Windows(),)), silent)
    assert missing.exists()
    pd.testing.assert_frame_equal(table(path, "steps"), before, check_exact=True)


def test_states_that_overflow_are_refused_and_never_averaged(pair: Callable, tmp_path: Path) -> None:
    loaded = pair("pre")
    (layer,) = loaded.drafter.layers
    broken = replace(loaded.drafter, layers=(replace(layer, mlp=replace(layer.mlp, down=layer.mlp.down * 1e38)),))
    with pytest.raises(RunError, match="the models computed NaN or infinity"):
        measure(job(replace(loaded, drafter=broken), tmp_path / "r", prompts(2)), silent)


def test_a_run_killed_before_its_first_cell_starts_again(pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_steps(path: Path, **_: object) -> None:
        if path.name == "steps":
            raise KeyboardInterrupt
        os.makedirs(path, exist_ok=True)

    for force in (False, True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "mkdir", stop_at_steps)
            measure(job(pair("pre"), tmp_path / "r", prompts(2), force=force), silent)
        with pytest.raises(RunError):
            read_run(tmp_path / "r")
        assert read_run(measure(job(pair("pre"), tmp_path / "r", prompts(2)), silent)).n_prompts == 2


def test_a_prompt_that_the_template_refuses_stops_the_run_before_it_begins(
    pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = "{% if 'p1' in messages[0]['content'] %}{{ raise_exception('no p1 here') }}{% endif %}x"
    monkeypatch.setattr(pair("pre").target.tokenizer, "chat_template", picky + "yz")
    asked = [*prompts(1), Prompt("odd", (Message("user", "p1"),))]
    with pytest.raises(PromptError, match="prompt odd: the target's chat template refuses it"):
        measure(job(pair("pre"), tmp_path / "r", asked), silent)
    assert not (tmp_path / "r").exists()


def test_given_replies_weigh_by_their_tokens_and_the_targets_own_do_not_hide_them(pair: Callable, tmp_path: Path) -> None:
    asked = [*prompts(5), Prompt("mine", prompts(1)[0].messages, response="words that the target would never choose")]
    run = read_run(measure(job(pair("pre"), tmp_path / "r", asked), silent))
    given = table(run.path, "trajectories").query("not generated")
    assert run.argmax_share == pytest.approx(float(given["argmax_share"].iloc[0]))
    assert run.argmax_share < 0.5


RAW = Wiring(feedback="raw")


def sizes(run: Run, condition: str) -> list[float | None]:
    """RMS of the states of a chain by depth; attention with a window sums in another order than without."""
    return [one.value for one in run.by_depth(rms("forced"), condition)]


def test_a_search_asks_in_rounds_and_the_rest_runs_on_what_it_settles(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-post"), tmp_path / "r", battery=(Windows(), TwoRounds(RAW))), silent))
    assert [name for _, name in run.conditions] == ["round-1", "round-2", REWIRED, "window-4", "window-6", "window-1000"]
    assert (run.reference, run.wiring) == (REWIRED, RAW)
    alone = read_run(measure(job(pair("trained-post"), tmp_path / "alone", battery=(Windows(),)), silent))
    assert alone.estimate(forced_hits) == run.estimate(forced_hits, "baseline") == run.against("baseline").estimate(forced_hits)
    assert sizes(run, "window-1000") == pytest.approx(sizes(run, REWIRED), rel=1e-6)
    assert run.by_depth(rms("forced")) != run.by_depth(rms("forced"), "baseline")
    assert run.ratio_to_baseline(accepted_drafts, "window-1000").value == 1  # type: ignore[union-attr]


def test_a_drafter_wired_otherwise_has_all_that_a_baseline_has(pair: Callable, tmp_path: Path) -> None:
    """Fed back raw, the head is the one whose file says so, row for row."""
    run = read_run(measure(job(pair("trained-post"), tmp_path / "r", battery=(TwoRounds(RAW),)), silent))
    said = load_pair(
        str(pair("trained-post").target.source.folder),
        str(raw_copy(pair("trained-post"), tmp_path / "raw")),
        torch.device("cpu"),
        "float32",
    )
    plain = read_run(measure(job(said, tmp_path / "plain"), silent))
    for name in TABLES:
        mine, theirs = table(run.path, name), table(plain.path, name)
        if "condition" in mine:
            mine = mine[mine["condition"] == REWIRED].drop(columns=["condition", "probe"]).reset_index(drop=True)
            theirs = theirs.drop(columns=["condition", "probe"])
            pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    assert run.by_stream() == plain.by_stream()


def raw_copy(loaded: LoadedPair, folder: Path) -> Path:
    shutil.copytree(loaded.card.drafter.name, folder)
    return edit_config(folder, norm_output=False)


def test_a_probe_asks_again_when_all_others_are_measured_and_on_what_a_search_settled(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-post"), tmp_path / "r", battery=(Again(), TwoRounds(RAW), Windows())), silent))
    names = [name for _, name in run.conditions]
    assert names == ["round-1", "round-2", REWIRED, "first-question", "window-4", "window-6", "window-1000", "asked-again"]
    assert sizes(run, "asked-again") == pytest.approx(sizes(run, REWIRED), rel=1e-6)  # a window longer than any text, on the raw state
    before = (tmp_path / "r" / "run.json").read_text()
    measure(job(pair("trained-post"), tmp_path / "r", battery=(Again(), TwoRounds(RAW), Windows())), silent)
    assert json.loads(before)["conditions"] == json.loads((tmp_path / "r" / "run.json").read_text())["conditions"]


def test_a_search_that_settles_on_the_declared_wiring_leaves_the_baseline_in_place(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-post"), tmp_path / "r", battery=(Windows(), TwoRounds(Wiring()))), silent))
    assert (run.reference, run.wiring) == ("baseline", Wiring())
    assert REWIRED not in run.measured


def test_a_run_that_settles_otherwise_when_it_grows_measures_the_rest_anew(pair: Callable, tmp_path: Path) -> None:
    battery = (Windows(), TwoRounds(RAW))
    path = measure(job(pair("trained-post"), tmp_path / "r", prompts(4), battery=battery), silent)
    measure(job(pair("trained-post"), path, prompts(7), battery=(Windows(), TwoRounds(Wiring()))), silent)
    fresh = measure(job(pair("trained-post"), tmp_path / "fresh", prompts(4), battery=(Windows(), TwoRounds(Wiring()))), silent)
    grown = table(path, "steps")
    assert REWIRED not in set(grown["condition"])
    first = table(fresh, "steps")
    pd.testing.assert_frame_equal(grown[grown["prompt"].isin(first["prompt"])].reset_index(drop=True), first)


def test_an_unfinished_search_is_taken_up_where_it_was_killed(pair: Callable, tmp_path: Path) -> None:
    battery = (Windows(), TwoRounds(RAW))
    whole = measure(job(pair("trained-post"), tmp_path / "whole", battery=battery), silent)

    def until(stop: int) -> Callable[[int, int, str], None]:
        def say(done: int, *_: object) -> None:
            if done >= stop:
                raise KeyboardInterrupt

        return say

    for stop in (7, 14, 21, 28, 35):
        with pytest.raises(KeyboardInterrupt):
            measure(job(pair("trained-post"), tmp_path / "killed", battery=battery), until(stop))
        with pytest.raises(RunError, match="not finished"):
            read_run(tmp_path / "killed")
    assert_same_rows(whole, measure(job(pair("trained-post"), tmp_path / "killed", battery=battery), silent))


def test_anchors_of_a_span_are_summed_alone(run: Run) -> None:
    cut = 12
    inside, outside = run.between(0, cut), run.between(cut, 1 << 30)
    assert inside.n_anchors + outside.n_anchors == run.n_anchors
    steps = table(run.path, "steps").query("condition == 'baseline' and feed == 'forced' and depth == 1")
    for one, rows in ((inside, steps[steps["anchor"] < cut]), (outside, steps[steps["anchor"] >= cut])):
        assert one.n_anchors == len(rows)
        if len(rows):
            assert one.by_depth(forced_accuracy)[0].value == pytest.approx(rows["match"].mean())  # type: ignore[union-attr]


@dataclass(frozen=True)
class Rendering:
    """A probe of somebody else: prompts without their BOS, answered anew and with the run's replies, the latter in a window too."""

    name: str = "rendering"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        anew, replayed = TextSettings(bos="dropped"), TextSettings(bos="dropped", replayed=True)
        return (
            Condition("anew", DraftSettings(spec.depth), self.name, controls=True, text=anew),
            Condition("replayed", DraftSettings(spec.depth), self.name, text=replayed),
            Condition("replayed-wide", DraftSettings(spec.depth, window=1000), self.name, text=replayed),
        )

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


def test_conditions_on_other_texts_hold_them_and_share_them(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r", battery=(Rendering(),)), silent)
    texts = {
        name: {
            (row["prompt"], row["turn"]): row
            for row in pd.concat(map(pd.read_parquet, path.glob(f"trajectories/{name}-????????????.parquet"))).to_dict("records")
        }
        for name in ("baseline", "anew", "replayed", "replayed-wide")
    }
    assert len({frozenset(rows) for rows in texts.values()}) == 1
    for key, own in texts["baseline"].items():
        prompt, reply = list(own["ids"][: own["prompt_length"]]), list(own["ids"][own["prompt_length"] :])
        assert list(texts["replayed"][key]["ids"]) == [*prompt[1:], *reply]
        assert list(texts["replayed-wide"][key]["ids"]) == [*prompt[1:], *reply]
        if key[1] == 0:
            assert list(texts["anew"][key]["ids"][: own["prompt_length"] - 1]) == prompt[1:]
    steps = table(path, "steps").drop(columns="probe")
    wide, plain = (
        steps[steps["condition"] == name].drop(columns="condition").reset_index(drop=True) for name in ("replayed-wide", "replayed")
    )
    pd.testing.assert_frame_equal(wide, plain)


def test_replies_behind_another_rendering_claim_no_acceptance_and_the_targets_own_do(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", battery=(Rendering(),)), silent))
    assert run.argmax_share_of("baseline") == run.argmax_share_of("anew") == 1
    assert run.argmax_share_of("replayed") < 0.99
    shown = {one["name"]: one for one in report(run, judge(run, ()))["conditions"]}  # type: ignore[index,union-attr]
    assert shown["replayed"]["acceptance_length"]["value"] is None and shown["replayed"]["text_match_length"]["value"] > 1
    assert "text_match_length" not in shown["anew"]
    assert run.estimate(target_entropy, "anew").value is not None
    assert run.estimate(target_entropy, "anew") != run.estimate(target_entropy)


def test_other_texts_are_taken_up_where_a_run_was_killed(pair: Callable, tmp_path: Path) -> None:
    battery = (Rendering(),)
    whole = measure(job(pair("trained-pre"), tmp_path / "whole", battery=battery), silent)
    path = measure(job(pair("trained-pre"), tmp_path / "r", battery=battery), silent)
    for gone in (*path.glob("steps/replayed-wide-*"), *path.glob("steps/anew-*"), *list(path.glob("steps/replayed-*"))[:1]):
        gone.unlink(missing_ok=True)
    assert_same_rows(whole, measure(job(pair("trained-pre"), path, battery=battery), silent))


def test_a_deeper_chain_is_the_same_as_that_of_a_run_of_its_depth(pair: Callable, tmp_path: Path) -> None:
    asked = prompts(4)
    shallow = measure(
        job(pair("trained-pre"), tmp_path / "s", asked, battery=(ChainLength(),), spec=replace(SPEC, max_new_tokens=24)), silent
    )
    deep = measure(job(pair("trained-pre"), tmp_path / "d", asked, spec=replace(SPEC, max_new_tokens=24, depth=16)), silent)
    own, alone = (table(path, "steps").drop(columns=["probe", "condition"]) for path in (shallow, deep))
    is_deep = table(shallow, "steps")["condition"] == "deep"
    pd.testing.assert_frame_equal(own[is_deep.to_numpy()].reset_index(drop=True), alone.reset_index(drop=True))
    curve = read_run(shallow).by_depth(compounding, "deep")
    assert len(curve) == 16 and curve[3].value is not None


def test_floors_are_counted_on_the_anchors_of_the_drafter(pair: Callable, tmp_path: Path) -> None:
    path = measure(job(pair("trained-pre"), tmp_path / "r", battery=(Controls(),)), silent)
    run, texts, steps = read_run(path), table(path, "trajectories"), table(path, "steps")
    texts = texts[texts["rendered_sha256"].notna()].groupby(["prompt", "turn"]).first()  # the baseline's come first
    forced = steps[(steps["condition"] == "baseline") & (steps["feed"] == "forced")]
    first = forced[forced["depth"] == 1]
    right = 0
    for prompt, own in first.groupby("prompt"):
        others = texts[texts.index.get_level_values("prompt") != prompt]
        said = np.concatenate([row["ids"][row["prompt_length"] :] for _, row in others.iterrows()])
        values, counts = np.unique(said, return_counts=True)
        right += (own["wanted"] == values[counts.argmax()]).sum()
    favourite = run.estimate(favourite_accuracy)
    assert favourite.value is not None and favourite.value == pytest.approx(right / len(first))
    kept = {
        key: lookup_accepted(texts.loc[key, "ids"].tolist(), int(rows["anchor"].min()), len(rows), SPEC.depth)
        for key, rows in first.groupby(["prompt", "turn"])
    }
    looked_up = run.estimate(lookup_accuracy)
    assert looked_up.value is not None
    assert looked_up.value == pytest.approx(sum((found > 0).sum() for found in kept.values()) / len(first))
    rounds = sum(found[walk(found)].sum() for found in kept.values()) / sum(walk(found).sum() for found in kept.values())
    drafts = run.estimate(lookup_drafts)
    assert drafts.value is not None and drafts.value == pytest.approx(rounds)


def test_the_target_chooses_its_own_replies_again_alone_and_in_one_pass(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", prompts(8, turns=2), battery=(Controls(),)), silent))
    again, own = run.ratio_to_baseline(accepted_drafts, "repeated"), run.estimate(own_choices)
    unseen = unseen_share(8)
    assert isinstance(again, Estimate) and (again.value, again.low) == (1, pytest.approx(1 - unseen))
    assert isinstance(own, Estimate) and (own.value, own.low) == (1, pytest.approx(1 - unseen))
    shuffled = run.ratio_to_baseline(accepted_drafts, "shuffled-prompt")
    assert shuffled.value is not None and shuffled.value != 1
    assert run.argmax_share_of("shuffled-prompt") < 0.99


@dataclass(frozen=True)
class Longer:
    """A probe of somebody else: two lengths on the first five prompts, the longer one in a window too."""

    name: str = "longer"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        short, long = TextSettings(length=200), TextSettings(length=400)
        window = DraftSettings(spec.depth, window=8, kept="system")
        return (
            Condition("short", DraftSettings(spec.depth), self.name, text=short, prompts=5),
            Condition("long", DraftSettings(spec.depth), self.name, text=long, prompts=5),
            Condition("long-window", window, self.name, text=long, prompts=5),
        )

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


def test_long_prompts_are_other_conversations_of_the_run_before_the_question(pair: Callable, tmp_path: Path) -> None:
    loaded = pair("trained-pre")
    run = read_run(measure(job(loaded, tmp_path / "r", battery=(Longer(),)), silent))
    texts = {
        name: pd.concat(map(pd.read_parquet, run.path.glob(f"trajectories/{name}-????????????.parquet")))
        for name in ("baseline", "short", "long")
    }
    own = texts["baseline"].query("turn == 0").set_index("prompt")
    for name, length in (("short", 200), ("long", 400)):
        assert len(texts[name]) == 5 and (texts[name]["turn"] == 0).all()
        for row in texts[name].to_dict("records"):
            asked = loaded.target.tokenizer.decode(own.loc[row["prompt"], "ids"][1 : own.loc[row["prompt"], "prompt_length"]])
            said = loaded.target.tokenizer.decode(row["ids"][: row["prompt_length"]])
            assert said.startswith("<s><|user|>") and said.endswith(asked) and "<|bot|>" in said.removesuffix(asked)
            assert length - 110 < row["prompt_length"] <= length


def test_a_condition_on_some_prompts_is_paired_with_those_alone(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", battery=(Longer(),)), silent))
    found, kept = run.estimate(walk_acceptance_length, "long"), run.ratio(walk_acceptance_length, "long-window", "long")
    assert found.value is not None and kept.value is not None
    assert found.n_prompts == kept.n_prompts == 5
    paired = run.ratio_to_baseline(walk_acceptance_length, "long")
    some = set(table(run.path, "steps").query("condition == 'long'")["prompt"])
    alone = read_run(measure(job(pair("trained-pre"), tmp_path / "alone", [one for one in prompts(7, turns=2) if one.id in some]), silent))
    assert paired.value is not None
    assert paired.value == pytest.approx(found.value / alone.estimate(walk_acceptance_length).value)  # type: ignore[union-attr]


def test_what_a_category_asks_first_leaves_the_numbers_of_the_whole_as_they_are(pair: Callable, tmp_path: Path) -> None:
    asked = [replace(prompt, category="ab"[place % 2]) for place, prompt in enumerate(prompts(6))]
    path = measure(job(pair("trained-pre"), tmp_path / "r", asked, battery=(Windows(),)), silent)
    condition = "window-1000"
    whole = read_run(path).estimate(favourite_accuracy, condition)
    first_by_category = read_run(path)
    assert first_by_category.of_category("a").estimate(favourite_accuracy, condition) != whole
    assert first_by_category.estimate(favourite_accuracy, condition) == whole


@dataclass(frozen=True)
class Broken:
    """A probe of somebody else, one condition of which cannot be measured: its noise overflows."""

    name: str = "broken"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        loud = DraftSettings(spec.depth, noise=Noise("state", float("1e38"), 0))
        return (Condition("loud", loud, self.name), Condition("wide", DraftSettings(spec.depth, window=1000), self.name))

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


def test_a_condition_that_fails_is_left_out_with_its_reason_and_the_others_go_on(pair: Callable, tmp_path: Path) -> None:
    run = read_run(measure(job(pair("trained-pre"), tmp_path / "r", battery=(Broken(),)), silent))
    assert [name for _, name in run.conditions] == ["wide"]
    assert "loud" in run.measured and "the models computed NaN or infinity" in run.failed["loud"]
    assert not list(run.path.glob("*/loud-*.parquet"))
    lacking = run.estimate(walk_acceptance_length, "loud")
    assert isinstance(lacking, Absent) and lacking.reason == run.failed["loud"]
    assert isinstance(run.ratio_to_baseline(accepted_drafts, "loud"), Absent)
    assert run.ratio_to_baseline(accepted_drafts, "wide").value is not None
    assert report(run, judge(run, ()))["failed"] == [{"name": "loud", "reason": run.failed["loud"]}]


@pytest.fixture(scope="module")
def three_batches(pair: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(job(pair("trained-pre"), tmp_path_factory.mktemp("three") / "r", battery=(Windows(),)), silent)


def cut(file: Path, *_: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeroed(file: Path, *_: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def gone(file: Path, *_: Path) -> None:
    file.unlink()


def of_another_batch(file: Path, _: Path) -> None:
    shutil.copy(next(other for other in sorted(file.parent.glob(f"{file.name[:-20]}*")) if other != file), file)


def of_another_condition(file: Path, _: Path) -> None:
    shutil.copy(file.with_name(file.name.replace("baseline", "window-4").replace("window-6", "window-1000")), file)


def of_another_run(file: Path, other: Path) -> None:
    shutil.copy(other / file.parent.name / file.name, file)


def without_its_mark(file: Path, other: Path) -> None:
    """As an older driftcli wrote a cell, of another batch."""
    of_another_batch(file, other)
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"driftcli.table": file.parent.name, "driftcli.schema": str(VERSION)}), file)


def stray(file: Path, _: Path) -> None:
    """A copy under a name that no batch has, and what a killed writer leaves."""
    shutil.copy(file, file.with_name(f"{file.name[:-20]}0123456789ab.parquet"))
    file.with_suffix(".tmp").touch()
    (file.parents[1] / "run.tmp").touch()


DAMAGES = [
    *((cut, cell) for cell in ("steps/window-6", "heads/window-6", "steps/baseline", "trajectories/baseline", "streams/baseline")),
    *((zeroed, cell) for cell in ("heads/window-6", "steps/baseline")),
    *((gone, cell) for cell in ("heads/window-6", "trajectories/baseline")),
    *((of_another_batch, cell) for cell in ("steps/window-6", "trajectories/baseline", "streams/baseline")),
    *((of_another_condition, cell) for cell in ("steps/window-6", "heads/baseline")),
    *((of_another_run, cell) for cell in ("steps/baseline", "heads/window-6")),
    *((without_its_mark, cell) for cell in ("steps/window-6", "trajectories/baseline")),
    (stray, "steps/baseline"),
]


QUICK_ONES = [(cut, "heads/window-6"), (gone, "trajectories/baseline"), (of_another_condition, "steps/window-6"), (stray, "steps/baseline")]


@pytest.mark.parametrize(
    ("damage", "cell"),
    [pytest.param(*case, marks=() if case in QUICK_ONES else pytest.mark.slow, id=f"{case[0].__name__}-{case[1]}") for case in DAMAGES],
)
def test_a_damaged_cell_is_measured_again_alone(damage: Callable, cell: str, three_batches: Path, pair: Callable, tmp_path: Path) -> None:
    path, other = shutil.copytree(three_batches, tmp_path / "r"), tmp_path / "other"
    if damage is of_another_run:
        measure(job(pair("trained-post"), other, battery=(Windows(),)), silent)
    file = sorted(path.glob(f"{cell}-*.parquet"))[1]
    damage(file, other)
    before = {one: one.stat().st_mtime_ns for one in three_batches.glob("*/*.parquet")}
    untouched = {path / one.relative_to(three_batches) for one in before if one.name != file.name}
    stamps = {one: one.stat().st_ino for one in untouched}
    measure(job(pair("trained-pre"), path, battery=(Windows(),)), silent)
    assert_same_rows(three_batches, path)
    assert {one: one.stat().st_ino for one in untouched} == stamps, "another cell was written too"
    assert {one.relative_to(path) for one in path.glob("*/*")} == {one.relative_to(three_batches) for one in before}
    assert read_run(path).n_prompts == read_run(three_batches).n_prompts


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_cell_that_cannot_be_opened_just_now_is_not_thrown_away(
    number: int, three_batches: Path, pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(three_batches, tmp_path / "r")
    before = sorted(path.glob("*/*.parquet"))
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self.suffix == ".parquet":
            raise OSError(number, os.strerror(number))
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        measure(job(pair("trained-pre"), path, battery=(Windows(),)), silent)
    assert sorted(path.glob("*/*.parquet")) == before


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_whole_cells_and_the_run_goes_on_from_there(
    three_batches: Path, pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, path = pq.write_table, tmp_path / "r"
    for room in (0, 1, 3, 6, 9):
        left = room

        def write(table: pa.Table, file: BinaryIO, **more: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                file.write(b"PAR1 half")
                raise OSError(errno.ENOSPC, "No space left on device")
            written(table, file, **more)

        monkeypatch.setattr(pq, "write_table", write)
        with pytest.raises(OSError, match="No space left"):
            measure(job(pair("trained-pre"), path, battery=(Windows(),)), silent)
        assert not list(path.rglob("*.tmp"))
    monkeypatch.setattr(pq, "write_table", written)
    assert_same_rows(three_batches, measure(job(pair("trained-pre"), path, battery=(Windows(),)), silent))


@pytest.mark.parametrize("text", ["", '{\n "schema": 4,\n "compl', "[" * 100_000, "null", None])
def test_force_begins_anew_in_a_folder_that_was_begun_here_and_leaves_other_peoples_files(
    text: str | None, three_batches: Path, pair: Callable, tmp_path: Path
) -> None:
    path = shutil.copytree(three_batches, tmp_path / "r")
    (path / "run.json").unlink()
    if text is not None:
        (path / "run.json").write_text(text)
        (path / "notes.md").write_text("mine")
    (path / "steps" / "mine.csv").write_text("mine")
    with pytest.raises(RunError, match="--force"):
        measure(job(pair("trained-pre"), path, prompts(3)), silent)
    assert read_run(measure(job(pair("trained-pre"), path, prompts(3), force=True), silent)).n_prompts == 3
    assert [file.read_text() for file in (path / "steps" / "mine.csv", path / "notes.md") if file.exists()] == ["mine"] * (
        1 + (text is not None)
    )


@pytest.mark.parametrize("leftover", ["run.tmp", "run.json.0123abcd.tmp"])
def test_a_run_killed_before_its_manifest_was_there_begins(leftover: str, pair: Callable, tmp_path: Path) -> None:
    (tmp_path / leftover).write_text("{")
    assert read_run(measure(job(pair("pre"), tmp_path, prompts(2)), silent)).n_prompts == 2
    assert not (tmp_path / leftover).exists()


@pytest.mark.parametrize("name", ["a:b", "file:r", "s3:r", "r s"])
def test_a_folder_of_any_plain_name_is_written_and_read(name: str, pair: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = read_run(measure(job(pair("pre"), Path(name), prompts(2)), silent))
    assert run.estimate(walk_acceptance_length).value is not None
    measure(job(pair("pre"), Path(name), prompts(3)), silent)


def test_prompts_beyond_the_targets_positions_are_named_and_refused_where_none_can_be_computed(
    pair: Callable[[str], LoadedPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Prompt("too-long", text="x" * 600), *prompts(3)]  # a token a character
    notes = json.loads((measure(job(pair("pre"), tmp_path / "named", asked), silent) / "run.json").read_text())["notes"]
    assert "1 prompt may run past the target's 512 positions with what is replied, where servers would cut or refuse: too-long" in notes
    monkeypatch.setattr(LanguageModel, "room", 512)
    with pytest.raises(PromptError, match=r"prompt too-long: takes 60\d tokens as rendered .*, the target has 512 positions; shorten it"):
        measure(job(pair("pre"), tmp_path / "refused", asked), silent)
    assert not (tmp_path / "refused").exists()
