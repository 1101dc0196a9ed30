"""One row a layout: what it is detected as, how many tensors are used, how far the engine is from chains drafted alone, and where vLLM,
SGLang and the trainer disagree. Then the time of `driftcli scan` on a checkpoint of 1 GiB.

    python -m tests.benchmarks.layouts
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM
from transformers.utils import logging

from driftcli.conditions import DraftSettings
from driftcli.engine.chains import draft_chains
from driftcli.engine.trajectories import Trajectory
from driftcli.families.eagle.declaration import declare
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.formats import detect
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, load_language_model
from tests.edits import open_folder, tensors_of
from tests.layouts import LAYOUTS, Layout, write_layout, write_layout_target
from tests.reference import Lone, target_streams
from tests.tiny import prompts, trajectories

DEPTH = 5
EXPLAINED = ("d2t", "t2d", "t2d_indices")  # read as whole numbers, not as weights


def agreement(folder: Path, each: Layout, target: LanguageModel, plain: LlamaForCausalLM) -> tuple[str, str, float, set[str]]:
    """Layout as detected, weights that some reading uses, largest difference of a state from the lone chains in its RMS, and the switches that differ."""
    checkpoint = open_folder(folder / each.name)
    format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
    declaration, worst, used = declare(checkpoint, format, target.facts), 0.0, set[str]()
    weights = {name: tensor.float() for name, tensor in each.tensors.items() if name not in EXPLAINED}
    for reading, formula in each.formulas.items():
        drafter, _ = read_eagle(declaration, target, reading)  # type: ignore[arg-type]
        held = [tensor for tensor in tensors_of(drafter) if tensor.is_floating_point()]
        used |= {name for name, stored in weights.items() if any(stored.shape == t.shape and torch.equal(stored, t) for t in held)}
        (trajectory,) = trajectories(target, prompts(1), drafter.boundaries, 14)
        lone = Lone.of(folder / each.name, folder / "target", formula)
        worst = max(
            [worst, *differences(lone, trajectory, draft_chains(drafter, trajectory, DraftSettings(depth=DEPTH), DEPTH, free=False), plain)]
        )
    switches = {name for fields in declaration.differences().values() for name in fields}
    return format.name, f"{len(used)} of {len(weights)}", worst, switches


def differences(lone: Lone, trajectory: Trajectory, drafted: object, plain: LlamaForCausalLM) -> Iterator[float]:
    """Of every third anchor's states at every depth."""
    ids, first = trajectory.ids.tolist(), trajectory.prompt_length
    streams = target_streams(plain, ids, lone.formula.boundaries)
    for place in range(0, drafted.n_anchors, 3):  # type: ignore[attr-defined]
        for step, queries in zip(lone.chain(ids, streams, first + place, DEPTH, forced=True), drafted.forced, strict=True):  # type: ignore[attr-defined]
            yield float((queries.state[place] - step.state).abs().max() / step.state.square().mean().sqrt())


def large_checkpoint(folder: Path, layout: Layout) -> Path:
    """The layout with an embedding that fills the file up to 1 GiB, as a hole that takes no disk."""
    write_layout(folder, layout)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    rows = ((1 << 30) - end) // (8 * layout.config["hidden_size"])  # type: ignore[operator]
    width = int(layout.config["hidden_size"])  # type: ignore[call-overload]
    header["embed_tokens.weight"] = {"dtype": "F64", "shape": [rows, width], "data_offsets": [end, end + 8 * rows * width]}
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written + content[8 + size :])
        file.truncate(8 + len(written) + end + 8 * rows * width)
    (folder / "config.json").write_text(json.dumps({**layout.config, "vocab_size": rows}))
    return folder


SCAN = """
import sys
from driftcli.cli.main import main
try:
    main(["scan", "--drafter", sys.argv[1]])
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def scan_times(folder: Path) -> str:
    """Seconds of the whole command on 1 GiB, and the most memory that it held."""
    seconds, peaks = [], []
    for _ in range(3):
        start = perf_counter()
        ran = subprocess.run([sys.executable, "-c", SCAN, str(folder)], capture_output=True, text=True, check=True)
        seconds.append(perf_counter() - start)
        peaks.append(int(ran.stderr.split()[-2]) / 1024)
    size = (folder / "model.safetensors").stat().st_size / (1 << 30)
    return f"driftcli scan on {size:.2f} GiB: {min(seconds):.2f} s, best of 3 whole commands; {max(peaks):.0f} MiB of memory"


def main() -> None:
    """Print both."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    table = Table(box=None)
    for column in ("layout", "detected as", "weights used", "agreement error", "systems disagree on"):
        table.add_column(column, overflow="fold")
    with TemporaryDirectory() as name:
        folder = Path(name)
        target = load_language_model(Source("target", write_layout_target(folder / "target")), torch.device("cpu"), "float32")
        plain = LlamaForCausalLM.from_pretrained(folder / "target").eval()
        for each in LAYOUTS:
            write_layout(folder / each.name, each)
            detected, used, error, switches = agreement(folder, each, target, plain)
            table.add_row(each.name, detected, used, f"{error:.1e}", ", ".join(sorted(switches)) or "-")
        Console(width=160).print(table)
        print(scan_times(large_checkpoint(folder / "large", next(each for each in LAYOUTS if each.name == "modelopt"))))


if __name__ == "__main__":
    main()
