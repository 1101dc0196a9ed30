from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftcli.printable import masked, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("a\tb\nc\rd", "a\\tb\\nc\\rd"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\udc80", "\\udc80"),
        ("naïve 東京 🙂 [red]x[/red]", "naïve 東京 🙂 [red]x[/red]"),
    ],
)
def test_what_could_drive_a_terminal_is_shown_and_all_else_stays(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_nothing_unprintable_is_left_and_printable_text_is_untouched(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hf_abcdefghijklmnopqrst@hub.org/m", "https://***@hub.org/m"),
        ("https://tok3n@hub.org/m", "https://***@hub.org/m"),
        ("401 for hf_AbCdEfGhIjKlMnOpQrStUv at the hub", "401 for *** at the hub"),
        ("GET https://x.y/z?token=abc&v=1&X-Amz-Signature=d0", "GET https://x.y/z?token=***&v=1&X-Amz-Signature=***"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("org/name@main", "org/name@main"),
        ("me@example.org wrote 3 tokens", "me@example.org wrote 3 tokens"),
    ],
)
def test_what_grants_access_is_never_shown(text: str, shown: str) -> None:
    assert masked(text) == printable(text) == shown
