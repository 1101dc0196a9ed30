"""A running server held against a run, from the first request to the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from driftcli.conditions import BASELINE
from driftcli.domain import SYSTEM_NAMES
from driftcli.errors import ServerError
from driftcli.report.evidence import pair_line
from driftcli.served.asking import Session
from driftcli.served.foreseen import SHALLOW, Text, first_of, others_of, texts_of
from driftcli.served.http import Client
from driftcli.served.judged import judged, tokens_a_round_of
from driftcli.served.rounds import Explanation, ask_rounds, explained
from driftcli.served.server import Facts
from driftcli.served.servers import connect
from driftcli.served.verdict import Asked, ServedVerdict
from driftcli.traces.reader import Run

READ_AS = {"vLLM": "as_served:vllm", "SGLang": "as_served:sglang"}  # the reading that a kind of server computes


def hold(
    client: Client, run: Run, limit: int | None, concurrency: int, say: Callable[[str], None], *, own_sampling: bool = False
) -> ServedVerdict:
    """What a server comes to against a run; limit: prompts, all for None; own_sampling: it is asked once more as it samples.

    Raises ServerError and RunError where it cannot be asked.
    """
    server = connect(client)
    facts = server.facts
    say(f"{facts.kind} {facts.version}, {facts.model}, {facts.drafts} draft tokens a round")
    texts = first_of(texts_of(run, facts.drafts), limit)
    session = Session(server, concurrency, say)
    observed = session.observe(texts)
    if not observed:
        raise ServerError(_nothing_left(client.url, run, session, texts))
    found = judged(observed, facts.drafts, run.spec.seed)
    explanation = _explanation(session, texts, run) if found.is_puzzling else None
    found = found if explanation is None else found.settled_by(explanation)
    sampled = tokens_a_round_of(session.sampled(texts), facts.drafts, run.spec.seed) if own_sampling else None
    return ServedVerdict(
        client.url,
        str(run.path),
        pair_line(run),
        facts,
        Asked(
            len(texts) - len(session.unusable) - len(session.too_long),
            len({text.key[0] for text in texts}),
            sum(one.emitted for one in observed),
            concurrency,
            tuple(sorted(session.parted.values())),
            len(session.unusable),
            len(session.too_long),
            _over(run, texts),
        ),
        found,
        explanation,
        sampled,
        _notes(run, facts),
    )


def _explanation(session: Session, texts: Sequence[Text], run: Run) -> Explanation:
    """Single rounds of the texts that could be held against the run, against every wiring that it measured."""
    left_out = {*session.unusable, *session.too_long}
    others = others_of(run)
    rounds = ask_rounds(session, [text for text in texts if text.key not in left_out], others)
    return explained(rounds, others, min(SHALLOW, session.drafts), run.spec.seed)


def _nothing_left(url: str, run: Run, session: Session, texts: Sequence[Text]) -> str:
    """Why no reply can be held against the run."""
    if len(session.too_long) == len(texts):
        return f"{url}: takes {session.server.facts.longest} tokens, fewer than any of the run's texts has; give it a longer context"
    places = sorted(session.parted.values())
    middle = places[len(places) // 2] if places else 0
    return (
        f"{url}: none of its replies is the run's for long enough, they part at token {middle} in the middle; it serves another "
        f"target than {run.pair.target.name}, or another precision of it; name the run of what is served"
    )


def _over(run: Run, texts: Sequence[Text]) -> tuple[int, int] | None:
    declared = run.pair.record.get("max_position_embeddings")
    longest = max(len(text.ids) for text in texts)
    positions = declared.value if declared is not None else None
    return (longest, positions) if isinstance(positions, int) and not isinstance(positions, bool) and longest > positions else None


def _notes(run: Run, facts: Facts) -> list[str]:
    """What else to know before two numbers are compared."""
    trained = f"the weights fit another wiring than the files declare ({run.wiring}): as filed is not as trained, see its report"
    return [*([trained] if run.reference != BASELINE else []), *_read_otherwise(run, facts)]


def _read_otherwise(run: Run, facts: Facts) -> list[str]:
    """Whose reading the run took, where that is not this kind of server's."""
    reading = run.pair.record.get("reading")
    own = READ_AS.get(facts.kind)
    if reading is None or own is None or reading.value == own:
        return []
    name = SYSTEM_NAMES.get(str(reading.value), str(reading.value))
    fields = sorted(run.pair.readings.get(own, {}))
    differs = f", which computes {', '.join(fields)} otherwise" if fields else ""
    return [f"the run reads the head as {name} does, and this is {facts.kind}{differs}"]
