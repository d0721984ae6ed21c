"""The consumer's thread: takes whole fetches from aiokafka, partition by partition in turn."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from time import monotonic, time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.transport.consumer import ensure_TP
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ensure_aiokafka_TP
from faust.types import TP

from .batch import Batching, RecordBatch, Records
from .unpack import take

BACKPRESSURE_WAIT_SECONDS: Final = 0.05
"""How long a fetch waits at most while a partition is held back, so that it is soon resumed."""

FETCH_BYTES: Final = 32 * 1024 * 1024
"""The most that one fetch brings for all partitions of a broker: bounds memory with many."""


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Delivers a RecordBatch for each partition's fetch, also where a fetch holds only markers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seeks: dict[TP, int] = defaultdict(int)
        self._turn = 0
        self._doubted: dict[Any, int] = {}
        """Where a partition's bytes were damaged when they were last fetched."""

    @property
    def _batching(self) -> Batching:
        batching: Batching = self.app.batching
        return batching

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        # Faust has no settings for these, and the fetcher takes them when the consumer starts.
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._auto_offset_reset = "none"
        consumer._fetch_min_bytes = self._batching.fetch_min_bytes
        consumer._fetch_max_wait_ms = self._batching.fetch_wait_ms
        consumer._fetch_max_bytes = FETCH_BYTES
        return consumer

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[RecordBatch]]:
        fetcher = consumer._fetcher
        deadline = monotonic() + (timeout or 0.0)
        with fetcher._subscriptions.fetch_context():
            while self.consumer.flow_active:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                if not fetcher._subscriptions.reassignment_in_progress:
                    batches = self._drain(fetcher, active_partitions)
                    if batches:
                        return batches
                remaining = deadline - monotonic()
                if remaining <= 0:
                    break
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=min(remaining, BACKPRESSURE_WAIT_SECONDS))
                if waiter.done():
                    waiter.result()  # raises what the coordinator found, a refused group say
                else:
                    waiter.cancel()
        return {}

    def _drain(self, fetcher: Fetcher, active: set[TP]) -> dict[TP, list[RecordBatch]]:
        """Take one batch from each active partition that has one; another comes first each time."""
        waiting = list(fetcher._records)
        if not waiting:
            return {}
        self._turn = (self._turn + 1) % len(waiting)
        drained: dict[TP, list[RecordBatch]] = {}
        for key in waiting[self._turn :] + waiting[: self._turn]:
            tp = ensure_TP(key)
            if tp not in active:
                if not fetcher._subscriptions.is_assigned(key):
                    del fetcher._records[key]
                continue
            records = self._take(fetcher, key)
            if records is not None:
                drained[tp] = [RecordBatch(tp.topic, tp.partition, records, self._seeks[tp])]
        return drained

    def _take(self, fetcher: Fetcher, key: Any) -> Records | None:
        fetched = fetcher._records[key]
        if isinstance(fetched, FetchResult):
            try:
                records = take(fetched, self._batching.max_events, self._batching.max_bytes)
                return records if self._is_sure(key, records) else None
            finally:
                if not fetched.has_more():
                    del fetcher._records[key]
                    fetcher._notify(fetcher._wait_consume_future)
        del fetcher._records[key]
        fetcher._notify(fetcher._wait_consume_future)
        try:
            fetched.check_raise()
        except OffsetOutOfRangeError as error:
            at = error.args[0][key]
            return Records(at, at + 1, (), (), (), 0, out_of_range=True)
        except NoOffsetForPartitionError:
            pass  # it was not sought yet: positions come from the journal, not from the group
        return None

    def _is_sure(self, key: Any, records: Records | None) -> bool:
        """Tell whether `records` are as the log has them: damage once may be the network's."""
        if records is None or not records.damage or self._doubted.get(key) == records.start:
            return True
        self._doubted[key] = records.start
        return False

    async def seek_batches(self, tp: TP, offset: int) -> int | None:
        """Read `tp` on from `offset`; return the number of this seek, None if it is not ours.

        What was fetched before carries a lower number.
        """
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._seek_batches(tp, offset), self.thread_loop)
        )

    async def _seek_batches(self, tp: TP, offset: int) -> int | None:
        self._seeks[tp] += 1
        try:
            self._ensure_consumer().seek(ensure_aiokafka_TP(tp), offset)
        except IllegalStateError:
            return None
        return self._seeks[tp]

    def stable_end(self, tp: TP) -> tuple[int, float] | None:
        """Return the last stable offset of `tp`, and how many seconds ago the broker told it."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(ensure_aiokafka_TP(tp)) if assignment is not None else None
        if state is None or state.lso is None or state.timestamp is None:
            return None
        return state.lso, max(0.0, time() - state.timestamp / 1000)
