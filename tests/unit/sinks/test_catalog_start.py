"""Where the catalog feed begins when Kafka is slow to say; a double makes it so."""

import threading
from typing import Any

import pytest

from meterstream.schemas.journal import Link
from meterstream.sinks import catalog, retry
from meterstream.sinks.catalog import CatalogFeed
from meterstream.sinks.metrics import SinkMetrics
from meterstream.sinks.positions import CATALOG, Position


class Client:
    """A consumer that does not learn the topic's bounds at first, and then ends its feed."""

    def __init__(self, stop: threading.Event, end: int) -> None:
        self.stop = stop
        self.answers: list[tuple[int, int] | None] = [None, None, (0, end)]
        self.assigned: list[int] = []
        self.closed = False

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int] | None:
        return self.answers.pop(0)

    def assign(self, partitions: list[Any]) -> None:
        self.assigned = [partition.offset for partition in partitions]
        self.stop.set()

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("end", "start"), [(9, 5), (5, 5), (4, 0)], ids=["on", "end", "made anew"])
def test_the_start_is_looked_for_until_kafka_tells_the_end(
    monkeypatch: pytest.MonkeyPatch, end: int, start: int
) -> None:
    """The feed goes on at its position, or at the beginning of a topic that ends before it."""
    stop = threading.Event()
    client = Client(stop, end)
    position = Position(CATALOG, 0, Link(5, 4, 0, 0, 0), 1)
    monkeypatch.setattr(catalog, "Consumer", lambda config: client)
    monkeypatch.setattr(catalog, "read_position", lambda *_: position)
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    nothing: Any = None
    CatalogFeed({}, "catalog", nothing, nothing, SinkMetrics()).run(stop)
    assert (client.assigned, client.answers, client.closed) == ([start], [], True)
