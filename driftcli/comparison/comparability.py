"""What differs between runs besides their drafters, and what that does to a comparison: refuse it, withhold speeds, or be told.

What changes the texts or what is asked of a drafter on them refuses, and so does what computes them, the dtype and the class of device:
then the drafters were not held to the same thing. Another machine of that class changes step times: speeds are withheld and the rest is
compared. How a head is read is often the question itself: it is told; so is the dtype where the runs are of one pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from driftcli.conditions import BASELINE
from driftcli.domain import SYSTEM_NAMES
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.traces.reader import Run

Effect = Literal["refuses", "withholds speeds", "is told"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs; seen: it in each run's words, in the order of the runs."""

    what: str
    seen: tuple[str, ...]
    effect: Effect

    @property
    def of_times(self) -> bool:
        """Whether step times cannot be held against one another."""
        return self.effect == "withholds speeds" or self.what in OF_TARGETS

    def __str__(self) -> str:
        return f"{self.what} ({' / '.join(self.seen)})"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that may differ, as text, empty where it does not matter, and what it does if so."""

    what: str
    of: Callable[[Run], str]
    effect: Effect


def differences(runs: Sequence[Run], *, any_depth: bool = False) -> list[Difference]:
    """All that differs between runs besides their drafters and prompts. any_depth: that chains are not equally long is only
    told, since they are held at the shortest.
    """
    found = [Difference(fact.what, tuple(map(fact.of, runs)), fact.effect) for fact in FACTS]
    if any_depth:
        found = [Difference(one.what, one.seen, "is told") if one.what == DEPTH else one for one in found]
    found = [one for one in found if len(set(one.seen) - {""}) > 1]
    if same_pair(runs):
        return [Difference(one.what, one.seen, "is told") if one.what == DTYPE else one for one in found]
    return found


def same_pair(runs: Sequence[Run]) -> bool:
    """Whether all runs are of the same files of one target and one drafter: then the dtype may be the question itself."""
    return len({(run.pair.target.fingerprint, run.pair.drafter.fingerprint) for run in runs}) == 1


def device_class(run: Run) -> str:
    """`cpu` or `cuda`, whatever its number."""
    return _asked(run, "device").partition(":")[0]


def _asked(run: Run, name: str) -> str:
    request = run.manifest["request"]
    assert isinstance(request, Mapping)
    return str(request.get(name, "unknown"))


def _engine(run: Run) -> str:
    """What ran the target, and with which weights; the same engine of another version computes alike but for rounding."""
    request = run.manifest["request"]
    assert isinstance(request, Mapping)
    engine = request.get("engine")
    if not isinstance(engine, Mapping):
        return "transformers"
    return " ".join(filter(None, (str(engine.get("engine")), str(engine.get("version")), str(engine.get("quantisation") or ""))))


def _told(run: Run, name: str) -> str:
    return str(run.manifest.get(name, "unknown"))


def _rendering(run: Run) -> str:
    facts = run.pair.rendering
    words = [
        "a chat template" if facts.templated else "no chat template",
        *(["BOS in front"] if facts.begins_with_bos else []),
        *(["a prompt to answer"] if facts.prompts_reply else []),
        *(["a system message of its own"] if facts.injects_system else []),
    ]
    return " and ".join(words)


def _thinking(run: Run) -> str:
    facts = run.pair.rendering
    return "if asked" if facts.thinks_if_asked else "unless told not to" if facts.thinks_unless_told else "no switch"


def _replies(run: Run) -> str:
    return "the target's own" if run.argmax_share >= EXACT_TEXT else "given"


def _reading(run: Run) -> str:
    reading = run.pair.record.get("reading")
    if run.pair.reads_tokens_alone:
        return "none"
    return "unknown" if reading is None else SYSTEM_NAMES.get(str(reading.value), str(reading.value))


def _wiring(run: Run) -> str:
    return "as declared" if run.reference == BASELINE else str(run.wiring)


def _times(run: Run) -> str:
    return "none" if run.costs is None else f"{run.costs.source}, after {run.costs.context} tokens"


def _batches(run: Run) -> str:
    return "none" if run.costs is None else str(run.costs.deciding.batch_size)


DEPTH, DEVICE, TARGET, DTYPE = "depth", "device class", "target", "dtype"
OF_TARGETS = (TARGET, DTYPE, DEVICE)  # in which a run may differ from that of its target's twin
FACTS: tuple[Fact, ...] = (
    Fact(TARGET, lambda run: f"{run.pair.target.name} {run.pair.target.fingerprint}", "refuses"),
    Fact("chat template", lambda run: _told(run, "chat_template_sha256"), "refuses"),
    Fact("rendering", _rendering, "refuses"),
    Fact("thinking", _thinking, "refuses"),
    Fact("replies", _replies, "refuses"),
    Fact("temperature", lambda run: f"{run.spec.temperature:g}", "refuses"),
    Fact("longest reply in tokens", lambda run: str(run.spec.max_new_tokens), "refuses"),
    Fact(DEPTH, lambda run: str(run.spec.depth), "refuses"),
    Fact(DTYPE, lambda run: _asked(run, "dtype"), "refuses"),
    Fact("engine", _engine, "is told"),
    Fact(DEVICE, device_class, "refuses"),
    Fact("machine", lambda run: _told(run, "device_name"), "withholds speeds"),
    Fact("threads", lambda run: _asked(run, "threads"), "withholds speeds"),
    Fact("step times", _times, "withholds speeds"),
    Fact("batch size of the step times", _batches, "withholds speeds"),
    Fact("reading of the head", _reading, "is told"),
    Fact("wiring", _wiring, "is told"),
    Fact("seed", lambda run: str(run.spec.seed) if run.spec.temperature else "", "is told"),
    Fact("trace schema", lambda run: _told(run, "schema"), "is told"),
)
