from __future__ import annotations

import pytest

from driftcli.cli.diagnose import BUNDLED_PAIR, named_pair
from driftcli.errors import UsageError


@pytest.mark.parametrize(
    ("target", "drafter", "taken"),
    [
        (None, None, BUNDLED_PAIR),
        (None, "bundled:post-norm", ("bundled:target", "bundled:post-norm")),
        ("t", "d", ("t", "d")),
        ("t", "bundled:pre-norm", ("t", "bundled:pre-norm")),
    ],
)
def test_the_pair_is_the_one_named_or_the_one_that_ships(target: str | None, drafter: str | None, taken: tuple[str, str]) -> None:
    assert named_pair(target, drafter) == taken


@pytest.mark.parametrize(
    ("target", "drafter", "says"), [("t", None, "--target without --drafter"), (None, "d", "--drafter without --target")]
)
def test_half_a_pair_is_a_usage_error(target: str | None, drafter: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=f"{says}: a pair has two models; name both, or neither for the pair that ships"):
        named_pair(target, drafter)
