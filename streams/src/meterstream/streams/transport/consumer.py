"""The consumer: Faust's bookkeeping for single messages made to fit batches."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from .batch import RecordBatch
from .thread import BatchConsumerThread

ALL_HELD_WAIT_SECONDS: Final = 0.1
"""How long to wait for a partition to take batches again; the base class sleeps for a second."""


class _NoReadOffsets(dict[TP, int | None]):
    """Forgets what was read.

    The base class drops messages below the highest offset it read and sees a gap in each jump.
    Here seeks number the batches, and each batch knows the offsets it speaks of.
    """

    def __getitem__(self, tp: TP) -> int | None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class BatchConsumer(driver.Consumer):
    """Reads whole fetches of partitions that have been released at a position.

    Each assigned partition is held until `release` names the position to read it from: positions
    come from the journal. Offsets committed to the group are what `committable` says, a gauge for
    operators that nothing here depends on.
    """

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NoReadOffsets()
        self._held: set[TP] = set()
        self._resumed = asyncio.Event()
        self.committable: dict[TP, int] = {}

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # --- holding partitions back ---

    async def release(self, tp: TP, offset: int) -> int | None:
        """Read `tp` from `offset` on; return the number of the seek, None if `tp` is not ours."""
        self._buffered_partitions.discard(tp)
        seek = await self._thread.seek_batches(tp, offset)
        if seek is not None:
            self._held.discard(tp)
            self.resume_partitions({tp})
        return seek

    def hold(self, tp: TP) -> None:
        """Deliver nothing more of `tp` until it is released again."""
        self._held.add(tp)
        self._buffered_partitions.discard(tp)
        self._get_active_partitions().discard(tp)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume those of `tps` that are not held."""
        super().resume_partitions(ensure_TPset(tps) - self._held)
        self._resumed.set()

    def on_buffer_drop(self, tp: TP) -> None:
        """Call when a partition that was full takes batches again."""
        if tp not in self._held:
            super().on_buffer_drop(tp)
            self._resumed.set()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Hold every partition: each is released once its state stands."""
        self._held = set(assigned)
        self._buffered_partitions.clear()
        self.committable.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Seek nowhere: `release` does, with the journal's position."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek nowhere: `release` does, with the journal's position."""
        return {}

    def stable_end(self, tp: TP) -> tuple[int, float] | None:
        """Return the last stable offset of `tp` and how many seconds ago the broker told it."""
        return self._thread.stable_end(tp)

    # --- fetching ---

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        if not active:
            self._resumed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._resumed.wait(), ALL_HELD_WAIT_SECONDS)
            return {}, active
        return await self._getmany(active, timeout), active

    # --- offsets of the group ---

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.committable.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Note nothing: a batch says itself which offsets hold no record."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Check nothing: lag, readiness and the journal's own metrics tell more, and truly."""


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with batches in place of messages."""

    Consumer = BatchConsumer


__all__ = ["BatchConsumer", "BatchTransport", "RecordBatch"]
