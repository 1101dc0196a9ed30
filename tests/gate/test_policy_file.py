from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from driftcli.errors import SourceError
from driftcli.gate.limits import Limit
from driftcli.gate.policy import Selector
from driftcli.gate.policy_file import LARGEST, read_policy
from driftcli.gate.policy_file import __doc__ as text


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "policy.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_example_of_the_documentation_is_read_whole(tmp_path: Path) -> None:
    assert text is not None
    path = written(tmp_path, text.split("```toml")[1].split("```")[0])
    found = read_policy(path)
    assert (found.fail_on, found.strict) == ("moderate", False)
    assert found.limits == [
        Limit("min", "acceptance-length", 2.5, f"{path}, limits.acceptance-length"),
        Limit("min", "joint@3", 0.3, f"{path}, limits.joint@3"),
        Limit("min", "acceptance-length[category=*]", 2.0, f"{path}, limits.acceptance-length[category=*]"),
        Limit("min", "acceptance-length[category=code-*]", 1.8, f"{path}, limits.acceptance-length[category=code-*]", "warn"),
        Limit("min", "acceptance-length[length=2048]", 1.5, f"{path}, limits.acceptance-length[length=2048]"),
    ]
    assert [(rule.selector, rule.level) for rule in found.rules] == [(Selector(axis="capacity"), "error")]
    (accepted,) = found.accepted
    assert accepted.selector == Selector(code="TEMPLATE-SENSITIVE", condition="no-bos")
    assert (accepted.reason, accepted.until) == ("we always serve the BOS", date(2026, 12, 31))


def test_an_empty_file_asks_nothing_and_a_day_may_be_a_text(tmp_path: Path) -> None:
    found = read_policy(written(tmp_path, ""))
    assert (found.fail_on, found.strict, list(found.limits), list(found.rules), list(found.accepted)) == (None, False, [], [], [])
    accepted = read_policy(written(tmp_path, '[[accepted]]\naxis = "drift"\nreason = "x"\nuntil = "2026-02-28"\n')).accepted
    assert accepted[0].until == date(2026, 2, 28)


RULE = '[[rules]]\nlevel = "warn"\n'
ACCEPTED = '[[accepted]]\naxis = "drift"\nreason = "x"\n'
WRONG = {
    "fail_on = 'mild'": "unknown key fail_on; did you mean fail-on?",
    "fail-on = 'bad'": ", fail-on: saw bad; expected one of none, mild",
    "fail-on = ['mild']": ", fail-on: saw ['mild']; expected one of",
    "strict = 1": ", strict: saw 1, expected true or false",
    "limits = 3": ", limits: saw 3, expected a table",
    "[limits]\naceptance-length = {min = 2}": "limits.aceptance-length: aceptance-length is no such number; did you mean acceptance-length?",
    "[limits]\nhandoff = 2": "limits.handoff: saw 2, expected a table with min, max, level",
    "[limits]\nhandoff = {}": "limits.handoff: saw {}, expected min or max",
    "[limits]\nhandoff = {least = 2}": "limits.handoff: unknown key least",
    "[limits]\nhandoff = {min = '2'}": "limits.handoff.min: saw 2, expected a finite number",
    "[limits]\nhandoff = {min = true}": "limits.handoff.min: saw True, expected a finite number",
    "[limits]\nhandoff = {min = nan}": "limits.handoff.min: saw nan, expected a finite number",
    f"[limits]\nhandoff = {{min = 1{'0' * 400}}}": "limits.handoff.min: saw 1000",
    "[limits]\nhandoff = {min = 2, max = 1}": "limits.handoff: min 2 is above max 1, which nothing could pass",
    "[limits]\nhandoff = {min = 2, level = 'eror'}": "limits.handoff.level: saw eror; did you mean error? expected one of off, warn",
    "[limits]\n'handoff[domain=x]' = {min = 2}": "limits.handoff[domain=x]: [domain=x] names no part of a run",
    "band = 2": ", band: 2 is no band, expected a share between 0 and 1; 0.02 stands for 2%",
    "band = '2%'": ", band: saw 2%, expected a finite number",
    "force = true": ": unknown key force; expected only fail-on, strict, band",
    "rules = 'x'": ", rules: saw x, expected tables, each begun by [[rules]]",
    "rules = ['x']": ", rules[0]: saw x, expected a table with code, axis, category, condition, length, rule, level",
    RULE: ", rules[0]: says not what it is about, expected one or more of code, axis",
    "[[rules]]\naxis = 'drift'": ", rules[0]: has no level",
    f"{RULE}axis = 'drifts'": ", rules[0].axis: saw drifts; did you mean drift? expected one of wiring, drift",
    f"{RULE}code = 'DRIFT-STAT'": ", rules[0].code: DRIFT-STAT matches no code; did you mean DRIFT-STATE?",
    f"{RULE}code = 'DRIFT-STATE'\naxis = 'drift'": ", rules[0]: has both code and axis",
    f"{RULE}category = ''": ", rules[0].category: saw , expected a text",
    f"{RULE}category = 3": ", rules[0].category: saw 3, expected a text",
    "[[rules]]\nlevel = 'eror'\naxis = 'drift'": ", rules[0].level: saw eror; did you mean error?",
    f"{RULE}axis = 'drift'\n{RULE}axis = 'drift'": ", rules[1]: is about the same as rules[0] (axis=drift)",
    ACCEPTED: ", accepted[0]: has no until, expected reason, until",
    "[[accepted]]\naxis = 'drift'\nuntil = 2026-01-01": ", accepted[0]: has no reason",
    "[[accepted]]\naxis = 'drift'\nuntil = 2026-01-01\nreason = ' '": ", accepted[0].reason: saw , expected why",
    f"{ACCEPTED}until = 'soon'": ", accepted[0].until: saw soon, expected a day, as 2026-12-31",
    f"{ACCEPTED}until = 2026-01-01T10:00:00": ", accepted[0].until: saw 2026-01-01 10:00:00, expected a day",
    f"{ACCEPTED}until = 20261231": ", accepted[0].until: saw 20261231, expected a day",
    f"{ACCEPTED}until = 2026-02-30": "no TOML (",
    "[[": "no TOML (",
    f"a = {'[' * 20000}": "no TOML (",
}


@pytest.mark.parametrize(("content", "said"), list(WRONG.items()), ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, content: str, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SourceError) as raised:
        read_policy(path)
    assert str(raised.value).startswith(str(path)) and said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * (LARGEST + 1)])
def test_what_is_no_text_or_too_long_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="expected a policy"):
        read_policy(written(tmp_path, content))


def test_a_folder_a_pipe_and_nothing_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", tmp_path / "missing" / "policy.toml"):
        with pytest.raises(SourceError, match=r"expected a policy in TOML"):
            read_policy(path)


def test_the_policy_among_the_examples_is_read() -> None:
    found = read_policy(Path(__file__).parents[2] / "examples" / "ci" / "policy.toml")
    assert (len(found.limits), len(found.rules), len(found.accepted)) == (3, 3, 1)
