"""The sink as a service: its feeds, one thread each, and what they say about themselves."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from clickhouse_connect.driver.client import Client

from meterstream.schemas import topics

from .catalog import CatalogFeed
from .cells import CellsTarget
from .client import connect
from .errors import SinkError
from .event_ranges import EventRanges
from .history import HistoryTarget
from .journal_feed import FlushPolicy, JournalFeed, JournalSource, Target
from .log_reader import LogReader
from .metrics import SinkMetrics
from .migrate import require_current
from .organisations import OrganisationsTarget
from .positions import CATALOG, CELLS, HISTORY, ORGANISATIONS
from .retry import Stopped, until_done
from .settings import SinkSettings
from .stages import ORGANISATIONS as OF_ORGANISATIONS
from .stages import TEAMS
from .start import StartFinder
from .store import ClickHouseStore

log = logging.getLogger(__name__)


class Runnable(Protocol):
    """A feed, ready to run."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        ...


class Service:
    """Runs feeds until it is told to stop. A feed that fails stays stopped; others go on."""

    def __init__(self, settings: SinkSettings, metrics: SinkMetrics | None = None) -> None:
        self.metrics = metrics or SinkMetrics()
        self._settings = settings
        self._stop = threading.Event()
        self._running: set[str] = set()
        self.failures: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(feed,), name=feed)
            for feed in settings.sink_feeds
        ]

    def start(self) -> None:
        """Start all feeds."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell all feeds to store what is pending and to end."""
        self._stop.set()

    def wait(self) -> None:
        """Return when all feeds have ended."""
        for thread in self._threads:
            thread.join()

    def unhealthy(self) -> Mapping[str, str]:
        """Return the feeds that cannot go on, with the reasons."""
        return dict(self.failures)

    def unready(self) -> Mapping[str, str]:
        """Return the feeds that do not work, or not yet, with the reasons."""
        waiting = set(self._settings.sink_feeds) - self._running - set(self.failures)
        return {**self.failures, **dict.fromkeys(waiting, "is starting")}

    def _run(self, feed: str) -> None:
        self.metrics.stopped_feeds.labels(feed).set(0)
        try:
            client = until_done(
                lambda: _client(self._settings),
                f"{feed}: connecting to ClickHouse",
                self._stop,
                patience_s=0,
            )
            runnable = _FEEDS[feed](self._settings, client, self.metrics)
            self._running.add(feed)
            log.info("the %s feed runs", feed)
            runnable.run(self._stop)
        except Stopped:
            log.info("the %s feed had not started", feed)
        except Exception as error:
            self.failures[feed] = str(error) or type(error).__name__
            self.metrics.stopped_feeds.labels(feed).set(1)
            # Errors of our own say all there is to say; others need the place they come from.
            told = isinstance(error, SinkError)
            log.error("the %s feed has stopped: %s", feed, error, exc_info=not told)
        finally:
            self._running.discard(feed)


def _client(settings: SinkSettings) -> Client:
    client = connect(
        settings.clickhouse_url,
        user=settings.clickhouse_user,
        password=settings.clickhouse_password.get_secret_value(),
        database=settings.clickhouse_database,
        cluster=settings.clickhouse_cluster,
    )
    require_current(client, settings.clickhouse_database)
    return client


def _cells(settings: SinkSettings, client: Client, metrics: SinkMetrics) -> Runnable:
    store = _store(settings, client, metrics)
    return _journal_feed(
        settings,
        client,
        metrics,
        CELLS,
        lambda finder: CellsTarget(client, store, finder, metrics=metrics),
    )


def _history(settings: SinkSettings, client: Client, metrics: SinkMetrics) -> Runnable:
    store = _store(settings, client, metrics)
    events = EventRanges(settings.kafka_client(), settings.topic(topics.EVENTS))
    return _journal_feed(
        settings,
        client,
        metrics,
        HISTORY,
        lambda finder: HistoryTarget(client, store, finder, events, metrics),
        events.close,
    )


def _organisations(settings: SinkSettings, client: Client, metrics: SinkMetrics) -> Runnable:
    store = _store(settings, client, metrics)
    return _journal_feed(
        settings,
        client,
        metrics,
        ORGANISATIONS,
        lambda finder: OrganisationsTarget(client, store, finder),
    )


def _journal_feed(
    settings: SinkSettings,
    client: Client,
    metrics: SinkMetrics,
    name: str,
    make_target: Callable[[StartFinder], Target],
    *closing: Callable[[], None],
) -> JournalFeed:
    kafka = settings.kafka_client()
    stage = OF_ORGANISATIONS if name == ORGANISATIONS else TEAMS
    topic = settings.topic(stage.journal)
    log_reader = LogReader(kafka)
    finder = StartFinder(client, log_reader, topic, name, stage)
    return JournalFeed(
        name,
        JournalSource(kafka, topic, settings.group(name), stage),
        make_target(finder),
        _policy(settings, name),
        metrics,
        (log_reader.close, *closing),
    )


def _catalog(settings: SinkSettings, client: Client, metrics: SinkMetrics) -> Runnable:
    return CatalogFeed(
        settings.kafka_client(),
        settings.topic(topics.CATALOG),
        _store(settings, client, metrics),
        metrics,
    )


def _policy(settings: SinkSettings, name: str) -> FlushPolicy:
    is_history = name == HISTORY
    return FlushPolicy(
        rows=settings.sink_flush_rows,
        bytes=settings.sink_flush_bytes,
        delay_s=(settings.sink_history_flush_ms if is_history else settings.sink_flush_ms) / 1000,
        idle_delay_s=settings.sink_idle_flush_ms / 1000,
    )


def _store(settings: SinkSettings, client: Client, metrics: SinkMetrics) -> ClickHouseStore:
    return ClickHouseStore(
        client,
        lambda: time.time_ns() // 1000,
        metrics,
        on_cluster=settings.clickhouse_cluster is not None,
    )


_FEEDS: Final[dict[str, Callable[[SinkSettings, Client, SinkMetrics], Runnable]]] = {
    CELLS: _cells,
    HISTORY: _history,
    CATALOG: _catalog,
    ORGANISATIONS: _organisations,
}
