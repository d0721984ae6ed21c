"""The fixtures of the whole suite give each test a place of its own on real servers."""

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.stack import ClickHouseAddress, OwnClickHouse, OwnKafka, address_of
from tests.support.waiting import eventually


def test_a_record_goes_through_the_shared_broker(kafka: str, prefix: str) -> None:
    """What is produced to a topic of the test's own prefix is read from it."""
    topic = f"{prefix}events"
    _create(kafka, topic)
    _produce(kafka, topic, b"one")
    assert _read_all(kafka, topic, count=1) == [b"one"]


def test_the_client_works_in_the_tests_own_database(ch_client: Client, database: str) -> None:
    """Tables that a test makes without naming a database land in its own one."""
    ch_client.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    assert ch_client.command("SELECT database FROM system.tables WHERE name = 't'") == database


def test_a_killed_broker_keeps_what_it_acknowledged(own_kafka: OwnKafka) -> None:
    """A record that was acknowledged is there when the broker was killed and started again."""
    _create(own_kafka.bootstrap, "events")
    _produce(own_kafka.bootstrap, "events", b"kept")
    own_kafka.kill()
    own_kafka.start()
    assert _read_all(own_kafka.bootstrap, "events", count=1) == [b"kept"]


def test_a_killed_clickhouse_keeps_what_it_acknowledged(own_clickhouse: OwnClickHouse) -> None:
    """Rows that were acknowledged are there when the server was killed and started again."""
    address: ClickHouseAddress = address_of(own_clickhouse)
    client = address.client()
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    client.insert("t", [[value] for value in range(1000)], column_names=["a"])
    own_clickhouse.kill()
    own_clickhouse.start()
    assert address.client().command("SELECT count(), sum(a) FROM t") == ["1000", "499500"]


def _create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)


def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def _read_all(bootstrap: str, topic: str, *, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: list[bytes | None] = []

    def enough() -> bool:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message.value())
        return len(found) >= count

    eventually(enough, 30, f"{count} records in {topic}")
    consumer.close()
    return found
