"""The history feed's target with doubles in the place of Kafka and ClickHouse."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from tests.support.journal import EVENTS_TOPIC_ID, TODAY_US, Writer, cell

from meterstream.schemas.journal import Link
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.sinks import history
from meterstream.sinks.closing import Closing
from meterstream.sinks.history import HistoryTarget
from meterstream.sinks.metrics import SinkMetrics
from meterstream.sinks.start import Start


class Message:
    """A completed run of team-1."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return json.dumps(
            {
                "id": f"e-{self._offset}",
                "source": "/apps/chat",
                "type": "meterstream.run.completed.v1",
                "time": format_rfc3339(from_us(TODAY_US)),
                "data": {
                    "team_id": "team-1",
                    "operation": "agent_run",
                    "run_id": f"r-{self._offset}",
                },
            }
        ).encode()


class Events:
    """An events topic that holds every offset."""

    def topic_id(self) -> UUID:
        return EVENTS_TOPIC_ID

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Message]:
        for start, end in ranges.values():
            yield from map(Message, range(start, end))


class Store:
    """A store that notes the runs of each insert."""

    def __init__(self) -> None:
        self.inserts: list[tuple[str, list[str]]] = []

    def insert(self, target: str, table: pa.Table) -> list[Any]:
        runs = table["run_id"].to_pylist() if target == "runs" else []
        self.inserts.append((target, runs))
        return []

    def close(self, closing: Closing) -> None:
        raise AssertionError("the history has no windows")


class Finder:
    """Finds the start that it is given."""

    def __init__(self, start: Start) -> None:
        self.start = start

    def find(self, partition: int, committed: Link | None) -> Start:
        return self.start


def target(start: Start) -> tuple[HistoryTarget, Store]:
    """Return a target that owns partition 0, and its store."""
    store = Store()
    clickhouse: Any = None
    finder: Any = Finder(start)
    events: Any = Events()
    made = HistoryTarget(clickhouse, store, finder, events, SinkMetrics())
    assert made.assigned(0, None) is start
    return made, store


def test_events_are_inserted_in_chunks_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits, no more is held at once; the position comes after all of it."""
    monkeypatch.setattr(history, "MAX_CHUNK_BYTES", 1)
    made, store = target(Start(0, None))
    writer = Writer()
    made.add(writer.genesis(TODAY_US))
    for number in range(3):
        charge = {"event_offset": number, "event_time": TODAY_US}
        assert made.add(writer.step([cell(TODAY_US)], charges=[charge])) == 1
    links: dict[int, Link] = {}
    made.flush(links.update)
    assert store.inserts == [
        ("runs", ["r-0"]),
        ("runs", ["r-1"]),
        ("runs", ["r-2"]),
        ("positions", []),
    ]
    assert links == {0: writer.chain.link}


def test_without_records_nothing_is_stored() -> None:
    """A flush before a rebalance finds nothing where all was flushed."""
    made, store = target(Start(0, None))
    commits: list[Mapping[int, Link]] = []
    made.flush(commits.append)
    assert (store.inserts, commits) == ([], [])


def test_rows_of_lost_records_are_removed_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the history's own tables, in the partition that was cut."""
    removed: list[tuple[object, ...]] = []
    monkeypatch.setattr(history, "remove_rows_after", lambda _, *what: removed.append(what))
    cut: Any = object()
    target(Start(4, None, cut=cut))
    assert removed == [("history", ("runs", "agent_sessions_daily"), 0, cut)]
