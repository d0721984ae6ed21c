"""The embedded Kafka broker: its start, its end, and what it says when it cannot start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from tests.support.waiting import eventually

from meterstream.local.deadlines import Deadlines
from meterstream.local.errors import LocalStackError, StartError
from meterstream.local.kafka import KafkaBroker, wait_for_broker
from meterstream.local.kafka_settings import MESSAGE_BYTES_MAX
from meterstream.local.ports import free_ports

_PARENT = """
import signal, sys
from pathlib import Path
from meterstream.local.kafka import KafkaBroker
broker = KafkaBroker(Path(sys.argv[1])).start()
print(broker.pid, broker.bootstrap, flush=True)
signal.alarm(600)
signal.pause()
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Return a broker in a directory whose name holds what names may hold."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka") / "a path é=#") as started:
        yield started


def test_the_broker_is_a_kafka_4_1_on_loopback(broker: KafkaBroker) -> None:
    """It listens on 127.0.0.1 only, with its own port and one for its controller."""
    connections = psutil.Process(broker.pid).net_connections("tcp")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert broker.bootstrap in {f"127.0.0.1:{address.port}" for address in listening}
    assert len(listening) == 2


def test_a_large_record_fits(broker: KafkaBroker) -> None:
    """A record of nearly the message limit goes in and comes out."""
    topic = "large"
    value = bytes(MESSAGE_BYTES_MAX - 100_000)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    limits = {"bootstrap.servers": broker.bootstrap, "message.max.bytes": MESSAGE_BYTES_MAX}
    producer = Producer(limits)
    producer.produce(topic, value)
    assert producer.flush(60) == 0
    consumer = Consumer(
        limits
        | {
            "group.id": "large",
            "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
            "fetch.max.bytes": MESSAGE_BYTES_MAX,
            "receive.message.max.bytes": MESSAGE_BYTES_MAX + 1_000_000,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(60)
    consumer.close()
    assert message is not None
    assert message.value() == value


def test_topics_are_never_made_up(broker: KafkaBroker) -> None:
    """Writing to a topic that is not there fails, and does not create it."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 3000})
    errors: list[object] = []
    producer.produce("nowhere", b"x", on_delivery=lambda error, _message: errors.append(error))
    producer.flush(30)
    assert errors
    assert errors[0] is not None
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert "nowhere" not in admin.list_topics(timeout=30).topics


def test_transactions_work_on_one_node(broker: KafkaBroker) -> None:
    """A transactional producer commits, and an aborted record is not read as committed."""
    topic = "transactions"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "one"})
    producer.init_transactions(30)
    for value, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "t"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.value() == b"committed"


def test_a_second_broker_on_the_same_data_is_refused(broker: KafkaBroker) -> None:
    """Two brokers on one directory would destroy it."""
    with pytest.raises(StartError, match="another process works on"):
        KafkaBroker(broker.data_dir, deadlines=Deadlines(lock_s=0.1)).start()


def test_a_busy_port_is_told_in_one_line(broker: KafkaBroker, tmp_path: Path) -> None:
    """The line names the port and what to do."""
    port = int(broker.bootstrap.rpartition(":")[2])
    with pytest.raises(StartError, match=f"port {port} .* is in use") as caught:
        KafkaBroker(tmp_path, port=port).start()
    assert "\n" not in str(caught.value)


def test_settings_of_the_caller_win(tmp_path: Path) -> None:
    """A broker restarted with its data keeps its topics and takes the new settings."""
    first = KafkaBroker(tmp_path, settings={"log.retention.hours": "7"})
    with first:
        admin = AdminClient({"bootstrap.servers": first.bootstrap})
        admin.create_topics([NewTopic("kept", 3, 1)])["kept"].result(30)
        resource = ConfigResource(ResourceType.BROKER, "1")
        found = admin.describe_configs([resource])[resource].result(30)
        assert found["log.retention.hours"].value == "7"
    with KafkaBroker(tmp_path) as second:
        admin = AdminClient({"bootstrap.servers": second.bootstrap})
        assert len(admin.list_topics("kept", timeout=30).topics["kept"].partitions) == 3


def test_a_failed_start_shows_the_brokers_last_lines(tmp_path: Path) -> None:
    """What the broker itself says is in the error."""
    broken = KafkaBroker(tmp_path, settings={"num.io.threads": "none"})
    with pytest.raises(StartError, match=r"num\.io\.threads"):
        broken.start()
    assert not broken.running


def test_a_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """The line names the directory."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalStackError, match="cannot write") as caught:
        KafkaBroker(tmp_path / "file" / "kafka").start()
    assert "\n" not in str(caught.value)


def test_no_broker_is_told_in_one_line() -> None:
    """The line names the address."""
    (port,) = free_ports(1)
    with pytest.raises(LocalStackError, match=f"127.0.0.1:{port}") as caught:
        wait_for_broker(f"127.0.0.1:{port}", timeout_s=0.1)
    assert "\n" not in str(caught.value)


def test_the_broker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """After kill -9 of the parent there is no Java left, and the port is free."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, bootstrap = parent.stdout.readline().split()
    wait_for_broker(bootstrap, timeout_s=30)
    parent.kill()
    parent.wait(30)
    eventually(lambda: not psutil.pid_exists(int(pid)), 60, "the broker is gone")
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=0.5)
    parent.stdout.close()
