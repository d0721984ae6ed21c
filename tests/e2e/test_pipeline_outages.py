"""Outages under the whole pipeline: what was sent meanwhile is late, and nothing else."""

import signal
import time
from pathlib import Path

import pytest
from tests.e2e.pipeline import PARTITIONS, SESSION_S, Traffic, pipeline
from tests.support.services import Service
from tests.support.stack import (
    ClickHouseAddress,
    OwnClickHouse,
    OwnKafka,
    address_of,
)
from tests.support.waiting import eventually

PER_SECOND = 2_000
AWAY_S = 30.0


def partitions_of(meter: Service) -> int:
    """Return how many partitions a meter was assigned last, as its log says."""
    lines = [line for line in meter.log.splitlines() if "partitions assigned: " in line]
    return sum(name != "none" for name in lines[-1].rpartition(": ")[2].split(", ")) if lines else 0


@pytest.mark.timeout(400)
def test_clickhouse_away(
    kafka: str, prefix: str, own_clickhouse: OwnClickHouse, tmp_path: Path
) -> None:
    """A ClickHouse that is away for half a minute is caught up with, row by row."""
    address = address_of(own_clickhouse)
    with pipeline(kafka, prefix, address, "away", tmp_path) as made:
        made.start("sink", "publisher", "meter")
        made.wait_ready()
        with Traffic(made.sender, PER_SECOND):
            eventually(
                lambda: made.client.query("SELECT count() FROM ledger").result_rows[0][0],
                60,
                "rows land",
            )
            own_clickhouse.kill()
            back_at = time.monotonic() + AWAY_S
            eventually(lambda: time.monotonic() >= back_at, AWAY_S + 5, "the outage is over")
            own_clickhouse.start()
        made.wait_ready()
        assert made.audit()["total"]["difference"] == 0
        made.check_stored()
        made.stop()


@pytest.mark.timeout(400)
def test_broker_restart(
    own_kafka: OwnKafka, clickhouse: ClickHouseAddress, database: str, tmp_path: Path
) -> None:
    """A broker that dies and comes back under traffic loses and repeats nothing."""
    with pipeline(own_kafka.bootstrap, "restart.", clickhouse, database, tmp_path) as made:
        made.start("sink", "publisher", "meter")
        made.wait_ready()
        with Traffic(made.sender, PER_SECOND):
            eventually(lambda: made.sender.sent.runs > PER_SECOND, 30, "traffic flows")
            own_kafka.kill()
            own_kafka.start()
        made.wait_ready()
        assert made.audit()["total"]["difference"] == 0
        made.check_stored()
        made.stop()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", ["meter", "sink", "publisher"])
def test_paused_past_its_session(
    target: str,
    kafka: str,
    prefix: str,
    clickhouse: ClickHouseAddress,
    database: str,
    tmp_path: Path,
) -> None:
    """A service that sleeps past its session while another joins and takes over repeats nothing."""
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made:
        made.start("sink", "publisher", "meter")
        made.wait_ready()
        with Traffic(made.sender, PER_SECOND):
            sleeper = made.running.pop(target)
            sleeper.signal(signal.SIGSTOP)
            made.start(target)
            over_at = time.monotonic() + 2 * SESSION_S
            eventually(lambda: time.monotonic() > over_at, 60, "its session is over")
            made.running[target].wait_ready()
            sleeper.signal(signal.SIGCONT)
        assert made.audit()["total"]["difference"] == 0
        made.check_stored()
        made.stop()
        assert sleeper.process.poll() is not None or sleeper.stop() == 0


@pytest.mark.timeout(400)
def test_meters_join_and_leave(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, tmp_path: Path
) -> None:
    """Partitions that move to a second meter and back, under traffic, are counted once."""
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made:
        made.start("sink", "publisher", "meter")
        made.wait_ready()
        first = made.running["meter"]
        with Traffic(made.sender, PER_SECOND):
            made.start("meter")
            second = made.running["meter"].wait_ready()

            def shared() -> bool:
                theirs = partitions_of(first), partitions_of(second)
                return sum(theirs) == PARTITIONS and min(theirs) > 0

            eventually(shared, 120, "the meters share the partitions")
            assert second.stop() == 0
            eventually(lambda: partitions_of(first) == PARTITIONS, 120, "the first has all again")
        made.running["meter"] = first
        assert made.audit()["total"]["difference"] == 0
        made.check_stored()
        made.stop()
