"""Subscriptions of teams as they were set last, and the ends of them."""

from collections.abc import Mapping
from datetime import datetime

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput
from meterstream.schemas.control import SubscriptionChanged, SubscriptionChangedData
from meterstream.schemas.times import format_rfc3339

from .governed import governing

Known = Mapping[tuple[str, datetime], tuple[SubscriptionChanged, datetime]]


def read_subscriptions(connection: Connection, team_id: str | None = None) -> Known:
    """Return the subscriptions of a team, or all, by team and start, and when each was set."""
    found = {
        (event.data.team_id, event.data.starts_at): (event, at)
        for event, at in governing(connection, SubscriptionChanged, team_id)
    }
    return dict(sorted(found.items()))


def ended(
    connection: Connection,
    team_id: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
    now: datetime,
) -> SubscriptionChangedData:
    """Return the subscription of a team with its end, by default now.

    One that has not begun by then is cancelled: it ends where it starts. Raises BadInput where the
    team has none, or several and `starts_at` does not name one of them.
    """
    known = [event.data for event, _ in read_subscriptions(connection, team_id).values()]
    return choose(known, team_id, starts_at, ends_at, now)


def choose(
    known: list[SubscriptionChangedData],
    team_id: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
    now: datetime,
) -> SubscriptionChangedData:
    """Return one of the known subscriptions of a team with its end, as `ended` says."""
    running = [one for one in known if one.ends_at is None or one.ends_at > max(now, one.starts_at)]
    chosen = [one for one in running if starts_at in {None, one.starts_at}]
    starts = ", ".join(format_rfc3339(one.starts_at) for one in running)
    if not chosen:
        others = f"; those that run or are to come start at {starts}" if running else ""
        which = f" from {format_rfc3339(starts_at)} on" if starts_at else ""
        raise BadInput(f"team {team_id} has no subscription{which} to end{others}")
    if len(chosen) > 1:
        raise BadInput(f"team {team_id} has several subscriptions: choose one by --from: {starts}")
    (one,) = chosen
    return one.model_copy(update={"ends_at": max(one.starts_at, ends_at or now)})
