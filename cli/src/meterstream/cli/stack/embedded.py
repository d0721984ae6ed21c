"""Starts everything in order, watches it, and stops it in the opposite order."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Never, Self

from meterstream.cli.connection import Connection, connect
from meterstream.cli.errors import CheckFailed, Unreachable
from meterstream.cli.topic_admin import TopicAdmin
from meterstream.cli.topic_faults import Promise
from meterstream.local.clickhouse import ClickHouseServer
from meterstream.local.kafka import KafkaBroker
from meterstream.local.locking import take_lock
from meterstream.local.supervisor import StackEvent, Supervisor
from meterstream.schemas.topics import DEFAULT_PREFIX, EVENTS, TOPICS

from .file import OWNER, READER, Addresses, choose_addresses, mark_ended, write_file
from .services import address, plan

DEFAULT_PARTITIONS: Final = 4
WATCH_EVERY_S: Final = 0.2

Say = Callable[[str], None]
Prepare = Callable[[Connection], None]


class Stack:
    """Apache Kafka, the ClickHouse engine and our services, with their data in one directory.

    Usage: `with Stack(path) as stack: stack.watch()`. `prepare` is called when Kafka and
    ClickHouse are there and no service is yet; `settings` are added to the services' environment.
    Ctrl-C and SIGTERM raise KeyboardInterrupt within. Everything ends when this process does,
    however it ends.
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
        settings: Mapping[str, str] | None = None,
        say: Say = lambda _: None,
    ) -> None:
        self.data = data.absolute()
        self.services: dict[str, str] = {}
        """The addresses of the services' metrics, by name."""
        self._partitions = partitions
        self._meters = meters
        self._ports = (kafka_port, clickhouse_port)
        self._prepare = prepare
        self._settings = dict(settings or {})
        self._say = say
        self._exits = ExitStack()
        self._supervisors: list[Supervisor] = []

    @property
    def connection(self) -> Connection:
        """Where the running stack is."""
        return connect(self.data)

    def __enter__(self) -> Self:
        """Start all of it and return when every service is ready.

        1. The directory is locked: two stacks on one directory would destroy it.
        2. Kafka and ClickHouse; nothing else works without them.
        3. Topics and tables; a service finds them or refuses to start.
        4. What the caller wants to be there before the first event is read.
        5. The services, all at once: none needs another one to begin.
        6. The connection file, complete and last: who finds it finds a stack that works.
        """
        with ExitStack() as exits:
            self._make_directory()
            exits.callback(os.close, take_lock(self.data / "lock", "the stack"))
            addresses = choose_addresses(self.data, *self._ports)
            exits.callback(mark_ended, self.data)
            self._start(self._servers(addresses), exits)
            write_file(self.data, addresses, DEFAULT_PREFIX, {})
            connection = self.connection
            self._make_topics(connection)
            self._make_tables(connection)
            self._prepare(connection)
            services = plan(
                self._meters, connection.environment() | self._settings, self.data / "log"
            )
            watched = Supervisor(
                services, at_once=True, on_event=self._tell, log_dir=self.data / "log"
            )
            self._start(watched, exits)
            self.services = {service.name: address(service) for service in services}
            write_file(self.data, addresses, DEFAULT_PREFIX, self.services)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all of it in the opposite order."""
        self._exits.close()

    def watch(self) -> Never:
        """Start again what ends, until this process is interrupted."""
        while True:
            time.sleep(WATCH_EVERY_S)
            self.tick()

    def tick(self) -> None:
        """Look at everything once, and start again what has ended.

        Raises LocalStackError with the last log lines when something does not stay up.
        """
        for supervisor in self._supervisors:
            supervisor.tick()

    def _start(self, supervisor: Supervisor, exits: ExitStack) -> None:
        exits.enter_context(supervisor)
        self._supervisors.append(supervisor)

    def _tell(self, event: StackEvent) -> None:
        if event.kind in {"starting", "restarting", "stopping", "killed"}:
            self._say(f"{event.kind} {event.name}")
        elif event.kind == "failed":
            self._say(event.detail)

    def _make_directory(self) -> None:
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"{self.data} cannot be made ({error.strerror}): name another with --data"
            ) from error

    def _servers(self, addresses: Addresses) -> Supervisor:
        kafka = KafkaBroker(self.data / "kafka", addresses.kafka_port, progress=self._say)
        clickhouse = ClickHouseServer(
            self.data / "clickhouse",
            addresses.clickhouse_port,
            user=OWNER,
            password=addresses.password,
            reader=READER,
            reader_password=addresses.reader_password,
        )
        return Supervisor([kafka, clickhouse], on_event=self._tell)

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
