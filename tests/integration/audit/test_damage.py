"""The audit can fail: each kind of damage makes it exit 1 and name the place."""

import shutil
import struct
from pathlib import Path

import pytest
from tests.integration.audit.conftest import Audit, records
from tests.integration.audit.pipeline import Pipeline
from tests.support.events import rate_card
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.local.kafka import KafkaBroker
from meterstream.sinks.service import Service
from meterstream.sinks.settings import load_settings

pytestmark = pytest.mark.timeout(400)

ONE_CELL = (
    "(SELECT (team_id, window_start, user_id, agent_id, model, late) FROM whole"
    " WHERE credits_micro > 0 ORDER BY team_id, window_start, user_id, agent_id, model, late"
    " LIMIT 1)"
)
CELL = "(team_id, window_start, user_id, agent_id, model, late)"
COPY = "INSERT INTO {table} SELECT * REPLACE({change}) FROM whole ORDER BY {order} LIMIT 1"

DEARER = f"ALTER TABLE {{table}} UPDATE credits_micro = credits_micro + 1 WHERE {CELL} = {ONE_CELL}"
OTHER_BUCKET = (
    "ALTER TABLE usage_minutes UPDATE latency_sketch ="
    f" mapApply((b, n) -> (toInt16(b + 1), n), latency_sketch) WHERE {CELL} = {ONE_CELL}"
)
MISCOUNTED = (
    "ALTER TABLE ledger UPDATE duplicate = duplicate + 1 WHERE partition = 1 AND journal_offset = 4"
)
ONE_RUN = (
    "(partition, event_offset) = (SELECT partition, event_offset FROM whole"
    " WHERE card != '' ORDER BY partition, event_offset LIMIT 1)"
)
BEATEN = (
    "ALTER TABLE sessions UPDATE heartbeats = heartbeats + 1 WHERE session_id ="
    " (SELECT session_id FROM whole ORDER BY team_id, session_id LIMIT 1)"
)

DAMAGE = {
    "a cell row is deleted": (
        "usage_minutes",
        f"ALTER TABLE usage_minutes DELETE WHERE {CELL} = {ONE_CELL}",
        "the row is missing",
    ),
    "a credit is changed by 1 micro": (
        "usage_minutes",
        DEARER.format(table="usage_minutes"),
        "credits_micro is ",
    ),
    "a count of a sketch moves to another bucket": (
        "usage_minutes",
        OTHER_BUCKET,
        "latency_sketch_buckets is ",
    ),
    "a cell row is added": (
        "usage_minutes",
        COPY.format(table="usage_minutes", change="'intruder' AS user_id", order="team_id"),
        "user_id=intruder",
    ),
    "rows of a partition that does not exist are added": (
        "usage_minutes",
        COPY.format(table="usage_minutes", change="77 AS partition", order="team_id"),
        "1 rows do not follow from any journal",
    ),
    "a quarter is changed": (
        "usage_quarters",
        DEARER.format(table="usage_quarters"),
        "credits_micro is ",
    ),
    "a quarter is deleted": (
        "usage_quarters",
        f"ALTER TABLE usage_quarters DELETE WHERE {CELL} = {ONE_CELL}",
        "the row is missing",
    ),
    "a quarter is added": (
        "usage_quarters",
        COPY.format(table="usage_quarters", change="'intruder' AS user_id", order="window_start"),
        "user_id=intruder",
    ),
    "a day is changed": (
        "usage_days",
        f"ALTER TABLE usage_days UPDATE runs = runs - 1 WHERE {CELL} = {ONE_CELL}",
        "runs is ",
    ),
    "a day is deleted": (
        "usage_days",
        f"ALTER TABLE usage_days DELETE WHERE {CELL} = {ONE_CELL}",
        "the row is missing",
    ),
    "a ledger range is dropped": (
        "ledger",
        "ALTER TABLE ledger DELETE WHERE partition = 1 AND journal_offset = 4",
        "(journal offset 4): the range is missing",
    ),
    "a count of the ledger is changed": (
        "ledger",
        MISCOUNTED,
        "(journal offset 4): duplicate is ",
    ),
    "a ledger range is added within": (
        "ledger",
        COPY.format(table="ledger", change="{void} AS journal_offset", order="version"),
        "(journal offset {void}): no valid record of the journal decides the range",
    ),
    "a ledger range is added beyond": (
        "ledger",
        COPY.format(table="ledger", change="7000 AS journal_offset", order="version"),
        "(journal offset 7000): no valid record of the journal decides the range",
    ),
    "a charge is changed by 1 micro": (
        "charges",
        f"ALTER TABLE charges UPDATE credits_micro = credits_micro + 1 WHERE {ONE_RUN}",
        "credits_micro is ",
    ),
    "a charge is deleted": (
        "charges",
        f"ALTER TABLE charges DELETE WHERE {ONE_RUN}",
        "the row is missing",
    ),
    "a charge stands twice": (
        "charges",
        COPY.format(
            table="charges",
            change="event_time + INTERVAL 3 DAY AS event_time",
            order="event_offset",
        ),
        "the row does not follow from the journal",
    ),
    "a charge of an offset beyond the log is added": (
        "charges",
        COPY.format(table="charges", change="900000 AS event_offset", order="version"),
        "event offset 900000",
    ),
    "a run of the history is deleted": (
        "runs",
        f"ALTER TABLE runs DELETE WHERE {ONE_RUN}",
        "the row is missing",
    ),
    "a session's state is changed": (
        "sessions",
        BEATEN,
        "heartbeats is ",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_in_clickhouse(pipeline: Pipeline, audit: Audit, name: str) -> None:
    """A difference of one, in any table, is found, and its row is named."""
    table, statement, text = DAMAGE[name]
    statement = statement.replace("{void}", str(pipeline.void_offset))
    text = text.replace("{void}", str(pipeline.void_offset))
    with pipeline.damaged(table, statement):
        outcome = audit(pipeline, "--no-dlq", "--timeout", "20")
    assert outcome.code == 1, outcome.out + outcome.err
    named = [line for line in outcome.out.splitlines() if line.startswith(f"difference: {table}, ")]
    assert any(text in line for line in named), outcome.out


def test_the_damage_was_mended(pipeline: Pipeline, audit: Audit) -> None:
    """The pipeline passes again, so that each test saw no damage but its own."""
    outcome = audit(pipeline)
    assert outcome.code == 0, outcome.out + outcome.err


def test_reading_again_mends(pipeline: Pipeline) -> None:
    """A sink whose positions and watermarks are deleted writes what was changed or deleted anew."""
    synchronous = {"mutations_sync": 2}
    for statement in (
        "ALTER TABLE usage_minutes UPDATE credits_micro = credits_micro + 1 WHERE 1",
        "ALTER TABLE usage_days DELETE WHERE late = -1",
        "ALTER TABLE ledger DELETE WHERE journal_offset = 4",
        "ALTER TABLE charges DELETE WHERE event_offset < 100",
        "ALTER TABLE positions DELETE WHERE 1",
        "ALTER TABLE watermarks DELETE WHERE 1",
    ):
        pipeline.client.command(statement, settings=synchronous)
    with pipeline.services():
        pipeline.settle()


def test_stages_that_lag(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, audit: Audit
) -> None:
    """The meter, the sinks and the publisher, whoever does not catch up in time, is named."""
    lagging = Pipeline(kafka, prefix, clickhouse, database, partitions=1)
    made = records(0, 200)
    lagging.publish(0, made)
    outcome = audit(lagging, "--timeout", "0.5")
    assert outcome.code == 1
    assert "events 0 to 200: no valid record decides them: the meter is 200 events" in outcome.out
    assert outcome.out.splitlines()[1].split("\t")[-1] == "200"

    lagging.meter(0).count(made, published=True)
    outcome = audit(lagging, "--timeout", "0.5")
    assert outcome.code == 1
    assert "the sink lags: it is " in outcome.out

    with lagging.services(publisher=False):
        assert audit(lagging, "--no-dlq").code == 0
        outcome = audit(lagging, "--timeout", "0.5")
    assert outcome.code == 1
    assert "its dead letter is missing" in outcome.out


def test_a_broken_journal_record(
    tmp_path: Path, clickhouse: ClickHouseAddress, database: str, audit: Audit
) -> None:
    """One flipped byte in a copy of the broker's data is found, with its offset."""
    whole = tmp_path / "whole"
    with KafkaBroker(whole) as broker:
        pipeline = Pipeline(broker.bootstrap, "copied.", clickhouse, database, partitions=1)
        with pipeline.services():
            pipeline.meter(0).count(records(0, 400), parts=10, cards=[rate_card()])
            pipeline.settle()
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    flip_a_byte(copy, "copied.journal-0", offset=5)
    with KafkaBroker(copy) as broker:
        pipeline.bootstrap = broker.bootstrap
        outcome = audit(pipeline)
        reason = sink_failure(pipeline)
    assert outcome.code == 1, outcome.out + outcome.err
    assert (
        "difference: copied.journal, partition 0, offset 5: the record cannot be read"
        in outcome.out
    )
    assert reason.startswith("copied.journal-0, offset 5")
    assert "CRC-32 is" in reason


def sink_failure(pipeline: Pipeline) -> str:
    """Let a sink that has lost its positions read all again; return why it cannot."""
    pipeline.client.command("TRUNCATE TABLE positions")
    sink = Service(
        load_settings(
            kafka_bootstrap=pipeline.bootstrap,
            topic_prefix=pipeline.prefix,
            clickhouse_url=pipeline.address.url,
            clickhouse_user=pipeline.address.user,
            clickhouse_password=pipeline.address.password,
            clickhouse_database=pipeline.database,
            sink_feeds="cells",
        )
    )
    sink.start()
    try:
        eventually(lambda: sink.failures, 60, "the sink's failure")
    finally:
        sink.stop()
        sink.wait()
    return sink.failures["cells"]


def flip_a_byte(data: Path, log: str, offset: int) -> None:
    """Flip one bit in the middle of the record batch that begins at `offset`."""
    (segment,) = data.rglob(f"{log}/*.log")
    content = bytearray(segment.read_bytes())
    at = 0
    while True:
        base, length = struct.unpack_from(">qi", content, at)
        if base == offset:
            break
        at += 12 + length
    content[at + (12 + length) * 3 // 4] ^= 0x10
    segment.write_bytes(content)
