"""The publisher: makes public, once each, what follows from valid journal records."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from confluent_kafka import KafkaException

from meterstream.schemas import topics as names
from meterstream.schemas.status import PortTaken, StatusServer
from meterstream.streams import logs
from meterstream.streams.kafka import Broker, BrokerUnavailable, TopicMissing, TopicsMisset
from meterstream.streams.settings import (
    PublisherSettings,
    SettingsInvalid,
    add_stage,
    epilog,
    load,
    stage_of,
)

from .service import Publisher

log = logging.getLogger("meterstream.publisher")

__all__ = ["Publisher", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `meterstream publisher`; return the exit status: 0 ended, 1 failed, 2 cannot start."""
    parser = argparse.ArgumentParser(
        "meterstream publisher",
        description="Publish threshold events, the states of limits and dead letters from the"
        " journal, until SIGTERM or SIGINT. Any number of publishers share the work.",
        epilog=epilog(PublisherSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_stage(parser)
    options = parser.parse_args(argv)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        settings = load(PublisherSettings, **stage_of(options))
        logs.set_up(settings.log_level)
        broker = Broker(settings)
        check_topics(broker, settings)
        publisher = Publisher(settings)
        status = StatusServer(
            settings.metrics_host,
            settings.publisher_metrics_port,
            publisher.metrics.registry,
            healthy=publisher.unhealthy,
            ready=publisher.unready,
            setting="METERSTREAM_PUBLISHER_METRICS_PORT",
        )
    except (SettingsInvalid, TopicMissing, TopicsMisset, BrokerUnavailable, PortTaken) as fault:
        sys.stderr.write(f"meterstream publisher: {fault}\n")
        return 2
    status.start()
    log.info("metrics on http://%s:%d/metrics", settings.metrics_host, status.port)
    try:
        publisher.run(stopped)
    except KafkaException as failure:
        log.critical("Kafka refused: %s", failure.args[0].str())
        return 1
    finally:
        status.stop()
    return 0


def check_topics(broker: Broker, settings: PublisherSettings) -> None:
    """Raise TopicMissing or TopicsMisset unless all that is read and written fits together."""
    missing, counts = [], {}
    needed = [names.EVENTS, names.JOURNAL, names.DLQ, names.THRESHOLDS, names.LIMIT_STATES]
    if settings.stage == "teams":
        needed.append(names.ORG_USAGE)
    for name in needed:
        try:
            counts[name] = broker.partitions(settings.topic(name))
        except TopicMissing:
            missing.append(settings.topic(name))
    if missing:
        raise TopicMissing(
            f"these topics do not exist: {', '.join(missing)}. Create them: `meterstream topics`"
        )
    journal, partitions = settings.topic(names.JOURNAL), counts[names.JOURNAL]
    wrong = [
        f"{settings.topic(name)} has {count} partitions"
        for name, count in counts.items()
        if count != partitions
    ]
    if wrong:
        raise TopicsMisset(
            f"{journal} has {partitions} partitions, but {', '.join(wrong)}; they must have as"
            " many, for what a partition decides is published to the one of the same number. See"
            " `meterstream topics`"
        )
