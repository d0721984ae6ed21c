"""Removes the rows of journal records that the journal has lost."""

import logging
from collections.abc import Sequence
from typing import Final

from clickhouse_connect.driver.client import Client

from .positions import ORGANISATIONS
from .record import EPOCH_FACTOR
from .stages import ORGANISATIONS as OF_ORGANISATIONS
from .stages import TEAMS, Stage
from .start import Kept

CELLS_TABLES: Final = (
    "usage_minutes",
    "usage_quarters",
    "usage_days",
    "watermarks",
    "charges",
    "sessions",
    "limit_states",
    "thresholds",
    "corrections",
    "accounts",
    "grants",
    "draws",
    TEAMS.ledger,
)
HISTORY_TABLES: Final = ("runs", "agent_sessions_daily")
ORGANISATIONS_TABLES: Final = ("limit_states", "thresholds", OF_ORGANISATIONS.ledger)

_SHARED: Final = frozenset({"limit_states", "thresholds"})
"""Two feeds write them, one for teams and one for organisations; each removes its own rows."""

log = logging.getLogger(__name__)


def remove_rows_after(
    client: Client, feed: str, tables: Sequence[str], partition: int, cut: Kept
) -> None:
    """Remove from `tables` the rows of `partition` that came from journal records after `cut`.

    Where Kafka was set up anew, ClickHouse also holds rows of an earlier journal, whose generations
    and offsets are numbered alike; those stay. A row goes if its journal offset is after the cut's
    and it is of the cut's generation and events topic, or of a later generation: of the same events
    topic, or of another one, since a generation may begin with an events topic that was made again.
    But it stays if all that the ledger has of that other topic was logged before the cut's
    generation began: then it is of an earlier journal. Rows of earlier generations are older than
    the cut and stay.

    The feed's position goes last: until then a restart finds the cut once more. There is one for
    each partition, of the journal that the feed follows.
    """
    after = (
        " partition = {partition:UInt16}"
        f" AND bitAnd(version, {EPOCH_FACTOR - 1}) > {{cut_offset:Int64}}"
    )
    parameters = {
        "feed": feed,
        "partition": partition,
        "cut_offset": cut.link.prev,
        "generation": cut.link.generation,
        "topic_id": str(cut.events_topic_id),
        "earlier": _topics_of_earlier_journals(
            client, OF_ORGANISATIONS if feed == ORGANISATIONS else TEAMS, partition, cut
        ),
    }
    for table in tables:
        client.command(
            f"DELETE FROM {table} WHERE{after}{_only_own(feed, table)}"  # noqa: S608
            " AND generation >= {generation:UInt32} AND (events_topic_id = {topic_id:UUID}"
            " OR (generation > {generation:UInt32}"
            " AND NOT has({earlier:Array(UUID)}, events_topic_id)))",
            parameters=parameters,
        )
    client.command(
        f"DELETE FROM positions WHERE{after} AND feed = {{feed:String}}",  # noqa: S608
        parameters=parameters,
    )
    log.warning(
        "removed the rows of partition %d after journal offset %d", partition, cut.link.prev
    )


def _only_own(feed: str, table: str) -> str:
    if table not in _SHARED:
        return ""
    return f" AND organisation_id {'!=' if feed == ORGANISATIONS else '='} ''"


def _topics_of_earlier_journals(
    client: Client, stage: Stage, partition: int, cut: Kept
) -> list[str]:
    """Return the ids of events topics whose records were logged before the cut's generation."""
    found = client.query(
        "SELECT events_topic_id FROM {ledger:Identifier} WHERE partition = {partition:UInt16}"
        " GROUP BY events_topic_id HAVING max(log_time) < ("
        "SELECT min(log_time) FROM {ledger:Identifier} WHERE partition = {partition:UInt16}"
        " AND generation = {generation:UInt32} AND events_topic_id = {topic_id:UUID})",
        parameters={
            "ledger": stage.ledger,
            "partition": partition,
            "generation": cut.link.generation,
            "topic_id": str(cut.events_topic_id),
        },
    ).result_rows
    return [str(topic_id) for (topic_id,) in found]
