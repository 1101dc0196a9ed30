"""Who made the golden steps, and with which version, as the recipes beside this module say; they themselves load in other environments."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
FORMULA = "the published formula, written anew"
MADE_BY = (("specforge_steps", "specforge"), ("speculators_steps", "speculators"), ("LatentMatrix", "transformers"))


def recipe(name: str) -> str:
    """The source of what made golden steps."""
    return (HERE / f"make_{name}.py").read_text(encoding="utf-8")


def with_version(package: str, source: str) -> str:
    """A package with the version that a recipe names for it."""
    told = re.search(rf"{re.escape(package)}\s+(\(?\w[\w.]*\w\)?)", source.partition('"""\n')[0])
    assert told, package
    return f"{package} {told[1]}"


def producer_of(step: str) -> str:
    """Whose computation a golden step of an EAGLE head is."""
    if step.startswith("deepspec"):
        return with_version("deepseek-ai/DeepSpec", recipe("deepspec_steps"))
    source, (name, reading) = recipe("steps"), step.rsplit(".as_", 1)
    table = next(node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CASES")
    assert isinstance(table.value, ast.Tuple)
    rows = [[ast.unparse(one) for one in row.elts] for row in table.value.elts if isinstance(row, ast.Tuple)]
    asked = [repr(name), repr(f"as_{reading.replace('-', ':')}")]
    made = next(row[3] for row in rows if row[:2] == asked)
    for beginning, package in MADE_BY:
        if made.startswith(beginning):
            return with_version(package, source) + (", its attention" if package == "transformers" else "")
    return FORMULA
