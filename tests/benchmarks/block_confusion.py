"""What the wiring search says of faults planted into sound block drafters: `python -m tests.benchmarks.block_confusion [--drafter D ...]`.

Each fault is written into a copy of a checkpoint, as an export or a config gone wrong would leave it, and diagnosed like any pair, with
the target's replies written once. Printed is a line a case: the code that is right, what was found, and the acceptance length beside that of
the sound copy: a fault that costs nothing cannot be named and need not be.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from driftcli.codes import BY_NAME
from driftcli.conditions import BASELINE
from driftcli.domain import Estimate, Prompt, RunSpec
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import load_pair
from driftcli.report.verdict import judge
from driftcli.sources.files import read_config, resolve
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.target.language_model import load_language_model, quiet_transformers
from driftcli.texts.prompts import builtin_prompts, bundled_prompts, limited
from driftcli.traces.reader import read_run
from probes import BATTERY
from tests.benchmarks.planted_faults import Config, Fault, Files, answered, like, lost_gains, nothing, planted, random_head

BUNDLED = ("bundled:target", ("bundled:dflash", "bundled:dspark"))
SHORT_WINDOW = 8  # rows


def inside(files: Files) -> Config:
    """Where a drafter's own settings stand: in `dflash_config`, or at the top."""
    own = files.config.get("dflash_config", files.config)
    assert isinstance(own, dict)
    return own


def layers_of(files: Files) -> Config:
    """Where those of its layers stand."""
    own = files.config.get("transformer_layer_config", files.config)
    assert isinstance(own, dict)
    return own


def other_mask(token: int) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        inside(files)["mask_token_id"] = token

    return plant


def shifted_layers(shift: int) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        own = inside(files)
        name = "target_layer_ids" if "target_layer_ids" in own else "aux_hidden_state_layer_ids"
        ids = own[name]
        assert isinstance(ids, list)
        own[name] = [one + shift for one in ids]

    return plant


def swapped_columns(files: Files) -> None:
    first, *rest = files.tensors["fc.weight"].chunk(len(files.tensors["fc.weight"][0]) // len(files.tensors["fc.weight"]), dim=1)
    files.tensors["fc.weight"] = torch.cat([*rest, first], dim=1)


def causal(files: Files) -> None:
    layers_of(files)["is_causal"] = True


def short_window(files: Files) -> None:
    layers = layers_of(files)
    count = int(str(layers["num_hidden_layers"]))
    layers.update({"layer_types": ["sliding_attention"] * count, "sliding_window": SHORT_WINDOW, "use_sliding_window": True})
    layers["is_causal"] = False


def rope_base(base: float) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        layers_of(files)["rope_parameters"] = {"rope_type": "default", "rope_theta": base}

    return plant


def target_base(files: Files) -> None:
    layers_of(files)["rope_parameters"] = files.target["rope_parameters"]


def paired_rotation(files: Files) -> None:
    files.config["is_neox_style"] = False


def own_rows(files: Files) -> None:
    """Embeddings and output rows of its own, which are the target's."""
    held = load_file(files.of / "model.safetensors")
    rows = held.get("lm_head.weight", held["model.embed_tokens.weight"])
    files.tensors["embed_tokens.weight"], files.tensors["lm_head.weight"] = rows.clone(), rows.clone()


def other_slots(files: Files) -> None:
    """A DSpark's flag turned round; a DFlash named and laid out as DeepSpec does, which begins at the anchor."""
    if "sample_from_anchor" in files.config:
        files.config["sample_from_anchor"] = not files.config["sample_from_anchor"]
        return
    own_rows(files)
    own = files.config.pop("dflash_config")
    assert isinstance(own, dict)
    files.config.update(own)


def stale_head(files: Files) -> None:
    own_rows(files)
    random_head(files)


def stale_embedding(files: Files) -> None:
    own_rows(files)
    files.tensors["embed_tokens.weight"] = like(files.tensors["embed_tokens.weight"])


def large_eps(files: Files) -> None:
    layers_of(files)["rms_norm_eps"] = 0.1


def lost_bias(files: Files) -> None:
    name = "markov_head.markov_w2.weight"
    files.tensors[name] = like(files.tensors[name])


EVERY = (
    Fault("sound", None, nothing),
    Fault("mask token 0", "MASK-TOKEN", other_mask(0)),
    Fault("mask token 1 (end)", "MASK-TOKEN", other_mask(1)),
    Fault("mask token 700", "MASK-TOKEN", other_mask(700)),
    Fault("layer ids late by one", "AUX-LAYERS", shifted_layers(1)),
    Fault("layer ids early by one", "AUX-LAYERS", shifted_layers(-1)),
    Fault("fc columns in another order", "AUX-LAYERS", swapped_columns),
    Fault("attention causal", "BLOCK-ATTENTION", causal),
    Fault("window of 8 rows", "WINDOW-MISMATCH", short_window),
    Fault("RoPE base 100", "ROPE-MISMATCH", rope_base(100.0)),
    Fault("RoPE base of the target", "ROPE-MISMATCH", target_base),
    Fault("RoPE turns pairs", "ROPE-MISMATCH", paired_rotation),
    Fault("slots of the other kind", "BLOCK-SLOTS", other_slots),
    Fault("own output rows random", "LOAD-BROKEN", stale_head),
    Fault("own embeddings random", "LOAD-BROKEN", stale_embedding),
    Fault("rms_norm_eps 0.1", "NORM-MISMATCH", large_eps),
    Fault("norm gains at 1", "NORM-MISMATCH", lost_gains),
)
OF_DSPARK = (Fault("bias by the token before random", "LOAD-BROKEN", lost_bias),)


@dataclass(frozen=True)
class Case:
    """What a diagnosis gave: codes of the wiring axis, its state and reason, claims, and acceptance length."""

    found: tuple[str, ...]
    state: str
    said: tuple[str, ...]
    length: float

    def right(self, fault: Fault) -> bool:
        """Whether the fault was named, and nothing else."""
        return self.found == ((fault.code,) if fault.code else ())


def case(target: str, drafter: str, prompts: Sequence[Prompt], out: Path) -> Case:
    """The wiring search on one pair."""
    pair, battery = load_pair(target, drafter, torch.device("cpu"), "auto"), [probe for probe in BATTERY if probe.name == "wiring"]
    trace = read_run(measure(Job(pair, prompts, battery, RunSpec(quick=True), out, ["wiring"]), lambda *_: None))
    verdict = judge(trace, battery)
    named = [found for found in verdict.findings if BY_NAME[found.code].axis == "wiring"]
    axis = verdict.axes["wiring"]
    said = [found.claim for found in named] or [f"{axis.state}: {axis.reason}"]
    length = trace.estimate(walk_acceptance_length, BASELINE)
    assert isinstance(length, Estimate), length
    return Case(tuple(sorted({found.code for found in named})), axis.state, tuple(said), length.value)


def table(target: str, drafter: str, prompts: Sequence[Prompt], only: Sequence[str]) -> Iterator[str]:
    """A line a fault, and below it what was said."""
    of_dspark = "markov_rank" in read_config(resolve(drafter))
    sound = None
    for fault in (*EVERY, *(OF_DSPARK if of_dspark else ())):
        if fault.code and only and not any(word in fault.name for word in only):
            continue
        with TemporaryDirectory() as scratch:
            found = case(target, str(planted(fault, drafter, target, Path(scratch) / "copy")), prompts, Path(scratch) / "run")
        sound = sound or found.length
        lost = (sound - found.length) / (sound - 1)
        verdict = "ok" if found.right(fault) else "not named" if not found.found else "WRONG"
        yield f"{fault.name:32} {fault.code or '-':16} {', '.join(found.found) or '-':32} {found.length:5.2f} {lost:5.0%}  {verdict}"
        yield from (f"    {claim}" for claim in found.said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=BUNDLED[0])
    parser.add_argument("--drafter", nargs="+", default=BUNDLED[1])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--only", nargs="+", default=(), help="Words of the faults to plant.")
    asked = parser.parse_args()
    quiet_transformers()
    known = bundled_prompts() if asked.target.startswith("bundled:") else builtin_prompts()
    target = load_language_model(resolve(asked.target), torch.device("cpu"), "auto")
    prompts = answered(target, limited(known, asked.prompts), asked.max_new_tokens)
    for drafter in asked.drafter:
        print(f"\n{asked.target} <- {drafter}, {asked.prompts} prompts")
        print(f"{'fault':32} {'its code':16} {'found':32} {'kept':5}  lost")
        for line in table(asked.target, drafter, prompts, asked.only):
            print(line, flush=True)


if __name__ == "__main__":
    main()
