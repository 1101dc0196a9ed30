from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from driftcli.domain import Verdict
from driftcli.report.html.page import render
from driftcli.report.json import report
from driftcli.statistics.costs import StepCosts
from driftcli.traces.reader import Run
from tests.report.conftest import Judged
from tests.report.html.reading import embedded, read_page, text_of
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202egnp.exe\u2028line\u0007",
    "{{ 7 * 7 }}{% raw %}",
)
COSTS = (StepCosts(1, 0.1, 0.1, (1.0,) * 9), StepCosts(8, 0.2, 0.2, tuple(1 + drafts / 10 for drafts in range(9))))
PROMPTS = tuple("abcdefgh")  # as few as are judged


def small(life: Life = DRIFTING, **changes: Any) -> Recipe:
    return Recipe(life, **{"prompts": PROMPTS, "anchors": 10, **changes})


HELD = {"held": ("held-state", DRIFTING), "no-bos": ("template", Life())}


@pytest.fixture
def page(judged: Judged) -> Callable[[Recipe], str]:
    return lambda recipe: render(*judged(recipe))


@pytest.mark.parametrize("recipe", [small(DRIFTING, extra=HELD), small(WITHOUT_STATE), small(prompts=("one", "two"))])
def test_the_same_run_gives_the_same_bytes(judged: Judged, recipe: Recipe) -> None:
    run, verdict = judged(recipe)
    assert render(run, verdict) == render(run, verdict)


def test_nothing_in_a_page_leads_elsewhere_and_no_handler_stands_in_it(page: Callable[[Recipe], str]) -> None:
    elements = read_page(page(small(DRIFTING, extra=HELD)))
    leading = [one.attributes[name] for one in elements for name in ("src", "href", "action", "data", "poster") if name in one.attributes]
    assert {link for link in leading if link and not link.startswith(("#", "data:,"))} == set()
    assert {name for one in elements for name in one.attributes if name.startswith("on") or name == "style"} == set()


def test_the_policy_admits_the_scripts_and_styles_of_the_page_by_their_hashes_and_nothing_else(page: Callable[[Recipe], str]) -> None:
    elements = read_page(page(small(DRIFTING)))
    (policy,) = [one.attributes["content"] or "" for one in elements if one.attributes.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("script", "style"):
        own = [one.text for one in elements if one.name == kind and one.attributes.get("type") != "application/json"]
        hashes = {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in own}
        assert set(rules[f"{kind}-src"].split()) == hashes
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy


def test_every_link_within_the_page_leads_somewhere_and_no_id_stands_twice(page: Callable[[Recipe], str]) -> None:
    elements = read_page(page(small(DRIFTING, extra=HELD, costs=COSTS)))
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    links = {(one.attributes["href"] or "")[1:] for one in elements if (one.attributes.get("href") or "").startswith("#")}
    assert links - set(ids) == set()


def test_hostile_text_stays_text(page: Callable[[Recipe], str]) -> None:
    everywhere = " ".join(HOSTILE)
    made = page(small(DRIFTING, target=everywhere, drafter=everywhere, prompts=(*HOSTILE, "a", "b", "c"), notes=HOSTILE))
    names = [one.name for one in read_page(made)]
    assert names.count("script") == 6  # the theme, two libraries, the page's own, and two of data
    assert "img" not in names
    assert not {"\u202e", "\u2028", "\u0007"} & set(made)
    assert "{{ 7 * 7 }}" in text_of(made)
    shown = {text.replace("\u202e", "\\u202e").replace("\u2028", "\\u2028").replace("\u0007", "\\x07") for text in HOSTILE}
    assert shown <= {one["id"] for one in embedded(made, "samples")["replies"]}


def test_the_page_says_what_the_json_report_says(judged: Judged) -> None:
    run, verdict = judged(small(DRIFTING, extra=HELD))
    told, drawn = report(run, verdict), embedded(render(run, verdict), "charts")
    rows = told["baseline"]["by_depth"]  # type: ignore[index, call-overload]
    forced = next(one for one in drawn["guesses"]["series"] if one["name"] == "accuracy, own state")
    for point, row in zip(forced["points"], rows, strict=True):
        assert point == pytest.approx([row["forced_accuracy"], *row["intervals"]["forced_accuracy"]], rel=1e-3)
    assert [one["name"] for one in drawn["guesses"]["series"]].count("accuracy, held state") == 1
    assert [row["name"] for row in drawn["conditions"]["rows"]] == ["held", "no-bos"]


def test_every_plot_has_its_numbers_in_a_table(judged: Judged) -> None:
    run, verdict = judged(small(DRIFTING, extra=HELD, costs=COSTS))
    page = render(run, verdict)
    for name in embedded(page, "charts"):
        figure = page.split(f'<figure class="chart" id="figure-{name}">')[1].split("</figure>")[0]
        assert "<table" in figure, name
    ratio = report(run, verdict)["conditions"][1]["ratio_to_baseline"]  # type: ignore[index, call-overload]
    assert f"{ratio['value']:.0%} [{ratio['low']:.0%}, {ratio['high']:.0%}]" in text_of(page)


def test_what_does_not_apply_says_why_and_is_not_drawn(page: Callable[[Recipe], str]) -> None:
    made = page(small(WITHOUT_STATE))
    assert "a causal language model feeds no state to its next step" in text_of(made)
    assert {"rms", "cosine", "compounding"} & embedded(made, "charts").keys() == set()
    assert [one["name"] for one in embedded(made, "charts")["guesses"]["series"]] == ["accuracy", "accepted to this depth"]
    assert embedded(made, "samples")["lost"] == []


def test_a_condition_that_failed_is_told_apart_with_its_reason(judged: Judged) -> None:
    run, verdict = judged(small(DRIFTING))
    failed: Run = replace(run, manifest={**run.manifest, "failed": [{"name": "held", "reason": "out of <memory>"}]})
    made = render(failed, verdict)
    assert "Failed while measuring" in text_of(made)
    assert "out of <memory>" in text_of(made)
    assert "is not drawn: held failed: out of <memory>" in text_of(made)


def test_too_few_prompts_give_numbers_without_intervals_and_say_so(page: Callable[[Recipe], str]) -> None:
    made = page(small(DRIFTING, prompts=("one", "two")))
    assert "too few prompts" in text_of(made)
    assert all(low is None for _, low, _ in embedded(made, "charts")["guesses"]["series"][0]["points"])


def test_a_run_of_short_replies_alone_still_has_a_page(page: Callable[[Recipe], str]) -> None:
    made = page(small(DRIFTING, prompts=(), short=("one", "two")))
    assert "nothing to look at" in text_of(made)
    assert embedded(made, "samples")["replies"] == []


def test_a_sample_is_bounded_and_all_prompts_are_all(judged: Judged) -> None:
    run, verdict = judged(small(DRIFTING, prompts=tuple(f"prompt-{number:03}" for number in range(40)), anchors=2))
    some, all_of_them = render(run, verdict), render(run, verdict, all_prompts=True)
    assert len(embedded(some, "samples")["replies"]) < 40 == len(embedded(all_of_them, "samples")["replies"])
    assert len(some.encode()) < 2_000_000


def test_the_terms_of_the_first_screen_lead_to_the_glossary(page: Callable[[Recipe], str]) -> None:
    made = page(small(DRIFTING))
    first = made.split('<section id="verdict"')[1].split("</section>")[0]
    assert {"term-acceptancelength", "term-selffeedingtax", "term-driftstate"} <= set(re.findall(r'href="#(term-\w+)"', first))


def test_findings_stand_in_the_order_of_what_they_cost(judged: Judged) -> None:
    run, verdict = judged(small(DRIFTING))
    mild = replace(verdict.findings[0], code="LOW-CAPACITY", severity="mild", likely=None)
    shuffled: Verdict = replace(verdict, findings=[mild, *verdict.findings])
    section = render(run, shuffled).split('<section id="findings"')[1].split("</section>")[0]
    shown = re.findall(r'<article class="finding is-(\w+)"', section)
    order = ("severe", "moderate", "mild", "healthy")
    assert shown == sorted(shown, key=order.index)
    assert len(set(shown) - {"healthy"}) > 1


def test_a_page_brings_the_licences_of_what_draws_it(page: Callable[[Recipe], str]) -> None:
    assert text_of(page(small())).count("Permission to use, copy, modify") == 2


def test_the_bundled_libraries_are_those_that_their_list_names() -> None:
    folder = Path(__file__).parents[3] / "driftcli" / "report" / "html" / "assets" / "vendor"
    listed = re.findall(r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$", (folder / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name: sha256((folder / name).read_bytes()).hexdigest() for name, _ in listed} == dict(listed)
    assert {file.name for file in folder.glob("*.js")} == {name for name, _ in listed}


@pytest.mark.parametrize(
    ("costs", "said"), [((), "no step was timed in this run"), (COSTS, "8 prompts with a chain, at least 16 are needed")]
)
def test_why_no_speed_is_drawn_is_what_the_run_lacks(page: Callable[[Recipe], str], costs: tuple[StepCosts, ...], said: str) -> None:
    assert f"Not drawn: {said}." in page(small(costs=costs))
