"""Target and drafter loaded together and proved to belong together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from driftcli.domain import ModelCard, PairCard
from driftcli.drafters.causal_lm import CausalLm
from driftcli.drafters.eagle3 import Eagle3
from driftcli.errors import FormatError, PairError
from driftcli.loading.eagle3 import read_eagle3
from driftcli.loading.files import SMALL_FILES, Source, read_config, resolve, tensor_shapes, weight_files
from driftcli.loading.formats import detect
from driftcli.loading.record import Record
from driftcli.loading.target import Dtype, LanguageModel, load_language_model

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
    drafter: Eagle3 | CausalLm
    card: PairCard


def load_pair(target_name: str, drafter_name: str, device: torch.device, dtype: Dtype, *, remote_code: bool = False) -> LoadedPair:
    """Load both models; raises a DriftError naming what does not fit. The drafter's headers are read before the target's weights."""
    source = resolve(drafter_name, remote_code=remote_code)
    config = read_config(source)
    shapes = tensor_shapes(source)
    format = detect(source, config, shapes)
    target = load_language_model(resolve(target_name, remote_code=remote_code), device, dtype, remote_code=remote_code)
    record = Record(source.name, config)
    record.note("format", format.name, "tensor")
    drafter: Eagle3 | CausalLm
    models = [target]
    if format.family == "eagle3":
        drafter = read_eagle3(source, target, record)
    else:
        lm = load_language_model(source, device, dtype, remote_code=remote_code)
        require_measurable(lm)
        drafter = CausalLm(lm, shared_vocabulary(target, lm), sliding_window(lm))
        record.note("vocabulary", drafter.vocabulary, "tokenizer")
        record.note("window", drafter.window, "config:sliding_window, layer_types")
        models.append(lm)
    card = PairCard(
        target=_card(target.source, target.config.model_type),
        drafter=_card(source, str(config.get("model_type", "not named"))),
        family=format.family,
        record=record.fields,
        token_offset=1 if format.family == "eagle3" else 0,
        no_recursion=None if format.family == "eagle3" else NO_STATE,
        notes=(*_notes(record), *(note for model in models for note in _unread(model))),
    )
    return LoadedPair(target, drafter, card)


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


def _notes(record: Record) -> tuple[str, ...]:
    notes = []
    if (kind := record.fields.get("vocab_map")) is not None and kind.value == "absolute":
        notes.append(
            "d2t holds absolute ids; it is read so here, but vLLM and SGLang add them to the row number and would propose wrong tokens"
        )
    normed, flag = record.fields.get("pre_fc_norm"), record.config.get("fc_norm")
    if normed is not None and (normed.value == "per stream") != bool(flag):
        notes.append(
            f"fc_norm is {flag!r} in the config but the tensors say {normed.value}; servers follow the config, this run follows the tensors"
        )
    window = record.fields.get("window")
    if window is not None and window.value is not None:
        notes.append(f"free chains are left out where the text outgrows the drafter's sliding window of {window.value}")
    return tuple(notes)


def _unread(model: LanguageModel) -> tuple[str, ...]:
    if not model.unread:
        return ()
    return (
        f"{model.source.name}: {len(model.unread)} tensors have no place in the model and were not read ({', '.join(model.unread[:3])})",
    )


def _card(source: Source, model_type: str) -> ModelCard:
    return ModelCard(source.name, source.revision, model_type, fingerprint(source))


def fingerprint(source: Source) -> str:
    """SHA-256 over config, tokenizer, chat template and weight files, as 16 hex digits; files over 1 GiB by their size and 64 blocks."""
    digest = hashlib.sha256()
    small = sorted({path for pattern in SMALL_FILES for path in source.folder.glob(pattern) if path.is_file()})
    for path in [*(path for path in small if not path.name.endswith(".index.json")), *weight_files(source)]:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        _hash_file(digest, path)
    return digest.hexdigest()[:16]


def _hash_file(digest: hashlib._Hash, path: Path) -> None:
    size, block = path.stat().st_size, 1 << 20
    starts = range(0, size, block) if size <= WHOLE_HASH else range(0, size, max(block, size // 64))
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(block))
