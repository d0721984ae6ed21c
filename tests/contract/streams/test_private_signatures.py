"""The private parts of Faust and aiokafka that the transport overrides or reads are still there."""

import inspect
from importlib.metadata import version
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBatch
from faust.transport import drivers
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver

from meterstream.streams.app import MeterApp
from meterstream.streams.transport import SCHEME, BatchConsumer, BatchTransport
from meterstream.streams.transport.thread import BatchConsumerThread

PINS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

OVERRIDDEN: list[tuple[type, type, str, list[str]]] = [
    (MeterApp, faust.App, "_create_directories", ["self"]),
    (BatchConsumer, driver.Consumer, "_new_consumer_thread", ["self"]),
    (BatchConsumer, BaseConsumer, "resume_partitions", ["self", "tps"]),
    (BatchConsumer, BaseConsumer, "on_buffer_drop", ["self", "tp"]),
    (
        BatchConsumer,
        BaseConsumer,
        "on_partitions_assigned",
        ["self", "assigned", "generation_id"],
    ),
    (BatchConsumer, BaseConsumer, "perform_seek", ["self"]),
    (BatchConsumer, ThreadDelegateConsumer, "seek_to_committed", ["self"]),
    (BatchConsumer, BaseConsumer, "_wait_next_records", ["self", "timeout"]),
    (BatchConsumer, BaseConsumer, "_new_offset", ["self", "tp"]),
    (BatchConsumer, BaseConsumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
    (BatchConsumer, driver.Consumer, "verify_event_path", ["self", "now", "tp"]),
    (BatchConsumerThread, driver.AIOKafkaConsumerThread, "__post_init__", ["self"]),
    (
        BatchConsumerThread,
        driver.AIOKafkaConsumerThread,
        "_create_worker_consumer",
        ["self", "transport"],
    ),
    (
        BatchConsumerThread,
        driver.AIOKafkaConsumerThread,
        "_fetch_records",
        ["self", "consumer", "active_partitions", "timeout", "max_records"],
    ),
]

CALLED: list[tuple[Any, str, list[str]]] = [
    (fetcher.FetchResult, "has_more", ["self"]),
    (fetcher.FetchResult, "check_assignment", ["self", "tp"]),
    (fetcher.FetchResult, "_update_position", ["self"]),
    (fetcher.FetchError, "check_raise", ["self"]),
    (fetcher.PartitionRecords, "_consume_aborted_up_to", ["self", "batch_offset"]),
    (fetcher.PartitionRecords, "_contains_abort_marker", ["self", "next_batch"]),
    (fetcher.Fetcher, "_create_fetch_waiter", ["self"]),
    (fetcher.Fetcher, "_notify", ["self", "future"]),
    (BaseConsumer, "_get_active_partitions", ["self"]),
    (BaseConsumer, "on_buffer_full", ["self", "tp"]),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
]

READ: list[tuple[Any, list[str]]] = [
    (fetcher.FetchResult.__init__, ["_topic_partition", "_partition_records"]),
    (
        fetcher.PartitionRecords.__init__,
        [
            "_tp",
            "_records",
            "_aborted_producers",
            "_check_crcs",
            "_isolation_level",
            "next_fetch_offset",
            "_records_iterator",
        ],
    ),
    (
        fetcher.Fetcher.__init__,
        ["_records", "_subscriptions", "_wait_consume_future", "_closed"],
    ),
    (
        AIOKafkaConsumer.__init__,
        [
            "_isolation_level",
            "_auto_offset_reset",
            "_fetch_min_bytes",
            "_fetch_max_wait_ms",
            "_fetch_max_bytes",
            "_fetcher",
            "_subscription",
            "_closed",
        ],
    ),
    (TopicPartitionState.__init__, ["lso", "timestamp"]),
    (
        BaseConsumer.__init__,
        ["_read_offset", "_buffered_partitions", "_acked", "_acked_index"],
    ),
]


def _names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _name(value: Any) -> str | None:
    """Return the name of a test's parameter: the same in each process, as ids must be."""
    return getattr(value, "__qualname__", None) or str(value)


@pytest.mark.parametrize("name", PINS)
def test_pins(name: str) -> None:
    """The libraries whose private parts are used are exactly the ones that were looked at."""
    assert version(name) == PINS[name]


@pytest.mark.parametrize(("ours", "theirs", "name", "parameters"), OVERRIDDEN, ids=_name)
def test_overridden(ours: type, theirs: type, name: str, parameters: list[str]) -> None:
    """A method that is overridden exists where we think, with the parameters we think."""
    assert name in vars(theirs), f"{theirs.__name__} no longer defines {name}"
    assert _names(getattr(theirs, name)) == parameters
    assert _names(getattr(ours, name)) == parameters
    assert inspect.iscoroutinefunction(getattr(ours, name)) == inspect.iscoroutinefunction(
        inspect.unwrap(getattr(theirs, name))
    )


@pytest.mark.parametrize(("owner", "name", "parameters"), CALLED, ids=_name)
def test_called(owner: Any, name: str, parameters: list[str]) -> None:
    """A private method that is called takes what we give it."""
    assert _names(getattr(owner, name)) == parameters


@pytest.mark.parametrize(("place", "attributes"), READ, ids=_name)
def test_read(place: Any, attributes: list[str]) -> None:
    """A private attribute that is read or set is still made where it was."""
    source = inspect.getsource(place)
    assert [name for name in attributes if name not in source] == []


def test_producers_batches() -> None:
    """The compiled batches and records tell what is read of them."""
    batch = {"next_offset", "base_offset", "is_control_batch", "is_transactional", "producer_id"}
    assert batch | {"validate_crc"} <= set(dir(DefaultRecordBatch))
    assert {"offset", "timestamp", "value"} <= set(dir(DefaultRecord))


def test_the_scheme_selects_the_transport() -> None:
    """A broker address of our scheme brings the batch transport, and its consumer."""
    assert drivers.by_url(f"{SCHEME}://127.0.0.1:9092") is BatchTransport
    assert BatchTransport.Consumer is BatchConsumer
