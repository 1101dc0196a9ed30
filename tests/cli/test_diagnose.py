from __future__ import annotations

import pytest

from driftcli.cli.diagnose import BUNDLED_PAIR, checked_temperature, named_pair
from driftcli.errors import UsageError


@pytest.mark.parametrize(
    ("target", "drafter", "taken"),
    [
        (None, None, BUNDLED_PAIR),
        (None, "bundled:post-norm", ("bundled:target", "bundled:post-norm")),
        ("t", "d", ("t", "d")),
        ("t", "bundled:pre-norm", ("t", "bundled:pre-norm")),
        ("t", None, ("t", "mtp")),
        ("t", "mtp", ("t", "mtp")),
    ],
)
def test_the_pair_is_the_one_named_or_the_one_that_ships(target: str | None, drafter: str | None, taken: tuple[str, str]) -> None:
    assert named_pair(target, drafter) == taken


def test_a_drafter_alone_is_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match="--drafter without --target: a pair has two models; name both, or neither for the pair that ships"
    ):
        named_pair(None, "d")


@pytest.mark.parametrize("asked", [0.0, 0.01, 0.7, 10.0])
def test_a_temperature_is_taken_as_it_is(asked: float) -> None:
    assert checked_temperature(asked) == asked


@pytest.mark.parametrize("asked", [-1.0, 1e-9, 11.0, float("inf"), float("nan")])
def test_a_temperature_that_no_server_would_take_is_a_usage_error(asked: float) -> None:
    with pytest.raises(UsageError, match=r"--temperature .*: expected 0 for greedy decoding, or 0.01 to 10; name another"):
        checked_temperature(asked)
