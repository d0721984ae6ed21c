"""The slow count reads a real topic as it is."""

import json

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.events import START_US, VALID_ONLY, Generator, make_records, rate_card
from tests.support.model import DAY_US, Rules, run_model
from tests.support.slow_count import read_topic, slow_count, totals

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.topics import BY_NAME, CATALOG, EVENTS
from meterstream.schemas.verdicts import Verdict

PARTITIONS = 3


def create(kafka: str, topic: str, name: str, partitions: int) -> None:
    """Create a topic as the contract asks for it, without compaction of what a test just wrote."""
    config = {**BY_NAME[name].config(), "cleanup.policy": "delete"}
    new = NewTopic(topic, partitions, 1, config=config)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([new])[topic].result(30)


def test_it_counts_what_was_sent(kafka: str, prefix: str) -> None:
    """Events sent by transactions, some of them aborted, are counted once each, markers as gaps."""
    create(kafka, prefix + EVENTS, EVENTS, PARTITIONS)
    create(kafka, prefix + CATALOG, CATALOG, 1)
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "transactional.id": prefix + "sender",
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(prefix + CATALOG, key=b"rate-card/default/1", value=rate_card())
    producer.commit_transaction(30)
    generators = [
        Generator(partition, partition=partition, partitions=PARTITIONS, mix=VALID_ONLY)
        for partition in range(PARTITIONS)
    ]
    sent = 0
    for round_ in range(4):
        producer.begin_transaction()
        for generator in generators:
            for _ in range(50):
                value = generator.value(START_US)
                assert value is not None
                team = json.loads(value)["data"]["team_id"]
                producer.produce(prefix + EVENTS, key=team.encode(), value=value)
                sent += round_ != 2
        assert producer.flush(30) == 0
        if round_ == 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    # What was sent is dated in the past; the broker's clock would call all of it too late.
    rules = Rules(PARTITIONS, horizon_us=100 * 365 * DAY_US, grace_us=50 * 365 * DAY_US)
    counts = slow_count(kafka, rules, prefix=prefix)
    verdicts = [v for counted in counts.values() for v in counted.verdicts.values()]
    assert verdicts.count(Verdict.COUNTED) == sent
    assert set(verdicts) == {Verdict.COUNTED, Verdict.GAP}
    assert sum(usage.runs for usage in totals(counts.values()).values()) == sent
    cards = {charge.card for counted in counts.values() for charge in counted.charges.values()}
    assert cards == {"default@1", "explicit"}


def test_it_reads_bytes_and_offsets_as_they_are(kafka: str, prefix: str) -> None:
    """What it reads of a partition are the very bytes sent, null values and broken ones too."""
    create(kafka, prefix + EVENTS, EVENTS, PARTITIONS)
    records = make_records(29, 300, partitions=PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka})
    for record in records:
        producer.produce(prefix + EVENTS, partition=0, value=record.value)
    assert producer.flush(30) == 0
    logs = read_topic(kafka, prefix + EVENTS)
    assert [len(log.records) for log in logs] == [300, 0, 0]
    assert [record.value for record in logs[0].records] == [record.value for record in records]
    assert [record.offset for record in logs[0].records] == list(range(300))
    log_times = [record.log_time_us for record in logs[0].records]
    assert log_times == sorted(log_times)
    assert min(log_times) > START_US - 365 * DAY_US
    counted = run_model(logs[0].records, Rules(PARTITIONS), 0, now_us=log_times[-1])
    assert counted.clock_us == log_times[-1]
    assert partition_of(Generator(1, partitions=PARTITIONS).teams[0], PARTITIONS) == 0
