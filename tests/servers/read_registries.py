"""Which model classes vLLM and SGLang know by which name, read from their wheels without installing or importing them.

    pip download --no-deps vllm==0.33.0 sglang==0.5.23
    python -m tests.servers.read_registries vllm-0.33.0-*.whl sglang-0.5.23-*.whl

writes `driftcli/families/servers.json` anew: of vLLM the names under which it looks for drafters, of SGLang all that it knows, since it
builds a plain model from a plain name; each with the module and the class.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

TABLE = Path(__file__).parents[2] / "driftcli" / "families" / "servers.json"
VLLM, VLLM_NAMES, SGLANG = "vllm/model_executor/models/registry.py", "_SPECULATIVE_DECODING_MODELS", "sglang/srt/models/"


def vllm_classes(wheel: ZipFile) -> dict[str, str]:
    """Module and class by architecture, of the drafters."""
    for node in ast.parse(wheel.read(VLLM)).body:
        named = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(named, ast.Name) and named.id == VLLM_NAMES:
            assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            return {name: f"{module}.{kind}" for name, (module, kind) in ast.literal_eval(node.value).items()}
    raise SystemExit(f"{VLLM} has no {VLLM_NAMES}; name a wheel of vLLM first")


def sglang_classes(wheel: ZipFile) -> dict[str, str]:
    """Module and class by architecture, which is the class's own name."""
    files = [name for name in wheel.namelist() if name.startswith(SGLANG) and name.endswith(".py")]
    if not files:
        raise SystemExit(f"no {SGLANG} inside; name a wheel of SGLang second")
    found = ((Path(name).stem, kind) for name in files for kind in _entries(ast.parse(wheel.read(name))))
    return {kind: f"{module}.{kind}" for module, kind in found}


def _entries(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == "EntryClass" for name in node.targets):
            yield from (name.id for name in ast.walk(node.value) if isinstance(name, ast.Name))


def main() -> None:
    """Read both wheels and write the table."""
    vllm, sglang = map(Path, sys.argv[1:])
    table = {
        "remade by": "python -m tests.servers.read_registries",
        "vllm": {"version": vllm.name.split("-")[1], "classes": vllm_classes(ZipFile(vllm))},
        "sglang": {"version": sglang.name.split("-")[1], "classes": sglang_classes(ZipFile(sglang))},
    }
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
