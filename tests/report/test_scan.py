from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from driftcli.domain import Sourced
from driftcli.report.console import plain
from driftcli.report.scan import _doubt, render, render_json
from driftcli.scanned import Check, Scan, Unread

FIELDS = {
    "capture": (2, 4, 5), "pre_fc_norm": "per stream", "hidden_norms": 1, "residual": "raw", "deeper_norm": "input_layernorm", "biases": False,
    "fusion_bias": False, "embedding": "target's", "windows": "all rows", "window_from": "query", "rope": "rope_theta 5000.0, rope_type default",
    "logits_from": "normed", "feedback": "normed",
}  # fmt: skip


def fields(**changes: object) -> dict[str, Sourced]:
    return {name: Sourced(changes.get(name, value), "tensor") for name, value in FIELDS.items()}  # type: ignore[arg-type]


SCAN = Scan(
    drafter="some-head",
    target="some-target",
    format="EAGLE-3, SpecForge or SGLang layout",
    record={"reading": Sourced("as_served:vllm", "default:vLLM"), "width": Sourced(48, "tensor"), **fields()},
    readings={"as_served:sglang": {"refused": Sourced("some-head: a reason", "default:SGLang")}, "as_trained": fields(feedback="raw")},
    checks=(Check("vocabulary", "ok", "drafts from all 260 tokens"), Check("norms", "warning", "normed as served, raw as trained")),
    pitfalls=("norm_output is true: the trap of the inverted flag",),
    classes={"as_served:vllm": "Eagle3LlamaForCausalLM"},
)


def shown(scan: Scan) -> str:
    return plain(render(scan))


def test_a_scan_reads_as_agreed(golden: Callable[[str, str], None]) -> None:
    golden("scan.txt", shown(SCAN))
    golden("scan.json", render_json(SCAN))


def test_what_is_wrong_comes_first_the_costliest_first_and_what_is_fine_in_one_line() -> None:
    lines = shown(SCAN).splitlines()
    at = lines.index("FINDINGS")
    assert lines[at + 1 : at + 5] == [
        "- SGLang 0.5.23 cannot run it: a reason",
        "- norms: normed as served, raw as trained",
        "- norm_output is true: the trap of the inverted flag",
        "- fine: vocabulary",
    ]
    fine = shown(replace(SCAN, readings={"as_trained": fields()}, checks=SCAN.checks[:1], pitfalls=()))
    assert "No finding in config and headers.\n- fine: vocabulary" in fine and "FINDINGS" not in fine


def test_differences_are_marked_and_a_guess_is_called_one() -> None:
    text = shown(SCAN)
    assert "state fed back  differs" in text and "residual  differs" not in text
    assert ["class", "built", "Eagle3LlamaForCausalLM"] in [line.split() for line in text.splitlines()]
    assert "raw (a guess)" not in text
    guessed = fields(feedback="raw") | {"feedback": Sourced("raw", "assumed:who made it")}
    assert "raw (a guess)" in shown(replace(SCAN, readings={"as_trained": guessed}))


def test_only_what_is_known_to_differ_is_red() -> None:
    known = [Sourced("normed", "tensor"), Sourced("raw", "config:norm_output")]
    assert _doubt(known) == "bold red"
    assert _doubt([known[0], Sourced("raw", "assumed:who made it")]) == "yellow"


def test_what_is_not_read_has_its_family_and_all_its_tensors_as_json() -> None:
    found = Unread("some-head", "DFlash", "some-head: holds a DFlash drafter", {"layers.*.a": 5, "fc.weight": 1})
    assert json.loads(render_json(found)) == {
        "schema": 1,
        "drafter": "some-head",
        "family": "DFlash",
        "refused": "some-head: holds a DFlash drafter",
        "tensors": {"layers.*.a": 5, "fc.weight": 1},
    }


def test_a_scan_as_json_has_its_schema_and_every_source() -> None:
    content = json.loads(render_json(SCAN))
    assert content["schema"] == 1
    assert content["record"]["capture"] == {"value": [2, 4, 5], "source": "tensor"}
    assert content["readings"]["as_trained"]["feedback"]["value"] == "raw"
    assert content["checks"][0] == {"subject": "vocabulary", "state": "ok", "text": "drafts from all 260 tokens"}


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "[bold]x[/bold]", "a\u202eb"])
def test_text_from_a_checkpoint_cannot_drive_the_terminal(hostile: str) -> None:
    text = shown(Scan(hostile, hostile, hostile, {"reading": Sourced("as_served:vllm", ""), "x": Sourced(hostile, hostile), **fields()},
                             {"as_trained": fields(rope=hostile)}, (Check("norms", "note", hostile),), (hostile,)))  # fmt: skip
    assert "\x1b" not in text and "\u202e" not in text
    assert ("[bold]" in text) == ("[bold]" in hostile)
