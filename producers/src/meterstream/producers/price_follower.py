"""Follows the catalog topic in the background, so that estimates are made from its rate cards."""

import logging
import threading
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from meterstream.schemas.topics import CATALOG

from .exceptions import InvalidSettings, PricesUnknown
from .prices import Prices
from .settings import PublisherSettings

_log: Final = logging.getLogger("meterstream.producers.prices")
_CLIENT_LOGGER: Final = logging.getLogger("meterstream.producers.librdkafka")
_POLL_S: Final = 0.2
_JOIN_S: Final = 5.0


class PriceFollower:
    """Reads the catalog topic's one partition from its beginning, and goes on reading.

    It needs the right to read the topic, and no group. Nothing waits for it: until it has read all
    that stood in the topic when it began, an estimate raises PricesUnknown; `wait` waits for that.
    Where the broker is away it tries again, and prices stay as they were known. Make it after
    forking. Close it, or use it as a context manager.
    """

    def __init__(self, settings: PublisherSettings) -> None:
        """Begin to read. Raises InvalidSettings where librdkafka does not know a setting."""
        self._settings = settings
        self._topic: Final = settings.topic_prefix + CATALOG
        self._prices: Final = Prices()
        self._complete: Final = threading.Event()
        self._stopping: Final = threading.Event()
        self._problem = "it has not answered yet"
        self._consumer: Final = self._make_consumer()
        self._thread: Final = threading.Thread(
            target=self._run, name="meterstream-prices", daemon=True
        )
        self._thread.start()

    def prices(self) -> Prices:
        """Return the prices; PricesUnknown until the catalog was read once."""
        if not self._complete.is_set():
            raise PricesUnknown(
                f"the topic {self._topic} of {self._settings.kafka_bootstrap} has not been read to"
                f" its end yet: {self._problem}"
            )
        return self._prices

    def wait(self, timeout_s: float) -> bool:
        """Wait until the catalog was read once; tell whether it was."""
        return self._complete.wait(timeout_s)

    def close(self) -> None:
        """Stop reading. What is known stays known."""
        self._stopping.set()
        self._thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop reading."""
        self.close()

    def _make_consumer(self) -> Consumer:
        config: dict[str, Any] = {
            "client.id": f"{self._settings.name}-prices",
            "log_level": 2,
            **self._settings.kafka,
            "bootstrap.servers": self._settings.kafka_bootstrap,
            "group.id": "meterstream-prices",  # librdkafka wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "error_cb": self._on_error,
        }
        try:
            return Consumer(config, logger=_CLIENT_LOGGER)
        except KafkaException as error:
            raise InvalidSettings(f"the setting kafka: {error.args[0].str()}") from None

    def _run(self) -> None:
        consumer = self._consumer
        try:
            consumer.assign([TopicPartition(self._topic, 0, 0)])
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_S)
                if message is not None:
                    self._take(message)
        except Exception:  # noqa: BLE001 - the thread must not end without a word
            _log.exception("the rate cards of %s are not followed any more", self._topic)
            self._problem = "following it failed, see the log"
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            kind, at_ms = message.timestamp()
            log_time_us = 0 if kind == TIMESTAMP_NOT_AVAILABLE else at_ms * 1_000
            self._prices.take(message.key(), message.value(), log_time_us)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._complete.set()
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if self._problem != error.str():
            self._problem = error.str()
            _log.warning("the rate cards of %s: %s", self._topic, self._problem)
