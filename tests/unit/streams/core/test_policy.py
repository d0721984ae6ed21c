"""The settings of the core, and which of them contradict each other."""

from typing import Any

import pytest

from meterstream.streams.core import Policy
from meterstream.streams.core.policy import IDS_KEPT_LONGER_US

SECOND = 1_000_000


def test_the_defaults_are_what_the_documentation_says() -> None:
    """Ten minutes of grace, a day of horizon, five minutes ahead, ten minutes of clock skew."""
    policy = Policy(12)
    assert policy.grace_us == 600 * SECOND
    assert policy.horizon_us == 86_400 * SECOND
    assert policy.ahead_us == 300 * SECOND
    assert policy.clock_skew_us == 600 * SECOND
    assert IDS_KEPT_LONGER_US == 3_600 * SECOND


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_has_a_partition(partitions: int) -> None:
    """Fewer than one partition is refused."""
    with pytest.raises(ValueError, match=f"partitions must be 1 or more, not {partitions}"):
        Policy(partitions)
    assert Policy(1).partitions == 1


@pytest.mark.parametrize("name", ["grace_us", "horizon_us", "ahead_us", "clock_skew_us"])
def test_a_negative_duration_is_refused(name: str) -> None:
    """No duration may be negative; the error names it."""
    settings: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=f"{name} must not be negative, it is -1"):
        Policy(1, **settings)


def test_no_grace_no_leeway_and_no_skew_are_allowed() -> None:
    """Zero is a setting like any other."""
    policy = Policy(1, grace_us=0, ahead_us=0, clock_skew_us=0, horizon_us=60 * SECOND)
    assert policy.grace_us == policy.ahead_us == policy.clock_skew_us == 0


@pytest.mark.parametrize("grace_us", [SECOND + 1, 65_536 * SECOND])
def test_a_grace_that_no_record_can_tell_is_refused(grace_us: int) -> None:
    """The grace travels in each record as whole seconds in 16 bits."""
    with pytest.raises(ValueError, match="grace_us must be whole seconds, 65535 at most"):
        Policy(1, grace_us=grace_us)
    assert Policy(1, grace_us=65_535 * SECOND).grace_seconds == 65_535


def test_the_horizon_holds_the_grace_and_a_minute() -> None:
    """A horizon that ends before a cell closes would dead-letter what the cell still takes."""
    Policy(1, grace_us=5 * SECOND, horizon_us=65 * SECOND)
    with pytest.raises(ValueError, match="the horizon must be longer than the grace and a minute"):
        Policy(1, grace_us=5 * SECOND, horizon_us=65 * SECOND - 1)
