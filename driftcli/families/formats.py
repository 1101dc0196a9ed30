"""Which drafter a folder holds, told by its tensors; config keys only break ties, `architectures` and file names are never believed where
tensors tell.

`FORMATS` lists what is measured, `driftcli.families.named` what is known by name alone. A file that is of one layout and no family is read;
anything else is refused by the name of what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from driftcli.errors import FormatError
from driftcli.families.assistant.formats import ASSISTANT
from driftcli.families.block.formats import BLOCK
from driftcli.families.causal_lm.formats import CAUSAL_LM, is_whole
from driftcli.families.eagle.formats import EAGLE
from driftcli.families.feed_forward.formats import FEED_FORWARD
from driftcli.families.layout import Format, Shapes
from driftcli.families.mtp.formats import MTP
from driftcli.families.named import NAMED, Named
from driftcli.scanned import Unread
from driftcli.sources.checkpoint import Checkpoint, open_checkpoint, stored_tensors
from driftcli.sources.files import Json, Source, file_names, holds_weights, read_config
from driftcli.sources.packed import unpacked

FORMATS: tuple[Format, ...] = (*EAGLE, *MTP, *BLOCK, *ASSISTANT, *FEED_FORWARD, *CAUSAL_LM)
MEASURED = (
    "EAGLE-1, EAGLE-2, HASS, EAGLE-3, EAGLE 3.1 and P-EAGLE heads, MTP heads, DFlash, DFlash2 and DSpark drafters, Gemma 4 assistants, "
    "Medusa and Hydra heads, MLPSpeculators, and causal language models, PARD among them"
)


def detect(source: Source, config: Mapping[str, Json], shapes: Shapes) -> Format:
    """The one layout that the tensors are in; raises FormatError that names the family of anything else."""
    found = recognise(source, config, shapes)
    if isinstance(found, Unread):
        raise FormatError(found.refusal)
    return found


def recognise(source: Source, config: Mapping[str, Json], shapes: Shapes) -> Format | Unread:
    """The one layout that the tensors are in, or what they are instead."""
    fits = [format for format in FORMATS if format.matches(config, shapes)]
    if named := _named(source, config, shapes, fits):
        return _unread(source, *named, shapes)
    if len(fits) == 1:
        return fits[0]
    if fits:
        refusal = f"several layouts fit ({', '.join(format.name for format in fits)}), expected one; export it again"
    elif is_whole(shapes):
        refusal = (
            f"a model of type {config.get('model_type')!r}, expected a causal language model that transformers builds, or a drafter's head"
        )
    else:
        refusal = f"no drafter that is known here: {_tensors(shapes)}; measured are {MEASURED}"
    return Unread(source.name, None, f"{source.name}: {refusal}", histogram(shapes))


def _named(source: Source, config: Mapping[str, Json], shapes: Shapes, fits: Sequence[Format]) -> tuple[Named, str] | None:
    """The family, of those known by name alone, that a checkpoint is of, and what tells it; None for what is measured or not known."""
    carries = bool(fits) and (is_whole(shapes) or fits[0].family == "mtp")
    for family in NAMED:
        if (proof := family.proof(shapes)) and not (carries and family.inside):
            return family, proof
    return None if fits else _by_word(source, config)


def _unread(source: Source, family: Named, proof: str, shapes: Shapes) -> Unread:
    return Unread(source.name, family.name, family.sentence(source.name, proof), histogram(shapes))


def open_drafter(source: Source) -> tuple[Checkpoint, Format] | Unread:
    """The checkpoint in a folder and its layout, or what it is instead; raises as `open_checkpoint` does for files that cannot be read."""
    has_config = source.gguf is not None or (source.folder / "config.json").is_file()
    config = read_config(source) if has_config else None
    if config is None or not holds_weights(source):
        shapes = {name: stored.shape for name, stored in stored_tensors(source).items()} if holds_weights(source) else {}
        if named := _named(source, config or {}, shapes, ()):
            return _unread(source, *named, shapes)
    checkpoint = open_checkpoint(source)
    whole = unpacked(checkpoint)
    found = recognise(source, checkpoint.config, whole.shapes)
    if isinstance(found, Unread):
        return found
    return (checkpoint if found.family in ("mtp", "causal-lm", "pard") else whole), found


def _by_word(source: Source, config: Mapping[str, Json]) -> tuple[Named, str] | None:
    """The family that a config or a file's name alone names."""
    files = file_names(source) if source.folder.is_dir() else []
    found = ((family, family.word(config, files)) for family in NAMED)
    return next(((family, word) for family, word in found if word), None)


def histogram(shapes: Shapes) -> dict[str, int]:
    """Tensor names with numbers starred, each with its count, the most frequent first."""
    return dict(Counter(re.sub(r"\d+", "*", name) for name in shapes).most_common())


def _tensors(shapes: Shapes) -> str:
    count, names = len(shapes), list(histogram(shapes))
    if not count:
        return "it has no tensors"
    return f"its {count} tensor{'s are' if count != 1 else ' is'} {', '.join(names[:3])}{' ...' * (len(names) > 3)}"
