"""The audit can fail: each kind of damage makes it exit 1 and name the place."""

import pytest
from tests.integration.audit.conftest import Audit, records
from tests.integration.audit.pipeline import Pipeline
from tests.support.stack import ClickHouseAddress

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
