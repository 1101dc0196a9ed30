"""Which drafter a folder holds, told by its tensors; config keys only break ties, `architectures` and file names are never believed.

One tuple is the list of what can be read. `detect` wants exactly one match; anything else is refused with a histogram of the tensor
names, so that a person can see at once what the file is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from driftcli.errors import FormatError
from driftcli.families.causal_lm.formats import CAUSAL_LM
from driftcli.families.eagle.formats import EAGLE
from driftcli.families.layout import Format, Shapes
from driftcli.sources.files import Json, Source

FORMATS: tuple[Format, ...] = (*EAGLE, *CAUSAL_LM)


def detect(source: Source, config: Mapping[str, Json], shapes: Shapes) -> Format:
    """The one format that the tensors are in; raises FormatError with the key histogram when none or several fit."""
    found = [format for format in FORMATS if format.matches(config, shapes)]
    if len(found) == 1:
        return found[0]
    seen = f"several formats fit ({', '.join(format.name for format in found)})" if found else "no known format fits"
    known = "; ".join(format.name for format in FORMATS)
    raise FormatError(f"{source.name}: {seen}, expected one of: {known}; its tensors are {histogram(shapes)}")


def histogram(shapes: Shapes, longest: int = 12) -> str:
    """Tensor names with numbers starred, each with its count, the most frequent first."""
    counts = Counter(re.sub(r"\d+", "*", name) for name in shapes)
    shown = [f"{name} x{count}" for name, count in counts.most_common(longest)]
    if not shown:
        return "none"
    return ", ".join(shown) + (f" and {len(counts) - longest} more names" if len(counts) > longest else "")
