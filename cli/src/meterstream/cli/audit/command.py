"""`meterstream audit`: exit 0 only if the broker, the journal and ClickHouse agree."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterstream.cli.connection import connect
from meterstream.cli.errors import EXIT_CHECK_FAILED, Unreachable
from meterstream.cli.options import data_option, json_option

if TYPE_CHECKING:
    from .run import Outcome


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to wait in all for the meter, the sinks and the publisher to catch up.",
)
@click.option(
    "--partition",
    "partitions",
    type=click.IntRange(0),
    multiple=True,
    help="Audit only this partition (may be given several times).",
)
@click.option("--no-dlq", is_flag=True, help="Leave out the dead-letter topic.")
@data_option
@json_option
def audit(
    timeout: float, partitions: tuple[int, ...], no_dlq: bool, data: Path | None, as_json: bool
) -> int:
    """Prove that every event is accounted for, and that ClickHouse says what the journal says.

    The offsets of the events topic are taken when the command starts; what arrives later is out
    of scope. It waits until the pipeline has come that far, follows the journal's chain from its
    beginning, and compares the ledger, cells of all grains, charges, runs, sessions and dead
    letters, row by row. A difference is named with its table, partition and offset or key.

    \b
    Exit codes: 0 everything holds, 1 a difference (of one is enough) or a stage that lags,
    3 Kafka or ClickHouse cannot be reached.

    \b
    Examples:
      meterstream audit                      # everything
      meterstream audit --partition 3        # one partition
      meterstream audit --json --timeout 300
    """
    from .report import show, show_json

    outcome = _run(timeout, partitions, not no_dlq, data)
    (show_json if as_json else show)(outcome)
    return 0 if outcome.holds else EXIT_CHECK_FAILED


def _run(
    timeout_s: float, partitions: tuple[int, ...], with_dlq: bool, data: Path | None
) -> "Outcome":
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from meterstream.schemas.arrow import leave_pandas_out

    from .clickhouse import ClickHouseTables
    from .kafka import Broker
    from .progress import Telling
    from .run import Settings, run_audit

    leave_pandas_out()
    connection = connect(data)
    client = connection.clickhouse.client()
    try:
        with Telling() as tell:
            return run_audit(
                Broker(connection.kafka()),
                ClickHouseTables(client),
                Settings(connection.prefix, timeout_s, with_dlq, partitions),
                tell,
            )
    except ClickHouseError as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise Unreachable(
            f"ClickHouse at {connection.clickhouse.url} does not answer as it must: {reason}."
            " Is it up, and is the database migrated (`meterstream migrate`)?"
        ) from error
    finally:
        client.close()
