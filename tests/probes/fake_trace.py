"""Names of `driftcli.testing` by which tests of other parts know them."""

from __future__ import annotations

from driftcli.testing import Facts as FakeTrace
from driftcli.testing import Head as Story
from driftcli.testing import pair_card as card

__all__ = ["FakeTrace", "Story", "card"]
