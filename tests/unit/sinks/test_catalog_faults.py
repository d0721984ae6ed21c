"""The catalog feed where Kafka or ClickHouse fail; doubles, since neither does it on demand."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from confluent_kafka import KafkaError, TopicPartition

from meterstream.schemas.catalog import FeatureRegistered, FeatureRegisteredData
from meterstream.sinks import catalog, retry
from meterstream.sinks.catalog import CatalogFeed
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.metrics import SinkMetrics


class Message:
    """An entry of the catalog, or an error."""

    def __init__(self, offset: int, name: str = "", error: int | None = None) -> None:
        self._offset, self._name, self._error = offset, name, error

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_000

    def value(self) -> bytes:
        data = FeatureRegisteredData(feature_id=f"f-{self._offset}", name=self._name)
        time = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
        event = FeatureRegistered(id="e", source="/admin", time=time, data=data)
        return event.model_dump_json(exclude_none=True).encode()


class Client:
    """A consumer that delivers what it is given, and then ends its feed."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)
        self.stop = threading.Event()
        self.sought: list[int] = []
        self.closed = False

    def assign(self, _: list[TopicPartition]) -> None:
        """Begin at the first message."""

    def poll(self, _: float) -> Message | None:
        if not self.messages:
            self.stop.set()
            return None
        return self.messages.pop(0)

    def seek(self, partition: TopicPartition) -> None:
        self.sought.append(partition.offset)

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 9

    def close(self) -> None:
        self.closed = True


class Store:
    """A store that keeps what it is given, or that is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away
        self.tables: dict[str, list[dict[str, Any]]] = {}

    def insert(self, target: str, table: pa.Table) -> list[Any]:
        if self.is_away:
            raise OperationalError("away")
        self.tables.setdefault(target, []).extend(table.to_pylist())
        return []


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry, "STOP_PATIENCE_S", 0.0)


def run(
    monkeypatch: pytest.MonkeyPatch, store: Store, *messages: Message
) -> tuple[Client, SinkMetrics]:
    """Run a feed over `messages` to its end; return its consumer and metrics."""
    client, metrics = Client(messages), SinkMetrics()
    monkeypatch.setattr(catalog, "Consumer", lambda config: client)
    kept: Any = store
    try:
        CatalogFeed({}, "catalog", kept, metrics).run(client.stop)
    finally:
        assert client.closed
    return client, metrics


def test_damaged_entries_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives the same error again, so that the next offset is sought; others land."""
    store, damaged = Store(), KafkaError._BAD_COMPRESSION
    client, metrics = run(
        monkeypatch,
        store,
        Message(0, error=damaged),
        Message(1, "One"),
        Message(0, error=damaged),
        Message(3, "Three"),
    )
    assert client.sought == [1, 3]
    assert [row["name"] for row in store.tables["features"]] == ["One", "Three"]
    assert [row["next_offset"] for row in store.tables["positions"]] == [4]
    assert metrics.refused_entries._value.get() == 2


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ["`meterstream topics` creates it"]),
        (KafkaError._UNKNOWN_PARTITION, ["`meterstream topics` creates it"]),
        (KafkaError._ALL_BROKERS_DOWN, []),
    ],
)
def test_what_may_come_right_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, told: list[str]
) -> None:
    """A topic that is not created yet, of which is said who creates it, and brokers away."""
    store = Store()
    run(monkeypatch, store, Message(0, error=code), Message(0, "Zero"))
    assert [row["name"] for row in store.tables["features"]] == ["Zero"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == len(told)
    assert all(part in warning for part, warning in zip(told, warnings, strict=True))


def test_a_topic_that_cannot_be_read_stops_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that it lacks does not come by itself; the topic is named."""
    with pytest.raises(JournalBroken, match="topic catalog cannot be read"):
        run(monkeypatch, Store(), Message(0, error=KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_an_outage_that_outlasts_the_stop_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is stored, the position neither, so that the entries come again."""
    store = Store(is_away=True)
    run(monkeypatch, store, Message(0, "Zero"))
    assert store.tables == {}
    assert "it comes again at the next start" in caplog.records[-1].getMessage()
