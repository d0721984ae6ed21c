"""`meterstream topics`: make the topics, and say what is wrong with those that are there."""

from datetime import timedelta
from pathlib import Path

import click

from meterstream.cli.connection import connect
from meterstream.cli.errors import EXIT_CHECK_FAILED
from meterstream.cli.options import Duration, data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.cli.topic_admin import TopicAdmin
from meterstream.cli.topic_faults import Promise
from meterstream.schemas.topics import BY_NAME, DEFAULT_PARTITIONS, EVENTS, TOPICS


@click.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help=f"Of each partitioned topic (default: as events has it, else {DEFAULT_PARTITIONS}).",
)
@click.option("--check", is_flag=True, help="Create nothing, only say what is wrong.")
@click.option("--repair", is_flag=True, help="Change settings that are wrong.")
@click.option(
    "--horizon", type=Duration(), default="24h", help="The deduplication horizon to outlast."
)
@click.option("--outage", type=Duration(), default="3d", help="The sink outage to outlast.")
@data_option
@json_option
def topics(
    partitions: int | None,
    check: bool,
    repair: bool,
    horizon: timedelta,
    outage: timedelta,
    data: Path | None,
    as_json: bool,
) -> int:
    """Create the topics that are missing and check the others. Harmless to repeat.

    Checked are partitions, timestamps by log append, retention, clean-up, message sizes and
    what keeps acknowledged records. One line each says what is wrong; exit 1 if any is.

    \b
    Examples:
      meterstream topics                     # create what is missing
      meterstream topics --partitions 24     # with so many partitions
      meterstream topics --check             # only look, as a deployment would
      meterstream topics --repair            # set wrong settings right
    """
    connection = connect(data)
    admin = TopicAdmin(connection.kafka(), connection.prefix)
    promise = Promise(horizon, outage)
    found = admin.found()
    events = found.get(EVENTS)
    wanted = partitions or (events.partitions if events else DEFAULT_PARTITIONS)
    # Where the events topic is not what was asked for, nothing is made to go with either.
    fits = events is None or events.partitions == wanted
    created = [spec.name for spec in TOPICS if spec.name not in found] if fits and not check else []
    admin.create(created, wanted)
    if created:
        found = admin.found()
    faults = admin.faults(found, wanted, promise) + (admin.missing(found) if check else [])
    if repair and faults:
        mended = [fault for fault in faults if fault.settings]
        faults = admin.mend(faults)
        found = admin.found()
        for fault in mended:
            for name, value in fault.settings.items():
                note(f"repaired {fault.topic}: {name} is {value} now")
    wrong = {fault.topic for fault in faults}
    if as_json:
        print_json(
            {
                "created": [connection.topic(name) for name in created],
                "topics": {
                    connection.topic(name): {
                        "partitions": topic.partitions,
                        "replicas": topic.replicas,
                        "settings": {key: topic.settings.get(key) for key in sorted(_shown(name))},
                    }
                    for name, topic in found.items()
                },
                "faults": [{"topic": fault.topic, "fault": fault.text} for fault in faults],
            }
        )
    else:
        print_table(
            ["topic", "partitions", "replicas", "state", "holds"],
            [
                [
                    connection.topic(spec.name),
                    found[spec.name].partitions,
                    found[spec.name].replicas,
                    "wrong"
                    if connection.topic(spec.name) in wrong
                    else ("created" if spec.name in created else "there"),
                    spec.purpose,
                ]
                for spec in TOPICS
                if spec.name in found
            ],
        )
    for fault in faults:
        note(f"meterstream: {fault}")
    return EXIT_CHECK_FAILED if faults else 0


def _shown(name: str) -> set[str]:
    return set(BY_NAME[name].config())
