"""The meter as a Faust app: `main` runs it as a worker in this process."""

import argparse
import asyncio
import gc
import logging
import ssl
import sys
from collections.abc import Sequence
from typing import Any

import faust
import mode
from faust.types import TP

from meterstream.schemas import topics as names
from meterstream.schemas.arrow import leave_pandas_out
from meterstream.schemas.status import PortTaken, StatusServer

from . import logs
from .ending import Ending
from .journal import Ledger, LedgerUnavailable, NotJoined
from .kafka import Broker, BrokerUnavailable, TopicMissing, TopicsMisset
from .memory import map_large_buffers
from .meter import Meter, look_up_topics, policy_of
from .settings import MeterSettings, SettingsInvalid, add_stage, epilog, load, stage_of
from .transport import SCHEME, Batching, RecordBatch

log = logging.getLogger("meterstream.meter")


class MeterApp(faust.App):
    """A Faust app that keeps nothing on disk, and tells its transport how to batch."""

    batching: Batching

    def _create_directories(self) -> None:
        """Make none: state is in the journal."""


def build_app(settings: MeterSettings, ledger: Ledger | None = None) -> tuple[MeterApp, Meter]:
    """Return the app with its agent, and the service that works on the partitions."""
    app = MeterApp(
        id=settings.group_id(settings.group),
        broker=";".join(f"{SCHEME}://{host}" for host in settings.kafka_bootstrap.split(",")),
        broker_credentials=_credentials(settings),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        autodiscover=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=64,
        broker_commit_interval=5.0,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=max(0.3, settings.session_timeout_seconds / 5),
        broker_request_timeout=max(40.0, settings.session_timeout_seconds * 2),
        broker_rebalance_timeout=max(20.0, settings.session_timeout_seconds),
        broker_max_poll_interval=1000.0,
        consumer_max_fetch_size=settings.fetch_max_bytes,
        worker_redirect_stdouts=False,
    )
    app.batching = Batching(
        max_events=settings.batch_max_events,
        max_bytes=settings.batch_max_bytes,
        fetch_min_bytes=min(256 * 1024, settings.fetch_max_bytes),
        fetch_wait_ms=max(10, settings.batch_linger_ms),
    )
    meter = Meter(app, settings, ledger)
    events = app.topic(
        settings.topic(names.EVENTS),
        key_serializer="raw",
        value_serializer="raw",
        key_type=bytes,
        value_type=bytes,
    )

    async def take_batches(stream: Any) -> None:
        # Acknowledged as they are handed on: the group's offsets are only a gauge, and what is
        # really done stands in the journal.
        async for event in stream.noack().events():
            batch: RecordBatch = event.message.value
            meter.deliver(batch)
            event.ack()

    app.agent(events, name="meter", supervisor_strategy=mode.CrashingSupervisor)(take_batches)

    async def on_revoked(_app: Any, revoked: set[TP], **_: Any) -> None:
        await meter.revoke(tp.partition for tp in revoked)

    async def on_assigned(_app: Any, assigned: set[TP], **_: Any) -> None:
        await meter.assign(tp.partition for tp in assigned)

    app.on_partitions_revoked.connect(on_revoked, weak=False)
    app.on_partitions_assigned.connect(on_assigned, weak=False)
    return app, meter


def _credentials(settings: MeterSettings) -> Any:
    protocol = settings.kafka_security_protocol
    context: ssl.SSLContext | None = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=_path(settings.kafka_ssl_ca_file))
        if settings.kafka_ssl_certificate_file is not None:
            password = settings.kafka_ssl_key_password
            context.load_cert_chain(
                str(settings.kafka_ssl_certificate_file),
                _path(settings.kafka_ssl_key_file),
                password.get_secret_value() if password is not None else None,
            )
    if protocol.startswith("SASL"):
        assert settings.kafka_sasl_password is not None
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def _path(path: Any) -> str | None:
    return str(path) if path is not None else None


def run(settings: MeterSettings, ledger: Ledger | None = None) -> int:
    """Run the meter until a signal ends it; return the exit status."""
    map_large_buffers()
    # A batch makes many objects and no cycles; looking for cycles in each of them costs a fifth.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app, meter = build_app(settings, ledger)
    status = StatusServer(
        settings.metrics_host,
        settings.meter_metrics_port,
        meter.metrics.registry,
        healthy=meter.unhealthy,
        ready=meter.unready,
        setting="METERSTREAM_METER_METRICS_PORT",
    )
    worker = faust.Worker(
        app,
        meter,
        loop=loop,
        quiet=True,
        redirect_stdouts=False,
        override_logging=False,
        daemon=True,
    )
    worker.spinner = None
    status.start()
    log.info("metrics on http://%s:%d/metrics", settings.metrics_host, status.port)
    try:
        with Ending(lambda: bool(worker.should_stop)):
            worker.execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        status.stop()
    return 0


def main(argv: Sequence[str] | None = None, ledger: Ledger | None = None) -> int:
    """Run `meterstream meter`; return the exit status: 0 ended, 1 failed, 2 cannot start.

    `ledger` tells what ClickHouse has counted. It is asked only before a partition's first
    generation, and by `--new-generation` where the journal cannot be followed to its end.
    """
    parser = argparse.ArgumentParser(
        "meterstream meter",
        description="Meter the events topic, until SIGTERM or SIGINT. Run one for each core: any\n"
        "number of meters, up to one for each partition, share the work.",
        epilog=epilog(MeterSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_stage(parser)
    parser.add_argument(
        "--new-generation",
        action="store_true",
        help="first begin a new generation for each partition whose state does not join its logs;"
        " stop all other meters before",
    )
    parser.add_argument(
        "--partition",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="with --new-generation: begin it for this partition and no other, whether its state"
        " joins or not, where sinks and the publisher can get past what is broken or gone; may be"
        " given several times",
    )
    options = parser.parse_args(argv)
    if options.partition and not options.new_generation:
        parser.error("--partition says where --new-generation begins, which was not given")
    leave_pandas_out()
    try:
        settings = load(MeterSettings, **stage_of(options))
        logs.set_up(settings.log_level)
        broker = Broker(settings)
        topics, partitions = look_up_topics(broker, settings)
        if beyond := [number for number in options.partition if not 0 <= number < partitions]:
            parser.error(f"{settings.topic('events')} has no partition {beyond[0]}")
        if options.new_generation:
            from .generations import begin_where_needed

            asyncio.run(
                begin_where_needed(
                    broker,
                    settings,
                    topics,
                    policy_of(settings, partitions),
                    partitions,
                    ledger,
                    frozenset(options.partition),
                )
            )
        return run(settings, ledger)
    except (
        SettingsInvalid,
        TopicMissing,
        TopicsMisset,
        BrokerUnavailable,
        PortTaken,
        NotJoined,
        LedgerUnavailable,
    ) as fault:
        sys.stderr.write(f"meterstream meter: {fault}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
