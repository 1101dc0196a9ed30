from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from driftcli.domain import Sourced
from driftcli.report.console import plain
from driftcli.report.scan import render, render_json
from driftcli.scanned import Check, Scan

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
)


def shown(scan: Scan) -> str:
    return plain(render(scan))


def test_a_scan_reads_as_agreed(golden: Callable[[str, str], None]) -> None:
    golden("scan.txt", shown(SCAN))
    golden("scan.json", render_json(SCAN))


def test_warnings_come_first_and_differences_are_marked() -> None:
    text = shown(SCAN)
    assert text.index("normed as served") < text.index("drafts from all")
    assert "state fed back  differs" in text and "residual  differs" not in text
    assert "SGLang 0.5.23 cannot run it: some-head: a reason" in text


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
