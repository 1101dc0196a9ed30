"""What may import what, by reading the sources and by running fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from driftcli.cli.main import app
from probes import BATTERY
from tests.report.synthetic import DRIFTING, Recipe, write_run

ROOT = Path(__file__).parents[1]
LAYERS = (  # each imports from its own and from those before it
    {
        "driftcli.errors",
        "driftcli.conditions",
        "driftcli.domain",
        "driftcli.outcome",
        "driftcli.scanned",
        "driftcli.codes",
        "driftcli.terms",
        "driftcli.durations",
        "driftcli.suggestions",
        "driftcli.toml",
        "driftcli.printable",
        "driftcli.plugins",
    },
    {"driftcli.statistics", "driftcli.probe"},
    {"driftcli.sources"},
    {"driftcli.target", "driftcli.texts"},
    {"driftcli.families"},
    {"driftcli.loading", "driftcli.traces", "probes"},
    {"driftcli.comparison"},
    {
        "driftcli.engine",
        "driftcli.training",
        "driftcli.mitigations",
        "driftcli.report",
        "driftcli.inspection",
        "driftcli.gate",
        "driftcli.served",
    },
    {"driftcli.healing"},
    {"driftcli.testing"},
    {"driftcli.cli", "driftcli.opened", "driftcli.__main__"},
)
BRINGS_TORCH = (  # the only modules that name torch or transformers when they are loaded, and those that import them
    "driftcli.sources.pickles",
    "driftcli.sources.tensors",
    "driftcli.target.asked",
    "driftcli.target.beside",
    "driftcli.target.capture",
    "driftcli.target.decoding",
    "driftcli.target.distributions",
    "driftcli.target.gpus",
    "driftcli.target.growing",
    "driftcli.target.heads",
    "driftcli.target.in_process",
    "driftcli.target.language_model",
    "driftcli.target.output",
    "driftcli.target.parts",
    "driftcli.target.quantised",
    "driftcli.target.recorded",
    "driftcli.target.roomy_cache",
    "driftcli.target.target",
    "driftcli.target.together",
    "driftcli.target.vllm",
    "driftcli.texts.pieces",
    "driftcli.texts.rendering",
    "driftcli.texts.system_prompts",
    "driftcli.families.layers",
    "driftcli.families.others",
    "driftcli.families.rope_config",
    "driftcli.families.rotary",
    "driftcli.families.self_feeding",
    "driftcli.families.unpacking",
    "driftcli.families.unscaling",
    "driftcli.families.vocabulary",
    "driftcli.families.assistant.drafter",
    "driftcli.families.assistant.loading",
    "driftcli.families.block.alternatives",
    "driftcli.families.block.convolution",
    "driftcli.families.block.correction",
    "driftcli.families.block.drafter",
    "driftcli.families.block.loading",
    "driftcli.families.causal_lm.drafter",
    "driftcli.families.causal_lm.loading",
    "driftcli.families.causal_lm.tokens",
    "driftcli.families.early_exit.cut",
    "driftcli.families.eagle.alternatives",
    "driftcli.families.eagle.eagle1",
    "driftcli.families.eagle.eagle3",
    "driftcli.families.eagle.loading",
    "driftcli.families.feed_forward.drafter",
    "driftcli.families.feed_forward.loading",
    "driftcli.families.mtp.alternatives",
    "driftcli.families.mtp.experts",
    "driftcli.families.mtp.fused",
    "driftcli.families.mtp.head",
    "driftcli.families.mtp.loading",
    "driftcli.loading.card",
    "driftcli.loading.pair",
    "driftcli.engine",
    "driftcli.training",
    "driftcli.healing",
    "driftcli.loading.outline",
    "driftcli.cli.diagnosis",
    "driftcli.cli.healing",
    "driftcli.cli.planning",
)
KNOWN_TO_PROBES = ("driftcli.conditions", "driftcli.domain", "driftcli.statistics", "driftcli.probe", "driftcli.texts.changes")
BRINGS_THE_HUB = ("driftcli.sources", "driftcli.target", "driftcli.families.rope_config")
HUB = {"safetensors", "huggingface_hub"}
TORCH = {"torch", "transformers", "accelerate", "tokenizers"}
LOADS_STRANGERS = "driftcli.plugins"  # whose modules may raise anything when they are imported, and are listed with it
HEAVY = {*TORCH, *HUB, "numpy", "scipy", "pandas", "pyarrow", "rich"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the two packages by dotted name."""
    paths = [path for package in ("driftcli", "probes") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.Module, *, at_load: bool = False) -> Iterator[str]:
    """Modules that a module imports, anywhere in it or only while it is loaded."""
    for node in _loaded(tree) if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in inner)


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is loaded: no function bodies."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _loaded(child)


def own(tree: ast.Module, *, at_load: bool = False) -> set[str]:
    return {name for name in imported(tree, at_load=at_load) if name.split(".")[0] in ("driftcli", "probes")}


def layer(module: str) -> int:
    """Place of a module's package in `LAYERS`."""
    (place,) = [place for place, names in enumerate(LAYERS) if any(module == name or module.startswith(f"{name}.") for name in names)]
    return place


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


# ---- by reading


@pytest.mark.parametrize("module", sorted(set(modules()) - {"driftcli"}))
def test_imports_point_one_way(module: str) -> None:
    later = {name for name in own(modules()[module]) if layer(name) > layer(module)}
    assert later == set(), f"{module} imports from a layer after its own"


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {name: own(tree, at_load=True) - {name} for name, tree in modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", sorted(name for name in modules() if not within(name, BRINGS_TORCH)))
def test_only_what_computes_names_torch_when_loaded(module: str) -> None:
    assert {name for name in imported(modules()[module], at_load=True) if name.split(".")[0] in TORCH} == set()
    assert {name for name in own(modules()[module], at_load=True) if within(name, BRINGS_TORCH)} == set()


@pytest.mark.parametrize("module", BRINGS_TORCH)
def test_what_may_name_torch_does(module: str) -> None:
    named = {name.split(".")[0] for one in modules() if within(one, (module,)) for name in imported(modules()[one], at_load=True)}
    inner = {name for one in modules() if within(one, (module,)) for name in own(modules()[one], at_load=True)}
    assert named & TORCH or any(within(name, BRINGS_TORCH) for name in inner)


@pytest.mark.parametrize("module", sorted(name for name in modules() if not within(name, BRINGS_THE_HUB)))
def test_only_sources_and_target_know_the_hub_and_the_files_of_weights(module: str) -> None:
    assert {name for name in imported(modules()[module]) if name.split(".")[0] in HUB} == set()


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("probes.")))
def test_a_probe_knows_numbers_and_nouns_and_neither_the_engine_nor_another_probe(module: str) -> None:
    assert {name for name in own(modules()[module]) if not within(name, KNOWN_TO_PROBES)} == set()


def test_every_module_of_probes_is_a_probe_of_the_battery_under_its_own_name_and_asks_a_question() -> None:
    files = {path.stem for path in (ROOT / "probes").glob("*.py")} - {"__init__"}
    assert {probe.name.replace("-", "_") for probe in BATTERY} == files
    for probe in BATTERY:
        assert type(probe).__module__ == f"probes.{probe.name.replace('-', '_')}"
        question = ast.get_docstring(modules()[type(probe).__module__]) or ""
        assert question.split("\n")[0].endswith("?"), probe.name


@pytest.mark.parametrize("module", sorted(set(modules()) - {LOADS_STRANGERS}))
def test_nothing_is_caught_broadly(module: str) -> None:
    caught = [node.type for node in ast.walk(modules()[module]) if isinstance(node, ast.ExceptHandler)]
    assert None not in caught, "a bare except"
    names = {name.id for one in caught if one is not None for name in ast.walk(one) if isinstance(name, ast.Name)}
    assert names & {"Exception", "BaseException"} == set()


def test_drift_errors_are_caught_in_main_alone() -> None:
    def catches(tree: ast.Module) -> bool:
        handlers = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is not None]
        return any(isinstance(name, ast.Name) and name.id == "DriftError" for one in handlers for name in ast.walk(one))

    assert [name for name, tree in modules().items() if catches(tree)] == ["driftcli.cli.main"]


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("driftcli.cli.")))
def test_no_command_line_module_imports_click(module: str) -> None:
    assert not any(name.split(".")[0] == "click" for name in imported(modules()[module]))


@pytest.mark.parametrize("module", sorted(modules()))
def test_functions_stay_under_50_lines_and_modules_under_400(module: str) -> None:
    tree = modules()[module]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    long = {node.name for node in functions if (node.body[-1].end_lineno or 0) - node.body[0].lineno >= 50}
    assert long == set()
    assert max((getattr(node, "end_lineno", 0) or 0 for node in tree.body), default=0) <= 400


@pytest.mark.parametrize("command", ["diagnose", "plan", "report", "check", "compare", "inspect", "scan", "explain", "server"])
def test_a_command_is_at_most_15_lines(command: str) -> None:
    (function,) = [node for node in modules()[f"driftcli.cli.{command}"].body if isinstance(node, ast.FunctionDef) and node.name == command]
    assert (function.end_lineno or 0) - function.body[0].lineno < 15


# ---- by running


def loaded_by(statement: str) -> set[str]:
    """Names in `sys.modules` after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return set(ran.stderr.split("\n"))


@pytest.mark.parametrize(
    "module",
    [
        "driftcli.cli.main",
        "driftcli.report.comparison",
        "driftcli.report.formats",
        "driftcli.gate.checked",
        "driftcli.report.verdict",
        "driftcli.served.held",
        "driftcli.traces.reader",
        "probes",
    ],
)
def test_loading_what_judges_and_reports_leaves_torch_unloaded(module: str) -> None:
    assert loaded_by(f"import {module}") & {*TORCH, *HUB} == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["diagnose", "--help"],
        ["report", "--help"],
        ["check", "--help"],
        ["compare", "--help"],
        ["plan", "--help"],
        ["scan", "--help"],
        ["server", "--help"],
        ["explain", "DRIFT-STATE"],
    ],
)
def test_help_and_explain_load_nothing_heavy_of_ours(arguments: list[str]) -> None:
    statement = f"from driftcli.cli.main import main\ntry:\n    main({arguments!r})\nexcept SystemExit as ended:\n    assert not ended.code"
    assert loaded_by(statement) & HEAVY == set()


def test_the_list_of_commands_is_printed_without_what_they_need_when_they_run() -> None:
    loaded = loaded_by("from driftcli.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass")
    assert loaded & {"importlib.metadata", "socket", "driftcli.plugins", "driftcli.cli.launching", "driftcli.cli.listing"} == set()


@pytest.mark.parametrize("command", [info.callback for info in app.registered_commands], ids=lambda command: command.__name__)
def test_options_of_a_command_are_no_texts_which_typer_would_evaluate_again_and_again(command: Callable[..., None]) -> None:
    assert [name for name, kind in command.__annotations__.items() if isinstance(kind, str)] == []


def test_a_report_imports_neither_scipy_nor_pandas_nor_datasets_nor_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", Recipe(DRIFTING))
    statement = f"from driftcli.cli.main import main\ntry:\n    main(['report', {str(run)!r}])\nexcept SystemExit as ended:\n    assert not ended.code"
    loaded = loaded_by(statement)
    assert loaded & {*TORCH, *HUB, "scipy", "pandas", "pyarrow.dataset"} == set()
    assert {"numpy", "pyarrow.parquet"} <= loaded


def test_pandas_can_be_had_from_arrow_after_a_run_was_opened(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", Recipe(DRIFTING))
    opened = f"from pathlib import Path\nfrom driftcli.cli.runs import opened_run\nrun = opened_run(Path({str(run)!r}))\nrun.trajectories"
    assert "pandas" not in loaded_by(opened)
    frame = "assert list(run.trajectories.to_pandas()['prompt']) == run.trajectories['prompt'].to_pylist()"
    assert "pandas" in loaded_by(f"{opened}\n{frame}")


def test_a_scan_of_safetensors_brings_neither_torch_nor_transformers(models: Path) -> None:
    arguments = ["scan", "--drafter", str(models / "post"), "--target", str(models / "target")]
    statement = f"from driftcli.cli.main import main\ntry:\n    main({arguments!r})\nexcept SystemExit as ended:\n    assert not ended.code"
    assert loaded_by(statement) & {*TORCH, "pyarrow"} == set()


def test_a_module_that_does_bring_torch_is_seen_by_the_check() -> None:
    assert "torch" in loaded_by("import driftcli.sources.tensors")
