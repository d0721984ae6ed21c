"""The thread that sends spooled events to Kafka in order, and settles what is acknowledged."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from .broker import (
    HEADERS,
    REFUSED_FOR_GOOD,
    explain,
    is_fatal,
    is_purged,
    make_producer,
    tells_why,
)
from .exceptions import (
    BrokerUnreachable,
    DeliveryProblem,
    EventRefused,
    ProducerError,
    SpoolUnusable,
)
from .metrics import PublisherMetrics
from .settings import PublisherSettings
from .spool import Cursor, Record, Slot, SpoolLog, SpoolRoot

_LOGGER: Final = logging.getLogger("meterstream.producers")
_BUSY_POLL_S: Final = 0.005
_IDLE_WAIT_S: Final = 1.0
_STALLED_POLL_S: Final = 0.1
_CALL_BACK_S: Final = 5.0
_LEAST_BACKOFF_S: Final = 0.1
_MOST_BACKOFF_S: Final = 10.0
ADOPT_EVERY_S: Final = 30.0
"""How often a publisher looks for the slots of processes that have died."""


class Sender:
    """Sends the logs of adopted slots, then the own log: one at a time, each in its order.

    So what a dead process left goes before newer events, and the client keeps the order within a
    partition. When a message fails, everything in flight is called back, and sending begins again
    at the lowest event that is not settled: an event may reach the topic twice, but not before
    one that was accepted earlier for its team. The meter counts each id once.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        root: SpoolRoot,
        slot: Slot,
        metrics: PublisherMetrics,
        *,
        report: Callable[[ProducerError], None],
        on_freed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._root = root
        self._own = slot
        self._metrics = metrics
        self._report = report
        self._on_freed = on_freed
        self._adopted: deque[Slot] = deque()
        self._next_adoption = 0.0

        self._log: SpoolLog = slot.log
        self._cursor = Cursor(slot.log, self._damaged)
        self._unsent: deque[Record] = deque()
        self._in_flight: dict[int, Record] = {}
        self._failed: dict[int, tuple[Record, KafkaError]] = {}
        self._alone: set[int] = set()

        self._fatal = False
        self._backoff_s = _LEAST_BACKOFF_S
        self._active_at = 0.0
        self._opened_us = _now_us()
        self._oldest_us: int | None = None
        self.last_problem: ProducerError | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.producer: Producer = make_producer(settings, self._on_client_error)
        self._thread = threading.Thread(target=self._run, name="meterstream-send", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Tell that the own log has grown."""
        self._wake.set()

    def adopt_now(self) -> None:
        """Look for the slots of dead processes at the next turn, not only when it is due."""
        self._next_adoption = 0.0
        self._wake.set()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that are being sent, in their turn; the own one is the last."""
        return (*self._adopted, self._own)

    @property
    def waiting_age_s(self) -> float:
        """How long this process has tried to send its oldest event, in seconds."""
        oldest_us = self._oldest_us
        if oldest_us is None:
            return 0.0
        return max(0, _now_us() - max(oldest_us, self._opened_us)) / 1e6

    def stop(self, timeout_s: float) -> bool:
        """Send nothing more; False if the thread did not end in time."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except KafkaException as error:
                self._broker_problem(error.args[0])
                self._begin_again(back_off=True)
            except SpoolUnusable as error:
                self._problem(error)
                self._begin_again(back_off=True)
            except OSError as error:
                self._problem(SpoolUnusable(f"{self._log.directory}: {error}"))
                self._begin_again(back_off=True)
            except Exception as error:  # the thread must outlive what was not foreseen
                _LOGGER.exception("sending failed in a way that was not foreseen")
                self._problem(DeliveryProblem(f"{self._log.directory}: {error!r}"))
                self._begin_again(back_off=True)
        self._call_back()
        self._settle()
        self._cursor.close()
        while self._adopted:
            self._adopted.popleft().close()

    def _turn(self) -> None:
        self._adopt()
        self._choose_log()
        self._fill()
        self._poll()
        if self._failed or self._fatal:
            self._recover()
        self._settle()

    def _adopt(self) -> None:
        if time.monotonic() < self._next_adoption:
            return
        self._next_adoption = time.monotonic() + ADOPT_EVERY_S
        for slot in self._root.adopt():
            _LOGGER.info(
                "%s: sending %d events of a process that is gone",
                slot.log.directory,
                slot.log.waiting,
            )
            self._adopted.append(slot)

    def _choose_log(self) -> None:
        """Move to the log whose turn it is, once the last one's acknowledgements are in."""
        due = self.slots[0].log
        if due is not self._log and not self._in_flight:
            self._cursor.close()
            self._log = due
            self._unsent.clear()
            self._alone.clear()
            self._cursor = Cursor(due, self._damaged)

    def _fill(self) -> None:
        """Hand events to the client while it has room and the log has its turn."""
        if self.slots[0].log is not self._log:
            return
        while len(self._in_flight) < self._settings.in_flight_max_events and not self._failed:
            if not self._unsent:
                self._unsent.extend(self._cursor.read())
            if not self._unsent or self._must_wait(self._unsent[0].seq):
                return
            try:
                self._produce(self._unsent[0])
            except BufferError:
                return  # the client's own limit in bytes
            self._unsent.popleft()

    def _must_wait(self, seq: int) -> bool:
        """Tell whether a suspect event is, or must be, alone in flight."""
        if not self._alone or not self._in_flight:
            return False
        return seq in self._alone or any(sent in self._alone for sent in self._in_flight)

    def _produce(self, record: Record) -> None:
        try:
            self.producer.produce(
                self._settings.topic,
                value=record.value,
                key=record.key,
                headers=HEADERS,
                on_delivery=partial(self._delivered, record),
            )
        except KafkaException as error:
            self._failed[record.seq] = (record, error.args[0])
            return
        if not self._in_flight:
            self._active_at = time.monotonic()
        self._in_flight[record.seq] = record

    def _delivered(self, record: Record, error: KafkaError | None, message: Message) -> None:
        if self._in_flight.pop(record.seq, None) is None:
            return  # it was given up with its client
        if error is not None:
            self._failed[record.seq] = (record, error)
            return
        self._log.acks.reached(message.partition(), message.offset())
        self._log.acks.settle(record.seq)
        self._alone.discard(record.seq)
        self._metrics.acknowledged.inc()
        self._metrics.delivery_seconds.observe(max(0, _now_us() - record.accepted_us) / 1e6)
        self._active_at = time.monotonic()
        self._backoff_s = _LEAST_BACKOFF_S
        self.last_problem = None

    def _poll(self) -> None:
        """Serve the client's callbacks; wait a little for more to do."""
        if self._in_flight:
            stalled = time.monotonic() - self._active_at > _IDLE_WAIT_S
            self.producer.poll(_STALLED_POLL_S if stalled else _BUSY_POLL_S)
            return
        self.producer.poll(0)
        if not self._failed and not self._fatal and not self._adopted:
            self._wake.wait(_IDLE_WAIT_S)
            self._wake.clear()

    def _recover(self) -> None:
        """After a failure: call everything back, set aside what is refused, begin again."""
        self._call_back()
        back_off = self._fatal
        for seq in sorted(self._failed):
            record, error = self._failed[seq]
            if is_purged(error):
                continue
            if error.code() in REFUSED_FOR_GOOD:
                if seq in self._alone:
                    self._refuse(record, error)
                else:
                    self._alone.add(seq)  # its batch may be at fault: once more, by itself
                continue
            back_off = True
            self._broker_problem(error)
        self._begin_again(back_off=back_off)

    def _begin_again(self, *, back_off: bool) -> None:
        self._call_back()
        if self._fatal:
            self.producer = make_producer(self._settings, self._on_client_error)
            self._fatal = False
        self._failed.clear()
        self._unsent.clear()
        self._cursor.rewind()
        if back_off:
            self._stop.wait(self._backoff_s)
            self._backoff_s = min(_MOST_BACKOFF_S, 2 * self._backoff_s)

    def _call_back(self) -> None:
        """Take back what is in flight: from now on it is acknowledged, or will be sent again."""
        if not self._in_flight:
            return
        self.producer.purge()
        self.producer.flush(_CALL_BACK_S)
        if self._in_flight:
            self._in_flight.clear()
            self._fatal = True  # a client that does not answer is replaced

    def _refuse(self, record: Record, error: KafkaError) -> None:
        path = self._log.keep_refused(record, error.str())
        refused = EventRefused(
            f"the broker refuses an event of {len(record.value):,} bytes for good: {error.str()};"
            f" it was moved to {path} (raise max.message.bytes of {self._settings.topic}, then"
            " publish it again from there)"
        )
        self._log.acks.settle(record.seq, refused)
        self._alone.discard(record.seq)
        self._metrics.failed(type(refused).__name__)
        self._report(refused)

    def _settle(self) -> None:
        """Free what is acknowledged; give up an adopted slot that is empty."""
        try:
            freed = self._log.forget_settled()
        except OSError as error:
            self._report(SpoolUnusable(f"{self._log.directory}: cannot be tidied: {error}"))
            freed = 0
        if self._adopted and self._adopted[0].log is self._log and not self._log.waiting:
            self._cursor.close()
            self._adopted.popleft().close()
            freed = 1
        if freed:
            self._on_freed()
        low = self._log.acks.low
        if low in self._in_flight:
            self._oldest_us = self._in_flight[low].accepted_us
        elif not self._log.waiting and not self._adopted:
            self._oldest_us = None

    def _on_client_error(self, error: KafkaError) -> None:
        idle = not self._in_flight and isinstance(explain(error, self._settings), BrokerUnreachable)
        if not idle:  # an idle connection may be closed, and nobody is hurt
            self._broker_problem(error)

    def _broker_problem(self, error: KafkaError) -> None:
        self._fatal = self._fatal or is_fatal(error)
        problem = explain(error, self._settings)
        if self.last_problem is None or tells_why(problem):
            self._problem(problem)

    def _problem(self, problem: ProducerError) -> None:
        self.last_problem = problem
        self._report(problem)

    def _damaged(self, damage: SpoolUnusable, count: int) -> None:
        self._metrics.failed(type(damage).__name__, count)
        self._report(damage)


def _now_us() -> int:
    return time.time_ns() // 1000
