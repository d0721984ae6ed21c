"""The views against a slow count: any window, any zone, late rows, both sides of the watermark."""

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.integration.sinks.usage_runs import (
    MAX_LATENCY_US,
    Run,
    check_view,
    clock_changes_us,
    fill,
    random_runs,
)
from tests.support.journal import (
    DAY_US,
    EVENTS_TOPIC_ID,
    GRACE_US,
    MINUTE_US,
    TODAY_US,
)
from tests.support.stack import ClickHouseAddress

from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate

HOUR_US = 60 * MINUTE_US
START_US = TODAY_US - 3 * DAY_US
LAGGING_US = TODAY_US - 17 * 60 * MINUTE_US
"""Clock of partition 1: what is after it, less the grace, is in no coarse row yet."""

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia")
WINDOWS = ("1m", "15m", "1h", "1d", "1mo")

HALF_HOUR_ZONE = "Australia/Lord_Howe"
CHANGING_ZONES = (
    "Europe/Berlin",
    "Europe/London",
    "America/St_Johns",
    "America/Havana",  # at midnight
    HALF_HOUR_ZONE,
)


@contextmanager
def database_of_runs(clickhouse: ClickHouseAddress) -> Iterator[Client]:
    """Yield a client whose new database holds all tables and views; it is dropped afterwards."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    database = f"t{uuid.uuid4().hex[:12]}"
    migrate(client, database)
    yield client
    client.command(f"DROP DATABASE {database} SYNC")
    client.close()


@pytest.fixture(scope="module")
def filled(clickhouse: ClickHouseAddress) -> Iterator[tuple[Client, list[Run]]]:
    """Return a client and the runs in its database: partition 0 is ahead of partition 1."""
    rng = random.Random(7)
    runs = random_runs(rng, range(START_US, TODAY_US, MINUTE_US), 600)
    with database_of_runs(clickhouse) as client:
        fill(client, runs, START_US, {0: [START_US, TODAY_US + GRACE_US], 1: [LAGGING_US]})
        yield client, runs


@pytest.fixture(scope="module")
def over_clock_changes(clickhouse: ClickHouseAddress) -> Iterator[tuple[Client, list[Run]]]:
    """Return a client and runs around each change of clocks of a year.

    The coarse rows of partition 1 end in the middle of a change of Berlin's clocks.
    """
    rng = random.Random(11)
    changes_us = {
        zone: clock_changes_us(zone, TODAY_US - 3 * DAY_US, 370) for zone in CHANGING_ZONES
    }
    assert all(len(changes) >= 2 for changes in changes_us.values())
    runs = [
        run
        for change_us in sorted({change for found in changes_us.values() for change in found})
        for run in random_runs(
            rng, range(change_us - 30 * 60 * MINUTE_US, change_us + DAY_US, MINUTE_US), 40
        )
        + random_runs(rng, range(change_us - HOUR_US, change_us + HOUR_US, MINUTE_US), 20)
    ]
    with database_of_runs(clickhouse) as client:
        # The minutes are older than their TTL, and the closing of windows has yet to read them.
        client.command("ALTER TABLE usage_minutes REMOVE TTL")
        start_us = min(run.minute_us for run in runs)
        middle_us = changes_us["Europe/Berlin"][-1] + 20 * MINUTE_US + GRACE_US
        fill(client, runs, start_us, {0: [start_us, TODAY_US], 1: [start_us, middle_us]})
        yield client, runs


def test_the_runs_are_of_all_kinds(filled: tuple[Client, list[Run]]) -> None:
    """Some users have one run and some have many, and latencies reach from 0 to 10^7 ms."""
    _, runs = filled
    counts = [sum(run.user == user for run in runs) for user in {run.user for run in runs}]
    assert min(counts) == 1
    assert max(counts) > 50
    assert {0, MAX_LATENCY_US} <= {run.latency_us for run in runs}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("by", "zone"),
    [*(("user", zone) for zone in ZONES), ("team", "Asia/Kathmandu"), ("agent", "Europe/Berlin")],
)
def test_every_row_is_as_counted_slowly(
    filled: tuple[Client, list[Run]], by: str, window: str, zone: str
) -> None:
    """Of each team, user and agent sums are equal, percentiles within 1 % of inverted_cdf."""
    client, runs = filled
    assert check_view(client, runs, by, window, zone) >= 3


@pytest.mark.parametrize("zone", CHANGING_ZONES)
def test_days_on_which_clocks_are_changed(
    over_clock_changes: tuple[Client, list[Run]], zone: str
) -> None:
    """Each run is in the window of its own zone once, whether a day has 23, 24.5 or 25 hours."""
    client, runs = over_clock_changes
    views = [("user", "15m"), ("team", "1h"), ("agent", "1d"), ("user", "1mo")]
    if zone == HALF_HOUR_ZONE:
        views.remove(("team", "1h"))
    for by, window in views:
        assert check_view(client, runs, by, window, zone) >= 3


def test_hours_after_a_change_by_half_an_hour(
    over_clock_changes: tuple[Client, list[Run]],
) -> None:
    """There, too, an hour has 60 minutes and each run is counted once."""
    client, runs = over_clock_changes
    rows = client.query(
        "SELECT toUnixTimestamp(window_start), sum(runs) FROM usage_by_team(window = '1h',"
        f" zone = '{HALF_HOUR_ZONE}', since = '', until = '') GROUP BY 1 ORDER BY 1"
    ).result_rows
    starts_s = [start_s for start_s, _ in rows]
    assert sum(count for _, count in rows) == len(runs)
    assert all(after - before >= 3600 for before, after in pairwise(starts_s))
    for start_s, count in rows:
        within = [run for run in runs if 0 <= run.minute_us // 1_000_000 - start_s < 3600]
        assert len(within) == count


def test_since_and_until_choose_whole_windows(filled: tuple[Client, list[Run]]) -> None:
    """A range within an hour shows that hour as a whole, and nothing beside it."""
    client, runs = filled
    hour_us = START_US + 30 * 60 * MINUTE_US
    text = datetime.fromtimestamp(hour_us / 1e6, UTC).strftime("%Y-%m-%d %H")
    rows = client.query(
        "SELECT sum(runs), uniqExact(window_start) FROM usage_by_team(window = '1h', zone = 'UTC',"
        " since = {since:String}, until = {until:String})",
        parameters={"since": f"{text}:20:00", "until": f"{text}:40:00"},
    ).result_rows
    within = [run for run in runs if hour_us <= run.minute_us < hour_us + 60 * MINUTE_US]
    assert within
    assert rows == [(len(within), 1)]


def test_watermarks_stand_where_the_clocks_have_come(filled: tuple[Client, list[Run]]) -> None:
    """Each partition has closed the quarters and days that its own clock has passed."""
    client, _ = filled
    closed = client.query(
        "SELECT partition, toUnixTimestamp(quarter_closed_until), toUnixTimestamp(day_closed_until)"
        " FROM watermarks FINAL WHERE events_topic_id = {topic:UUID} ORDER BY partition",
        parameters={"topic": str(EVENTS_TOPIC_ID)},
    ).result_rows
    lagging_s = (LAGGING_US - GRACE_US) // 1_000_000
    assert closed == [
        (0, TODAY_US // 1_000_000, TODAY_US // 1_000_000),
        (1, lagging_s // 900 * 900, lagging_s // 86_400 * 86_400),
    ]


def test_what_has_closed_needs_no_minutes(migrated: Client) -> None:
    """When a TTL has taken the minutes, windows that had closed are as they were."""
    rng = random.Random(3)
    runs = random_runs(rng, range(START_US, START_US + DAY_US, MINUTE_US), 40)
    clocks_us = [START_US, START_US + DAY_US + GRACE_US]
    fill(migrated, runs, START_US, {0: clocks_us, 1: clocks_us})
    migrated.command("TRUNCATE TABLE usage_minutes")
    for window in ("15m", "1h", "1d", "1mo"):
        assert check_view(migrated, runs, "user", window, "America/St_Johns") >= 3


@pytest.mark.parametrize(
    ("window", "zone", "since", "reason"),
    [
        ("2d", "UTC", "", "window is one of"),
        ("1d", "Mars/Olympus", "", "time zone"),
        ("1d", "UTC", "yesterday", "parse"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(
    filled: tuple[Client, list[Run]], window: str, zone: str, since: str, reason: str
) -> None:
    """A wrong window, zone or time is an error, and no empty answer."""
    client, _ = filled
    with pytest.raises(DatabaseError, match=f"(?i){reason}"):
        client.query(
            "SELECT * FROM usage_by_team(window = {window:String}, zone = {zone:String},"
            " since = {since:String}, until = '')",
            parameters={"window": window, "zone": zone, "since": since},
        )


@pytest.mark.parametrize(
    ("window", "zone", "age_days", "reason"),
    [
        ("1m", "UTC", 60, "minutes are kept for 40 days"),
        ("1h", "UTC", 500, "quarters of an hour are kept for 400 days"),
        ("1d", "Europe/Berlin", 500, "quarters of an hour are kept for 400 days"),
        ("1d", "UTC", 500, None),
        ("1mo", "UTC", 500, None),
        ("1h", "UTC", 60, None),
        ("1m", "UTC", 59.5, "minutes are kept for 40 days"),
        ("15m", "UTC", 499.5, "quarters of an hour are kept for 400 days"),
    ],
)
def test_a_view_says_when_the_rows_it_needs_are_gone(
    migrated: Client, window: str, zone: str, age_days: float, reason: str | None
) -> None:
    """Where a TTL took what a window is made of there is an error, and no smaller number."""
    since_s = TODAY_US // 1_000_000 - int(age_days * 86_400)
    midnight_s = since_s // 86_400 * 86_400
    columns = "(window_start, team_id, runs, events_topic_id, generation, partition, log_time)"
    migrated.command(
        f"INSERT INTO usage_days {columns} SELECT {midnight_s}, 't', 1, {{topic:UUID}}, 1, 0,"
        f" {midnight_s + 86_400}",
        parameters={"topic": str(EVENTS_TOPIC_ID)},
    )
    migrated.command(
        "INSERT INTO watermarks (events_topic_id, generation, partition, quarter_closed_until,"
        " day_closed_until) SELECT {topic:UUID}, 1, 0, toStartOfDay(now()), toStartOfDay(now())",
        parameters={"topic": str(EVENTS_TOPIC_ID)},
    )
    sql = (
        f"SELECT sum(runs) FROM usage_by_team(window = '{window}', zone = '{zone}',"
        f" since = '{datetime.fromtimestamp(since_s, UTC):%Y-%m-%d %H:%M}', until = '')"
    )
    if reason is None:
        assert len(migrated.query(sql).result_rows) == 1
    else:
        with pytest.raises(DatabaseError, match=reason):
            migrated.query(sql)
