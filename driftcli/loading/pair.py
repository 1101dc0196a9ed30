"""Target and drafter loaded together and proved to belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from driftcli.domain import ModelCard, PairCard, Sourced, System
from driftcli.errors import FormatError, PairError, SourceError, UsageError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.eagle.alternatives import alternatives
from driftcli.families.eagle.declaration import declare
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.eagle.loading import read_eagle
from driftcli.families.eagle.pitfalls import pitfalls
from driftcli.families.formats import FORMATS, detect
from driftcli.printable import masked
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint
from driftcli.sources.files import SMALL_FILES, Source, resolve, weight_files
from driftcli.target.facts import read_facts
from driftcli.target.language_model import Dtype, LanguageModel, load_language_model
from driftcli.texts.rendering import CLOCK, TODAY, rendering_facts

PROBE_STRINGS = (
    "The quick brown fox, 3.14159!",
    "def f(x):\n\treturn x ** 2  # ok",
    "naïve café — 東京 🙂",
    "<|im_start|>user\n</s>[INST] <bos>",
    " \n\n  leading",
)
WHOLE_HASH = 1 << 30  # files up to 1 GiB are hashed whole; of larger ones 64 evenly spaced MiB (chosen by us)
NO_STATE = "a causal language model feeds no state to its next step, so on the target's tokens chain and control are one computation"


@dataclass(frozen=True)
class LoadedPair:
    """A pair on its devices, and its card."""

    target: LanguageModel
    drafter: Eagle3 | Eagle | CausalLm
    card: PairCard


def load_pair(
    target_name: str, drafter_name: str, device: torch.device, dtype: Dtype, *, remote_code: bool = False, reading: System | None = None
) -> LoadedPair:
    """Load both models; raises a DriftError naming what does not fit. The drafter's headers are read before the target's weights.

    reading: whose way to compute an EAGLE head's step is taken, None for the declared one.
    """
    checkpoint = open_checkpoint(resolve(drafter_name, remote_code=remote_code))
    format = detect(checkpoint.source, checkpoint.config, checkpoint.shapes)
    source = resolve(target_name, remote_code=remote_code)
    require_no_head(source)
    if format.family != "causal-lm":
        declare(checkpoint, format, read_facts(source))  # what can be refused without the target's weights is refused before they are read
    target = load_language_model(source, device, dtype, remote_code=remote_code)
    if format.family == "causal-lm":
        if reading is not None:
            raise UsageError(
                f"--reading {reading}: {drafter_name} is a causal language model, which every system computes alike; leave it out"
            )
        return _with_language_model(target, checkpoint, device, dtype, remote_code=remote_code)
    declaration = declare(checkpoint, format, target.facts)
    drafter, record = read_eagle(declaration, target, reading)
    card = PairCard(
        target=_card(target.source, target.config.model_type),
        drafter=_card(checkpoint.source, str(checkpoint.config.get("model_type", "not named"))),
        family=format.family,
        record=record,
        token_offset=1,
        readings=dict(declaration.differences(reading)),
        notes=(*pitfalls(declaration), *_unread(target), *_dated(target)),
        alternatives=alternatives(declaration, drafter),
        rendering=rendering_facts(target.tokenizer),
        target_positions=target.facts.positions,
    )
    return LoadedPair(target, drafter, card)


def _with_language_model(
    target: LanguageModel, checkpoint: Checkpoint, device: torch.device, dtype: Dtype, *, remote_code: bool
) -> LoadedPair:
    lm = load_language_model(checkpoint.source, device, dtype, remote_code=remote_code)
    require_measurable(lm)
    drafter = CausalLm(lm, shared_vocabulary(target, lm), sliding_window(lm))
    slides = f"free chains are left out where the text outgrows the drafter's sliding window of {drafter.window}"
    card = PairCard(
        target=_card(target.source, target.config.model_type),
        drafter=_card(checkpoint.source, str(checkpoint.config.get("model_type", "not named"))),
        family="causal-lm",
        record={
            "format": Sourced("causal language model", "tensor"),
            "vocabulary": Sourced(drafter.vocabulary, "tokenizer"),
            "window": Sourced(drafter.window, "config:sliding_window, layer_types"),
        },
        token_offset=0,
        no_recursion=NO_STATE,
        notes=(*(() if drafter.window is None else (slides,)), *_unread(target), *_unread(lm), *_dated(target)),
        rendering=rendering_facts(target.tokenizer),
        target_positions=target.facts.positions,
    )
    return LoadedPair(target, drafter, card)


def require_no_head(target: Source) -> None:
    """Raise SourceError for a drafter's head in the target's place."""
    found = open_checkpoint(target)
    heads = [format.name for format in FORMATS if format.family != "causal-lm" and format.matches(found.config, found.shapes)]
    if heads:
        raise SourceError(
            f"{target.name}: holds a head in {heads[0]}, expected a causal language model; are --target and --drafter exchanged?"
        )


def require_measurable(lm: LanguageModel) -> None:
    """Raise FormatError for a causal-LM drafter without plain attention in every layer, or whose attention transformers cannot swap."""
    kinds = set(getattr(lm.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or not lm.model._can_set_attn_implementation():
        seen = f"layers of type {', '.join(sorted(kinds))}" if kinds else "attention of its own"
        raise FormatError(f"{lm.source.name}: {lm.config.model_type} has {seen}, expected plain attention in every layer; use another")


def sliding_window(lm: LanguageModel) -> int | None:
    """Keys that the sliding-window layers of a language model see, None where every layer sees all."""
    kinds, window = getattr(lm.config, "layer_types", None), getattr(lm.config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds else getattr(lm.config, "use_sliding_window", True)
    return int(window) if slides and window is not None else None


def shared_vocabulary(target: LanguageModel, drafter: LanguageModel) -> int:
    """Number of tokens that both tokenizers know, proved by their tables and by probe strings; raises PairError at the first difference."""
    ours, theirs = target.tokenizer.get_vocab(), drafter.tokenizer.get_vocab()
    if ours != theirs:
        token = min(
            (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
            key=lambda t: (ours.get(t, len(ours)), t),
        )
        here, there = theirs.get(token, "absent"), ours.get(token, "absent")
        raise PairError(
            f"{drafter.source.name}: token {token!r} is {here} here and {there} in {target.source.name}, "
            "expected one tokenizer for both; use a drafter of the same family"
        )
    for text in PROBE_STRINGS:
        if _encode(target.tokenizer, text) != _encode(drafter.tokenizer, text):
            raise PairError(
                f"{drafter.source.name}: splits {text!r} otherwise than {target.source.name}, "
                "expected one tokenizer; use a drafter of the same family"
            )
    rows = min(target.head.shape[0], drafter.head.shape[0])
    return min(rows, max(ours.values()) + 1)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _unread(model: LanguageModel) -> tuple[str, ...]:
    if not model.unread:
        return ()
    return (
        f"{model.source.name}: {len(model.unread)} tensors have no place in the model and were not read ({', '.join(model.unread[:3])})",
    )


def _dated(target: LanguageModel) -> tuple[str, ...]:
    """That the template writes the date, and which."""
    if CLOCK not in str(target.tokenizer.chat_template):
        return ()
    return (f"the target's chat template asks for the date: rendered as of {TODAY:%d %B %Y}, so that runs of other days can be compared",)


def _card(source: Source, model_type: str) -> ModelCard:
    whole, files = _hashes(source)
    return ModelCard(masked(source.name), source.revision, model_type, whole, files)


def fingerprint(source: Source) -> str:
    """SHA-256 over config, tokenizer, chat template and weight files, as 16 hex digits; files over 1 GiB by their size and 64 blocks."""
    return _hashes(source)[0]


def _hashes(source: Source) -> tuple[str, dict[str, str]]:
    """The fingerprint, and that of each file by its name."""
    digest, each = hashlib.sha256(), dict[str, str]()
    small = sorted({path for pattern in SMALL_FILES for path in source.folder.glob(pattern) if path.is_file()})
    for path in [*(path for path in small if not path.name.endswith(".index.json")), *weight_files(source)]:
        own, named = hashlib.sha256(), f"{path.name} {path.stat().st_size}\n".encode()
        for one in (digest, own):
            one.update(named)
        _hash_file((digest, own), path)
        each[path.name] = own.hexdigest()[:16]
    return digest.hexdigest()[:16], each


def _hash_file(digests: Sequence[hashlib._Hash], path: Path) -> None:
    size, block = path.stat().st_size, 1 << 20
    starts = range(0, size, block) if size <= WHOLE_HASH else range(0, size, max(block, size // 64))
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            read = file.read(block)
            for digest in digests:
                digest.update(read)
