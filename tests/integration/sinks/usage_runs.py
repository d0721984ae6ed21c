"""Runs made by chance, put into the tables as journal records, and counted slowly beside them."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from clickhouse_connect.driver.client import Client
from tests.support.journal import MINUTE_US, Writer, cell, decoded

from meterstream.schemas.sketch import bucket_of
from meterstream.sinks.flush import flush
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore

MAX_LATENCY_US = 10**10
"""10^7 ms."""

LEVELS = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Run:
    """One run, as the slow count sees it."""

    minute_us: int
    partition: int
    team: str
    user: str
    agent: str
    latency_us: int
    first_token_us: int | None
    output_tokens: int
    credits_micro: int
    is_late: bool


def random_runs(rng: random.Random, minutes_us: Sequence[int], count: int) -> list[Run]:
    """Return `count` runs in some of these minutes, by users with one run and with many."""
    runs = []
    for _ in range(count):
        user = min(int(rng.expovariate(0.15)), 30)
        latency_us = _latency_us(rng, user)
        has_first_token = user % 7 != 3 and rng.random() < 0.9
        runs.append(
            Run(
                minute_us=rng.choice(minutes_us),
                partition=rng.randrange(2),
                team=f"team-{user % 3}",
                user=f"u-{user}",
                agent=f"agent-{min(int(rng.expovariate(0.5)), 8)}",
                latency_us=latency_us,
                first_token_us=int(latency_us * rng.random()) if has_first_token else None,
                output_tokens=rng.randrange(5_000),
                credits_micro=rng.randrange(10**9),
                is_late=rng.random() < 0.2,
            )
        )
    return sorted(runs, key=lambda run: run.minute_us)


def _latency_us(rng: random.Random, user: int) -> int:
    match user % 4:
        case 0:  # two humps, far apart
            return int(rng.gauss(*rng.choice(((2_000, 300), (30_000_000, 900_000)))))
        case 1:  # a heavy tail
            return min(MAX_LATENCY_US, int(50_000 * rng.paretovariate(0.6)))
        case 2:  # all sizes
            return int(10 ** rng.choice((0, 2, 4, 5, 6, 10)) * rng.random())
        case _:  # the ends of the range
            return rng.choice((0, 0, 1, MAX_LATENCY_US))


def fill(
    client: Client, runs: Iterable[Run], start_us: int, clocks_us: Mapping[int, Sequence[int]]
) -> None:
    """Store the runs; each partition's clock then goes through `clocks_us`, closing windows.

    Late runs come, each in a record of its own, after the first of these clocks.
    """
    store = ClickHouseStore(client, lambda: 0)
    of_partition: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        of_partition[run.partition].append(run)
    for partition, (first_us, *more_us) in clocks_us.items():
        own = of_partition[partition]
        writer, state = Writer(partition=partition), PartitionState(partition)
        records = [
            writer.genesis(start_us),
            writer.step(cells(run for run in own if not run.is_late)),
            writer.idle(first_us),
        ]
        records += [writer.step(late=cells([run])) for run in own if run.is_late]
        records += [writer.idle(clock_us) for clock_us in more_us]
        for one in decoded(*records):
            state.add(one)
        flush([state], store, lambda links: None, now_us=0)


def cells(runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return the cells of `runs`."""
    by_key: dict[tuple[int, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.minute_us, run.team, run.user, run.agent].append(run)
    return [
        cell(
            minute_us,
            team_id=team,
            user_id=user,
            agent_id=agent,
            runs=len(own),
            output_tokens=sum(run.output_tokens for run in own),
            credits_micro=sum(run.credits_micro for run in own),
            latency_us=sum(run.latency_us for run in own),
            latency_sketch=_sketch(run.latency_us for run in own),
            first_token_us=sum(run.first_token_us or 0 for run in own),
            first_token_sketch=_sketch(
                run.first_token_us for run in own if run.first_token_us is not None
            ),
        )
        for (minute_us, team, user, agent), own in by_key.items()
    ]


def _sketch(values: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for value in values:
        found[bucket_of(value)] += 1
    return dict(found)


def window_of(time_us: int, window: str, zone: str) -> datetime:
    """Return the start of the window that holds `time_us`, in UTC."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    local = moment.astimezone(ZoneInfo(zone))
    midnight = local.replace(hour=0, minute=0, fold=0)
    match window:
        case "1m":
            return moment
        case "15m":
            return moment - timedelta(minutes=local.minute % 15)
        case "1h":
            return moment - timedelta(minutes=local.minute)
        case "1d":
            return midnight.astimezone(UTC)
        case _:
            return midnight.replace(day=1).astimezone(UTC)


def check_view(client: Client, runs: Iterable[Run], by: str, window: str, zone: str) -> int:
    """Hold every row of a view against a slow count of the runs; return how many rows it has."""
    expected: dict[tuple[datetime, str], list[Run]] = defaultdict(list)
    for run in runs:
        name = {"team": run.team, "user": run.user, "agent": run.agent}[by]
        expected[window_of(run.minute_us, window, zone), name].append(run)
    percentiles = [
        f"{what}_p{level * 100:.0f}_ms" for what in ("latency", "first_token") for level in LEVELS
    ]
    rows = client.query(
        f"SELECT toUnixTimestamp(window_start), {by}_id, runs, credits_micro, output_tokens,"
        f" output_tokens_per_second, {', '.join(percentiles)} FROM usage_by_{by}("
        "window = {window:String}, zone = {zone:String}, since = '', until = '')",
        parameters={"window": window, "zone": zone},
    ).result_rows
    found = {(datetime.fromtimestamp(row[0], UTC), row[1]): row[2:] for row in rows}
    assert len(found) == len(rows)
    assert set(found) == set(expected)
    for key, own in expected.items():
        _check_row(found[key], own)
    return len(rows)


def _check_row(row: Sequence[Any], own: Sequence[Run]) -> None:
    runs, credits_micro, output_tokens, tokens_per_second, *percentiles_ms = row
    assert runs == len(own)
    assert credits_micro == sum(run.credits_micro for run in own)
    assert output_tokens == sum(run.output_tokens for run in own)
    latency_us = sum(run.latency_us for run in own)
    if latency_us:
        assert abs(tokens_per_second * latency_us / 1e6 - output_tokens) <= 1e-6 * output_tokens
    else:
        assert tokens_per_second is None
    first_tokens_us = [run.first_token_us for run in own if run.first_token_us is not None]
    check_percentiles(percentiles_ms[: len(LEVELS)], [run.latency_us for run in own])
    check_percentiles(percentiles_ms[len(LEVELS) :], first_tokens_us)


def check_percentiles(found_ms: Sequence[float | None], values_us: Sequence[int]) -> None:
    """Hold percentiles at LEVELS against numpy's, within 1 %; without values there are none."""
    if not values_us:
        assert list(found_ms) == [None] * len(LEVELS)
        return
    exact_us = np.quantile(values_us, LEVELS, method="inverted_cdf")
    for got_ms, want_us in zip(found_ms, exact_us, strict=True):
        assert got_ms is not None
        assert abs(got_ms * 1000 - want_us) <= want_us / 100 + 1e-6


def clock_changes_us(zone: str, before_us: int, days: int) -> list[int]:
    """Return when the zone's clocks were changed in the `days` before a time, to the minute."""
    known = ZoneInfo(zone)

    def offset(time_us: int) -> timedelta | None:
        return datetime.fromtimestamp(time_us // 1_000_000, known).utcoffset()

    hour_us = 60 * MINUTE_US
    hours = range(before_us // hour_us - 24 * days, before_us // hour_us)
    changed = [hour for hour in hours if offset(hour * hour_us) != offset((hour + 1) * hour_us)]
    return [
        next(
            minute_us
            for minute_us in range(hour * hour_us, (hour + 1) * hour_us + 1, MINUTE_US)
            if offset(minute_us) != offset(hour * hour_us)
        )
        for hour in changed
    ]
