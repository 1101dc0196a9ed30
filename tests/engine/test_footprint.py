"""Memory that is planned, by numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import RunSpec
from driftcli.engine.amounts import Texts, Turn
from driftcli.engine.attention import BLOCK_ON_CPU
from driftcli.engine.footprint import Memory, memory
from driftcli.loading.outline import Network
from driftcli.target.in_process import CHUNK
from driftcli.target.together import ON_CPU

CPU = torch.device("cpu")
TARGET = Network(((4, 4), (2, 4), (8, 4), (4, 8)), (), (10, 4), layers=2, heads=2, keys=1, size=2, parameters=100, stored={})
DRAFTER = Network(((4, 8), (2, 8), (8, 4), (4, 8)), ((4, 12),), (6, 4), layers=1, heads=2, keys=1, size=2, parameters=50, stored={})
NEW = 24
BASELINE = Condition("baseline", DraftSettings(4))


def planned(
    prompt: int,
    count: int = 1,
    *,
    family: str = "eagle3",
    streams: int = 3,
    conditions: tuple[Condition, ...] = (BASELINE,),
    kept: int = 0,
    batch: int = 0,
    device: torch.device = CPU,
) -> Memory:
    outline = SimpleNamespace(target=TARGET, drafter=DRAFTER, streams=streams, card=SimpleNamespace(family=family))
    spec, texts = RunSpec(batch_size=batch or count), Texts([Turn(prompt)] * count, count, NEW, NEW, batch or count, kept)
    return memory(outline, texts, conditions, spec, 4, device)  # type: ignore[arg-type]


def test_a_long_text_is_read_behind_its_own_keys() -> None:
    found = planned(1000)
    cache = 1024 * (2 * 2 * 1 * 2) * 4  # keys and values of two layers with one head of two numbers
    assert found.cache == cache
    numbers, spread, mask = CHUNK * 3 * (4 + 8), 2 * 2 * 2, CHUNK * 5
    assert found.passing == (numbers + spread * 1000) * 4 + mask * 1000 + 3 * 4 * 10
    reading = (numbers + spread * 1024) * 4 + mask * 1024 + 10 * 25 * 4 + cache
    drafting = 1024 * max(2 * 12 + 4, 2 * 4 + 2 * 4 + 3 * 4 + 4 * 2) * 4 + 3 * 4 * 24 * 6 + 3 * 4 * BLOCK_ON_CPU
    attention = 4 * 24 * 2 * (4 + 16 + 4 + 1) * 9  # of two heads, at four depths of two feeds and once fresh
    assert found.text == 1024 * 12 * 4 + max(reading, drafting + attention)


def test_a_short_text_is_read_without_a_cache_and_few_prompts_at_once() -> None:
    found = planned(100, 40)
    assert found.cache == 40 * 124 * 8 * 4
    at_once = 5 * ((100 * 36 + 8 * 100) * 4 + 100 * 100 * 5)
    assert found.passing == max(at_once, 40 * ((36 + 8 * 124) * 4 + 124 * 5)) + 3 * 4 * 40 * 10


@pytest.mark.parametrize("family", ["eagle3", "causal-lm"])
def test_what_a_text_takes_grows_as_its_length_does(family: str) -> None:
    asked = [Condition("long", DraftSettings(4), "context-length", text=TextSettings(length=length)) for length in (8192, 16384, 32768)]
    found = [planned(100, family=family, streams=3 if family == "eagle3" else 0, conditions=(one,)) for one in asked]
    for field in ("cache", "passing", "text"):
        short, middle, long = (getattr(one, field) for one in found)
        assert long - middle == 2 * (middle - short) > 0


def test_streams_of_texts_that_are_not_read_again_are_there_while_they_are_written_and_drafted_on() -> None:
    without = Condition("no-template", DraftSettings(4), text=TextSettings(template="none"))
    long = Condition("long", DraftSettings(4), text=TextSettings(length=400))
    token = 3 * 4 * 4  # three streams, four numbers wide, of four bytes
    own = 5 * 124 * token
    assert planned(100, 5, conditions=(BASELINE,), kept=10**6).kept == own
    assert planned(100, 5, conditions=(BASELINE, without)).kept == own
    found = planned(100, 5, conditions=(BASELINE, without, long), kept=10**6)
    assert found.kept == own + 5 * 424 * token
    assert planned(100, 5, conditions=(BASELINE, without, long), kept=5 * 424 - 1).kept == own + 5 * 124 * token
    peaks = [found.by_part(0, 0.0)["peak"] for found in (found, replace(found, kept=0))]
    assert peaks[0] - peaks[1] == found.kept


def test_texts_that_are_read_beside_others_have_their_keys_and_streams_there_too() -> None:
    one = TextSettings(template="none")
    asked = tuple(Condition(f"c{place}", DraftSettings(4), text=text) for place, text in enumerate((one, replace(one, replayed=True))))
    written, both = (planned(100, 5, conditions=(BASELINE, *some), kept=10**6) for some in (asked[:1], asked))
    assert both.kept - written.kept == 5 * 124 * 3 * 4 * 4
    assert written.cache == 5 * 124 * 8 * 4 and both.cache == 2 * written.cache
    many = [planned(100, 40, conditions=(BASELINE, *some), kept=10**6).cache for some in (asked[:1], asked)]
    assert many[1] - many[0] == ON_CPU // 124 * 124 * 8 * 4, "as many of them as there is room for"
    short = planned(8, 5, conditions=(BASELINE, *asked), kept=10**6)
    assert short.passing == 5 * ((24 * 36 + 8 * 32) * 4 + 24 * 32 * 5) + 5 * 10 * 24 * 4, "longer replies than prompts, with their scores"
    without = [planned(100, 5, conditions=(BASELINE, *some)) for some in (asked[:1], asked)]
    assert without[0].cache == without[1].cache == written.cache, "where nothing is kept they are read by themselves"


def test_texts_that_are_written_together_have_their_keys_and_streams_there_at_once() -> None:
    asked = tuple(
        Condition(f"c{place}", DraftSettings(4), text=text)
        for place, text in enumerate((TextSettings(template="none"), TextSettings(bos="dropped"), TextSettings(length=128)))
    )
    found, own = planned(100, 5, conditions=(BASELINE, *asked), kept=10**6, batch=15), 5 * 124
    assert found.cache == (5 * 124 + 5 * 124 + 5 * 152) * 8 * 4
    assert found.kept == (own + 5 * 124 + 5 * 124 + 5 * 152) * 3 * 4 * 4
    padded = planned(100, 5, conditions=(BASELINE, *asked), batch=15, device=torch.device("cuda"))
    assert padded.cache == 15 * 152 * 8 * 4, "on a GPU all of a batch as if as long as its longest"
    apart = planned(100, 5, conditions=(BASELINE, *asked), kept=10**6)
    assert (apart.cache, apart.kept) == (5 * 152 * 8 * 4, (own + 5 * 152) * 3 * 4 * 4)
