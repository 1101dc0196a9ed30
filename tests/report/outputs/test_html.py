from __future__ import annotations

import re

from lxml import html

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


def test_hostile_text_is_no_element_and_nothing_is_fetched_or_run() -> None:
    text = render(BAD)
    page = html.document_fromstring(text)
    assert {str(element.tag) for element in page.iter()} & {"img", "script", "a", "link", "iframe"} == set()
    assert "default-src 'none'" in text
    assert not re.search(r"\son\w+\s*=", re.sub(r"&lt;.*?&gt;", "", text))
