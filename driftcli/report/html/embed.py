"""What goes into a page besides text: data that cannot break out of its element, and scripts and styles that the page's policy names."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files

from markupsafe import Markup

from driftcli.traces.writer import Plain

ASSETS = files("driftcli.report.html") / "assets"
UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}  # what could end a script element or a line of one


def data(values: Mapping[str, Plain]) -> Markup:
    """Plain values as compact JSON for a script element: no text in it can close that, or open a comment."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.encode("utf-8", "replace").decode().translate(UNSAFE))  # nothing that means anything to HTML is left


@cache
def asset(name: str) -> str:
    """A file of the page's assets."""
    return (ASSETS / name).read_text(encoding="utf-8")


def policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """The content security policy that admits these scripts and styles and nothing else, by the hashes of their text."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(scripts)}",
            f"style-src {_hashes(styles)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hashes(texts: Iterable[str]) -> str:
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)
