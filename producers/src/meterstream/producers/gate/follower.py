"""The thread that reads `limit-states`: from the beginning to the end, then on."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from meterstream.producers.broker import READING, explain
from meterstream.producers.exceptions import (
    BrokerUnreachable,
    GateProblem,
    InvalidSettings,
    ProducerError,
    UnknownTopic,
    UnreadableState,
)

from .knowledge import Knowledge
from .metrics import GateMetrics
from .settings import GateSettings

_LOGGER: Final = logging.getLogger("meterstream.producers")
_CLIENT_LOGGER: Final = logging.getLogger("meterstream.producers.librdkafka")
_METADATA_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.2
_FETCH_WAIT_MS: Final = 50
"""A broker holds a fetch back where nothing is committed yet: by the client's default half a
second, which is what a gate would learn late."""
_BATCH_LOADING: Final = 2_000
_BATCH: Final = 20
"""Few at a time once all is read: a check must not wait for the records of a whole fetch."""
_NO_GROUP: Final = KafkaError.GROUP_AUTHORIZATION_FAILED
"""The client asks for its group, though nothing here needs one: that right need not be given."""
_LOOK_S: Final = 5.0
"""How often it is asked whether the topic is still the same: a client that reads on in one that was
made again may not notice."""
_LEAST_BACKOFF_S: Final = 0.1
_MOST_BACKOFF_S: Final = 10.0


class Follower:
    """Brings every committed record of the topic to `known`, in the order of its partition.

    It commits nothing and belongs to no group. Where the client fails a new one reads the topic
    from its beginning: it may have been made again, and what is known already changes nothing.
    """

    def __init__(
        self,
        settings: GateSettings,
        known: Knowledge,
        metrics: GateMetrics,
        *,
        each_turn: Callable[[], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._settings: Final = settings
        self._known: Final = known
        self._each_turn: Final = each_turn
        self._metrics: Final = metrics
        self._report: Final = report
        self._next: Final[dict[int, int]] = {}
        """The offset behind the last record taken, by partition."""
        self._ends: Final[dict[int, int]] = {}
        """Where partitions ended that were assigned and not read to there yet."""
        self._backoff_s = _LEAST_BACKOFF_S
        self._stop: Final = threading.Event()
        self.loaded: Final = threading.Event()
        self.last_problem: ProducerError | None = None
        self.consumer: Consumer = self._make()
        self._admin: Final = AdminClient(self._client(), logger=_CLIENT_LOGGER)
        self._topic_id = ""
        self._asked: Future[Any] | None = None
        self._look_at = 0.0
        self._thread: Final = threading.Thread(
            target=self._run, name="meterstream-gate", daemon=True
        )

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Read no more; False if the thread did not end in time."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        anew = False
        while not self._stop.is_set():
            try:
                if anew:
                    self.consumer.close()
                    self.consumer = self._make()
                anew = True
                self._assign()
                while not self._stop.is_set():
                    self._turn()
            except KafkaException as error:
                self._problem(explain(error.args[0], self._settings, READING))
            except ProducerError as error:
                self._problem(error)
            except Exception as error:  # the thread must outlive what was not foreseen
                _LOGGER.exception("reading the limit states failed in a way that was not foreseen")
                self._problem(GateProblem(f"{self._settings.topic}: {error!r}"))
            self._stop.wait(self._backoff_s)
            self._backoff_s = min(_MOST_BACKOFF_S, 2 * self._backoff_s)
        self.consumer.close()

    def _client(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "client.id": settings.name,
            "log_level": 2,  # what matters less arrives through error_cb, and is logged once
            **settings.kafka,
            "bootstrap.servers": settings.kafka_bootstrap,
        }

    def _make(self) -> Consumer:
        settings = self._settings
        config = (
            {"fetch.wait.max.ms": _FETCH_WAIT_MS}
            | self._client()
            | {
                "group.id": f"{settings.topic}.gate",  # the client wants one; nothing joins it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "error_cb": self._on_client_error,
            }
        )
        try:
            return Consumer(config, logger=_CLIENT_LOGGER)
        except KafkaException as error:
            raise InvalidSettings(f"the setting kafka: {error.args[0].str()}") from None

    def _assign(self) -> None:
        topic = self._settings.topic
        self._asked = None
        # Before it is read: a topic that is made again meanwhile has another id afterwards.
        self._topic_id = self._id_of(self._ask().result(_METADATA_TIMEOUT_S))
        self._look_at = time.monotonic() + _LOOK_S
        found = self.consumer.list_topics(topic, timeout=_METADATA_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise explain(found.error, self._settings, READING)
        if not found.partitions:
            raise UnknownTopic(f"{self._settings.kafka_bootstrap} has no topic {topic} yet")
        self._known.set_partitions(len(found.partitions))
        for partition in self._known.partitions:
            partition.begins_anew()
        self._next.clear()
        places = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for number in range(len(found.partitions))
        ]
        for place in places:
            self._look_for_end(place.partition)
        self.consumer.assign(places)

    def _look_for_end(self, number: int) -> None:
        place = TopicPartition(self._settings.topic, number)
        _, self._ends[number] = self.consumer.get_watermark_offsets(
            place, timeout=_METADATA_TIMEOUT_S
        )

    def _ask(self) -> "Future[Any]":
        topic = self._settings.topic
        asked: Future[Any] = self._admin.describe_topics(
            TopicCollection([topic]), request_timeout=_METADATA_TIMEOUT_S
        )[topic]
        return asked

    @staticmethod
    def _id_of(description: Any) -> str:
        return str(description.topic_id)

    def _look(self) -> None:
        """Notice that the topic was made again; nothing is waited for."""
        if self._asked is None:
            if time.monotonic() >= self._look_at:
                self._asked = self._ask()
            return
        if not self._asked.done():
            return
        asked, self._asked = self._asked, None
        self._look_at = time.monotonic() + _LOOK_S
        if asked.exception() is None and self._id_of(asked.result()) != self._topic_id:
            raise GateProblem(f"{self._settings.topic} was made again: it is read from its start")

    def _turn(self) -> None:
        self._look()
        size = _BATCH if self.loaded.is_set() else _BATCH_LOADING
        message: Any
        for message in self.consumer.consume(size, _POLL_S):
            error = message.error()
            if error is None:
                self._take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._reached_end(message.partition())
            elif error.code() != _NO_GROUP:
                raise KafkaException(error)
        self._each_turn()

    def _take(self, message: Any) -> None:
        number, offset = message.partition(), message.offset()
        if offset < self._next.get(number, 0):
            self._known.partitions[number].begins_anew()
            self._look_for_end(number)
        self._next[number] = offset + 1
        try:
            self._known.take(number, message.key(), message.value())
        except UnreadableState as error:
            self._metrics.ignored("unreadable")
            self._report(error)
        # A partition that is always written to may never be told to have ended.
        if (end := self._ends.get(number)) is not None and offset + 1 >= end:
            self._reached_end(number)

    def _reached_end(self, number: int) -> None:
        self._ends.pop(number, None)
        self._known.reached_end(number)
        self._backoff_s = _LEAST_BACKOFF_S
        self.last_problem = None
        if not self.loaded.is_set() and self._known.loaded:
            self.loaded.set()

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() != _NO_GROUP:
            self._problem(explain(error, self._settings, READING))

    def _problem(self, problem: ProducerError) -> None:
        if self.last_problem is None or type(problem) is not BrokerUnreachable:
            self.last_problem = problem  # that nobody answers says less than why
        self._report(problem)
