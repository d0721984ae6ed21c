"""The views against a slow count: any window, any zone, late rows, both sides of the watermark."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.support.journal import (
    DAY_US,
    EVENTS_TOPIC_ID,
    GRACE_US,
    MINUTE_US,
    TODAY_US,
    Writer,
    cell,
    decoded,
)
from tests.support.stack import ClickHouseAddress

from meterstream.schemas.sketch import bucket_of
from meterstream.sinks.client import connect
from meterstream.sinks.flush import flush
from meterstream.sinks.migrate import migrate
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore

START_US = TODAY_US - 3 * DAY_US
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia")


@dataclass(frozen=True)
class Run:
    """One run, as the slow count sees it."""

    minute_us: int
    partition: int
    user: str
    latency_us: int
    credits_micro: int
    is_late: bool


def some_runs(seed: int) -> list[Run]:
    """Return runs of three days: users with one run and with many, latencies of all sizes."""
    rng = random.Random(seed)
    runs = []
    for _ in range(600):
        user = f"u-{min(int(rng.expovariate(0.15)), 30)}"
        exponent = rng.choice((0, 2, 4, 5, 6, 9.9))
        runs.append(
            Run(
                START_US + rng.randrange(3 * 1440) * MINUTE_US,
                rng.randrange(2),
                user,
                int(10**exponent * rng.random()),
                rng.randrange(10**9),
                rng.random() < 0.2,
            )
        )
    return sorted(runs, key=lambda run: run.minute_us)


def cells(runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return the cells of `runs`."""
    by_key: dict[tuple[int, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.minute_us, run.user].append(run)
    return [
        cell(
            minute_us,
            user_id=user,
            runs=len(own),
            credits_micro=sum(run.credits_micro for run in own),
            latency_us=sum(run.latency_us for run in own),
            latency_sketch=sketch_of(own),
        )
        for (minute_us, user), own in by_key.items()
    ]


def sketch_of(runs: Iterable[Run]) -> dict[int, int]:
    """Return the sketch of the runs' latencies."""
    found: dict[int, int] = defaultdict(int)
    for run in runs:
        found[bucket_of(run.latency_us)] += 1
    return dict(found)


def late_sections(runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return one late cell for each run; the helper folds none of them."""
    return [cells([run])[0] for run in runs]


@pytest.fixture(scope="module")
def filled(clickhouse: ClickHouseAddress) -> Iterator[tuple[Client, list[Run]]]:
    """Return a client and the runs in its database: partition 0 is ahead of partition 1."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    database = f"t{random.SystemRandom().randrange(10**12)}"
    migrate(client, database)
    runs = some_runs(7)
    store = ClickHouseStore(client, lambda: 0)
    for partition, clock_us in ((0, TODAY_US + GRACE_US), (1, TODAY_US - 17 * 60 * MINUTE_US)):
        own = [run for run in runs if run.partition == partition]
        writer, state = Writer(partition=partition), PartitionState(partition)
        records = [
            writer.genesis(START_US),
            writer.step(cells(run for run in own if not run.is_late)),
        ]
        records += [writer.step(late=late_sections([run])) for run in own if run.is_late]
        records.append(writer.idle(clock_us))
        for one in decoded(*records):
            state.add(one)
        flush([state], store, lambda links: None, now_us=0)
    yield client, runs
    client.command(f"DROP DATABASE {database} SYNC")
    client.close()


def window_of(time_us: int, window: str, zone: str) -> datetime:
    """Return the start of the window that holds `time_us`, in UTC."""
    local = datetime.fromtimestamp(time_us / 1e6, UTC).astimezone(ZoneInfo(zone))
    match window:
        case "1m":
            start = local
        case "15m":
            start = local - timedelta(minutes=local.minute % 15)
        case "1h":
            start = local - timedelta(minutes=local.minute)
        case "1d":
            start = local.replace(hour=0, minute=0)
        case _:
            start = local.replace(day=1, hour=0, minute=0)
    return start.astimezone(UTC)


@pytest.mark.parametrize("window", ["1m", "15m", "1h", "1d", "1mo"])
@pytest.mark.parametrize("zone", ZONES)
def test_every_user_and_window_is_as_counted_slowly(
    filled: tuple[Client, list[Run]], window: str, zone: str
) -> None:
    """Runs and credits are equal, and percentiles within 1 % of numpy's inverted_cdf."""
    client, runs = filled
    expected: dict[tuple[datetime, str], list[Run]] = defaultdict(list)
    for run in runs:
        expected[window_of(run.minute_us, window, zone), run.user].append(run)
    rows = client.query(
        "SELECT toUnixTimestamp(window_start), user_id, runs, credits_micro, latency_p50_ms,"
        " latency_p90_ms, latency_p95_ms, latency_p99_ms FROM usage_by_user("
        "window = {window:String}, zone = {zone:String}, since = '', until = '')",
        parameters={"window": window, "zone": zone},
    ).result_rows
    found = {(datetime.fromtimestamp(row[0], UTC), row[1]): row[2:] for row in rows}
    assert set(found) == set(expected)
    for key, own in expected.items():
        count, credits_micro, *percentiles_ms = found[key]
        assert count == len(own)
        assert credits_micro == sum(run.credits_micro for run in own)
        exact = np.quantile(
            [run.latency_us for run in own], [0.5, 0.9, 0.95, 0.99], method="inverted_cdf"
        )
        for got_ms, want_us in zip(percentiles_ms, exact, strict=True):
            assert abs(got_ms * 1000 - want_us) <= want_us / 100 + 1e-6


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


def test_partitions_and_grains_meet_at_the_watermarks(filled: tuple[Client, list[Run]]) -> None:
    """Without minutes what has closed is there still; without coarse rows what has not."""
    client, _ = filled
    closed = client.query(
        "SELECT partition, toUnixTimestamp(quarter_closed_until), toUnixTimestamp(day_closed_until)"
        " FROM watermarks FINAL WHERE events_topic_id = {topic:UUID} ORDER BY partition",
        parameters={"topic": str(EVENTS_TOPIC_ID)},
    ).result_rows
    lagging_s = (TODAY_US - 17 * 60 * MINUTE_US - GRACE_US) // 1_000_000
    assert closed == [
        (0, TODAY_US // 1_000_000, TODAY_US // 1_000_000),
        (1, lagging_s // 900 * 900, lagging_s // 86_400 * 86_400),
    ]


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
