from __future__ import annotations

import re

from lxml import html

from driftcli.printable import printable
from driftcli.report.outputs.html import render
from tests.report.outputs.outcomes import ALL, BAD, FAILED


def test_every_check_is_a_section_the_worst_first_with_all_that_is_known() -> None:
    page = html.document_fromstring(render(ALL))
    heads = [section.findtext("h2/span") for section in page.iter("section")]
    assert heads == ["failed", "cannot tell", "warning", "passed", "passed", "skipped"]
    first = next(page.iter("section"))
    assert [" ".join(one.itertext()) for one in first.iter("dd")] == [
        FAILED.reason,
        "2.31 [2.21, 2.40] tokens a round, 80 prompts",
        "2.50",
        "serve the drafter before this one",
    ]


def test_what_passed_and_what_was_skipped_is_folded_away_under_its_count() -> None:
    page = html.document_fromstring(render(ALL))
    assert [one.findtext("summary") for one in page.iter("details")] == ["passed: 2", "skipped: 1"]
    assert [len(list(one.iter("section"))) for one in page.iter("details")] == [2, 1]


def test_a_comparison_stands_there_as_a_table_with_its_remarks_and_hostile_names_are_text() -> None:
    page = html.document_fromstring(render(ALL, "on 3 prompts", [(("number", "RUN0"), [(BAD.subject, "1.5")])], [BAD.headline]))
    assert [head.text for head in page.iter("th")] == ["number", "RUN0", printable(BAD.subject)]
    assert [cell.text for cell in page.iter("td")] == ["1.5"]
    assert [line.text for line in page.iter("li")] == [printable(BAD.headline)]
    assert "on 3 prompts" in page.find(".//p").text_content()
    assert not list(page.iter("img", "script"))


def test_hostile_text_is_no_element_and_nothing_is_fetched_or_run() -> None:
    text = render(BAD)
    page = html.document_fromstring(text)
    assert {str(element.tag) for element in page.iter()} & {"img", "script", "a", "link", "iframe"} == set()
    assert "default-src 'none'" in text
    assert not re.search(r"\son\w+\s*=", re.sub(r"&lt;.*?&gt;", "", text))
