"""A page as a reader without a browser sees it: its elements, the data in it, and its policy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "circle", "rect"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Reading(HTMLParser):
    """Every element in order, with the text that stands directly in it."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().name != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data


def read_page(page: str) -> list[Element]:
    reading = Reading()
    reading.feed(page)
    reading.close()
    return reading.elements


def embedded(page: str, name: str) -> Any:
    """The data of a script element."""
    (found,) = [one for one in read_page(page) if one.name == "script" and one.attributes.get("id") == name]
    return json.loads(found.text)


def text_of(page: str) -> str:
    """All text outside scripts and styles, on one line."""
    return " ".join(" ".join(one.text for one in read_page(page) if one.name not in ("script", "style")).split())
