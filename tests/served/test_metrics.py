from __future__ import annotations

from driftcli.served.metrics import read_metrics

TEXT = r"""# HELP vllm:drafts_total Drafts.
# TYPE vllm:drafts_total counter
vllm:drafts_total{engine="0",model_name="a \"b\" {c}, d=\"e\""} 3.0
vllm:drafts_total{engine="1",model_name="m"} 4.0 1700000000000
vllm:drafts_created{engine="0"} 1.7e+09
vllm:kept_total{engine="0",position="0"} 2
vllm:kept_total{engine="1",position="0"} 5
vllm:kept_total{engine="0",position="1"} 1
vllm:plain 7
vllm:broken{engine="0"} NaN
vllm:broken_too{engine="0"
vllm:endless{} +Inf
vllm:words{} many
python_info{version="3.12"} 1.0
"""


def test_counters_are_summed_over_engines_whatever_their_labels_hold() -> None:
    samples = read_metrics(TEXT.encode(), "vllm:")
    assert samples.total("vllm:drafts") == 7
    assert samples.by_label("vllm:kept", "position") == {"0": 7, "1": 1}
    assert samples.total("vllm:plain") == 7
    assert samples.labels("vllm:drafts") == {"engine": "0", "model_name": r"a \"b\" {c}, d=\"e\""}


def test_what_is_no_finite_number_or_of_another_is_left_out() -> None:
    samples = read_metrics(TEXT.encode(), "vllm:")
    assert not any(samples.has(name) for name in ("vllm:broken", "vllm:broken_too", "vllm:endless", "vllm:words", "python_info"))
    assert samples.total("vllm:broken") is None and samples.labels("vllm:nothing") == {}


def test_any_bytes_are_read() -> None:
    assert read_metrics(
        b"\xff\xfe\x00vllm:\n" + b"vllm:a{" + b'x="y",' * 9000 + b"} 1\nvllm:b 1\r\nvllm:" + b"c" * 99, "vllm:"
    ).by_name == {"vllm:b": [({}, 1.0)]}
