"""An outcome as JUnit XML, in the schema of Jenkins' xUnit plugin, which GitLab and others read.

A rule is a test case. What is undecided is an error: it ends the pipeline, and it is no failure of the pair. GitLab shows the text of a
failure and not its message, Jenkins shows both: so the text says everything. No times are given, for the rules take none.
"""

from __future__ import annotations

from xml.etree import ElementTree as xml

from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import printable
from driftcli.report.outputs.words import lines, of_status

ELEMENTS: dict[Status, str] = {"failed": "failure", "undecided": "error", "skipped": "skipped"}


def render(outcome: Outcome) -> str:
    """The document, without a trailing newline."""
    totals = {
        "tests": str(len(outcome.checks)),
        "failures": str(len(of_status(outcome, "failed"))),
        "errors": str(len(of_status(outcome, "undecided"))),
    }
    name = f"driftcli {outcome.command}"
    top = xml.Element("testsuites", {"name": name, **totals})
    suite = xml.SubElement(top, "testsuite", {"name": name, **totals, "skipped": str(len(of_status(outcome, "skipped")))})
    about = xml.SubElement(suite, "properties")
    for key, value in (("pair", outcome.subject), ("run", outcome.where), ("result", outcome.headline)):
        xml.SubElement(about, "property", name=key, value=printable(value))
    for case, check in zip(_names(outcome), outcome.checks, strict=True):
        _add(xml.SubElement(suite, "testcase", name=case, classname=f"driftcli.{outcome.command}"), check)
    xml.indent(top)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(top, encoding="unicode")}'


def _names(outcome: Outcome) -> list[str]:
    """A name for each check, its rule; readers drop a second case of one name."""
    rules = [printable(check.rule) for check in outcome.checks]
    return [rule if rule not in rules[:place] else f"{rule} ({rules[:place].count(rule) + 1})" for place, rule in enumerate(rules)]


def _add(case: xml.Element, check: Check) -> None:
    said = "\n".join(lines(check))
    if element := ELEMENTS.get(check.status):
        attributes = {"message": printable(check.reason), **({} if element == "skipped" else {"type": check.status})}
        xml.SubElement(case, element, attributes).text = said
    else:
        xml.SubElement(case, "system-out").text = f"{check.status}\n{said}"
