"""What the battery says of faults planted into sound heads: `python -m tests.benchmarks.planted_faults [--target T --drafter D ...]`.

Each fault is written into a copy of a checkpoint, as an export or a config gone wrong would leave it, and diagnosed like any pair. Printed
is a line a case: the code that is right, the codes of the wiring axis that were found, and drift findings on the declared wiring, of which
a fault should leave none. Without arguments the bundled pair's two heads are taken. The target writes its replies once, not once a fault.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftcli.codes import BY_NAME
from driftcli.conditions import BASELINE, Wiring
from driftcli.domain import Prompt, RunSpec, Verdict
from driftcli.engine.run import Job, measure
from driftcli.engine.texts import write_texts
from driftcli.families.mtp.head import Mtp
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report.verdict import judge
from driftcli.sources.files import read_config, resolve
from driftcli.target.language_model import LanguageModel, quiet_transformers
from driftcli.texts.prompts import builtin_prompts, bundled_prompts, limited
from driftcli.traces.reader import read_run
from probes import BATTERY

ASKED = ("wiring", "position-range", "controls", "chain-length")
BUNDLED = ("bundled:target", ("bundled:pre-norm", "bundled:post-norm"))
Tensors = dict[str, Tensor]
Config = dict[str, object]


@dataclass(frozen=True)
class Files:
    """A checkpoint's files, to be changed, and its target's config and folder."""

    config: Config
    tensors: Tensors
    target: Config
    of: Path


@dataclass(frozen=True)
class Fault:
    """What goes wrong in the files, and the code that names it; no code for a sound copy. of_target: in the target's, which answers as
    before. served: how a server puts the head together that does not do so as it was trained.
    """

    name: str
    code: str | None
    plant: Callable[[Files], None]
    of_target: bool = False
    served: Wiring | None = None


def late_layers(files: Files) -> None:
    layers = int(str(files.target["num_hidden_layers"]))
    files.config["eagle_aux_hidden_state_layer_ids"] = [3, layers // 2 + 1, layers - 2]


def other_order(files: Files) -> None:
    first, second, third = files.tensors["fc.weight"].chunk(3, dim=1)
    files.tensors["fc.weight"] = torch.cat([third, first, second], dim=1)
    norms = [files.tensors.get(f"fc_norm.{number}.weight") for number in (2, 0, 1)]
    files.tensors.update({f"fc_norm.{number}.weight": norm.clone() for number, norm in enumerate(norms) if norm is not None})


def flipped_feedback(files: Files) -> None:
    files.config["norm_output"] = not files.config.get("norm_output", False)


def absolute_map(files: Files) -> None:
    files.tensors["d2t"] = files.tensors["d2t"] + torch.arange(len(files.tensors["d2t"]))


def random_head(files: Files) -> None:
    files.tensors["lm_head.weight"] = like(files.tensors["lm_head.weight"])


def random_embedding(files: Files) -> None:
    rows, width = int(str(files.target["vocab_size"])), int(str(files.config["hidden_size"]))
    files.tensors["embed_tokens.weight"] = 0.02 * torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def other_base(base: float) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        files.config["rope_theta"] = base

    return plant


def short_table(files: Files) -> None:
    files.config["max_position_embeddings"] = 64


def lost_gains(files: Files) -> None:
    for name in files.tensors:
        if "norm" in name:
            files.tensors[name] = torch.ones_like(files.tensors[name])


def zero_map(files: Files) -> None:
    files.tensors["d2t"] = torch.zeros_like(files.tensors["d2t"])


def lost_map(files: Files) -> None:
    zero_map(files)
    files.tensors.pop("t2d", None)


def rotated(files: Files) -> None:
    """The residual stream of a Llama turned by an orthogonal matrix, the norms' gains folded into what follows them: every logit stays."""
    tensors, width = files.tensors, int(str(files.config["hidden_size"]))
    head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"]).double()
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    for name in [name for name in tensors if name.endswith("layernorm.weight")]:
        layer, gain = name.rsplit(".", 2)[0], tensors[name].double()
        readers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj") if "input" in name else ("mlp.gate_proj", "mlp.up_proj")
        for reader in readers:
            tensors[f"{layer}.{reader}.weight"] = (tensors[f"{layer}.{reader}.weight"].double() * gain) @ turn
        writer = f"{layer}.{'self_attn.o_proj' if 'input' in name else 'mlp.down_proj'}"
        tensors[f"{writer}.weight"] = turn.T @ tensors[f"{writer}.weight"].double()
        if f"{writer}.bias" in tensors:
            tensors[f"{writer}.bias"] = tensors[f"{writer}.bias"].double() @ turn
        tensors[name] = torch.ones_like(tensors[name])
    tensors["lm_head.weight"] = (head * tensors["model.norm.weight"].double()) @ turn
    tensors["model.norm.weight"] = torch.ones_like(tensors["model.norm.weight"])
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].double() @ turn
    files.tensors.update({name: tensor.float() for name, tensor in tensors.items()})
    files.config["tie_word_embeddings"] = False


def exchanged_halves(files: Files) -> None:
    (name,) = [name for name in files.tensors if name.endswith("eh_proj.weight")]
    files.tensors[name] = torch.cat(files.tensors[name].chunk(2, dim=1)[::-1], dim=1)


def gains_less_one(files: Files) -> None:
    for name in files.tensors:
        if "norm" in name:
            files.tensors[name] = files.tensors[name].float() - 1


def nothing(files: Files) -> None:
    """A sound copy."""


def like(weight: Tensor) -> Tensor:
    """Noise of the same spread."""
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return (noise * weight.float().std()).to(weight.dtype)


FAULTS = (
    Fault("sound", None, nothing),
    Fault("layer ids late by one", "AUX-LAYERS", late_layers),
    Fault("fc columns in another order", "AUX-LAYERS", other_order),
    Fault("feedback flag flipped", "FEEDBACK-MODE", flipped_feedback),
    Fault("d2t absolute", "VOCAB-MAP", absolute_map),
    Fault("head random", "LOAD-BROKEN", random_head),
    Fault("embedding random", "LOAD-BROKEN", random_embedding),
    Fault("RoPE base 100", "ROPE-MISMATCH", other_base(100.0)),
    Fault("position table of 64", "POS-RANGE", short_table),
    Fault("norm gains at 1", "NORM-MISMATCH", lost_gains),
    Fault("target rotated under it", "LOAD-BROKEN", rotated, of_target=True),
    Fault("d2t all zeros", "VOCAB-MAP", zero_map),
    Fault("d2t all zeros, no t2d", "VOCAB-MAP", lost_map),
)

BEFORE_FINAL_NORM = Wiring(capture=(-1,))  # counted from the boundary behind it
OF_MTP = (
    Fault("sound", None, nothing),
    Fault("halves exchanged", "FUSION-ORDER", exchanged_halves),
    Fault("gains stored less one", "NORM-MISMATCH", gains_less_one),
    Fault("raw state fed back", "FEEDBACK-MODE", nothing, served=Wiring(feedback="raw")),
    Fault("hand-in before final norm", "AUX-LAYERS", nothing, served=BEFORE_FINAL_NORM),
)


def served_as(pair: LoadedPair, wiring: Wiring) -> LoadedPair:
    """The pair with an MTP head put together otherwise, and what it was before among what its files leave open."""
    head = pair.drafter
    assert isinstance(head, Mtp)
    wiring = Wiring(capture=(head.boundary - 1,)) if wiring == BEFORE_FINAL_NORM else wiring
    before = Wiring(capture=(head.boundary,)) if wiring.capture else Wiring(feedback=head.feedback)
    rest = tuple(one for one in pair.card.alternatives if one.changes.keys() != wiring.changes.keys())
    return replace(pair, drafter=head.wired(wiring), card=replace(pair.card, alternatives=(before, *rest)))


def planted(fault: Fault, drafter: str, target: str, folder: Path) -> Path:
    """A copy of the drafter, or of the target, with the fault in it."""
    shutil.copytree(resolve(target if fault.of_target else drafter).folder, folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    of = resolve(target).folder
    fault.plant(Files(config, tensors, json.loads((of / "config.json").read_text()), of))
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def answered(target: LanguageModel, prompts: Sequence[Prompt], longest: int) -> list[Prompt]:
    """The first turns of prompts with the target's own replies, the tokens that end them included."""
    firsts = [replace(prompt, messages=prompt.turns[0]) for prompt in prompts]
    texts = write_texts(target, firsts, longest)
    return [replace(text.prompt, response=str(target.tokenizer.decode(list(text.ids[text.prompt_length :])))) for text in texts]


def diagnosed(pair: LoadedPair, prompts: Sequence[Prompt], out: Path) -> Verdict:
    battery, spec = [probe for probe in BATTERY if probe.name in ASKED], RunSpec(quick=True)
    return judge(read_run(measure(Job(pair, prompts, battery, spec, out, [probe.name for probe in battery]), lambda *_: None)), battery)


def case(fault: Fault, verdict: Verdict) -> tuple[bool, str]:
    """Whether the fault was named right and nothing else, and the line that says so."""
    wiring = sorted({found.code for found in verdict.findings if BY_NAME[found.code].axis == "wiring"})
    drift = sorted(
        {
            found.code
            for found in verdict.findings
            if BY_NAME[found.code].axis == "drift" and found.severity != "healthy" and found.condition == BASELINE
        }
    )
    read_as_meant = fault.plant in (
        absolute_map,
        zero_map,
    )  # what is declared to servers cannot be drafted with: the baseline is the map mended
    right = wiring == ([fault.code] if fault.code else []) and (not fault.code or not drift or read_as_meant)
    return (
        right,
        f"{fault.name:28} {fault.code or '-':14} {', '.join(wiring) or '-':30} {', '.join(drift) or '-':24} {'ok' if right else 'WRONG'}",
    )


def table(target: str, drafter: str, faults: Sequence[Fault], asked: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    prompts: list[Prompt] = []
    for fault in faults:
        with TemporaryDirectory() as scratch:
            copy = str(planted(fault, drafter, target, Path(scratch) / "copy"))
            models = (copy, drafter) if fault.of_target else (target, copy)
            pair = load_pair(*models, torch.device(asked.device), "auto")
            pair = pair if fault.served is None else served_as(pair, fault.served)
            if not prompts:
                known = bundled_prompts() if target.startswith("bundled:") else builtin_prompts()
                prompts = answered(pair.target, limited(known, asked.prompts), asked.max_new_tokens)
            verdict = diagnosed(pair, prompts, Path(scratch) / "run")
            right, line = case(fault, verdict)
            yield right, line
            for found in verdict.findings:
                if BY_NAME[found.code].axis == "wiring":
                    yield True, f"    {found.claim}"
            if verdict.axes["wiring"].state != "miswired":
                yield True, f"    wiring {verdict.axes['wiring'].state}: {verdict.axes['wiring'].reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=BUNDLED[0])
    parser.add_argument("--drafter", nargs="+", default=BUNDLED[1])
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", help="Words of the faults to plant.")
    asked = parser.parse_args()
    quiet_transformers()
    right = total = 0
    for drafter in asked.drafter:
        print(f"\n{asked.target} <- {drafter}, {asked.prompts} prompts\n{'fault':28} {'its code':14} {'found':30} {'drift as declared':24}")
        kinds = OF_MTP if "num_nextn_predict_layers" in read_config(resolve(drafter)) else FAULTS
        faults = [fault for fault in kinds if not asked.only or any(word in fault.name for word in asked.only)]
        for good, line in table(asked.target, drafter, faults, asked):
            print(line, flush=True)
            right, total = right + (good and not line.startswith(" ")), total + (not line.startswith(" "))
    print(f"\n{right} of {total} cases named right and nothing else")


if __name__ == "__main__":
    main()
