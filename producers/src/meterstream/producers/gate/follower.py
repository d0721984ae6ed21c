"""The thread that reads `limit-states` and `catalog`: from the beginning to the end, then on."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from meterstream.producers.broker import READING, READING_CATALOG, explain
from meterstream.producers.exceptions import (
    BrokerUnreachable,
    GateProblem,
    InvalidSettings,
    NotAuthorised,
    ProducerError,
    UnknownTopic,
    UnreadableState,
)

from .knowledge import Knowledge
from .log import Log
from .metrics import GateMetrics
from .settings import GateSettings

_LOGGER: Final = logging.getLogger("meterstream.producers")
_CLIENT_LOGGER: Final = logging.getLogger("meterstream.producers.librdkafka")
_TIMEOUT_S: Final = 10.0
_CATALOG_TIMEOUT_S: Final = 2.0
"""Less: limits of teams must not wait for a catalog that does not answer."""
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
"""How often it is asked whether the topics are still the same: a client that reads on in one that
was made again may not notice. And whether a catalog that could not be read is there now."""
_LEAST_BACKOFF_S: Final = 0.1
_MOST_BACKOFF_S: Final = 10.0


class Follower:
    """Brings every committed record of both topics to `known`, in the order of its partition.

    It commits nothing and belongs to no group. Where the client fails a new one reads the topics
    from their beginning: one may have been made again, and what is known already changes nothing.
    Limits of teams do not depend on the catalog: where it cannot be read, that is told once, and
    the states are read all the same.
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
        self._states: Final = Log(settings.topic, _TIMEOUT_S)
        self._catalog: Final = Log(settings.catalog_topic, _CATALOG_TIMEOUT_S)
        self._reads_catalog = False
        """Whether it is assigned."""
        self._catalog_problem: type[ProducerError] | None = None
        """What was told of it last."""
        self._backoff_s = _LEAST_BACKOFF_S
        self._stop: Final = threading.Event()
        self.loaded: Final = threading.Event()
        self.last_problem: ProducerError | None = None
        self.consumer: Consumer = self._make()
        self._admin: Final = AdminClient(self._client(), logger=_CLIENT_LOGGER)
        self._asked: dict[str, Future[Any]] = {}
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
        topic = self._states.name
        self._asked = {}
        # Before it is read: a topic that is made again meanwhile has another id afterwards.
        asked = self._ask()
        self._states.topic_id = _id_of(asked[topic])
        self._look_at = time.monotonic() + _LOOK_S
        found = self.consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise explain(found.error, self._settings, READING)
        if not found.partitions:
            raise UnknownTopic(f"{self._settings.kafka_bootstrap} has no topic {topic} yet")
        count = len(found.partitions)
        self._known.set_partitions(count)
        for number in range(count):
            self._known.begins_anew(number)
        self._reads_catalog = False
        places = self._states.begin(self.consumer, count)
        self.consumer.assign(places + self._begin_catalog(asked[self._catalog.name]))

    def _begin_catalog(self, asked: "Future[Any]") -> list[TopicPartition]:
        """Return from where to read the catalog; nothing where it cannot be read."""
        try:
            self._catalog.topic_id = _id_of(asked)
            places = self._catalog.begin(self.consumer, 1)
        except KafkaException as error:
            self._without_catalog(error.args[0])
            return []
        self._known.organisations.catalog.begins_anew()
        self._reads_catalog = True
        return places

    def _without_catalog(self, error: KafkaError) -> None:
        problem = explain(error, self._settings, READING_CATALOG, self._catalog.name)
        if type(problem) is not self._catalog_problem:
            self._catalog_problem = type(problem)
            self._report(problem)
        if isinstance(problem, NotAuthorised | UnknownTopic):
            self._known.catalog_unreadable = True
            self._note_loaded()

    def _ask(self) -> "dict[str, Future[Any]]":
        asked: dict[str, Future[Any]] = self._admin.describe_topics(
            TopicCollection([self._states.name, self._catalog.name]),
            request_timeout=_TIMEOUT_S,
        )
        return asked

    def _look(self) -> None:
        """Notice that a topic was made again; nothing is waited for."""
        if not self._asked:
            if time.monotonic() >= self._look_at:
                self._asked = self._ask()
            return
        if not all(asked.done() for asked in self._asked.values()):
            return
        found, self._asked = self._asked, {}
        self._look_at = time.monotonic() + _LOOK_S
        for log in (self._states, self._catalog):
            asked = found[log.name]
            if log is self._catalog and not self._reads_catalog:
                if places := self._begin_catalog(asked):
                    self.consumer.incremental_assign(places)
            elif asked.exception() is None and _id_of(asked) != log.topic_id:
                raise GateProblem(f"{log.name} was made again: it is read from its start")

    def _turn(self) -> None:
        self._look()
        size = _BATCH if self.loaded.is_set() else _BATCH_LOADING
        message: Any
        for message in self.consumer.consume(size, _POLL_S):
            error, of_catalog = message.error(), message.topic() == self._catalog.name
            if error is None:
                if of_catalog:
                    self._take_entry(message)
                else:
                    self._take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                if of_catalog:
                    self._catalog_reached_end()
                else:
                    self._reached_end(message.partition())
            elif of_catalog:
                self._without_catalog(error)
            elif error.code() != _NO_GROUP:
                raise KafkaException(error)
        self._each_turn()

    def _take(self, message: Any) -> None:
        number, offset = message.partition(), message.offset()
        if self._states.is_read_again(self.consumer, number, offset):
            self._known.begins_anew(number)
        try:
            self._known.take(number, message.key(), message.value())
        except UnreadableState as error:
            self._metrics.ignored("unreadable")
            self._report(error)
        if self._states.is_at_end(number):
            self._reached_end(number)

    def _take_entry(self, message: Any) -> None:
        organisations = self._known.organisations
        if self._catalog.is_read_again(self.consumer, 0, message.offset()):
            organisations.catalog.begins_anew()
        try:
            organisations.take_entry(message.key(), message.value())
        except UnreadableState as error:
            self._metrics.ignored("unreadable")
            self._report(error)
        if self._catalog.is_at_end(0):
            self._catalog_reached_end()

    def _reached_end(self, number: int) -> None:
        self._states.reached_end(number)
        self._known.reached_end(number)
        self._backoff_s = _LEAST_BACKOFF_S
        self.last_problem = None
        self._note_loaded()

    def _catalog_reached_end(self) -> None:
        self._catalog.reached_end(0)
        self._known.organisations.catalog_reached_end()
        self._catalog_problem = None
        self._note_loaded()

    def _note_loaded(self) -> None:
        if not self.loaded.is_set() and self._known.loaded:
            self.loaded.set()

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() != _NO_GROUP:
            self._problem(explain(error, self._settings, READING))

    def _problem(self, problem: ProducerError) -> None:
        if self.last_problem is None or type(problem) is not BrokerUnreachable:
            self.last_problem = problem  # that nobody answers says less than why
        self._report(problem)


def _id_of(asked: "Future[Any]") -> str:
    """Return the id of a topic; KafkaException if it cannot be told in time."""
    return str(asked.result(_TIMEOUT_S).topic_id)
