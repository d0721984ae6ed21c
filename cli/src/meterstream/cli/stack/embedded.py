"""Starts everything in order, watches it, and stops it in the opposite order."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Never, Self

from meterstream.cli.connection import Connection, connect
from meterstream.cli.errors import CheckFailed, Unreachable
from meterstream.cli.topic_admin import Promise, TopicAdmin
from meterstream.local.clickhouse import ClickHouseServer
from meterstream.local.errors import LocalStackError
from meterstream.local.kafka import KafkaBroker
from meterstream.local.locking import take_lock
from meterstream.local.ports import free_ports
from meterstream.local.process import ManagedProcess
from meterstream.schemas.topics import DEFAULT_PREFIX, EVENTS, TOPICS

from .file import OWNER, READER, Addresses, choose_addresses, mark_ended, write_file
from .services import READY_TIMEOUT_S, STOP_TIMEOUT_S, Service, plan

DEFAULT_PARTITIONS: Final = 4
WATCH_EVERY_S: Final = 0.5
RESTARTS_MAX: Final = 5
"""A service that ends more often than this within RESTARTS_WITHIN_S ends the stack."""
RESTARTS_WITHIN_S: Final = 120.0

Say = Callable[[str], None]
Prepare = Callable[[Connection], None]


class Stack:
    """Apache Kafka, the ClickHouse engine and our services, with their data in one directory.

    Usage: `with Stack(path) as stack: stack.watch()`. Everything ends when this process
    does, however it ends.
    """

    def __init__(
        self,
        data: Path,
        *,
        partitions: int | None = None,
        meters: int = 1,
        kafka_port: int | None = None,
        clickhouse_port: int | None = None,
        prepare: Prepare = lambda _: None,
        settings: dict[str, str] | None = None,
        say: Say = lambda _: None,
    ) -> None:
        self.data = data.absolute()
        self._partitions = partitions
        self._meters = meters
        self._ports = (kafka_port, clickhouse_port)
        self._prepare = prepare
        self._settings = settings or {}
        self._say = say
        self._lock: int | None = None
        self._addresses: Addresses | None = None
        self._kafka: KafkaBroker | None = None
        self._clickhouse: ClickHouseServer | None = None
        self._running: dict[str, tuple[Service, ManagedProcess]] = {}
        self._restarts: dict[str, list[float]] = {}
        self._environment: dict[str, str] = {}

    @property
    def connection(self) -> Connection:
        """Where the running stack is."""
        return connect(self.data)

    @property
    def services(self) -> dict[str, str]:
        """The addresses of the services' metrics, by name."""
        return {name: service.url for name, (service, _) in self._running.items()}

    def start(self) -> Self:
        """Start all of it and return when every service is ready.

        1. The directory is locked: two stacks on one directory would destroy it.
        2. Kafka and ClickHouse, side by side; nothing else works without them.
        3. Topics and tables; a service finds them or refuses to start.
        4. What the caller wants to be there before the first event is read.
        5. The services.
        6. The connection file, complete and last: who finds it finds a stack that works.
        """
        self._make_directory()
        self._lock = take_lock(self.data / "lock", "the stack")
        self._addresses = addresses = choose_addresses(self.data, *self._ports)
        self._start_servers(addresses)
        write_file(self.data, addresses, DEFAULT_PREFIX, {})
        connection = self.connection
        self._make_topics(connection)
        self._make_tables(connection)
        self._prepare(connection)
        self._start_services(connection)
        write_file(self.data, addresses, DEFAULT_PREFIX, self.services)
        return self

    def stop(self) -> None:
        """Stop the meter first, so that what it decided still lands, and the servers last."""
        self._say("stopping")
        services = [process for _, process in self._running.values()]
        for process in services:
            process.terminate()
        for process in services:
            process.stop(timeout_s=STOP_TIMEOUT_S)
        self._running.clear()
        if self._clickhouse is not None:
            self._clickhouse.stop()
        if self._kafka is not None:
            self._kafka.stop()
        if self._lock is not None:
            mark_ended(self.data)
            os.close(self._lock)
            self._lock = None

    def watch(self) -> Never:
        """Start again what ends, until this process is interrupted."""
        while True:
            time.sleep(WATCH_EVERY_S)
            self.mend()

    def mend(self) -> None:
        """Start again whatever has ended since the last look.

        Raises LocalStackError with the last log lines when something does not stay up.
        """
        if self._kafka is not None and not self._kafka.running:
            self._note_restart("Kafka", "Kafka has ended")
            self._kafka.start()
        if self._clickhouse is not None and not self._clickhouse.running:
            self._note_restart("ClickHouse", "ClickHouse has ended")
            self._clickhouse.start()
        for name, (_, process) in self._running.items():
            if not process.running:
                ended = process.describe_failure(f"ended with code {process.exit_code}")
                self._note_restart(name, ended)
                process.start()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _make_directory(self) -> None:
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"{self.data} cannot be made ({error.strerror}): name another with --data"
            ) from error

    def _start_servers(self, addresses: Addresses) -> None:
        self._kafka = kafka = KafkaBroker(
            self.data / "kafka", addresses.kafka_port, progress=self._say
        )
        self._clickhouse = clickhouse = ClickHouseServer(
            self.data / "clickhouse",
            addresses.clickhouse_port,
            user=OWNER,
            password=addresses.password,
            reader=READER,
            reader_password=addresses.reader_password,
        )
        with ThreadPoolExecutor(2) as pool:
            starts: list[Future[object]] = [
                pool.submit(clickhouse.start),
                pool.submit(kafka.start),
            ]
            try:
                for start in starts:
                    start.result()
            except BaseException:
                # Ctrl-C, or one of them does not start: do not wait for the other.
                kafka.kill()
                clickhouse.kill()
                raise

    def _make_topics(self, connection: Connection) -> None:
        admin = TopicAdmin(connection.kafka(), connection.prefix)
        found = admin.found()
        events = found.get(EVENTS)
        partitions = self._partitions or (events.partitions if events else DEFAULT_PARTITIONS)
        admin.create([spec.name for spec in TOPICS if spec.name not in found], partitions)
        faults = admin.faults(admin.found(), partitions, Promise())
        if faults:
            raise CheckFailed("; ".join(str(fault) for fault in faults))

    def _make_tables(self, connection: Connection) -> None:
        from meterstream.sinks.migrate import migrate

        with connection.clickhouse.client(database=None) as client:
            migrate(client, connection.clickhouse.database)

    def _start_services(self, connection: Connection) -> None:
        self._environment = os.environ | connection.environment() | self._settings
        services = plan(self._meters, free_ports(self._meters + 2))
        for service in services:
            process = service.process(self._environment, self.data / "log")
            self._running[service.name] = (service, process)
            self._say(f"starting {service.name}")
            process.start()
        for service, process in self._running.values():
            process.wait_ready(service.ready, timeout_s=READY_TIMEOUT_S)

    def _note_restart(self, name: str, what: str) -> None:
        now = time.monotonic()
        recent = [at for at in self._restarts.get(name, []) if now - at < RESTARTS_WITHIN_S]
        if len(recent) >= RESTARTS_MAX:
            raise LocalStackError(f"{name} does not stay up: {what}")
        self._restarts[name] = [*recent, now]
        self._say(f"{what}\nstarting {name} again")
