"""Thousands of broken inputs: each is read or refused in one sentence, in bounded time and memory, with nothing imported and no control byte out.

Every input is told by its number: `mutated(kind, number)` makes it again.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from driftcli.cli.main import main
from driftcli.domain import Message
from driftcli.errors import DriftError
from driftcli.loading.pair import LoadedPair
from driftcli.texts.prompts import read_prompts
from driftcli.texts.rendering import render
from tests.report.synthetic import DRIFTING, Recipe, write_run

CANARY = "mutation_canary"
FEW = {"prompts": 300, "config": 40, "header": 40, "run": 25, "template": 60}  # in the suite that everybody runs
MANY = {"prompts": 3000, "config": 2500, "header": 2000, "run": 1000, "template": 1500}  # 10,000, marked slow
LONGEST = 20.0  # seconds for one input on a busy machine
MEMORY = 2 << 30  # bytes above what the process held before
VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 7, 10**9, 10**30, 1e308, -0.5, "", "x" * 5000, "\x1b[31mred\x9b", "\u202egnp", "@team #1 https://x.y", "/dev/zero", "..",
    f"{CANARY}:PROBE", [], {}, [[]], [None], {"": None}, [1, "a", None], {"a": {"b": [{}]}}, "NaN", "9" * 400, ["\ud800"],
)  # fmt: skip
TEMPLATE_PARTS = (
    "{{ messages[0].content }}", "{% for m in messages %}{{ m.content }}{% endfor %}", "{{ 'a' * 10**10 }}", "{% for i in range(10**5) %}x{% endfor %}",
    "{{ messages.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}", "{% raise %}", "{{ raise_exception('no') }}", "{{ 1/0 }}", "{{ x.y.z }}",
    "{% set x = namespace(a=1) %}", "{{ strftime_now('%Y') }}", "{{ messages|tojson }}", "{% include 'x' %}", "{% import 'os' as os %}", "\x1b[31m", "{{ bos_token }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "{{ messages | map(attribute='content') | join }}", "{%", "}}", "{{ dict(a=1).a }}", "{{ cycler }}",
)  # fmt: skip


def mutated_json(content: object, random: Random) -> object:
    """The content with one to three values replaced, taken out or doubled."""
    copy = json.loads(json.dumps(content))
    for _ in range(random.randint(1, 3)):
        holder, key = random.choice(list(places(copy)) or [(None, None)])
        if isinstance(holder, dict):
            what = random.random()
            if what < 0.2:
                holder.pop(key, None)
            else:
                holder[key if what < 0.9 else str(random.choice(VALUES))] = deepcopy(random.choice(VALUES))
        elif isinstance(holder, list) and key < len(holder):
            holder[key] = deepcopy(random.choice(VALUES))
    return copy


def places(content: object) -> list[tuple[object, object]]:
    """Every value's holder and key."""
    items = list(content.items()) if isinstance(content, dict) else list(enumerate(content)) if isinstance(content, list) else []
    return [(content, key) for key, _ in items] + [place for _, value in items for place in places(value)]


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """The content cut, doubled in part, or with some bytes changed."""
    what, at = random.random(), random.randrange(len(content) + 1)
    if what < 0.2:
        return content[:at]
    if what < 0.3:
        return content[:at] + content[at // 2 :]
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def mutated_file(path: Path, random: Random) -> None:
    """The file with something changed: as JSON where it is some, else its bytes; rarely it is gone, empty or a folder."""
    what = random.random()
    if what < 0.03:
        path.unlink()
        (path.mkdir() if what < 0.01 else path.touch() if what < 0.02 else None)
        return
    if path.suffix == ".json" and what < 0.8:
        path.write_text(json.dumps(mutated_json(json.loads(path.read_text()), random)), encoding="utf-8")
    else:
        path.write_bytes(mutated_bytes(path.read_bytes(), random))


Try = Callable[[Random], None]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Run a command line in this process: it ends by an exit code of the contract, and prints nothing that drives a terminal."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    shown = capsys.readouterr()
    assert ended.value.code in (0, 2, 3, 4, 5), shown.err
    assert "Traceback" not in shown.err
    assert [char for char in shown.out + shown.err if not char.isprintable() and char != "\n"] == []


@pytest.fixture
def tries(
    models: Path, tmp_path: Path, pair: Callable[[str], LoadedPair], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Try]:
    """Each kind of input: how one is made from a seed, and what is done with it."""
    (tmp_path / f"{CANARY}.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sound = write_run(tmp_path / "sound", Recipe(DRIFTING, prompts=[f"p{number}" for number in range(8)], anchors=8))
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "hi"}], "category": "c"},
        {"id": "b", "text": "hi", "group": "g"},
        {"id": "c", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "response": "r"},
    ]
    tokenizer = pair("pre").target.tokenizer
    own = tokenizer.chat_template

    def prompts(random: Random) -> None:
        lines = [json.dumps(mutated_json(row, random) if random.random() < 0.5 else row) for row in rows]
        content = "\n".join(lines).encode()
        (tmp_path / "p.jsonl").write_bytes(mutated_bytes(content, random) if random.random() < 0.4 else content)
        refused(lambda: read_prompts(tmp_path / "p.jsonl"))

    def checkpoint(part: str, random: Random) -> None:
        for name in ("target", "pre"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            shutil.copytree(models / name, tmp_path / name)
        mutated_file(tmp_path / random.choice(("target", "pre")) / part, random)
        command(capsys, "scan", "--drafter", str(tmp_path / "pre"), "--target", str(tmp_path / "target"))

    def run(random: Random) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(sound, tmp_path / "run")
        files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
        named = tmp_path / "run" / "run.json"
        mutated_file(named if random.random() < 0.6 else random.choice(files), random)
        command(capsys, "report", str(tmp_path / "run"), "--format", random.choice(("terminal", "json", "markdown")), "--fail-on", "mild")

    def template(random: Random) -> None:
        parts = [random.choice((*TEMPLATE_PARTS, own)) for _ in range(random.randint(1, 4))]
        monkeypatch.setattr(tokenizer, "chat_template", "".join(parts))
        refused(lambda: render(tokenizer, "p", [Message("user", "hi")], None))

    header = partial(checkpoint, "model.safetensors")
    return {"prompts": prompts, "config": partial(checkpoint, "config.json"), "header": header, "run": run, "template": template}


def refused(read: Callable[[], object]) -> None:
    """What is read, or refused by one of our own errors; any other is a crash."""
    with suppress(DriftError):
        read()


def mutations(tries: Mapping[str, Try], kind: str, count: int, first: int = 0) -> None:
    """Try so many inputs of a kind; an error tells the number of the first that is neither read nor refused."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in range(first, first + count):
        began = monotonic()
        try:
            tries[kind](Random(f"{kind} {number}"))
        except Exception as error:
            raise AssertionError(f"{kind} {number}") from error
        assert monotonic() - began < LONGEST, f"{kind} {number} took {monotonic() - began:.0f} s"
    assert CANARY not in sys.modules
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MEMORY


@pytest.mark.parametrize("kind", FEW)
def test_broken_inputs_are_read_or_refused(tries: Mapping[str, Try], kind: str) -> None:
    mutations(tries, kind, FEW[kind])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", MANY)
def test_thousands_of_broken_inputs_are_read_or_refused(tries: Mapping[str, Try], kind: str) -> None:
    """A quarter of ten thousand, unless DRIFTCLI_TEN_THOUSAND is set: all of them take ten minutes."""
    assert sum(MANY.values()) == 10_000
    mutations(tries, kind, MANY[kind] // (1 if os.environ.get("DRIFTCLI_TEN_THOUSAND") else 4), first=FEW[kind])
