"""`diagnose --against-target` on the pair that ships, its target rounded to few bits; what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from driftcli.cli.diagnosis import diagnose_pair
from driftcli.cli.main import main
from driftcli.cli.planning import plan_of
from driftcli.comparison.twins import told
from driftcli.domain import RunSpec
from driftcli.errors import RunError, UsageError
from driftcli.traces.reader import read_run
from tests.cli.test_diagnosis import request
from tests.edits import refused
from tests.quantised import write_rounded
from tests.tiny import write_target

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "driftcli" / "bundled"
ASKED = ("--drafter", "bundled:post-norm", "--prompts", str(BUNDLED / "prompts.jsonl"), "--limit", "24", "--max-new-tokens", "32")


def diagnosed(out: Path, *options: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", *ASKED, "--depth", "4", "--probe", "vocabulary", "--no-quick", "--device", "cpu", "--out", str(out), *options])
    return ended.value.code


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of the pair that ships, and one of its target rounded to three bits, held against the first."""
    folder = tmp_path_factory.mktemp("bundled")
    target = write_rounded(BUNDLED / "target", folder / "int3", 3)
    assert diagnosed(folder / "float", "--target", "bundled:target") == 0
    assert diagnosed(folder / "rounded", "--target", str(target), "--against-target", str(folder / "float")) == 0
    return folder / "float", folder / "rounded"


def shown(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit):
        main(["report", str(run), *options])
    return capsys.readouterr().out


def test_rounding_to_three_bits_is_found_though_only_another_probe_was_named(
    found: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(shown(found[1], capsys, "--format", "json"))
    assert [finding["code"] for finding in told["findings"]] == ["TARGET-SHIFT"]
    assert told["verdict"]["axes"]["domain"]["state"] in ("mild", "moderate")
    assert read_run(found[1]).probe_names == ["vocabulary", "target-shift"]


def test_every_report_tells_the_same_lines(found: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(found[1], capsys, "--format", "json"))["target_shift"]
    change = f"{told['change']['value']:+.2f} [{told['change']['low']:+.2f}, {told['change']['high']:+.2f}]"
    differ = f"{told['replies']['parted']} of {told['replies']['replies']} replies behind the same conversation differ"
    assert told["change"]["value"] == pytest.approx(sum(part["value"] for part in told["change_by"].values()))
    for options in (("--full",), ("--format", "markdown"), ("--format", "html")):
        text = " ".join(shown(found[1], capsys, *options).replace("\\]", "]").split())
        assert change in text and differ in text, options
        assert "against the twin" in text.lower() or "Against the <a" in text, options
    assert "against the twin" in shown(found[1], capsys).lower()


def test_a_run_without_a_twin_tells_nothing_of_one(found: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(found[0], capsys, "--format", "json"))["target_shift"] is None
    for options in (("--full",), ("--format", "markdown"), ("--format", "html")):
        assert "Against the" not in shown(found[0], capsys, *options).replace("AGAINST", "Against")


def compared(first: Path, second: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(first), str(second), "--format", "markdown"])
    return ended.value.code, *capsys.readouterr()


def test_the_two_runs_compare_without_a_model_in_the_words_of_the_report(
    found: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = compared(*found, capsys)
    shift = read_run(found[1]).shift
    assert code == 0 and shift is not None
    assert all(line.split(" (")[0] in out.replace("\\]", "]").replace("\\_", "_") for line in told(shift)[2:])
    assert "the runs also differ in target" in out


def test_runs_of_two_targets_that_were_not_held_against_one_another_do_not_compare(
    found: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = compared(found[1], found[0], capsys)
    assert (code, out) == (3, "")
    assert "they differ in target (/" in err and f"driftcli diagnose --against-target {found[1]}, or compare them all the same" in err


def test_a_manifest_whose_twin_is_no_twin_is_refused_by_its_place(found: tuple[Path, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(found[1], tmp_path / "r"))
    manifest = json.loads((run / "run.json").read_text())
    for key, value in (("dtype", 32), ("target", None), ("wiring", {"no": "such"}), ("quantisation", [])):
        (run / "run.json").write_text(json.dumps({**manifest, "twin": {**manifest["twin"], key: value}}))
        refused(RunError, lambda: read_run(run), f"twin.{key}")
    (run / "run.json").write_text(json.dumps({**manifest, "target_quantisation": 4}))
    refused(RunError, lambda: read_run(run), "target_quantisation")


@pytest.fixture(scope="module")
def twin(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("twin") / "r"
    diagnose_pair(request(models, out, probes=["vocabulary"]))
    return out


OTHER: dict[str, tuple[RunSpec, dict[str, object], str]] = {  # what is asked otherwise, and what is said of it
    "replies": (RunSpec(depth=3, max_new_tokens=10), {}, "was asked with --max-new-tokens 12, this one with 10; measure both alike"),
    "depth": (RunSpec(depth=2, max_new_tokens=12), {}, "was asked with --depth 3, this one with 2"),
    "temperature": (RunSpec(depth=3, max_new_tokens=12, temperature=0.7), {}, "was asked with --temperature 0, this one with 0.7"),
    "prompts": (RunSpec(depth=3, max_new_tokens=12), {"limit": 9}, "has no reply to 1 of the 9 prompts"),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_run_that_was_asked_otherwise_is_refused_before_any_model_is_loaded(models: Path, twin: Path, tmp_path: Path, case: str) -> None:
    spec, changes, says = OTHER[case]
    asked = request(models, tmp_path / "r", probes=["vocabulary"], target="/nowhere", against_target=twin, spec=spec, **changes)
    refused(RunError, lambda: diagnose_pair(asked), f"--against-target {twin}", says)
    refused(RunError, lambda: plan_of(asked), says)


def against(models: Path, out: Path, twin: Path, **changes: object) -> Callable[[], object]:
    return lambda: diagnose_pair(request(models, out, **{"probes": ["vocabulary"], "against_target": twin, **changes}))


def test_an_unfinished_run_or_none_is_refused(models: Path, twin: Path, tmp_path: Path) -> None:
    begun = Path(shutil.copytree(twin, tmp_path / "begun"))
    manifest = json.loads((begun / "run.json").read_text())
    (begun / "run.json").write_text(json.dumps({**manifest, "complete": False}))
    refused(RunError, against(models, tmp_path / "r", begun), "this run is not finished")
    refused(RunError, against(models, tmp_path / "r", tmp_path / "nothing"), "no run.json")


def test_an_older_run_drawn_replies_and_given_ones_are_refused(models: Path, twin: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(twin, tmp_path / "older"))
    manifest = json.loads((older / "run.json").read_text())
    (older / "run.json").write_text(json.dumps({**manifest, "schema": 5}))
    refused(RunError, against(models, tmp_path / "r", older), "written with trace schema 5", "measure it again")
    spec = RunSpec(depth=3, max_new_tokens=12, temperature=0.7)
    diagnose_pair(request(models, tmp_path / "drawn", probes=["vocabulary"], spec=spec))
    refused(RunError, against(models, tmp_path / "r", tmp_path / "drawn", spec=spec), "part by chance", "greedy ones")
    prompts = tmp_path / "given.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": f"p{n}", "text": f"question {n}", "response": "an answer that is given"}) + "\n" for n in range(2))
    )
    diagnose_pair(request(models, tmp_path / "given", probes=["vocabulary"], prompts=prompts))
    refused(RunError, against(models, tmp_path / "r", tmp_path / "given", prompts=prompts), "has given replies (p0, p1)")


def test_another_drafter_another_reading_and_another_tokenizer_are_refused(models: Path, twin: Path, tmp_path: Path) -> None:
    refused(RunError, against(models, tmp_path / "r", twin, drafter=str(models / "post")), "has the drafter", "with one drafter")
    trained = against(models, tmp_path / "r", twin, reading="as_trained")
    refused(RunError, trained, "reads the head as as_served:vllm, this one as as_trained")
    swapped = write_target(tmp_path / "swapped", swapped=True)
    refused(
        RunError, against(models, tmp_path / "r", twin, target=str(swapped)), "has another tokenizer: 2 of its tokens stand for other text"
    )
    bare = write_target(tmp_path / "bare", template=False)
    refused(RunError, against(models, tmp_path / "r", twin, target=str(bare)), "renders 8 of 8 prompts", "to other tokens")
    assert not (tmp_path / "r" / "run.json").exists()


def test_the_probe_without_a_twin_is_refused(models: Path, tmp_path: Path) -> None:
    asked = request(models, tmp_path / "r", probes=["target-shift"])
    refused(UsageError, lambda: diagnose_pair(asked), "--probe target-shift", "--against-target RUN")


def test_another_twin_is_another_request(models: Path, twin: Path, tmp_path: Path) -> None:
    against(models, tmp_path / "r", twin)()
    other = tmp_path / "other"
    diagnose_pair(request(models, other, probes=["vocabulary", "reply-position"]))
    refused(RunError, against(models, tmp_path / "r", other), "holds another request (against was ")


def test_a_plan_counts_the_twins_conditions(models: Path, twin: Path, tmp_path: Path) -> None:
    alone, held = (request(models, tmp_path / "r", probes=["vocabulary"], **more) for more in ({}, {"against_target": twin}))
    before, after = plan_of(alone), plan_of(held)
    assert after.conditions == {**before.conditions, "target-shift": 2}
