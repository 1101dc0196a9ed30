from __future__ import annotations

import ast
from pathlib import Path

from driftcli.codes import BY_NAME, CODES
from driftcli.domain import AXES

ROOT = Path(__file__).parents[1]


def reported() -> set[str]:
    """First argument of every `Finding(...)` of the battery and of a server, and of every `Factor(...)`, which wiring takes its codes from."""
    paths = [*(ROOT / "probes").glob("*.py"), ROOT / "driftcli" / "texts" / "changes.py", ROOT / "driftcli" / "mitigations" / "probe.py"]
    paths += [ROOT / "driftcli" / "served" / "verdict.py"]
    calls = [node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    first = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("Finding", "Factor")]
    computed = [ast.unparse(code) for code in first if not isinstance(code, ast.Constant)]
    assert computed == ["factor.code"], "a code that is computed otherwise cannot be checked here"
    return {str(code.value) for code in first if isinstance(code, ast.Constant)}


def test_no_code_is_listed_twice() -> None:
    assert len(BY_NAME) == len(CODES)


def test_every_code_belongs_to_an_axis_and_is_explained_in_full() -> None:
    for code in CODES:
        assert code.axis in (*AXES, "served"), code.name
        assert code.name == code.name.upper(), code.name
        assert code.meaning.endswith("."), code.name
        assert code.looks_like.endswith("."), code.name
        assert code.remedies, code.name
        assert all(code.remedies), code.name


def test_the_battery_and_a_server_report_every_code_and_no_other() -> None:
    assert reported() == set(BY_NAME)


def test_a_code_stands_on_the_axis_that_the_design_gives_it() -> None:
    assert {code.name: code.axis for code in CODES} == {
        "AUX-LAYERS": "wiring",
        "FUSION-ORDER": "wiring",  # these two beside the design's own: of MTP heads
        "SWITCH-WORTH": "wiring",
        "FEEDBACK-MODE": "wiring",
        "NORM-MISMATCH": "wiring",
        "ROPE-MISMATCH": "wiring",
        "POS-RANGE": "wiring",
        "MASK-TOKEN": "wiring",  # these four beside the design's own: of block drafters
        "BLOCK-ATTENTION": "wiring",
        "WINDOW-MISMATCH": "wiring",
        "BLOCK-SLOTS": "wiring",
        "VOCAB-MAP": "wiring",
        "LOAD-BROKEN": "wiring",
        "DRIFT-STATE": "drift",
        "DRIFT-ATTENTION": "drift",
        "DEPTH-COLLAPSE": "drift",
        "STREAM-IMBALANCE": "drift",
        "STATE-FRAGILE": "drift",  # these four beside the design's own: notes that say what a drift is made of
        "MAGNITUDE-CODED": "drift",
        "GROWTH-COSTS": "drift",
        "HELD-BEATS-OWN": "drift",
        "TEMPLATE-SENSITIVE": "template",
        "DRIFT-LONGCTX": "context",
        "LENGTH-LOSS": "context",  # beside the design's own: a fall that no window restores
        "WINDOW-HELPS": "context",
        "LENGTH-OUT": "context",
        "DOMAIN-SHIFT": "domain",
        "TARGET-SHIFT": "domain",
        "VOCAB-COVERAGE": "capacity",
        "MISCALIBRATED": "capacity",
        "EXPOSURE-GAP": "capacity",  # beside the design's own: damage without a mechanism
        "LOW-CAPACITY": "capacity",
        "BLOCK-GAP": "capacity",
        "PROMPT-UNUSED": "capacity",  # these two beside the design's own: floors that are reached by a sound head too
        "LOOKUP-ENOUGH": "payoff",
        "NO-PAYOFF": "payoff",
        "REPETITION-INFLATED": "payoff",
        "NONDETERMINISM": "payoff",
        "SERVED-AS-FILED": "served",
        "SERVED-OTHERWISE": "served",
        "SERVED-DECAYS": "served",
    }
