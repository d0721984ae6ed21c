"""Which subscription a command ends, and when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meterstream.cli.entries.subscriptions import choose
from meterstream.cli.errors import BadInput
from meterstream.schemas.control import SubscriptionChangedData

NOW = datetime(2026, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def subscription(starts_at: datetime, **data: Any) -> SubscriptionChangedData:
    """Return a subscription to a plan."""
    return SubscriptionChangedData(
        team_id="acme", plan_id="p", plan_version=1, starts_at=starts_at, anchor_day=5, **data
    )


def test_the_only_one_ends_now_or_at_a_time() -> None:
    """Everything else of it stays as it was set."""
    one = subscription(NOW - DAY)
    assert choose([one], "acme", None, None, NOW) == subscription(NOW - DAY, ends_at=NOW)
    later = choose([one], "acme", None, NOW + DAY, NOW)
    assert later == subscription(NOW - DAY, ends_at=NOW + DAY)


def test_one_that_has_not_begun_is_cancelled() -> None:
    """It ends where it starts; one that was cancelled is none."""
    running, coming = subscription(NOW - DAY), subscription(NOW + DAY)
    cancelled = choose([running, coming], "acme", NOW + DAY, None, NOW)
    assert cancelled == subscription(NOW + DAY, ends_at=NOW + DAY)
    assert choose([running, cancelled], "acme", None, None, NOW).starts_at == NOW - DAY


@pytest.mark.parametrize(
    ("known", "starts_at", "said"),
    [
        ([], None, "has no subscription to end"),
        ([subscription(NOW - 2 * DAY, ends_at=NOW)], None, "has no subscription to end"),
        ([subscription(NOW)], NOW + DAY, "start at 2026-07-01T00:00:00Z"),
        ([subscription(NOW), subscription(NOW + DAY)], None, "choose one by --from"),
    ],
)
def test_where_none_is_meant(
    known: list[SubscriptionChangedData], starts_at: datetime | None, said: str
) -> None:
    """One line says what there is."""
    with pytest.raises(BadInput, match=said):
        choose(known, "acme", starts_at, None, NOW)
