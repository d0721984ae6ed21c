"""Kills with -9 at 20,000 events a second: nothing is lost and nothing is counted twice."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.pipeline import Pipeline, Traffic, moments, pipeline
from tests.support.model import Rules
from tests.support.slow_count import slow_count, stored_totals, totals
from tests.support.stack import ClickHouseAddress

KILLS = 10
PER_SECOND = 20_000


def stored_position(made: Pipeline) -> int:
    """Return how many events the ledger in ClickHouse covers."""
    found = made.client.query(
        "SELECT sum(events_to - events_from) FROM ledger FINAL WHERE kind != 'genesis'"
    ).result_rows[0][0]
    return int(found or 0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("seed", "targets"),
    [(1, ("meter",)), (2, ("sink",)), (3, ("meter", "sink"))],
    ids=["meter", "sink", "both"],
)
def test_kills(
    seed: int,
    targets: tuple[str, ...],
    kafka: str,
    prefix: str,
    clickhouse: ClickHouseAddress,
    database: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Services that are killed in the middle of batches count each run once, to the token."""
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made:
        made.start("sink", "publisher", "meter")
        unfinished, sent, seconds = 0, 0, 0.0
        for wait in moments(seed, KILLS):
            made.wait_ready()
            with Traffic(made.sender, PER_SECOND) as traffic:
                time.sleep(wait)
                made.kill(*targets)
                traffic.end()
                waiting = made.undecided()
                if "meter" not in targets:
                    waiting += made.sender.sent.records - stored_position(made)
            unfinished += waiting > 0
            sent, seconds = sent + traffic.runs, seconds + traffic.seconds
            made.start(*targets)
        record_property("sent_per_second", round(sent / seconds))
        assert unfinished >= KILLS - 2, "kills fall into unfinished batches"
        found = made.audit()
        assert found["total"]["difference"] == 0
        made.check_stored()
        if targets == ("meter", "sink"):
            counted = slow_count(kafka, Rules(partitions=4), prefix=prefix)
            assert stored_totals(made.client) == totals(counted.values())
        made.stop()
