"""A pipeline whose meter is the core alone: real topics, a real sink, a real publisher.

The core is given log times of its choice, so that quarters and days close within a test.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Message, Producer
from tests.support.core_runner import batches
from tests.support.model import Record
from tests.support.stack import ClickHouseAddress

from meterstream.cli.audit.clickhouse import ClickHouseTables
from meterstream.cli.audit.kafka import Broker
from meterstream.cli.audit.run import Settings, run_audit
from meterstream.cli.ledger import read_ledger
from meterstream.cli.topic_admin import TopicAdmin
from meterstream.schemas.journal import HEADER_KEY
from meterstream.schemas.journal.header import NONE
from meterstream.schemas.topics import TOPICS
from meterstream.sinks.migrate import migrate
from meterstream.sinks.service import Service
from meterstream.sinks.settings import load_settings
from meterstream.streams.core import (
    Entry,
    PartitionState,
    Policy,
    Step,
    apply_step,
    begin,
    compute_step,
    genesis_step,
    idle_step,
    take_snapshot,
)
from meterstream.streams.generations import begin_where_needed
from meterstream.streams.journal import RecordWriter
from meterstream.streams.journal.restore import restore
from meterstream.streams.journal.snapshots import StoredSnapshot, read_catalogue, write_snapshot
from meterstream.streams.kafka import Broker as Logs
from meterstream.streams.meter import look_up_topics
from meterstream.streams.publisher import Publisher
from meterstream.streams.settings import MeterSettings, PublisherSettings


@dataclass
class Meter:
    """The core as the meter of one partition, writing to a real journal."""

    pipeline: "Pipeline"
    partition: int
    policy: Policy
    state: PartitionState = field(init=False)
    stale: Step = field(init=False)
    """A record that was right some steps ago: written once more it is void."""

    def __post_init__(self) -> None:
        """Begin the first generation."""
        self.begin(generation=1)

    def begin(self, generation: int, events_from: int = 0, clock_us: int = 0) -> None:
        """Write a genesis record."""
        step = genesis_step(
            grace_seconds=600,
            generation=generation,
            events_topic_id=self.pipeline.events_id,
            journal_topic_id=self.pipeline.journal_id,
            control_topic_id=UUID(int=3),
            catalog_topic_id=UUID(int=4),
            events_from=events_from,
            clock_us=clock_us,
            prev=self.state.link.prev if generation > 1 else NONE,
        )
        offset, time_us = self.pipeline.write_journal(self.partition, step)
        self.state = begin(self.policy, self.partition, offset, time_us, step)
        self.stale = idle_step(self.state, time_us)

    def restore(self) -> None:
        """Go on with what journal and snapshots tell, as a meter that has just been started."""
        settings = self.pipeline.meter_settings()
        broker = Logs(settings)
        topics, _ = look_up_topics(broker, settings)
        restored = restore(broker, topics, self.policy, self.partition).state
        assert restored is not None
        self.state = restored

    def keep_snapshot(self) -> None:
        """Store a snapshot of the state, as the meter does now and then."""
        settings = self.pipeline.meter_settings()
        broker = Logs(settings)
        topics, _ = look_up_topics(broker, settings)
        consumer = broker.consumer()
        catalogue, _ = read_catalogue(consumer, topics.snapshots, self.partition)
        consumer.close()
        taken = take_snapshot(self.state)
        stored = StoredSnapshot(
            self.state.generation, self.state.link.next_offset, taken.manifest, taken.segments
        )
        records = RecordWriter(settings)
        limit = settings.journal_max_bytes
        asyncio.run(
            write_snapshot(records, topics.snapshots, self.partition, catalogue, stored, limit)
        )
        records.close()

    def count(
        self,
        records: Sequence[Record],
        *,
        parts: int = 8,
        cards: Sequence[bytes] = (),
        published: bool = False,
    ) -> None:
        """Publish records, which have no gaps between them, and count them in several steps."""
        if not published:
            self.pipeline.publish(self.partition, records)
        borders = range(0, len(records), max(1, len(records) // parts))
        entries = [Entry(number, 0, None, card) for number, card in enumerate(cards)]
        for batch in batches(records, borders, start=self.state.events_position):
            now_us = max(batch.log_times_us, default=0)
            self.write(
                compute_step(
                    self.state,
                    batch,
                    catalog=entries,
                    catalog_to=len(entries) or None,
                    now_us=now_us,
                )
            )
            entries = []

    def idle(self, now_us: int) -> None:
        """Write an idle record; the broker's clock decides."""
        self.write(idle_step(self.state, now_us))

    def write(self, step: Step) -> None:
        """Write a step and take it in."""
        offset, time_us = self.pipeline.write_journal(self.partition, step)
        apply_step(self.state, step, offset, time_us)


class Pipeline:
    """Topics under a prefix and tables in a database, with the services that are asked for."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        address: ClickHouseAddress,
        database: str,
        partitions: int,
    ) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.address = address
        self.database = database
        self.partitions = partitions
        self.void_offset = -1
        """Journal offset of a void record, once there is one."""
        admin = TopicAdmin({"bootstrap.servers": bootstrap}, prefix)
        admin.create([spec.name for spec in TOPICS], partitions)
        broker = Broker({"bootstrap.servers": bootstrap})
        self.events_id: UUID = broker.topic(f"{prefix}events")[0]
        self.journal_id: UUID = broker.topic(f"{prefix}journal")[0]
        self.client: Client = address.client()
        migrate(self.client, database)
        self.move_to(bootstrap)

    def move_to(self, bootstrap: str, compression: str = "none") -> None:
        """Write to a broker that holds the topics."""
        self.bootstrap = bootstrap
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "linger.ms": 1,
                "message.max.bytes": 16 * 1024 * 1024,
                "compression.type": compression,
            }
        )

    def meter_settings(self) -> MeterSettings:
        """Return what a meter of this pipeline needs to know."""
        return MeterSettings(kafka_bootstrap=self.bootstrap, topic_prefix=self.prefix)

    def begin_again(self, *chosen: int) -> list[int]:
        """Do as `meterstream meter --new-generation`; return the partitions that begin anew.

        The `chosen` ones are named by `--partition`.
        """
        settings = self.meter_settings()
        broker = Logs(settings)
        topics, partitions = look_up_topics(broker, settings)
        policy = Policy(partitions)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment().items():
                patch.setenv(name, value)
            return asyncio.run(
                begin_where_needed(
                    broker, settings, topics, policy, partitions, read_ledger, chosen
                )
            )

    def meter(self, partition: int) -> Meter:
        """Return a new meter of a partition."""
        return Meter(self, partition, Policy(self.partitions))

    def publish(self, partition: int, records: Sequence[Record]) -> None:
        """Write events; they land at the offsets that the records name."""
        landed: list[int | None] = []

        def delivered(error: object, message: Message) -> None:
            assert error is None, error
            landed.append(message.offset())

        for record in records:
            self._producer.produce(
                f"{self.prefix}events",
                value=record.value,
                partition=partition,
                on_delivery=delivered,
            )
            self._producer.poll(0)
        assert self._producer.flush(60) == 0
        assert landed == [record.offset for record in records]

    def write_journal(self, partition: int, step: Step) -> tuple[int, int]:
        """Write a journal record; return its offset and log time."""
        landed: list[Message] = []
        self._producer.produce(
            f"{self.prefix}journal",
            value=step.value,
            partition=partition,
            headers=[(HEADER_KEY, step.header.pack())],
            on_delivery=lambda error, message: landed.append(message),
        )
        assert self._producer.flush(60) == 0
        offset = landed[0].offset()
        assert offset is not None
        assert landed[0].error() is None
        return offset, landed[0].timestamp()[1] * 1000

    def sink(self) -> Service:
        """Return a sink of this pipeline, not started yet."""
        return Service(
            load_settings(
                kafka_bootstrap=self.bootstrap,
                topic_prefix=self.prefix,
                clickhouse_url=self.address.url,
                clickhouse_user=self.address.user,
                clickhouse_password=self.address.password,
                clickhouse_database=self.database,
                sink_flush_ms=50,
                sink_history_flush_ms=50,
                sink_idle_flush_ms=50,
                sink_feeds="cells,history",
            )
        )

    def publisher(self) -> Publisher:
        """Return a publisher of this pipeline, not running yet."""
        return Publisher(
            PublisherSettings(kafka_bootstrap=self.bootstrap, topic_prefix=self.prefix)
        )

    @contextmanager
    def services(self, *, publisher: bool = True) -> Iterator[None]:
        """Run the sink, and the publisher, within the block."""
        with ExitStack() as stack:
            sink = self.sink()
            sink.start()
            stack.callback(sink.wait)
            stack.callback(sink.stop)
            if publisher:
                stack.enter_context(self._publisher())
            yield

    @contextmanager
    def _publisher(self) -> Iterator[None]:
        stopped = threading.Event()
        thread = threading.Thread(target=self.publisher().run, args=(stopped,))
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def settle(self) -> None:
        """Wait until the services have stored and published everything."""
        client = self.address.client(self.database)
        outcome = run_audit(
            Broker({"bootstrap.servers": self.bootstrap}),
            ClickHouseTables(client),
            Settings(self.prefix, timeout_s=60),
            lambda _: None,
        )
        client.close()
        assert outcome.holds, outcome.findings.kept

    def environment(self) -> dict[str, str]:
        """Return what the command needs to find this pipeline."""
        return {
            "METERSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "METERSTREAM_TOPIC_PREFIX": self.prefix,
            "METERSTREAM_CLICKHOUSE_URL": self.address.url,
            "METERSTREAM_CLICKHOUSE_USER": self.address.user,
            "METERSTREAM_CLICKHOUSE_PASSWORD": self.address.password,
            "METERSTREAM_CLICKHOUSE_DATABASE": self.database,
        }

    @contextmanager
    def damaged(self, table: str, *statements: str) -> Iterator[None]:
        """Change a table within the block, and put it back afterwards."""
        run = self.client.command
        run(f"CREATE TABLE whole AS {table}")
        run(f"INSERT INTO whole SELECT * FROM {table}")
        try:
            for statement in statements:
                run(statement, settings={"mutations_sync": 2})
            yield
        finally:
            run(f"TRUNCATE TABLE {table}")
            run(f"INSERT INTO {table} SELECT * FROM whole")
            run("DROP TABLE whole SYNC")
