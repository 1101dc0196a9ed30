from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.conditions import BASELINE, Condition, DraftSettings, Noise, TextSettings, Wiring
from driftcli.domain import RunSpec
from driftcli.engine.agenda import Agenda
from driftcli.engine.amounts import Line, Speed, Texts, Turn, amounts, usual_reply
from driftcli.testing import pair_card

SPEC = RunSpec(depth=4, max_new_tokens=16, batch_size=2)
TEXTS = Texts([Turn(10), Turn(14, 1), Turn(20), Turn(24, 1), Turn(30), Turn(34, 1)], prompts=3, usual=16, most=16, batch=2)
FULL = Condition(BASELINE, DraftSettings(4), controls=True, full=True)


def agenda(*, no_recursion: str | None = None) -> Agenda:
    return Agenda(pair_card(no_recursion=no_recursion), SPEC, ())


def test_the_baseline_on_two_turns_of_three_prompts_is_counted_as_by_hand() -> None:
    found = amounts(agenda(), [FULL], TEXTS, 16)
    assert (found.texts, found.written) == (6, 96)
    assert found.steps == 4 * 16  # two batches, two turns each
    assert found.stepped == 6 * 16
    prompts = 10 + 20 + 30 + (14 + 16) + (24 + 16) + (34 + 16)  # behind a second turn's prompt stands the first reply
    assert (found.reads, found.read) == (6, prompts + (prompts + 96))  # to answer them, and in one pass
    assert (found.passes, found.fresh) == (6, prompts + 96)
    assert found.drafted == 6 * 16 * 4
    anchors = 16 - 4
    assert found.rows == 6 * anchors * 4 * 3  # fresh, forced and free, at four depths
    assert found.blocks == 6 * 4 * 3
    assert found.links == 6 * 3 * 3  # forced, free, and those that reach past the end
    assert found.chained == 6 * (anchors * 3 * 2 + 4 * 3)
    assert (found.cells, found.files) == (2, 8)


def test_prompts_answered_together_wait_for_the_longest_reply_and_one_alone_for_its_own() -> None:
    some = replace(TEXTS, turns=[*TEXTS.turns, Turn(5, 2)], usual=5)
    found = amounts(agenda(), [FULL], some, 5)
    assert found.steps == 2 * 10 + 2 * 10 + 5  # two batches at two turns each, the longest twice the mean, and one alone
    assert found.stepped == 3 * 10 + 3 * 10 + 5
    alone = replace(FULL, text=TextSettings(alone=True))
    assert amounts(agenda(), [alone], some, 5).steps == 7 * 5


def test_a_given_reply_is_read_and_not_written() -> None:
    texts = replace(TEXTS, turns=[Turn(10, given=9), Turn(10, given=9), Turn(10)])
    found = amounts(agenda(), [FULL], texts, 16)
    assert (found.texts, found.written, found.read) == (1, 16, 10 + 3 * 10 + 9 + 9 + 16)
    assert found.rows == (5 + 5 + 12) * 4 * 3


def test_conditions_on_the_same_texts_write_them_once_and_replayed_texts_are_not_written() -> None:
    again, other = Condition("a", DraftSettings(4)), Condition("b", DraftSettings(4), text=TextSettings(template="none"))
    replayed = Condition("c", DraftSettings(4), text=TextSettings(template="none", replayed=True))
    assert amounts(agenda(), [FULL, again], TEXTS, 16).texts == 6
    assert amounts(agenda(), [FULL, again, other, replayed], TEXTS, 16).texts == 12


def test_a_condition_on_a_part_of_the_prompts_is_counted_in_part() -> None:
    part = Condition("part", DraftSettings(4), text=TextSettings(length=100), prompts=1)
    found = amounts(agenda(), [part], TEXTS, 16)
    assert found.texts == pytest.approx(1)  # one prompt, and a long conversation has one turn
    assert found.read == pytest.approx(100 + 116)


def test_a_reply_too_short_for_a_chain_gives_no_rows() -> None:
    found = amounts(agenda(), [FULL], TEXTS, 4)
    assert (found.rows, found.links, found.passes) == (0, 0, 0)
    assert found.texts == 6


def test_a_causal_language_model_drafts_its_free_chain_alone() -> None:
    plain, free = Condition("a", DraftSettings(4)), Condition("b", DraftSettings(4), free=True)
    assert amounts(agenda(no_recursion="no state"), [plain], TEXTS, 16).links == 0
    assert amounts(agenda(no_recursion="no state"), [free], TEXTS, 16).links == 6 * 3


def test_seconds_are_the_sum_of_what_is_done_and_grow_where_others_take_the_core() -> None:
    one = Line(1.0, 0.1)
    speed = Speed(one, one, one, one, one, 2.0, 0.5)
    found = amounts(agenda(), [FULL], TEXTS, 16)
    calls = found.reads + found.steps + found.passes + found.links + found.blocks
    things = found.read + found.stepped + found.fresh + found.chained + found.rows
    assert speed.seconds(found) == pytest.approx(calls + 0.1 * things + 2 * found.files + 0.5 * found.pairs)
    assert speed.slowed(0.25).seconds(found) == pytest.approx(4 * speed.seconds(found))


def test_attention_over_a_long_text_takes_by_the_square_of_its_length() -> None:
    long = Condition("long", DraftSettings(4), text=TextSettings(length=8192))
    texts = replace(TEXTS, turns=[Turn(10)], prompts=1)
    read, reply = 8192 + 16, 8192 * 16
    prompt, whole = 8192 * (8192 + 512) / 2, read * (read + 512) / 2  # chunks of 512 go through all of themselves
    assert amounts(agenda(), [long], texts, 16).pairs == prompt + reply + whole
    short = amounts(agenda(), [FULL], texts, 16).pairs
    assert short == 10 * 10 + 16 * 10 + 26 * 26


@pytest.mark.parametrize(("at_once", "beside"), [(1, 1), (69, 1.5), (92, 2), (138, 3), (10**6, 3)])
def test_texts_side_by_side_take_a_call_together_up_to_those_of_a_batch(at_once: int, beside: float) -> None:
    """Of 46 tokens on average, three of a batch on average."""
    alone, found = (amounts(agenda(), [FULL], replace(TEXTS, at_once=tokens), 16) for tokens in (1, at_once))
    calls = [(one.reads, one.passes, one.links, one.blocks) for one in (alone, found)]
    assert calls[1] == pytest.approx([count / beside for count in calls[0]])
    things = [replace(one, reads=0, passes=0, links=0, blocks=0) for one in (alone, found)]
    assert things[0] == things[1]


def test_a_line_goes_through_two_timings_and_never_below_nothing() -> None:
    assert Line.through((1, 10, 3.0), (1, 20, 5.0)) == Line(1.0, 0.2)
    assert Line.through((1, 10, 3.0), (1, 20, 2.0)) == Line(3.0, 0.0)


def test_fewer_prompts_have_fewer_texts() -> None:
    assert TEXTS.some(1).prompts == 1 and len(TEXTS.some(1).turns) == 2
    assert TEXTS.some(9) == TEXTS


def test_the_bundled_target_is_known_to_answer_briefly_and_no_other_is() -> None:
    assert (usual_reply("bundled:target", 128), usual_reply("bundled:target", 8), usual_reply("some/model", 128)) == (32, 8, 128)


def test_texts_that_are_kept_as_they_are_written_are_not_read() -> None:
    other = Condition("b", DraftSettings(4), text=TextSettings(template="none"))
    prompts, tokens = 10 + 20 + 30 + (14 + 16) + (24 + 16) + (34 + 16), 6 * 16
    held = (prompts + tokens) * 2 // 3  # of two prompts, which are answered together, all turns
    for kept, reads in ((held - 1, 6), (held, 0)):
        found = amounts(agenda(), [other], replace(TEXTS, kept=kept), 16)
        assert (found.reads, found.read) == (reads, prompts + (prompts + tokens) * (reads > 0))
        assert found.held == prompts + tokens
    given = replace(TEXTS, turns=[Turn(10, given=9), Turn(10)], kept=10**6)
    assert (found := amounts(agenda(), [other], given, 16)).reads == 1 and found.read == 10 + 19
    for condition in (FULL, replace(other, text=TextSettings(template="none", replayed=True))):
        assert amounts(agenda(), [condition], replace(TEXTS, kept=10**6), 16).reads == 6
    alone = replace(other, text=TextSettings(alone=True))
    assert amounts(agenda(), [alone], replace(TEXTS, kept=held // 2), 16).reads == 0


def test_of_replayed_texts_the_replies_alone_are_read_where_others_of_the_same_prompts_are_written() -> None:
    written = Condition("b", DraftSettings(4), text=TextSettings(template="none"))
    replayed = replace(written, name="c", text=TextSettings(template="none", replayed=True))
    sharing = replace(TEXTS, kept=10**6, alike=0)
    prompts = [10, 20, 30, 14 + 16, 24 + 16, 34 + 16]

    def of_replayed(texts: Texts) -> tuple[float, float, float]:
        both, one = (amounts(agenda(), some, texts, 16) for some in ([written, replayed], [written]))
        assert both.steps == one.steps and both.written == one.written
        return both.reads - one.reads, both.read - one.read, both.pairs - one.pairs

    new = [16, 16, 16, 20 + 16, 20 + 16, 20 + 16]  # behind the first question of a second turn stand the reply to it and four more tokens
    assert of_replayed(sharing) == (6, sum(new), sum(fed * (n + 16) for fed, n in zip(new, prompts, strict=True)))
    whole = (6, sum(prompts) + 6 * 16, sum((n + 16) ** 2 for n in prompts))
    for texts in (replace(sharing, kept=0), replace(sharing, kept=2 * (sum(prompts) + 6 * 16) * 2 // 3 - 1), replace(sharing, alike=None)):
        assert of_replayed(texts)[1:] == whole[1:]
    assert amounts(agenda(), [replayed], sharing, 16).read == sum(prompts) + 6 * 16
    fewer = [written, replace(replayed, prompts=1)]  # of which no later batch asks
    both, one = (amounts(agenda(), some, sharing, 16) for some in (fewer, [written]))
    assert both.read - one.read == pytest.approx(sum(new) / 3)


def test_texts_that_are_written_together_take_the_steps_of_the_longest_reply_once() -> None:
    texts, spec = replace(TEXTS, batch=6), replace(SPEC, batch_size=6)
    asked = [Condition(name, DraftSettings(4), text=TextSettings(template=name)) for name in ("none", "other-roles", "other-family")]
    together, alone = (amounts(replace(agenda(), spec=spec), some, texts, 16) for some in (asked, asked[:1]))
    assert alone.steps == 2 * 16 and together.steps == pytest.approx(2 * 2 * 16), "of three conditions on three prompts two have room"
    assert together.stepped == 3 * alone.stepped and together.read == 3 * alone.read
    fewer = [replace(one, prompts=1) for one in asked]
    assert amounts(replace(agenda(), spec=spec), fewer, texts, 16).steps == pytest.approx(2 * 16)
    kept = [amounts(replace(agenda(), spec=spec), asked[:2], replace(texts, kept=2 * sum_of(texts) - short), 16).reads for short in (0, 1)]
    assert kept == [0, 12]


def sum_of(texts: Texts) -> int:
    """Tokens of all texts, their replies as long as they may be."""
    return sum(turn.prompt + turn.before * texts.most + texts.most for turn in texts.turns)


def test_long_conversations_that_go_on_are_read_once_where_they_are_written_together() -> None:
    asked = [Condition(f"l{length}", DraftSettings(4), text=TextSettings(length=length)) for length in (512, 1024)]
    texts, spec = replace(TEXTS, turns=[Turn(10), Turn(20)], prompts=2, batch=4, kept=10**6, alike=5), replace(SPEC, batch_size=4)
    both, other = (amounts(replace(agenda(), spec=spec), asked, some, 16) for some in (texts, replace(texts, alike=None)))
    assert other.read - both.read == pytest.approx((512 - 10) + (512 - 20) + 2 * 5), "and what both prompts begin with anyway"
    assert other.read == 2 * (512 + 1024)
    apart = amounts(replace(agenda(), spec=replace(spec, batch_size=2)), asked, replace(texts, batch=2), 16)
    assert apart.read == 2 * (512 + 1024) - 2 * 5


def test_what_prompts_begin_with_is_read_once_a_call_where_the_target_can() -> None:
    prompts, tokens = 10 + 20 + 30 + (14 + 16) + (24 + 16) + (34 + 16), 6 * 16
    once, texts = amounts(agenda(), [FULL], replace(TEXTS, alike=4), 16), amounts(agenda(), [FULL], TEXTS, 16)
    assert texts.read - once.read == 4 * (2 * (3 - 2) + (6 - 2))  # two calls a turn for three prompts, and two for all six texts
    assert once.read < texts.read == prompts + prompts + tokens and once.pairs < texts.pairs
    system = TextSettings(system="other", system_tokens=50)
    for settings, alike in ((system, 50), (TextSettings(template="none"), 0), (TextSettings(alone=True), 0)):
        other = replace(FULL, text=settings)
        one, each = (amounts(agenda(), [other], some, 16) for some in (replace(TEXTS, alike=4, kept=10**6), replace(TEXTS, kept=10**6)))
        assert each.read - one.read == 2 * (3 - 2) * alike
        assert each.read == prompts + 6 * settings.system_tokens


def test_conditions_wired_alike_make_something_of_the_prompts_rows_once_but_for_noise() -> None:
    noisy = DraftSettings(4, noise=Noise("state", 0.5, 0))
    plain, rewired = DraftSettings(4, window=8), DraftSettings(4, wiring=Wiring(feedback="normed"))
    prompts, replies = 10 + 20 + 30 + (14 + 16) + (24 + 16) + (34 + 16), 6 * 16
    alone = amounts(agenda(), [FULL], TEXTS, 16).fresh
    assert alone == prompts + replies
    for settings, fresh in ((plain, replies), (noisy, alone), (rewired, alone)):
        assert amounts(agenda(), [FULL, Condition("other", settings)], TEXTS, 16).fresh - alone == fresh
    other = Condition("other", plain, text=TextSettings(template="none"))
    assert amounts(agenda(), [FULL, other], TEXTS, 16).fresh == 2 * alone
