"""Reads the tables from ClickHouse, as Arrow, with parameters that are never part of the SQL."""

import re
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

import polars as pl
from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link
from meterstream.schemas.rows import CELL_SKETCHES, CHARGE_COMPONENTS, SESSION
from meterstream.schemas.verdicts import LEDGER_CLASSES

from .columns import DIMENSIONS, SUMS, from_arrow
from .ledger import COLUMNS
from .scope import Segment
from .tables import Span, Watermark

_OFFSET: Final = "toInt64(bitAnd(version, 1099511627775)) AS journal_offset"
"""The lower 40 bits of a version are the journal offset of the record that a row is from."""
_OF_SEGMENT: Final = (
    "events_topic_id = {topic:UUID} AND generation = {generation:UInt32}"
    " AND partition = {partition:UInt16}"
)
_LOG_TIME: Final = "toInt64(toUnixTimestamp(log_time)) AS log_time_s"
_CELL_COLUMNS: Final = ", ".join(
    [
        "toInt64(toUnixTimestamp(window_start)) AS window_s",
        *DIMENSIONS,
        *SUMS,
        *(f"mapKeys({c.name}) AS {c.name}_buckets" for c in CELL_SKETCHES),
        *(f"mapValues({c.name}) AS {c.name}_counts" for c in CELL_SKETCHES),
        "late",
        _LOG_TIME,
        _OFFSET,
    ]
)
_CHARGE_COLUMNS: Final = [
    "event_offset",
    "toUnixTimestamp64Micro(event_time) AS event_time_us",
    *DIMENSIONS,
    "card",
    "credits_micro",
    *(column.name for column in CHARGE_COMPONENTS if column.name != "session_micro"),
    "line",
    "multiplier_ppm",
    "amount_micro",
    "cost_micro",
    _LOG_TIME,
    _OFFSET,
]
_CHARGED: Final = {
    "charges": [
        *_CHARGE_COLUMNS,
        "session_micro",
        "session_us",
        "session_id",
        "toInt64(toUnixTimestamp(window_start)) AS window_s",
        "late",
    ],
    "runs": _CHARGE_COLUMNS,
}
_CHARGED_WHERE: Final = {"charges": "1", "runs": "event_type = 'completed'"}
_GRAINS: Final = ("usage_minutes", "usage_quarters", "usage_days")
_SPAN: Final = f"{_OF_SEGMENT} AND event_offset >= {{start:Int64}} AND event_offset < {{end:Int64}}"
_TIMES: Final = (
    "event_time >= fromUnixTimestamp64Micro({first_us:Int64})"
    " AND event_time <= fromUnixTimestamp64Micro({last_us:Int64})"
)
_RENAMED: Final = {
    "window_s": "window_start",
    "log_time_s": "log_time",
    "event_time_us": "event_time",
}
_TTL: Final = re.compile(r"TTL log_time \+ toIntervalDay\((\d+)\)")


class ClickHouseTables:
    """The tables of one database."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _frame(self, sql: str, **parameters: Any) -> pl.DataFrame:
        table = self._client.query_arrow(sql, parameters=parameters, use_strings=True)
        frame = from_arrow(table)
        return frame.rename({k: v for k, v in _RENAMED.items() if k in frame.columns})

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._client.query(sql, parameters=parameters).result_rows]

    def position(self, feed: str, partition: int) -> tuple[int, int] | None:
        """Return generation and next journal offset of a feed, None if it has stored nothing."""
        rows = self._rows(
            "SELECT generation, next_offset FROM positions FINAL"
            " WHERE feed = {feed:String} AND partition = {partition:UInt16}",
            feed=feed,
            partition=partition,
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def oldest_link(self, partition: int, log_start: int) -> Link | None:
        """Return a link to before the oldest ledger row at or after `log_start`.

        Of several generations or topics that have such a row, the newest row's is taken.
        """
        rows = self._rows(
            # A genesis is valid after an earlier generation only.
            "SELECT journal_offset, journal_prev, generation - (kind = 'genesis'), events_from"
            " FROM ledger FINAL"
            " WHERE partition = {partition:UInt16} AND journal_offset >= {log_start:Int64}"
            " ORDER BY journal_offset LIMIT 1",
            partition=partition,
            log_start=log_start,
        )
        if not rows:
            return None
        offset, prev, generation, events_from = (int(value) for value in rows[0])
        return Link(offset, prev, generation, events_from, 0)

    def ledger(self, segment: Segment, first: int, last: int) -> pl.DataFrame:
        """Return the ledger rows of the journal offsets from `first` to `last`, both included."""
        classes = ", ".join(LEDGER_CLASSES)
        return (
            self._frame(
                "SELECT journal_offset, journal_prev, toString(kind) AS kind,"  # noqa: S608
                f" events_from, events_to, {classes},"
                " arrayStringConcat(arraySort(arrayMap((reason, count) ->"
                " concat(reason, '=', toString(count)), mapKeys(rejected_reasons),"
                " mapValues(rejected_reasons))), ' ') AS rejected_reasons,"
                " charged_runs, charged_micro, toUnixTimestamp64Micro(clock) AS clock_us,"
                " toUnixTimestamp64Micro(log_time) AS log_time_us"
                f" FROM ledger FINAL WHERE {_OF_SEGMENT}"
                " AND journal_offset >= {first:Int64} AND journal_offset <= {last:Int64}"
                " ORDER BY journal_offset",
                **_of(segment),
                first=first,
                last=last,
            )
            .cast(pl.Schema(COLUMNS))
            .select(*COLUMNS)
        )

    def charges(
        self, table: str, segment: Segment, span: Span, *, outside: bool = False
    ) -> pl.DataFrame:
        """Return rows of `charges`, or of the completed runs in `runs`, by event offset."""
        times = _TIMES if span.first_us is not None else "0"
        # The conditions before FINAL are on columns of the rows' identity alone.
        return self._frame(
            f"SELECT {', '.join(_CHARGED[table])} FROM {table} FINAL"  # noqa: S608
            f" PREWHERE {_SPAN} AND {'NOT (' if outside else '('}{times})"
            f" WHERE {_CHARGED_WHERE[table]} ORDER BY event_offset",
            **_of(segment),
            **_span(span),
        )

    def charges_elsewhere(
        self, table: str, segment: Segment, span: Span, journal: tuple[int, int], limit: int
    ) -> pl.DataFrame:
        """Return rows of other event offsets whose version names a journal offset in `journal`.

        Both ends of `journal` are included.
        """
        return self._frame(
            f"SELECT {', '.join(_CHARGED[table])} FROM {table} FINAL"  # noqa: S608
            f" PREWHERE {_OF_SEGMENT} AND NOT ({_SPAN})"
            f" WHERE {_CHARGED_WHERE[table]}"
            " AND bitAnd(version, 1099511627775) >= {first:Int64}"
            " AND bitAnd(version, 1099511627775) <= {last:Int64}"
            " ORDER BY event_offset LIMIT {limit:Int64}",
            **_of(segment),
            **_span(span),
            first=max(0, journal[0]),
            last=journal[1],
            limit=limit,
        )

    def charge_total(self, table: str, segment: Segment, span: Span) -> int:
        """Return how many rows `charges` would return, whatever their event times."""
        rows = self._rows(
            f"SELECT count() FROM {table} FINAL PREWHERE {_SPAN}"  # noqa: S608
            f" WHERE {_CHARGED_WHERE[table]}",
            **_of(segment),
            **_span(span),
        )
        return int(rows[0][0])

    def watermark(self, segment: Segment) -> Watermark:
        """Return how far the coarse rows of a segment are complete.

        A watermark is written when it moves. The feed's position tells how far the sink had come
        since then without closing anything.
        """
        rows = self._rows(
            "SELECT toUnixTimestamp(quarter_closed_until), toUnixTimestamp(day_closed_until),"  # noqa: S608
            " greatest(journal_position, (SELECT max(next_offset) FROM positions FINAL"
            " WHERE feed = 'cells' AND partition = {partition:UInt16}"
            " AND generation = {generation:UInt32}))"
            f" FROM watermarks FINAL WHERE {_OF_SEGMENT}",
            **_of(segment),
        )
        return Watermark(*(int(value) for value in rows[0])) if rows else Watermark()

    def cells(self, table: str, segment: Segment, from_s: int, until_s: int) -> pl.DataFrame:
        """Return cells of the windows that start in [from_s, until_s), with late and version."""
        assert table in _GRAINS, "a table of cells"
        return self._frame(
            f"SELECT {_CELL_COLUMNS} FROM {table} FINAL"  # noqa: S608
            f" PREWHERE {_OF_SEGMENT} AND toUnixTimestamp(window_start) >= {{from_s:Int64}}"
            " AND toUnixTimestamp(window_start) < {until_s:Int64}"
            " AND window_start >= toDateTime({from_s:Int64}, 'UTC')"
            " AND window_start <= toDateTime({last_s:Int64}, 'UTC')"
            " SETTINGS do_not_merge_across_partitions_select_final = 1",
            **_of(segment),
            from_s=from_s,
            until_s=until_s,
            last_s=min(until_s, _LAST_S),
        )

    def quarters_before(self, segment: Segment, journal_offset: int) -> pl.Series:
        """Return the quarters with on-time minutes that were last changed before that record."""
        frame = self._frame(
            "SELECT DISTINCT toInt64(toUnixTimestamp(toStartOfFifteenMinutes(window_start))) AS old"  # noqa: S608
            f" FROM usage_minutes FINAL WHERE {_OF_SEGMENT} AND late = -1"
            " AND bitAnd(version, 1099511627775) < {journal_offset:Int64}",
            **_of(segment),
            journal_offset=journal_offset,
        )
        return frame["old"]

    def sessions(
        self, partition: int, topic_ids: Collection[UUID], generation: int
    ) -> pl.DataFrame:
        """Return a partition's sessions of these events topics, from a generation on."""
        columns = [
            f"toUnixTimestamp64Micro({c.name}) AS {c.name}_us"
            if c.kind == "microseconds"
            else c.name
            for c in SESSION
        ]
        frame = self._frame(
            f"SELECT {', '.join(columns)}, {_OFFSET} FROM sessions FINAL"  # noqa: S608
            " WHERE partition = {partition:UInt16}"
            " AND events_topic_id IN {topics:Array(UUID)} AND generation >= {generation:UInt32}",
            partition=partition,
            generation=generation,
            topics=[str(topic) for topic in topic_ids],
        )
        return frame.rename({f"{c.name}_us": c.name for c in SESSION if c.kind == "microseconds"})

    def strangers(self, table: str) -> pl.DataFrame:
        """Return the segments that have rows in `table` and none in the ledger, with counts."""
        return self._frame(
            "SELECT toString(events_topic_id) AS topic, generation, partition,"  # noqa: S608
            f" toInt64(count()) AS rows FROM {table} FINAL"
            " WHERE (events_topic_id, generation, partition) NOT IN"
            " (SELECT events_topic_id, generation, partition FROM ledger)"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )

    def refused_rows(self) -> int:
        """Return how many rows are in quarantine."""
        return int(self._rows("SELECT count() FROM quarantine FINAL")[0][0])

    def kept_days(self, table: str) -> int | None:
        """Return after how many days by log time rows are removed, None if never."""
        rows = self._rows(
            "SELECT engine_full FROM system.tables"
            " WHERE database = currentDatabase() AND name = {name:String}",
            name=table,
        )
        found = _TTL.search(str(rows[0][0])) if rows else None
        return int(found[1]) if found else None

    def now_s(self) -> int:
        """Return the server's time, seconds since 1970."""
        return int(self._rows("SELECT toUnixTimestamp(now())")[0][0])


_LAST_S: Final = 2**32 - 1


def _of(segment: Segment) -> dict[str, Any]:
    return {
        "topic": str(segment.events_topic_id),
        "generation": segment.generation,
        "partition": segment.partition,
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "start": span.start,
        "end": span.end,
        "first_us": span.first_us or 0,
        "last_us": span.last_us or 0,
    }
