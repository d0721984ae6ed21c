"""A pipeline in order passes the audit, whatever it went through."""

from collections import Counter
from threading import Thread

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.integration.audit.conftest import FIRST_US, TODAY_US, Audit, records
from tests.integration.audit.pipeline import Pipeline
from tests.support.events import rate_card
from tests.support.model import HOUR_US, Rules, run_model
from tests.support.stack import ClickHouseAddress

from meterstream.schemas.verdicts import LEDGER_CLASSES

pytestmark = pytest.mark.timeout(400)


def test_a_whole_pipeline_passes(pipeline: Pipeline, audit: Audit) -> None:
    """Every check compares something and finds no difference, and the counts are the model's."""
    outcome = audit(pipeline, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    document = outcome.json
    assert document["holds"] is True
    assert document["total"]["difference"] == 0
    for name, check in document["checks"].items():
        assert check["compared"] > 0, name
        assert check["differences"] == 0, name
    expected: Counter[str] = Counter()
    charges = 0
    for partition in range(2):
        counted = run_model(
            records(partition, 1500),
            Rules(partitions=2),
            partition,
            now_us=2**60,
            cards={0: [rate_card()]},
        )
        expected.update(counted.ledger)
        charges += len(counted.charges)
        assert document["partitions"][str(partition)]["void_records"] == 1
    assert {name: document["total"][name] for name in LEDGER_CLASSES} == dict(expected)
    assert document["checks"]["charges"]["compared"] == charges


def test_the_tables_are_for_people(pipeline: Pipeline, audit: Audit) -> None:
    """Without --json partitions have their lines, rejections reasons, and the end says yes."""
    outcome = audit(pipeline)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split("\t") == ["partition", "offered", *LEDGER_CLASSES, "difference"]
    assert [line.split("\t")[:2] for line in lines[1:4]] == [
        ["0", "1500"],
        ["1", "1500"],
        ["total", "3000"],
    ]
    assert any(line.startswith("wrong_partition\t") for line in lines)
    assert lines[-1] == "audit: all 3,000 offered offsets are accounted for, difference 0"


def test_one_partition_alone(pipeline: Pipeline, audit: Audit) -> None:
    """With --partition only that one is audited; one that does not exist is wrong usage."""
    assert list(audit(pipeline, "--json", "--partition", "1").json["partitions"]) == ["1"]
    outcome = audit(pipeline, "--partition", "7")
    assert outcome.code == 2
    assert "there is no partition 7" in outcome.err


@pytest.fixture
def fresh(kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str) -> Pipeline:
    """Return an empty pipeline of two partitions, of this test's own."""
    return Pipeline(kafka, prefix, clickhouse, database, partitions=2)


def test_a_pipeline_without_events_passes(fresh: Pipeline, audit: Audit) -> None:
    """Nothing offered, nothing missing, even before a meter has run."""
    outcome = audit(fresh, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.json["total"]["offered"] == 0


def test_a_pipeline_under_load_passes(fresh: Pipeline, audit: Audit) -> None:
    """While events go on arriving, each audit holds for the offsets that it began with."""
    made = records(0, 3000)
    with fresh.services():
        fresh.meter(1)
        meter = fresh.meter(0)
        meter.count(made[:500])

        def go_on() -> None:
            for first in range(500, 3000, 50):
                meter.count(made[first : first + 50], parts=2)

        thread = Thread(target=go_on)
        thread.start()
        outcomes = [audit(fresh, "--json") for _ in range(3)]
        thread.join()
        outcomes.append(audit(fresh, "--json"))
    for outcome in outcomes:
        assert outcome.code == 0, outcome.out + outcome.err
    offered = [outcome.json["total"]["offered"] for outcome in outcomes]
    assert offered == sorted(offered)
    assert offered[-1] == 3000


def test_retention_may_remove_the_journals_beginning(fresh: Pipeline, audit: Audit) -> None:
    """The audit then starts at the oldest record that the ledger confirms, and says so."""
    with fresh.services():
        for partition in range(2):
            fresh.meter(partition).count(records(partition, 600), parts=12)
        assert audit(fresh).code == 0
        admin = AdminClient({"bootstrap.servers": fresh.bootstrap})
        kept = TopicPartition(f"{fresh.prefix}journal", 0, 6)
        for deleted in admin.delete_records([kept]).values():
            deleted.result(30)
        outcome = audit(fresh, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    document = outcome.json
    assert document["partitions"]["0"]["offered"] < document["partitions"]["1"]["offered"] == 600
    assert any("the audit starts at journal offset 6" in note for note in document["notes"])
    with fresh.damaged("usage_minutes", "ALTER TABLE usage_minutes UPDATE runs = runs + 1 WHERE 1"):
        assert audit(fresh, "--no-dlq").code == 1


def test_a_new_generation_passes(fresh: Pipeline, audit: Audit) -> None:
    """Rows of both generations are compared, each with its own records."""
    with fresh.services():
        meter = fresh.meter(0)
        made = records(0, 600)
        meter.count(made[:300])
        meter.begin(2, events_from=300, clock_us=meter.state.clock_us)
        meter.count(made[300:])
        fresh.meter(1)
        outcome = audit(fresh, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.json["partitions"]["0"]["offered"] == 600


def test_a_generation_that_leaves_events_out_is_a_difference(fresh: Pipeline, audit: Audit) -> None:
    """Offsets between two generations that neither decided are named, and so are those twice."""
    with fresh.services():
        meter = fresh.meter(0)
        made = records(0, 300)
        meter.count(made[:100])
        meter.begin(2, events_from=150, clock_us=meter.state.clock_us)
        fresh.publish(0, made[100:150])
        meter.count(made[150:])
        meter = fresh.meter(1)
        made = records(1, 200)
        meter.count(made)
        meter.begin(2, events_from=190, clock_us=meter.state.clock_us)
        meter.count(made[190:], published=True)
        outcome = audit(fresh, "--no-dlq")
    assert outcome.code == 1
    assert "partition 0, events 100 to 150: are decided by no record" in outcome.out
    assert "partition 1, events 190 to 200: are decided by two generations" in outcome.out
    differences = [line.split("\t")[-1] for line in outcome.out.splitlines()[1:3]]
    assert differences == ["50", "10"]


def test_an_idle_partition_closes_its_windows(fresh: Pipeline, audit: Audit) -> None:
    """Windows that an idle record's log time has closed are compared in the coarse tables."""
    with fresh.services():
        meter = fresh.meter(0)
        meter.count(records(0, 200, start_us=FIRST_US))
        meter.idle(TODAY_US + 30 * HOUR_US)
        fresh.meter(1)
        outcome = audit(fresh, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.json["checks"]["usage_days"]["compared"] > 0


def test_what_cannot_be_reached(pipeline: Pipeline, audit: Audit) -> None:
    """A broker or a ClickHouse that does not answer is one line of advice and exit 3."""
    for name, value in (
        ("METERSTREAM_KAFKA_BOOTSTRAP", "127.0.0.1:1"),
        ("METERSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:1"),
        ("METERSTREAM_CLICKHOUSE_DATABASE", "nowhere"),
    ):
        outcome = audit(pipeline, **{name: value})
        assert outcome.code == 3, outcome.err
        assert outcome.out == ""
        assert outcome.err.startswith("meterstream: ")
        assert len(outcome.err.splitlines()) == 1
