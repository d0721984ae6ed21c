"""What the ledgers in ClickHouse have counted, for a meter that cannot tell from its journal."""

from typing import Final
from uuid import UUID

from meterstream.cli.connection import ClickHouseAddress, address_from_environment
from meterstream.cli.errors import Unreachable
from meterstream.streams.journal import Counted, LedgerUnavailable

NO_SUCH: Final = frozenset({60, 81})
"""UNKNOWN_TABLE and UNKNOWN_DATABASE: nothing was migrated, so nothing was counted."""


def read_ledger(events_topic_id: UUID, partition: int) -> Counted | None:
    """Return the last record of the newest generation that ClickHouse holds of a partition.

    It may be of events or of org-usage: topic ids tell them apart. ClickHouse is named by
    METERSTREAM_CLICKHOUSE_*. Raises LedgerUnavailable where it cannot tell.
    """
    try:
        return _ask(address_from_environment(), events_topic_id, partition)
    except Unreachable as reason:
        raise LedgerUnavailable(str(reason)) from reason


def _ask(address: ClickHouseAddress, events_topic_id: UUID, partition: int) -> Counted | None:
    from meterstream.sinks.stages import ORGANISATIONS, TEAMS

    found = (
        _look(address, stage.ledger, events_topic_id, partition) for stage in (TEAMS, ORGANISATIONS)
    )
    return next((counted for counted in found if counted is not None), None)


def _look(
    address: ClickHouseAddress, ledger: str, events_topic_id: UUID, partition: int
) -> Counted | None:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from meterstream.sinks.client import error_code

    with address.client(database=None) as client:
        try:
            rows = client.query(
                "SELECT generation, journal_offset, events_to"
                " FROM {database:Identifier}.{ledger:Identifier} FINAL"
                " WHERE events_topic_id = {topic:UUID} AND partition = {partition:UInt16}"
                " ORDER BY generation DESC, journal_offset DESC LIMIT 1",
                parameters={
                    "database": address.database,
                    "ledger": ledger,
                    "topic": str(events_topic_id),
                    "partition": partition,
                },
            ).result_rows
        except ClickHouseError as error:
            if error_code(error) in NO_SUCH:
                return None
            raise LedgerUnavailable(
                f"ClickHouse at {address.url} does not tell what its ledger holds:"
                f" {' '.join(str(error).split())}"
            ) from error
    return Counted(*(int(value) for value in rows[0])) if rows else None
