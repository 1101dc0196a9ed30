"""What libraries print while they work for us, kept from where results go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def prints_aside() -> Iterator[None]:
    """What is printed inside goes to standard error, also by code below Python, since results alone go to standard output."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)
